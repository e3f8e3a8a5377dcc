"""A TCP proxy between browser and collector that loses answers on demand.

Belongs here: connections. Does not belong here: HTTP, but for knowing a request that posts events.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

_POST = b"POST /v1/events"


class Proxy:
    """Leads connections to ``target``, a port of this machine; without one, to nowhere."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.target: int | None = None
        self.to_cut = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def lead_to(self, target: int | None) -> None:
        """Another target from now on, for connections that are open, too: they end."""
        self.target = target
        self._end_all()

    def cut(self, answers: int) -> None:
        """Of the next requests that post events, this many are processed and their answers lost."""
        self.to_cut = answers

    def close(self) -> None:
        self._listener.close()
        self._end_all()

    def _end_all(self) -> None:
        with self._lock:
            connections, self._open = self._open, set()
        for connection in connections:
            _end(connection)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.target is None:
                    client.close()
                    continue
                try:
                    server = socket.create_connection(("127.0.0.1", self.target), timeout=30)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                with self._lock:
                    self._open |= {client, server}
                posts = threading.Event()
                for source, sink, watch in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pump, args=(source, sink, watch, posts), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, from_client: bool, posts: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if from_client:
                    if data.startswith(_POST):
                        posts.set()
                elif posts.is_set() and self._takes_one():
                    # The request is done and what it asked for is durable, and nobody hears of it.
                    break
                else:
                    posts.clear()
                sink.sendall(data)
        _end(source)
        _end(sink)

    def _takes_one(self) -> bool:
        with self._lock:
            if self.to_cut <= 0:
                return False
            self.to_cut -= 1
            return True


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
