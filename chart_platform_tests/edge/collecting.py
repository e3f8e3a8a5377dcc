"""A real collector in a process of its own, and what came out of it on a real Kafka.

Belongs here: starting, asking and reading. Does not belong here: what is expected.
"""

from __future__ import annotations

import itertools
import json
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
from confluent_kafka import Message, TopicPartition

from chart_platform.edge.keys import create, keys_file
from chart_platform.settings import Settings
from chart_platform.stream.clients import consumer
from chart_platform_tests.command_line import COMMAND, environment

ORIGIN = "https://shop.example"

_numbers = itertools.count(1)


def event(**more: Any) -> dict[str, Any]:
    """A page view as a browser sends it, with an id of its own."""
    return {
        "event_type": "page_view",
        "event_id": f"0190a000-0000-7000-8000-{uuid.uuid4().hex[:12]}",
        "ts": (datetime.now(UTC) - timedelta(seconds=1)).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "user": {"consent": {"analytics": True, "ads": False}},
        "session": {"session_id": f"session-{next(_numbers)}"},
        **more,
    }


def encoded(value: Any) -> bytes:
    return orjson.dumps(value)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(what: Callable[[], Any], within: float = 20.0) -> Any:
    """The first true value of ``what``; what it gave last if that never comes."""
    deadline = time.monotonic() + within
    while not (value := what()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return value


class Topic:
    """Reads a topic on from where it was read last."""

    def __init__(self, settings: Settings, name: str) -> None:
        # Questions for offsets queue up behind a fetch that waits for messages.
        self._reader = consumer(settings, **{"fetch.wait.max.ms": 5})
        partitions = self._reader.list_topics(name, timeout=30).topics[name].partitions
        self._at = dict.fromkeys(partitions, 0)
        self._name = name
        self._reader.assign([TopicPartition(name, number, 0) for number in partitions])

    def new(self) -> list[Message]:
        """What arrived since, all of it that is durable now."""
        found: list[Message] = []
        ends = {
            number: self._reader.get_watermark_offsets(TopicPartition(self._name, number), timeout=30)[1]
            for number in self._at
        }
        while any(self._at[number] < end for number, end in ends.items()):
            message = self._reader.poll(30)
            assert message is not None and message.error() is None, message
            found.append(message)
            self._at[message.partition()] = message.offset() + 1
        return found


def headers_of(message: Message) -> dict[str, bytes]:
    return dict(message.headers() or [])


class Collecting:
    """A running collector of ``settings`` with a browser key for :data:`ORIGIN` and a server key."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings.model_copy(update={"edge_port": free_port()})
        _, self.browser_key = create(keys_file(settings), "shop", "browser", "web", [ORIGIN])
        _, self.server_key = create(keys_file(settings), "backend", "server", "server", events_per_second=0)
        _, self.network_key = create(keys_file(settings), "network", "network", "brightpath", events_per_second=0)
        self.log_file = settings.root / "collector.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.edge_port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> list[dict[str, Any]]:
        """Its lines; a line that is no JSON fails, but for those of the Kafka library."""
        lines = [line for line in self.log_file.read_text().splitlines() if not line.startswith("%")]
        return [json.loads(line) for line in lines]

    def start(self, ready: bool = True) -> Collecting:
        self.settings.root.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen([COMMAND, "collect"], env=environment(self.settings), stderr=log)
        if ready:
            assert until(self.is_ready), self.log_file.read_text()
        return self

    def is_ready(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.log_file.read_text()
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.client.close()
        return code

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def post(self, body: bytes | Any, key: str | None = None, **headers: str | None) -> httpx.Response:
        """Send as a browser does, unless told otherwise; ``content_type="…"`` is a header, None leaves one out."""
        given = {"origin": ORIGIN, "content-type": "text/plain"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}  # type: ignore[dict-item]
        return self.client.post(
            f"/v1/events?key={key or self.browser_key}",
            content=body if isinstance(body, bytes) else encoded(body),
            headers={name: value for name, value in given.items() if value is not None},
        )

    def figures(self) -> dict[str, float]:
        """All of /metrics, by name with labels."""
        lines = self.client.get("/metrics").text.splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines) if name[:1] != "#"}

    def events(self) -> Topic:
        return Topic(self.settings, self.settings.kafka_topic)

    def dead_letters(self) -> Topic:
        return Topic(self.settings, self.settings.kafka_dlq_topic)

    def raw(self, data: bytes = b"") -> socket.socket:
        """A connection with ``data`` sent."""
        connection = socket.create_connection(("127.0.0.1", self.settings.edge_port), timeout=30)
        connection.sendall(data)
        return connection


def received(connection: socket.socket) -> bytes:
    """All that comes until the other end closes."""
    found = b""
    try:
        while part := connection.recv(65536):
            found += part
    except ConnectionResetError:
        pass
    return found
