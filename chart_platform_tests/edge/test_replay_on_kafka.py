"""Replays on a real Kafka and lake: sent once whatever dies, counted in full, and nothing is written to the dead letters."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chart_platform.contracts.feeds import feeds
from chart_platform.contracts.tables import BRONZE_DEAD_LETTERS, SILVER_EVENTS
from chart_platform.edge import replay as replay_module
from chart_platform.edge.admission import Accepted, Admission, Rejected
from chart_platform.edge.links import Links
from chart_platform.edge.records import Client, Record
from chart_platform.edge.replay import ReplayError, Selection, _alone, replay
from chart_platform.lakehouse.duck import connect, relation
from chart_platform.lakehouse.lake import Lake
from chart_platform.quality.schemas import audit
from chart_platform.settings import Settings
from chart_platform.stream.clients import producer
from chart_platform.stream.offsets import TopicOffsets
from chart_platform.stream.planning import OffsetRange
from chart_platform.stream.reader import read_ranges
from chart_platform.transform.silver import update
from chart_platform.transform.source import take_in, unread
from chart_platform_tests.command_line import COMMAND, CommandLine, environment
from chart_platform_tests.conftest import KafkaTopics
from chart_platform_tests.transform.homes import uuid

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

MEND = [{"op": "move", "from": "/id", "path": "/event_id"}]


class Collected:
    """A collector's refusals on the topic, taken in; and the silver rows that the same events would have given."""

    def __init__(self, settings: Settings, count: int) -> None:
        self.settings = settings
        self.now = datetime.now(UTC)
        self.events = [self._event(n) for n in range(count)]
        admission = Admission(settings, Links.load())
        refused = [admission.admit(self._spoilt(event), self.client(n)) for n, event in enumerate(self.events)]
        self.send(verdict.record for verdict in refused if isinstance(verdict, Rejected))
        self.take_in()
        admitted = [admission.admit(json.dumps(e).encode(), self.client(n)) for n, e in enumerate(self.events)]
        self.expected = sorted(
            (v.event_id, self.client(n).received_ms, "DE") for n, v in enumerate(admitted) if isinstance(v, Accepted)
        )
        assert len(self.expected) == count

    def _event(self, number: int) -> dict[str, Any]:
        stamp = (self.now - timedelta(seconds=number)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        user = {"user_id_hash": "v", "consent": {"analytics": True}}
        return {"event_id": uuid(number), "event_type": "page_view", "ts": stamp, "user": user}

    @staticmethod
    def _spoilt(event: dict[str, Any]) -> bytes:
        return json.dumps({("id" if name == "event_id" else name): value for name, value in event.items()}).encode()

    def client(self, number: int) -> Client:
        received = int(self.now.timestamp() * 1000) + number
        return Client(received_ms=received, key_id="k", kind="browser", source="web", country="DE")

    def send(self, records: Any) -> None:
        sender = producer(self.settings)
        for record in records:
            sender.produce(record.topic, record.value, record.key, headers=list(record.headers))
        assert sender.flush(30) == 0

    def take_in(self) -> None:
        lake = Lake(self.settings)
        for feed in feeds(self.settings):
            for batch in unread(lake, feed).batches:
                take_in(lake, feed, batch, audit)
        update(lake, audit)

    @property
    def days(self) -> Selection:
        today = datetime.now(UTC).date()
        return Selection(today - timedelta(days=1), today)

    def silver(self) -> list[tuple[Any, ...]]:
        return self._query(SILVER_EVENTS, "event_id, ingest_ts, geo_country")

    def dead_letters(self) -> list[tuple[Any, ...]]:
        return self._query(BRONZE_DEAD_LETTERS, "topic, kafka_partition, kafka_offset, raw, headers")

    def _query(self, table: Any, columns: str) -> list[tuple[Any, ...]]:
        lake = Lake(self.settings)
        connection, current = connect(self.settings), lake.load(table)
        found = connection.sql(f"select {columns} from {relation(current, table, lake.files(current))} order by all")
        return found.fetchall()

    def on_topic(self) -> Counter[str]:
        """How often each dead letter was replayed to the topic of events."""
        ends = TopicOffsets(self.settings).latest()
        ranges = [OffsetRange(p, 0, end) for p, end in ends.items()]
        chunks = read_ranges(self.settings, self.settings.kafka_topic, ranges)
        values = [value for chunk in chunks for value in chunk.values if value is not None]
        return Counter(json.loads(value)["metadata"]["replayed_from"] for value in values)

    def refused(self) -> int:
        return sum(TopicOffsets(self.settings, self.settings.kafka_dlq_topic).latest().values())


def test_a_replay_sends_each_letter_once_however_often_it_is_run(kafka_topics: KafkaTopics) -> None:
    home = Collected(kafka_topics(kafka_partitions=2), 7)
    before = home.dead_letters()
    assert replay(home.settings, home.days).still_refused == 7
    dry = replay(home.settings, home.days, MEND, dry_run=True)
    assert (dry.selected, dry.accepted, dry.patched, len(dry.sample)) == (7, 7, 7, 7)
    assert home.on_topic().total() == 0

    assert replay(home.settings, home.days, MEND).accepted == 7
    again = replay(home.settings, home.days, MEND)
    assert (again.selected, again.accepted, again.in_flight, again.already_replayed) == (7, 0, 7, 0)
    home.take_in()
    again = replay(home.settings, home.days, MEND)
    assert (again.selected, again.accepted, again.in_flight, again.already_replayed) == (7, 0, 0, 7)
    assert set(home.on_topic().values()) == {1} and home.on_topic().total() == 7
    assert home.silver() == home.expected
    assert home.dead_letters() == before and home.refused() == 7


def test_what_bronze_takes_in_while_a_replay_begins_is_not_sent_again(
    kafka_topics: KafkaTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Collected(kafka_topics(kafka_partitions=1), 3)
    assert replay(home.settings, home.days, MEND).accepted == 3
    looked: list[str] = []

    def then_taken_in(name: str) -> None:
        look = getattr(replay_module, name)

        def looking(*given: Any) -> Any:
            found = look(*given)
            looked.append(name)
            if len(looked) == 1:
                home.take_in()
            return found

        monkeypatch.setattr(replay_module, name, looking)

    then_taken_in("_in_flight")
    then_taken_in("_replayed")
    assert replay(home.settings, home.days, MEND).accepted == 0
    assert len(looked) == 2 and home.on_topic().total() == 3


def test_what_ingestion_refuses_again_is_not_replayed_for_ever(kafka_topics: KafkaTopics) -> None:
    home = Collected(kafka_topics(kafka_partitions=1), 2)
    assert replay(home.settings, home.days, MEND).accepted == 2
    # Between replay and ingestion the platform's first day moves: bronze refuses what the edge accepts.
    later = home.settings.model_copy(update={"first_day": home.now.date() + timedelta(days=2)})
    lake = Lake(later)
    for batch in unread(lake, feeds(later)[0]).batches:
        assert take_in(lake, feeds(later)[0], batch, audit).dead_letters == 2
    edge = Selection(home.days.first, home.days.last, source="edge")
    again = replay(home.settings, edge, MEND)
    assert (again.selected, again.accepted, again.already_replayed) == (2, 0, 2)
    # They are dead letters of their own now, and can be replayed as such.
    stream = Selection(home.days.first, home.days.last, source="stream")
    assert replay(home.settings, stream).accepted == 2
    home.take_in()
    assert home.silver() == home.expected


def test_only_the_letters_asked_for_are_judged_and_every_one_is_counted(kafka_topics: KafkaTopics) -> None:
    home = Collected(kafka_topics(kafka_partitions=2), 3)
    denied = json.dumps({"user": {"consent": {"analytics": False}}}).encode()
    context = ("context", json.dumps({"received_ms": 1, "key_id": "k", "kind": "browser", "source": "web"}).encode())
    dlq, events = home.settings.kafka_dlq_topic, home.settings.kafka_topic
    reason = ("reasons", b'[{"code":"odd","pointer":"","message":""}]')
    home.send(
        [Record(dlq, None, denied, (reason, context)), Record(dlq, None, b"x", (reason,)), Record(events, None, b"{")]
    )
    home.take_in()

    def figures(**chosen: Any) -> tuple[int, int, int, dict[str, int], dict[str, int]]:
        report = replay(home.settings, Selection(home.days.first, home.days.last, **chosen), MEND, dry_run=True)
        return report.selected, report.accepted, report.still_refused, dict(report.discarded), dict(report.refused)

    denials = {"consent_denied": 1}
    assert figures() == (6, 3, 2, denials, {"no_context": 1, "invalid_json": 1})
    assert figures(source="edge") == (5, 3, 1, denials, {"no_context": 1})
    assert figures(source="stream") == (1, 0, 1, {}, {"invalid_json": 1})
    assert figures(reasons=frozenset({"odd"})) == (2, 0, 1, denials, {"no_context": 1})
    assert figures(reasons=frozenset({"odd", "invalid_json"})) == (
        3,
        0,
        2,
        denials,
        {"no_context": 1, "invalid_json": 1},
    )
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    assert replay(home.settings, Selection(tomorrow, tomorrow), MEND).selected == 0


def test_two_replays_of_a_home_do_not_run_at_once(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics(kafka_partitions=1)
    with _alone(settings), pytest.raises(ReplayError, match="Another replay"):
        replay(settings, Selection(datetime.now(UTC).date(), datetime.now(UTC).date()))


@pytest.mark.parametrize("survivors", [1, 9])
def test_a_replay_killed_in_the_middle_and_run_again_sends_every_letter_once(
    kafka_topics: KafkaTopics, tmp_path: Path, survivors: int
) -> None:
    home = Collected(kafka_topics(kafka_partitions=2), 24)
    fix = tmp_path / "fix.json"
    fix.write_text(json.dumps(MEND))
    day = home.days
    options = ["--from", str(day.first), "--to", str(day.last), "--patch", str(fix), "--rate", "10"]
    killed = subprocess.Popen(
        [COMMAND, "replay", *options], env=environment(home.settings), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    topic = TopicOffsets(home.settings)
    while sum(topic.latest().values()) < survivors:
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    sent = home.on_topic().total()
    assert survivors <= sent < 24, "it was killed too late"
    if survivors > 1:
        home.take_in()
    assert replay(home.settings, day, MEND).accepted == 24 - sent
    home.take_in()
    assert set(home.on_topic().values()) == {1}
    assert home.silver() == home.expected


def test_the_command_tells_by_its_exit_code_whether_letters_are_left(
    kafka_topics: KafkaTopics, command_line: CommandLine, tmp_path: Path
) -> None:
    home = Collected(kafka_topics(kafka_partitions=1), 3)
    fix = tmp_path / "fix.json"
    fix.write_text(json.dumps(MEND))
    days = ("--from", str(home.days.first), "--to", str(home.days.last))
    left = command_line.run(home.settings, "replay", *days, "--dry-run")
    assert left.code == 1 and "would be sent" in left.out and "still refused" in left.out
    assert f"{home.settings.kafka_dlq_topic}/0/0" in left.out and uuid(0) not in left.out
    done = command_line.run(home.settings, "replay", *days, "--patch", str(fix), "--json")
    assert done.code == 0, done.err
    assert {k: done.json[k] for k in ("selected", "accepted", "still_refused", "dry_run")} == {
        "selected": 3, "accepted": 3, "still_refused": 0, "dry_run": False,
    }  # fmt: skip
    home.send([Record(home.settings.kafka_dlq_topic, None, b"x")] * 2)
    ingested = command_line.run(home.settings, "ingest", "--json")
    assert ingested.json == {"runs": 1, "messages": 5, "failed_checks": []}
    verified = command_line.run(home.settings, "verify", "--json")
    assert verified.code == 0, verified.json["differences"]
    assert verified.json["layers"]["edge"] == {"messages": 5, "dead_letters": 5}
    assert verified.json["layers"]["bronze"] == {"events": 3, "dead_letters": 0}
    for wrong in (("--from", "soon", "--to", "2026-01-01"), ("--from", "2026-01-02", "--to", "2026-01-01"),
                  (*days, "--source", "sky"), (*days, "--rate", "-1")):  # fmt: skip
        assert command_line.run(home.settings, "replay", *wrong).code == 2
    broken = command_line.run(home.settings, "replay", *days, "--patch", "nowhere.json")
    assert broken.code == 1 and "nowhere.json is no JSON Patch" in broken.err and "Traceback" not in broken.err
