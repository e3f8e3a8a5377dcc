"""The whole collector, killed, cut off from Kafka and out of disk under load: what it acknowledged is on the topic.

The suite runs short versions. Those of docs/edge-faults.md:

    CHART_EDGE_KILLS=20 CHART_EDGE_OUTAGE_SECONDS=30 CHART_EDGE_FAULTS_REPORT=faults.ndjson \\
        pytest chart_platform_tests/edge/test_collector_faults.py
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import orjson
import pytest

from chart_platform.settings import Settings
from chart_platform.stream.broker import LocalBroker
from chart_platform.stream.topics import ensure_topics
from chart_platform_tests.conftest import KafkaTopics, free_port_pair
from chart_platform_tests.edge.collecting import ORIGIN, Collecting, encoded, event, until
from chart_platform_tests.edge.flaky_kafka import FlakyKafka

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(900)]

KILLS = int(os.environ.get("CHART_EDGE_KILLS", "2"))
OUTAGE_SECONDS = float(os.environ.get("CHART_EDGE_OUTAGE_SECONDS", "5"))
UNLIMITED: dict[str, Any] = {"edge_rate_per_ip": 0.0, "edge_rate_per_key": 0.0, "edge_unready_seconds": 0.2}


class Visitors:
    """Clients that send one batch after the other, each event until it is acknowledged, as the tracer does."""

    def __init__(self, collector: Collecting, number: int = 6) -> None:
        self._address = ("127.0.0.1", collector.settings.edge_port)
        self._path = f"/v1/events?key={collector.browser_key}"
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._visit, args=(f"visitor-{n}-{uuid.uuid4()}",)) for n in range(number)
        ]
        self.sent: set[str] = set()
        self.acknowledged: set[str] = set()
        self.statuses: Counter[str] = Counter()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _visit(self, session: str) -> None:
        chance = random.Random(session)
        waiting: list[dict[str, Any]] = []
        number = 0
        connection = http.client.HTTPConnection(*self._address, timeout=20)
        while not self._over.is_set():
            if not waiting:
                size = chance.choice((1, 1, 5, 20))
                waiting = [event(session={"session_id": session}, seq=number + i) for i in range(size)]
                number += size
                self.sent.update(one["event_id"] for one in waiting)
            headers = {"Origin": ORIGIN, "Content-Type": "text/plain"}
            try:
                connection.request("POST", self._path, encoded(waiting), headers)
                answer = connection.getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.statuses[type(error).__name__] += 1
                connection.close()
                time.sleep(0.05)
                continue
            self.statuses[str(answer.status)] += 1
            if answer.status not in (202, 503):
                raise AssertionError(f"{answer.status}: {body!r}")
            results = json.loads(body).get("results", ())
            done = {r["event_id"] for r in results if r["status"] in ("accepted", "duplicate")}
            self.acknowledged |= done
            waiting = [one for one in waiting if one["event_id"] not in done]
            if answer.status == 503:
                time.sleep(0.05)
        connection.close()

    def wait_for(self, more: int, patience: float = 60) -> None:
        """Until so many more events are acknowledged."""
        goal = len(self.acknowledged) + more
        assert until(lambda: len(self.acknowledged) >= goal, patience), self.statuses


def drained(collector: Collecting) -> None:
    def empty() -> bool:
        figures = collector.figures()
        return (
            not figures['chart_edge_outlet{what="backlog_bytes"}']
            and not figures['chart_edge_outlet{what="breaker_open"}']
        )

    assert until(empty, 60), collector.figures()


def accounted(
    collector: Collecting, visitors: Visitors, what: str, *, in_order: bool, **more: float
) -> dict[str, float]:
    """Compare what was acknowledged with what is on the topic; nothing may be missing, and nothing made up."""
    drained(collector)
    arrived: list[str] = []
    numbers: dict[str, dict[int, None]] = defaultdict(dict)
    for message in collector.events().new():
        found = orjson.loads(message.value() or b"")
        arrived.append(found["event_id"])
        numbers[found["session"]["session_id"]].setdefault(found["seq"])
    distinct = set(arrived)
    figures = {
        "requests": sum(visitors.statuses.values()),
        "acknowledged": len(visitors.acknowledged),
        "on the topic": len(distinct),
        "lost": len(visitors.acknowledged - distinct),
        "duplicates before silver": len(arrived) - len(distinct),
        **more,
    }
    if report := os.environ.get("CHART_EDGE_FAULTS_REPORT"):
        with Path(report).open("a") as file:
            file.write(json.dumps({"what": what, **figures}) + "\n")
    assert visitors.acknowledged
    assert figures["lost"] == 0, figures
    assert distinct <= visitors.sent
    if in_order:
        for session, arrival in numbers.items():
            assert list(arrival) == sorted(arrival), session
    return figures


@contextmanager
def kafka_that_fails(settings: Settings) -> Iterator[tuple[FlakyKafka, Settings]]:
    with FlakyKafka(int(settings.bootstrap_servers.rpartition(":")[2])) as way:
        yield way, settings.model_copy(update={"kafka_bootstrap_servers": f"127.0.0.1:{way.port}"})


def started(settings: Settings) -> Collecting:
    return Collecting(settings).start()


def test_kills_lose_nothing_that_was_acknowledged_be_it_in_kafka_or_in_the_spill(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics(edge_delivery_timeout_ms=500, **UNLIMITED)
    chance = random.Random(11)
    with kafka_that_fails(settings) as (way, behind):
        collector = started(behind)
        try:
            with Visitors(collector) as visitors:
                for kill in range(KILLS):
                    visitors.wait_for(500)
                    if kill % 2:
                        # Every other time with a backlog on the disk.
                        way.cut()
                        visitors.wait_for(300)
                    time.sleep(chance.random())
                    collector.kill()
                    way.mend()
                    collector.start()
                visitors.wait_for(500)
            accounted(collector, visitors, "kill -9 of the collector", in_order=False, kills=KILLS)
        finally:
            collector.kill()


def test_killed_workers_lose_nothing_that_was_acknowledged(kafka_topics: KafkaTopics) -> None:
    collector = started(kafka_topics(edge_workers=2, **UNLIMITED))
    try:
        with Visitors(collector) as visitors:
            for _ in range(2):
                visitors.wait_for(300)
                os.kill(workers_of(collector)[0], signal.SIGKILL)
                until(lambda: len(workers_of(collector)) == 2)
            visitors.wait_for(300)
        accounted(collector, visitors, "kill -9 of a worker", in_order=False, kills=2)
    finally:
        collector.stop()


def workers_of(collector: Collecting) -> list[int]:
    children = Path(f"/proc/{collector.pid}/task/{collector.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_killed_broker_stops_nobody_and_loses_nothing(tmp_path: Path) -> None:
    home = Settings(home=tmp_path / "kafka", kafka_port=free_port_pair(), kafka_bootstrap_servers=None)
    broker = LocalBroker(home)
    broker.start()
    settings = home.model_copy(
        update={"home": tmp_path / "edge", "kafka_bootstrap_servers": home.bootstrap_servers, **UNLIMITED}
    )
    ensure_topics(settings)
    collector = started(settings)
    try:
        with Visitors(collector) as visitors:
            visitors.wait_for(1_000)
            assert broker.pid is not None
            os.kill(broker.pid, signal.SIGKILL)
            before = len(visitors.acknowledged)
            time.sleep(OUTAGE_SECONDS)
            in_outage = len(visitors.acknowledged) - before
            broker.start()
            visitors.wait_for(1_000)
        assert in_outage > 500
        assert set(visitors.statuses) == {"202"}
        assert collector.figures()['chart_edge_outlet_total{what="outages"}'] >= 1
        more = {"acknowledged during the outage": in_outage, "seconds of outage": OUTAGE_SECONDS}
        accounted(collector, visitors, "kill -9 of the broker", in_order=True, **more)
    finally:
        collector.kill()
        broker.stop()


def test_a_spill_at_its_quota_refuses_and_loses_nothing(kafka_topics: KafkaTopics) -> None:
    quota = 1024 * 1024
    settings = kafka_topics(edge_delivery_timeout_ms=500, edge_spill_max_bytes=quota, **UNLIMITED)
    with kafka_that_fails(settings) as (way, behind):
        collector = started(behind)
        try:
            with Visitors(collector) as visitors:
                visitors.wait_for(500)
                way.cut()
                assert until(lambda: visitors.statuses["503"] >= 20, 120), visitors.statuses
                assert collector.client.get("/readyz").status_code == 503
                segments = (behind.edge_home / "spill").rglob("*.seg")
                assert quota * 0.8 < sum(file.stat().st_size for file in segments) <= quota
                way.mend()
                visitors.wait_for(500)
                assert until(collector.is_ready)
            refused = visitors.statuses["503"]
            accounted(collector, visitors, "quota of the spill", in_order=True, refused=refused)
        finally:
            collector.kill()


def test_an_orderly_end_under_load_loses_nothing_that_was_acknowledged(kafka_topics: KafkaTopics) -> None:
    collector = started(kafka_topics(**UNLIMITED))
    try:
        with Visitors(collector) as visitors:
            visitors.wait_for(1_000)
            collector.process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
            assert collector.process.wait(60) == 0  # type: ignore[union-attr]
            collector.start()
            visitors.wait_for(500)
        accounted(collector, visitors, "SIGTERM to the collector", in_order=True)
    finally:
        collector.kill()


def test_requests_in_flight_at_an_orderly_end_are_answered_though_kafka_does_not_confirm(
    kafka_topics: KafkaTopics,
) -> None:
    settings = kafka_topics(edge_delivery_timeout_ms=2_000, **UNLIMITED)
    with kafka_that_fails(settings) as (way, behind):
        collector = started(behind)
        try:
            assert collector.post(event()).status_code == 202
            way.stall()
            with ThreadPoolExecutor(10) as many:
                asked = [many.submit(collector.post, event()) for _ in range(10)]
                assert until(lambda: collector.figures()['chart_edge_outlet{what="outstanding_requests"}'] == 10)
                assert collector.process is not None
                collector.process.send_signal(signal.SIGTERM)
                answers = [one.result() for one in asked]
            assert collector.process.wait(60) == 0
            ids = {result["event_id"] for answer in answers for result in answer.json()["results"]}
            assert {answer.status_code for answer in answers} == {202} and len(ids) == 10
            way.mend()
            collector.start()
            drained(collector)
            assert ids <= {orjson.loads(message.value() or b"")["event_id"] for message in collector.events().new()}
        finally:
            collector.kill()
