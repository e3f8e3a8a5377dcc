"""One request and its answer on a connection, at less cost than uvicorn's own.

Belongs here: what uvicorn does for any application and the collector doesn't need. Does not belong here: bounds on
connections and heads (``serve``), what is answered (``app``).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from chart_platform.edge.http import WHOLE_BODY


@lru_cache(maxsize=1_024)
def _lines(headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Headers as they are sent; the same ones over and over."""
    for name, value in headers:
        if b"\n" in value or b"\r" in value:
            raise RuntimeError(f"The value of the header {name.decode()} has a line break.")
    return b"".join(b"%b: %b\r\n" % header for header in headers)


class Cycle(RequestResponseCycle):
    """Hands over the body without waiting where it is here, and answers in one piece: a system call, and the wake-up of
    the other end, cost as much as judging an event.

    For applications that give the whole body of an answer at once, and its length as the first header.
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
        headers = self._begun["headers"]
        parts = (
            STATUS_LINE[self._begun["status"]],
            _lines(tuple(headers[1:])),
            _lines((headers[0], *self.default_headers)),
            b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n",
            message["body"] if self.scope["method"] != "HEAD" else b"",
        )
        self.transport.write(b"".join(parts))
        self.response_started = self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
