"""One request and its answer on a connection, at less cost than uvicorn's own.

Belongs here: what uvicorn does for any application and the collector doesn't need. Does not belong here: bounds on
connections and heads (``serve``), what is answered (``app``).
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from chart_platform.edge.http import WHOLE_BODY


class Cycle(RequestResponseCycle):
    """Hands over the body without waiting where it is here, and answers in one piece: a system call, and the wake-up of
    the other end, cost as much as judging an event.

    For applications that give the whole body of an answer at once, with its length.
    """

    _begun: Any = None

    @classmethod
    def take_over(cls, cycle: Any) -> None:
        """Make uvicorn's cycle, of which nothing has run yet, one of these."""
        cycle.__class__ = cls
        cycle.scope[WHOLE_BODY] = cycle.whole_body

    def whole_body(self) -> bytes | None:
        """The body, if all of it is here."""
        if self.more_body or self.disconnected:
            return None
        body, self.body = bytes(self.body), bytearray()
        return body

    async def send(self, message: Any) -> None:
        if self._begun is None:
            self._begun = message
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        parts = [STATUS_LINE[self._begun["status"]]]
        for name, value in (*self.default_headers, *self._begun["headers"]):
            if b"\n" in value or b"\r" in value:
                raise RuntimeError(f"The value of the header {name.decode()} has a line break.")
            parts += (name, b": ", value, b"\r\n")
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        if self.scope["method"] != "HEAD":
            parts.append(message["body"])
        self.transport.write(b"".join(parts))
        self.response_started = self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
