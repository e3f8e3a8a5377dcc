"""Fixtures that several folders of tests share: the real Kafka, and the command line in a process of its own.

Belongs here: what is dear to start and good for all. Does not belong here: what one folder needs (its own conftest).
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chart_platform.settings import Settings
from chart_platform.stream.broker import LocalBroker
from chart_platform.stream.topics import ensure_topics
from chart_platform_tests.command_line import CommandLine

KafkaTopics = Callable[..., Settings]

# A shell starts what it puts in the background deaf to Ctrl-C, and children inherit that: tests of signals would fail.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Brokers of tests don't live long enough for the compiler of hot code: without it one costs 5 s of CPU instead of 8.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of few tests first. Their tests are the long ones: a worker of pytest-xdist that takes one last is waited for."""
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (tests[item.path], item.path))


def free_port_pair() -> int:
    """A free port whose next one is free too, as the embedded broker needs them."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def shared_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder of the whole session: the workers of pytest-xdist have one and the same."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings that reach a real Kafka, one for the whole session, shared by the workers of pytest-xdist."""
    shared = shared_folder(tmp_path_factory, "shared-kafka")
    with _one_worker_at_a_time(shared):
        port_file = shared / "port"
        if not port_file.exists():
            port_file.write_text(str(free_port_pair()))
        port = int(port_file.read_text())
        broker = LocalBroker(Settings(home=shared, kafka_port=port))
        broker.start()
        (shared / f"user-{os.getpid()}").touch()
    # Named as an external cluster, so that tests may give each its own home.
    yield Settings(home=shared, kafka_bootstrap_servers=f"127.0.0.1:{port}")
    with _one_worker_at_a_time(shared):
        (shared / f"user-{os.getpid()}").unlink()
        if not list(shared.glob("user-*")):
            broker.stop()


def fresh_topics(kafka: Settings, home: Path, **settings: Any) -> Settings:
    """Make topics of a new name and give settings for them."""
    name = f"events.{uuid.uuid4().hex[:12]}"
    given = {"home": home, "kafka_topic": name, "kafka_dlq_topic": f"{name}.dlq", **settings}
    made = kafka.model_copy(update=given)
    ensure_topics(made)
    return made


@pytest.fixture
def kafka_topics(kafka: Settings, tmp_path: Path) -> KafkaTopics:
    """``kafka_topics(kafka_partitions=3, …)`` makes fresh topics and gives settings for them with a home of their own."""
    return lambda **settings: fresh_topics(kafka, **{"home": tmp_path, **settings})


@pytest.fixture(scope="session")
def command_line(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """Runs ``chart-platform`` commands; what is dear to make once serves every home of the session."""
    return CommandLine(shared_folder(tmp_path_factory, "dbt-cache"))


@contextmanager
def _one_worker_at_a_time(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
