"""The collector as processes: the socket they share, bounds on connections and request heads, an orderly end.

Belongs here: uvicorn and what it doesn't bound, workers and their supervision. Does not belong here: what is answered
(``app``).

The parent opens the socket and its workers inherit it: a worker that dies takes no waiting connection with it, and a port
that is in use is an error at once.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import multiprocessing
import shutil
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from chart_platform.conversions.networks import load_networks
from chart_platform.edge import logs
from chart_platform.edge.app import Collector, create_app
from chart_platform.edge.cycle import Cycle
from chart_platform.edge.enrich import Enricher
from chart_platform.edge.keys import KeyStore, keys_file
from chart_platform.edge.links import Links
from chart_platform.settings import Settings
from chart_platform.stream.topics import TopicContradiction, ensure_topics

log = logging.getLogger(__name__)

_BACKLOG = 2_048
_MOST_CONNECTIONS = 8_192
HEAD_BYTES = 16 * 1024
_KEEP_ALIVE_SECONDS = 75
_TOPICS_EVERY_SECONDS = 5.0

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_STEADY_SECONDS = 60.0


_HEAD_TOO_LARGE = f"The request line and headers have more than {HEAD_BYTES} bytes."


class _HeadTooLarge(Exception):
    """A request line with headers of more than HEAD_BYTES."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the bounds it lacks: on connections, and on the size and time of a request's head."""

    head_seconds: float
    _in_head = False
    _head_bytes = 0
    _unparsed_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._close_if_idle)
        if len(self.connections) > _MOST_CONNECTIONS:
            self._refuse(503, "busy", "Too many connections; try again.", b"retry-after: 5\r\n")
            return
        self._await_head()

    def on_response_complete(self) -> None:
        """As uvicorn's, but that the connection's one timer looks whether it is idle: none is set for each request."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._idle_since = self.loop.time()

    def _close_if_idle(self) -> None:
        left = float(self.timeout_keep_alive)
        if self.cycle is None or self.cycle.response_complete:
            left -= self.loop.time() - self._idle_since
            if left <= 0:
                self.transport.close()
                return
        self._idle_timer = self.loop.call_later(left, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle_timer.cancel()
        self._head_is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        goes_on = self._in_head
        super().data_received(data)
        if self.parser is None or self.transport.is_closing():
            return
        if goes_on and self._in_head:
            # Of a header that hasn't ended yet the parser says nothing.
            self._unparsed_bytes += len(data)
            if self._unparsed_bytes > HEAD_BYTES:
                self._refuse(431, "head_too_large", _HEAD_TOO_LARGE)
                return
        if self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            # Also for the rest of a body that was answered early: whoever dribbles must come to an end.
            self._await_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = self._unparsed_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._head_bytes += len(url)
        if self._head_bytes > HEAD_BYTES:
            raise _HeadTooLarge
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        # As uvicorn's, in one call: a request has many headers.
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > HEAD_BYTES:
            raise _HeadTooLarge
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_is_here()
        super().on_headers_complete()
        # Its task has not begun yet.
        Cycle.take_over(self.cycle)

    def send_400_response(self, _: str) -> None:
        if self._head_bytes > HEAD_BYTES:
            self._refuse(431, "head_too_large", _HEAD_TOO_LARGE)
        else:
            self._refuse(400, "bad_request", "That is no HTTP request.")

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing is wrong: HTTP goes on as if nobody had asked."""

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self.transport.close)

    def _head_is_here(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, status: int, code: str, message: str, header: bytes = b"") -> None:
        app = self.config.loaded_app
        if isinstance(app, Collector):
            app.metrics.add(f'chart_edge_bad_http_total{{status="{status}"}}')
        body = orjson.dumps({"error": {"code": code, "message": message}})
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + header + head + body)
        self.transport.close()


def _protocol(settings: Settings) -> type[BoundedProtocol]:
    class Protocol(BoundedProtocol):
        head_seconds = settings.edge_head_timeout_seconds

    return Protocol


class Server(uvicorn.Server):
    """Ends in order: a collector that is asked to is no longer ready for a while, then takes no more connections."""

    def __init__(self, config: uvicorn.Config, collector: Collector, unready_seconds: float) -> None:
        super().__init__(config)
        self._collector = collector
        self._unready_seconds = unready_seconds
        self._asked_at: float | None = None
        self._retired = False

    def handle_exit(self, _sig: int, _frame: FrameType | None) -> None:
        if self._asked_at is None:
            self._asked_at = time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        await super().on_tick(counter)
        if self._asked_at is None:
            return False
        if not self._retired:
            self._retired = True
            self._collector.retire()
        return time.monotonic() - self._asked_at >= self._unready_seconds


def serve(settings: Settings) -> int:
    """Run the collector until SIGTERM or Ctrl-C; the exit code.

    Raises:
        ValueError: write keys, links or settings that can't be used.
        OSError: the address can't be listened on.
    """
    logs.configure()
    listener = _listen(settings)
    shutil.rmtree(settings.edge_home / "metrics", ignore_errors=True)
    if settings.edge_workers == 1:
        return _work(settings, listener, 0)
    # What no worker could use is an error of the start, and not of each of them again and again.
    KeyStore.load(keys_file(settings))
    Links.load(settings.edge_links)
    Enricher(settings)
    load_networks(settings.conversions_networks)
    return _Supervisor(settings, listener).run()


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.edge_host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.edge_host, settings.edge_port))
    except OSError as error:
        listener.close()
        problem = f"The collector can't listen on {settings.edge_host}:{settings.edge_port}: {error.strerror}."
        raise OSError(f"{problem} Set CHART_EDGE_HOST and CHART_EDGE_PORT to a free address.") from None
    listener.listen(_BACKLOG)
    listener.set_inheritable(True)
    return listener


def _work(settings: Settings, listener: socket.socket, worker: int, parent: Connection | None = None) -> int:
    collector = create_app(settings, worker, settings.edge_workers)
    config = uvicorn.Config(
        collector,
        loop="uvloop",
        http=_protocol(settings),
        ws="none",
        lifespan="on",
        interface="asgi3",
        proxy_headers=False,
        server_header=False,
        log_config=None,
        access_log=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        # The last body may still be on its way, and then Kafka has its time to confirm.
        timeout_graceful_shutdown=math.ceil(
            settings.edge_body_timeout_seconds + settings.edge_delivery_timeout_ms / 1000 + 1
        ),
    )
    server = Server(config, collector, settings.edge_unready_seconds)
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent, server), name="parent", daemon=True).start()
    if worker == 0:
        threading.Thread(target=_ensure_topics, args=(settings,), name="topics", daemon=True).start()
    # What is here now stays, and requests leave few cycles behind: look for them less often, and not among the modules.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    log.info("Worker %d starts on %s:%d.", worker, *listener.getsockname()[:2])
    server.run(sockets=[listener])
    log.info("Worker %d has ended.", worker)
    return 0 if server.started else 1


def _end_with(parent: Connection, server: Server) -> None:
    """The parent never says anything: what can be read is its end, however it came."""
    parent.poll(None)
    server.handle_exit(signal.SIGTERM, None)


def _ensure_topics(settings: Settings) -> None:
    """Make the topics as soon as there is a Kafka; events wait in the spill until then."""
    while True:
        try:
            ensure_topics(settings)
        except TopicContradiction as error:
            log.error("%s", error)
            return
        except Exception as error:
            log.debug("The topics can't be made yet: %s", error)
            time.sleep(_TOPICS_EVERY_SECONDS)
        else:
            return


def _run_worker(settings: Settings, listener: socket.socket, worker: int, parent: Connection) -> None:
    logs.configure()
    sys.exit(_work(settings, listener, worker, parent))


@dataclass
class _Worker:
    number: int
    process: BaseProcess | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    pause: float = _FIRST_PAUSE_SECONDS


class _Supervisor:
    """Starts the workers, again when one dies, and hands on the wish to end."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        # A fresh interpreter each: what runs here already, threads above all, would not survive a fork.
        self._context = multiprocessing.get_context("spawn")
        self._reading, self._writing = self._context.Pipe(duplex=False)
        self._workers = [_Worker(number) for number in range(settings.edge_workers)]
        self._wake, self._woken = socket.socketpair()
        self._ending = False

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        while not self._ending:
            now = time.monotonic()
            for worker in self._workers:
                self._look_after(worker, now)
            sentinels = [worker.process.sentinel for worker in self._workers if worker.process is not None]
            waits = [max(0.0, worker.start_at - now) for worker in self._workers if worker.process is None]
            wait([self._woken, *sentinels], min(waits, default=None))
        return self._end()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._ending = True
        self._wake.send(b"!")

    def _look_after(self, worker: _Worker, now: float) -> None:
        if worker.process is None:
            if now >= worker.start_at:
                self._start(worker)
        elif worker.process.exitcode is not None:
            if now - worker.started_at >= _STEADY_SECONDS:
                worker.pause = _FIRST_PAUSE_SECONDS
            worker.start_at = now + worker.pause
            message = "Worker %d ended with code %d after %.0f s; it starts again in %g s."
            log.error(message, worker.number, worker.process.exitcode, now - worker.started_at, worker.pause)
            worker.pause = min(_LONGEST_PAUSE_SECONDS, worker.pause * 2)
            worker.process.close()
            worker.process = None

    def _start(self, worker: _Worker) -> None:
        arguments = (self._settings, self._listener, worker.number, self._reading)
        worker.process = self._context.Process(target=_run_worker, args=arguments, name=f"collector-{worker.number}")
        worker.process.start()
        worker.started_at = time.monotonic()

    def _end(self) -> int:
        processes = [worker.process for worker in self._workers if worker.process is not None]
        for process in processes:
            process.terminate()
        # Nobody may wait in a queue that no worker looks at any more.
        time.sleep(self._settings.edge_unready_seconds)
        self._listener.close()
        for process in processes:
            process.join()
        log.info("The collector has ended.")
        # A worker that was only about to start knows no better way to end than the signal's.
        return 0 if all(process.exitcode in (0, -signal.SIGTERM) for process in processes) else 1
