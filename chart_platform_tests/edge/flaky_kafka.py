"""A way to a real broker that can be cut, stalled, muted and lied on.

Belongs here: the proxy that the tests of outages share. Does not belong here: what is expected of anyone behind it.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

_INIT_PRODUCER_ID = 22
_CLUSTER_AUTHORIZATION_FAILED = 31


class FlakyKafka:
    """Listens on :attr:`port` and stands between clients and the broker on ``broker_port``.

    Brokers tell clients their address; in every answer it is replaced by the proxy's, so that no one finds the way around.
    """

    def __init__(self, broker_port: int) -> None:
        self._broker = ("127.0.0.1", broker_port)
        self._advertised = b"127.0.0.1" + struct.pack(">i", broker_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._connections: set[socket.socket] = set()
        self._flowing = threading.Event()
        self._flowing.set()
        self._cut = False
        self._mute = False
        self._fatal_answers = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._flowing.set()
        self._listener.close()

    def cut(self) -> None:
        """Reset all connections and refuse new ones."""
        self._cut = True
        self._drop()

    def stall(self) -> None:
        """Keep connections, pass on nothing."""
        self._flowing.clear()

    def mute(self) -> None:
        """Pass on what clients say, and no answers: the broker has what nobody confirms."""
        self._mute = True

    def mend(self) -> None:
        """All is well again; what was held back is lost with its connection."""
        self._cut = self._mute = False
        self._drop()
        self._flowing.set()

    def fail_producers_for_good(self, times: int) -> None:
        """Answer the next requests for a producer id with an error that is fatal for an idempotent producer."""
        self._fatal_answers = times
        self._drop()

    def _drop(self) -> None:
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._cut:
                client.close()
                continue
            try:
                broker = socket.create_connection(self._broker)
            except OSError:
                client.close()
                continue
            self._connections |= {client, broker}
            asked: dict[int, tuple[int, int]] = {}

            def request(message: bytes, asked: dict[int, tuple[int, int]] = asked) -> bytes:
                key, version, correlation = struct.unpack_from(">hhi", message)
                asked[correlation] = (key, version)
                return message

            def answer(message: bytes, asked: dict[int, tuple[int, int]] = asked) -> bytes | None:
                (correlation,) = struct.unpack_from(">i", message)
                return self._answer(message, *asked.pop(correlation))

            for source, target, change in ((client, broker, request), (broker, client, answer)):
                threading.Thread(target=self._pass_on, args=(source, target, change), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, change: Callable[[bytes], bytes | None]) -> None:
        with suppress(OSError), source.makefile("rb") as stream:
            while len(size := stream.read(4)) == 4:
                message = stream.read(int.from_bytes(size, "big"))
                self._flowing.wait()
                changed = change(message)
                if changed is not None:
                    target.sendall(len(changed).to_bytes(4, "big") + changed)
        for end in (source, target):
            self._connections.discard(end)
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _answer(self, message: bytes, key: int, version: int) -> bytes | None:
        if self._mute:
            return None
        if key == _INIT_PRODUCER_ID and self._fatal_answers > 0:
            self._fatal_answers -= 1
            # Correlation id, from version 2 on a byte of tagged fields, throttle time, error code.
            at = 4 + (version >= 2) + 4
            return message[:at] + struct.pack(">h", _CLUSTER_AUTHORIZATION_FAILED) + message[at + 2 :]
        return message.replace(self._advertised, b"127.0.0.1" + struct.pack(">i", self.port))
