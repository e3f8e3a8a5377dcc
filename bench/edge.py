"""The durable collector beside a bare application on the same server and beside what one would write with FastAPI.

All three run at once, with one process each, and are loaded in turns by the same client; what counts is what the server's
process spent, all of its threads included. Durable means that every answer waited for Kafka's delivery report.

Belongs here: starting the three, loading them in turns, adding up. Does not belong here: the client (``edge_load``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from socket import socket
from statistics import median
from typing import Any

import orjson

from chart_platform.edge.keys import create, keys_file
from chart_platform.settings import Settings
from chart_platform.simulator import SimulationConfig, generate
from chart_platform.stream.offsets import TopicOffsets
from chart_platform.stream.topics import ensure_topics

OURS = "chart_platform: judged, private, durable before the answer"
FASTAPI = "FastAPI + Pydantic, enqueued and answered"
BARE = "bare ASGI, answers 202 (the limit)"

_ROOT = Path(__file__).parents[1]
_EVENTS = 20_000
_CONNECTIONS = {1: 64, 50: 16, 200: 8}
_STEADY_RATE = 1_000.0


@dataclass(frozen=True)
class _Server:
    what: str
    pid: int
    port: int
    path: str
    expected: str
    topic: str | None

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def compare(
    settings: Settings, folder: Path, seconds: float, steady_seconds: float, repeat: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Load all three in turns, ``repeat`` times ``seconds`` each with every batch size, then at 1,000 requests a second."""
    events = folder / "events.ndjson"
    size = _write_events(events)
    found: dict[str, Any] = {
        "average_bytes": size,
        "seconds": seconds,
        "repeat": repeat,
        "nice": os.nice(0),
        "load_before": round(os.getloadavg()[0], 1),
        "contenders": {},
    }
    with ExitStack() as stack:
        servers = [stack.enter_context(server) for server in _servers(settings, folder)]
        spent: dict[tuple[str, int], list[float]] = {}
        answered = {server.what: 0 for server in servers}
        for turn in range(repeat + 1):
            for batch, connections in _CONNECTIONS.items():
                for server in servers:
                    before = server.cpu_seconds()
                    seen = _load(server, events, batch, connections, 1.0 if turn == 0 else seconds)
                    answered[server.what] += seen["answers"] * batch
                    if turn:
                        rate = seen["answers"] / (server.cpu_seconds() - before)
                        spent.setdefault((server.what, batch), []).append(rate)
                        say(f"  {server.what}, {batch} an answer: {rate * batch:,.0f} events a CPU-second")
        for server in servers:
            say(f"  {server.what} at {_STEADY_RATE:,.0f} requests a second")
            before = server.cpu_seconds()
            steady = _load(server, events, 1, 256, steady_seconds, _STEADY_RATE)
            answered[server.what] += steady["answers"]
            row: dict[str, Any] = {
                f"events_per_cpu_second_{batch}": _summary([rate * batch for rate in spent[server.what, batch]])
                for batch in _CONNECTIONS
            }
            row["steady_ms"] = steady["ms"]
            row["steady_cpu_share"] = round((server.cpu_seconds() - before) / steady_seconds, 3)
            row["events_answered"] = answered[server.what]
            if server.topic is not None:
                row["events_on_the_topic"] = sum(TopicOffsets(settings, server.topic).latest().values())
            found["contenders"][server.what] = row
    return found


def _summary(rates: list[float]) -> dict[str, int]:
    return {"median": round(median(rates)), "best": round(max(rates)), "worst": round(min(rates))}


def _write_events(file: Path) -> int:
    """Events as the tracer sends them, of now; their average size in bytes."""
    config = SimulationConfig(seed=7, events=_EVENTS, days=1, form="client", end=datetime.now(UTC))
    lines: list[bytes] = []
    for message in islice(generate(config), _EVENTS):
        event = orjson.loads(message.value)
        # The browser names itself in a header; what is null the tracer leaves out. Without a referrer: about 650 bytes.
        event["ctx"].pop("referrer", None)
        event["ctx"].pop("user_agent", None)
        event["user"].pop("geo_country", None)
        event["metadata"].pop("experiment_keys", None)
        lines.append(orjson.dumps(_without_nulls(event)))
    file.write_bytes(b"\n".join(lines))
    return round(sum(map(len, lines)) / len(lines))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(member) for name, member in value.items() if member is not None}
    return value


def _servers(settings: Settings, folder: Path) -> Iterator[Any]:
    """The three, as context managers."""
    topics = {}
    for name in ("ours", "fastapi"):
        topics[name] = settings.model_copy(
            update={
                "home": folder / name,
                "kafka_topic": f"bench.edge.{name}",
                "kafka_dlq_topic": f"bench.edge.{name}.dlq",
                "edge_port": _free_port(),
                "edge_rate_per_key": 0.0,
                "edge_rate_per_ip": 0.0,
                "edge_unready_seconds": 0.0,
            }
        )
        ensure_topics(topics[name])
    _, secret = create(keys_file(topics["ours"]), "bench", "browser", "web", ["https://shop.example"])
    ours = topics["ours"]
    command = [sys.executable, "-c", "from chart_platform.cli import main; main()", "collect"]
    yield _running(OURS, command, ours, f"/v1/events?key={secret}", ours.kafka_topic)
    for what, module, topic in ((FASTAPI, "edge_fastapi", topics["fastapi"].kafka_topic), (BARE, "edge_bare", None)):
        given = topics["fastapi"].model_copy(update={"edge_port": _free_port()})
        command = [
            sys.executable, "-m", "uvicorn", f"bench.contenders.{module}:app", "--port", str(given.edge_port),
            "--loop", "uvloop", "--http", "httptools", "--lifespan", "off", "--no-access-log", "--no-server-header",
            "--no-proxy-headers", "--log-level", "warning",
        ]  # fmt: skip
        yield _running(what, command, given, "/v1/events", topic)


@contextmanager
def _running(what: str, command: list[str], settings: Settings, path: str, topic: str | None) -> Iterator[_Server]:
    given = settings.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    environment = os.environ | {f"CHART_{name.upper()}": str(value) for name, value in given.items()}
    with subprocess.Popen(command, env=environment, cwd=_ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(settings.edge_port)
            yield _Server(what, process.pid, settings.edge_port, path, "" if topic is None else '"accepted":', topic)
        finally:
            process.terminate()


def _load(
    server: _Server, events: Path, batch: int, connections: int, seconds: float, rate: float | None = None
) -> dict[str, Any]:
    wanted = {
        "events": str(events),
        "batch": batch,
        "connections": connections,
        "seconds": seconds,
        "rate": rate,
        "port": server.port,
        "path": server.path,
        "expected": server.expected and f"{server.expected}{batch}",
    }
    done = subprocess.run(
        [sys.executable, "-m", "bench.edge_load"], input=json.dumps(wanted), capture_output=True, text=True, cwd=_ROOT
    )
    if done.returncode != 0:
        raise RuntimeError(f"The client of {server.what} failed: {done.stderr[-2000:]}")
    seen: dict[str, Any] = json.loads(done.stdout)
    if seen["wrong_count"]:
        raise RuntimeError(f"{server.what} gave {seen['wrong_count']} wrong answers, such as: {seen['wrong'][0]}")
    return seen


def _free_port() -> int:
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1)
        except urllib.error.HTTPError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
