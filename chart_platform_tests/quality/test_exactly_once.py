"""Exactly once on a real Kafka, whatever process dies where; and checks that report what is made wrong by hand."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chart_platform.contracts.feeds import events_feed, letters_feed
from chart_platform.contracts.tables import (
    BRONZE_DEAD_LETTERS,
    BRONZE_EVENTS,
    FACT_AFFILIATE_CLICKS,
    SILVER_EVENTS,
    Table,
)
from chart_platform.lakehouse.duck import connect, relation
from chart_platform.lakehouse.lake import Change, Lake, StaleWriter
from chart_platform.quality.reconciliation import balance_clicks, cover
from chart_platform.quality.schemas import audit
from chart_platform.quality.verify import verify
from chart_platform.settings import Settings
from chart_platform.simulator import FaultRates, GroundTruth, Message, SimulationConfig, generate
from chart_platform.simulator.send import send
from chart_platform.stream.clients import producer
from chart_platform.stream.planning import DayBatch, OffsetRange, RetentionLoss
from chart_platform.transform.source import take_in, take_in_again, unread
from chart_platform_tests.conftest import KafkaTopics
from chart_platform_tests.quality.crashing import forward

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

FAULTS = FaultRates(
    exact_duplicate=0.05, retry=0.05, late=0.05, out_of_order=0.05, missing_session=0.2, invalid_schema=0.05,
    broken_json=0.03, bad_utf8=0.02, lone_surrogate=0.02, late_max=timedelta(days=2),
)  # fmt: skip


PARTS = 3
"""Times that messages come, and that processes are killed while they take them in."""


def history(seed: int, events: int) -> list[Message]:
    # It ends now, as an event may not lie far ahead of the broker's clock.
    return list(generate(SimulationConfig(seed=seed, events=events, days=3, end=datetime.now(UTC), faults=FAULTS)))


def made(kafka_topics: KafkaTopics, dbt_cache: Path, tmp_path: Path, **given: object) -> Settings:
    (tmp_path / "cache").symlink_to(dbt_cache)
    return kafka_topics(kafka_partitions=3, **given)


def today(settings: Settings) -> DayBatch:
    (batch, *_) = unread(Lake(settings), events_feed(settings)).batches
    return batch


Refused = list[tuple[int, bytes | None]]
"""Partition and value of messages of the edge's dead-letter topic, in order."""


def refuse(settings: Settings, chance: random.Random, count: int) -> Refused:
    """What the edge would do: dead letters of any bytes, some of them with broken headers."""
    labels = [[("reasons", b'[{"code":"read_only","pointer":"/a","message":"m"}]')], [("reasons", b"{")], None]
    sender = producer(settings)
    sent: Refused = []
    for _ in range(count):
        value = chance.choice([chance.randbytes(chance.randrange(40)), b'{"event_id":1}', b"", None])
        sent.append((chance.randrange(3), value))
        sender.produce(
            settings.kafka_dlq_topic, value, b"session", partition=sent[-1][0], headers=chance.choice(labels)
        )
    assert sender.flush(30) == 0
    return sent


def start(settings: Settings, mode: str, place: str = "nowhere", number: int = 0) -> subprocess.Popen[bytes]:
    file = settings.root / "settings.json"
    file.write_text(settings.model_dump_json())
    command = [sys.executable, "-m", "chart_platform_tests.quality.crashing", str(file), mode, place, str(number)]
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(command, cwd=root, env=os.environ | {"PYTHONPATH": root}, stderr=subprocess.PIPE)


def ended(process: subprocess.Popen[bytes], *allowed: str) -> int:
    """Exit code of a process that was done, was killed by its trap, or met an error that is ``allowed``."""
    _, stderr = process.communicate(timeout=120)
    known = process.returncode in (0, -signal.SIGKILL) or any(name.encode() in stderr for name in allowed)
    assert known, stderr.decode()[-2000:]
    return process.returncode


def held(lake: Lake) -> Counter[tuple[int, int]]:
    """How often the lake has each offset."""
    connection = connect(lake.settings)
    found: Counter[tuple[int, int]] = Counter()
    feed = events_feed(lake.settings)
    for table in feed.tables:
        current = lake.load(table)
        source = f"{relation(current, table, lake.files(current))} as t where {feed.own(table)}"
        found.update(connection.sql(f"select kafka_partition, kafka_offset from {source}").fetchall())
    return found


def dead_letters(lake: Lake, topic: str, columns: str) -> list[tuple[Any, ...]]:
    connection = connect(lake.settings)
    current = lake.load(BRONZE_DEAD_LETTERS)
    source = relation(current, BRONZE_DEAD_LETTERS, lake.files(current))
    found = connection.sql(f"select {columns} from {source} where topic = '{topic}' order by all").fetchall()
    connection.close()
    return found


def silver_truth(lake: Lake) -> tuple[int, dict[str, dict[str, int]], int]:
    """Events, events by day and type, and payout, as ``GroundTruth.summary`` tells them."""
    connection = connect(lake.settings)
    current = lake.load(SILVER_EVENTS)
    source = relation(current, SILVER_EVENTS, lake.files(current))
    by_day: dict[str, dict[str, int]] = {}
    cents = total = 0
    query = (
        f"select event_dt, event_type, count(*), coalesce(sum(payout_cents), 0) from {source} group by all order by all"
    )
    for day, kind, count, payout in connection.sql(query).fetchall():
        by_day.setdefault(str(day), {})[kind] = count
        total, cents = total + count, cents + int(payout)
    return total, by_day, cents


def assert_exact(settings: Settings, sent: list[Message], refused: Refused) -> None:
    lake = Lake(settings)
    found = held(lake)
    progress = lake.progress(BRONZE_EVENTS)
    assert progress is not None
    assert found == Counter((p, o) for p, end in progress.offsets.items() for o in range(end))
    assert found.total() == len(sent)
    truth = GroundTruth.of(sent).summary()
    raw = Counter(value for (value,) in dead_letters(lake, settings.kafka_topic, "raw"))
    assert raw == Counter(m.value for m in sent if m.label and m.label.expected == "dead_letter")
    by_partition = [[value for at, value in refused if at == p] for p in range(3)]
    expected = [(p, o, v, "edge") for p, values in enumerate(by_partition) for o, v in enumerate(values)]
    found_letters = dead_letters(lake, settings.kafka_dlq_topic, "kafka_partition, kafka_offset, raw, source")
    assert found_letters == expected
    assert silver_truth(lake) == (truth["accepted"], truth["events_by_day"], truth["payout_cents"])
    report = verify(lake)
    assert report.ok, report.differences


@pytest.mark.parametrize("seed", range(int(os.environ.get("CHART_CRASH_SEEDS", "1"))))
def test_nothing_is_lost_or_doubled_by_killed_runs_concurrent_backfills_and_stale_writers(
    kafka_topics: KafkaTopics, dbt_cache: Path, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    settings = made(kafka_topics, dbt_cache, tmp_path, batch_max_messages=chance.choice([150, 400]))
    sent: list[Message] = []
    refused: Refused = []
    killed = 0
    stale: DayBatch | None = None
    messages = history(seed, 600)
    for part in range(PARTS):
        piece = messages[part * len(messages) // PARTS : (part + 1) * len(messages) // PARTS]
        send(piece, settings)
        sent += piece
        refused += refuse(settings, chance, 40)
        planned = today(settings)
        place, number = chance.choice(["read", "write", "commit", "committed"]), chance.randrange(8)
        runs = [start(settings, "forward", place, number)]
        if part:
            # A backfill of today, itself in danger, while the run goes on.
            runs.append(
                start(
                    settings,
                    planned.day.isoformat(),
                    chance.choice(["write", "commit", "committed"]),
                    chance.randrange(3),
                )
            )
        if stale is not None:
            wider = DayBatch(stale.day, tuple(OffsetRange(r.partition, r.start, r.end + 3) for r in stale.ranges))
            for replayed in (stale, wider):
                # Refused where it overlaps, passed over where all of it is there; in no case written.
                with suppress(StaleWriter):
                    assert take_in(Lake(settings), events_feed(settings), replayed, audit).skipped
        codes = [ended(run, "StaleModel", "StaleWriter") for run in runs]
        killed += sum(code == -signal.SIGKILL for code in codes)
        forward(Lake(settings))
        stale = planned
    assert killed >= 2, "the traps were laid where no run came by"
    assert_exact(settings, sent, refused)


@pytest.fixture
def carried(kafka_topics: KafkaTopics, dbt_cache: Path, tmp_path: Path) -> tuple[Settings, list[Message], Refused]:
    """A small history and what the edge refused, carried to gold; and what was sent."""
    settings = made(kafka_topics, dbt_cache, tmp_path)
    sent = history(7, 300)
    send(sent, settings)
    refused = refuse(settings, random.Random(7), 20)
    forward(Lake(settings))
    return settings, sent, refused


def ranges(settings: Settings) -> tuple[OffsetRange, ...]:
    progress = Lake(settings).progress(BRONZE_EVENTS)
    assert progress is not None
    return tuple(OffsetRange(p, 0, end) for p, end in progress.offsets.items())


def test_the_checks_pass_on_what_is_right_and_report_a_lost_file_a_doubled_row_and_changed_money(
    carried: tuple[Settings, list[Message], Refused],
) -> None:
    settings, sent, refused = carried
    lake, events = Lake(settings), events_feed(settings)
    assert_exact(settings, sent, refused)
    progress = lake.progress(BRONZE_EVENTS)
    assert progress is not None
    day, owned = progress.day, ranges(settings)
    assert all(c.ok for c in cover(lake, events, day, owned))
    clicks = lake.load(FACT_AFFILIATE_CLICKS)
    days = sorted({f.partition[0] for f in lake.files(clicks)})

    # A file of bronze goes.
    gone = lake.files(lake.load(BRONZE_EVENTS))[0]
    lake.commit(BRONZE_EVENTS, lambda _: Change(remove=[gone]))
    assert sum(c.missing for c in cover(lake, events, day, owned)) == gone.record_count
    report = verify(lake)
    assert any(
        f"neither in bronze.events nor in bronze.dead_letters): {gone.record_count} " in d for d in report.differences
    )

    # It comes back, twice.
    lake.commit(BRONZE_EVENTS, lambda t: Change(add=[gone, *lake.write(t, _rows(lake, gone))]))
    assert sum(c.doubled for c in cover(lake, events, day, owned)) == gone.record_count
    assert any(d.startswith(f"Offsets doubled in bronze: {gone.record_count} ") for d in verify(lake).differences)

    # Money changes in gold.
    file = lake.files(clicks)[0]
    rows = _rows(lake, file, FACT_AFFILIATE_CLICKS).to_pylist()
    rows[0]["payout_cents"] = (rows[0]["payout_cents"] or 0) + 1
    changed = FACT_AFFILIATE_CLICKS.arrow.empty_table().from_pylist(rows, schema=FACT_AFFILIATE_CLICKS.arrow)
    lake.commit(FACT_AFFILIATE_CLICKS, lambda t: Change(add=lake.write(t, changed), remove=[file]))
    wrong = [b for b in balance_clicks(lake, [rows[0]["event_dt"], *days]) if not b.ok]
    assert [b.gold_cents - b.silver_cents for b in wrong] == [1]
    differences = verify(lake).differences
    assert any(d.startswith(f"Payout of {rows[0]['event_dt']} differs") for d in differences)
    assert any(d.startswith("Clicks of silver lost or changed in gold: 1 ") for d in differences)


def test_the_checks_report_dead_letters_of_the_edge_that_are_lost_doubled_or_changed(
    carried: tuple[Settings, list[Message], Refused],
) -> None:
    settings, _, refused = carried
    lake, letters = Lake(settings), letters_feed(settings)
    progress = lake.progress(BRONZE_DEAD_LETTERS)
    assert progress is not None and sum(progress.offsets.values()) == len(refused)
    owned = tuple(OffsetRange(p, 0, end) for p, end in progress.offsets.items())
    covered = cover(lake, letters, progress.day, owned)
    assert all(c.ok for c in covered) and sum(c.dead_letters for c in covered) == len(refused)

    rows = _content_of(lake, BRONZE_DEAD_LETTERS)
    edge = [row for row in rows if row["source"] == "edge"]

    def publish(changed: list[dict[str, Any]]) -> None:
        table = BRONZE_DEAD_LETTERS.arrow.empty_table().from_pylist(changed, schema=BRONZE_DEAD_LETTERS.arrow)
        lake.commit(
            BRONZE_DEAD_LETTERS,
            lambda t: Change(add=lake.write(t, table), remove=lake.files(t), summary={"by": "hand"}),
        )

    publish([row for row in rows if row is not edge[0]])
    assert sum(c.missing for c in cover(lake, letters, progress.day, owned)) == 1
    assert any(d.startswith("Dead letters of the edge lost: 1 ") for d in verify(lake).differences)
    publish([*rows, edge[0]])
    assert sum(c.doubled for c in cover(lake, letters, progress.day, owned)) == 1
    assert any(d.startswith("Dead letters of the edge doubled: 1 ") for d in verify(lake).differences)
    publish([row if row is not edge[0] else row | {"raw": b"other"} for row in rows])
    assert any(d.startswith("Dead letters of the edge with other bytes") for d in verify(lake).differences)
    publish(rows)
    assert verify(lake).ok


def _content_of(lake: Lake, table: Table) -> list[dict[str, Any]]:
    connection = connect(lake.settings)
    current = lake.load(table)
    return connection.sql(f"from {relation(current, table, lake.files(current))}").to_arrow_table().to_pylist()


def _rows(lake: Lake, file: object, table: object = BRONZE_EVENTS) -> object:
    connection = connect(lake.settings)
    found = connection.sql(f"from {relation(lake.load(table), table, [file])}").to_arrow_table()  # type: ignore[arg-type]
    return found.cast(table.arrow)  # type: ignore[attr-defined]


def test_a_day_read_again_has_the_rows_it_had(carried: tuple[Settings, list[Message], Refused]) -> None:
    settings, sent, refused = carried
    lake = Lake(settings)
    progress = lake.progress(BRONZE_EVENTS)
    assert progress is not None
    before = _content(lake)
    letters = lake.progress(BRONZE_DEAD_LETTERS)
    again = take_in_again(lake, progress.day, audit)
    result, read = again["events"]
    assert result.events + result.dead_letters == len(sent) == sum(r.messages for r in read)
    result, read = again["dead_letters"]
    assert (result.events, result.dead_letters) == (0, len(refused)) and sum(r.messages for r in read) == len(refused)
    assert _content(lake) == before
    assert lake.progress(BRONZE_EVENTS) == progress and lake.progress(BRONZE_DEAD_LETTERS) == letters


def _content(lake: Lake) -> Counter[str]:
    connection = connect(lake.settings)
    found: Counter[str] = Counter()
    for table in (BRONZE_EVENTS, BRONZE_DEAD_LETTERS):
        current = lake.load(table)
        found.update(map(str, connection.sql(f"from {relation(current, table, lake.files(current))}").fetchall()))
    return found


@pytest.mark.parametrize("topic", ["kafka_topic", "kafka_dlq_topic"])
def test_a_day_that_kafka_no_longer_holds_in_full_is_not_touched(
    carried: tuple[Settings, list[Message], Refused], topic: str
) -> None:
    from confluent_kafka import TopicPartition

    from chart_platform.stream.clients import admin

    settings, _, _ = carried
    lake = Lake(settings)
    progress = lake.progress(BRONZE_EVENTS)
    assert progress is not None
    heads = [lake.load(t).current_snapshot() for t in (BRONZE_EVENTS, BRONZE_DEAD_LETTERS)]
    client = admin(settings)  # kept until the answer is there
    for dropped in client.delete_records([TopicPartition(getattr(settings, topic), 0, 5)]).values():
        dropped.result()
    with pytest.raises(RetentionLoss, match="nothing was changed"):
        take_in_again(lake, progress.day, audit)
    assert [lake.load(t).current_snapshot() for t in (BRONZE_EVENTS, BRONZE_DEAD_LETTERS)] == heads


def test_batches_of_a_recreated_topic_are_refused(carried: tuple[Settings, list[Message], Refused]) -> None:
    from chart_platform.stream.clients import admin
    from chart_platform.stream.topics import ensure_topics

    settings, sent, _ = carried
    lake = Lake(settings)
    client = admin(settings)  # kept until the answer is there
    for deleted in client.delete_topics([settings.kafka_topic]).values():
        deleted.result()
    _until_created(settings, ensure_topics)
    sender = producer(settings)
    for message in sent[:30]:
        sender.produce(settings.kafka_topic, message.value, partition=0)
    sender.flush()
    progress = lake.progress(BRONZE_EVENTS)
    assert progress is not None
    before = held(lake)
    batch = DayBatch(progress.day, (OffsetRange(0, 0, 30),))
    with pytest.raises(StaleWriter, match="recreated"):
        take_in(lake, events_feed(settings), batch, audit)
    assert held(lake) == before


def _until_created(settings: Settings, ensure: object) -> None:
    """Deleting returns before the name is free."""
    import time

    for _ in range(50):
        try:
            ensure(settings)  # type: ignore[operator]
            return
        except RuntimeError:
            time.sleep(0.2)
    raise AssertionError("the topic's name did not become free")
