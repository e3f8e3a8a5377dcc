"""The edge's dead letters in bronze: every message a row, byte for byte, beside those of ingestion and apart from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chart_platform.contracts.feeds import letters_feed
from chart_platform.contracts.tables import BRONZE_DEAD_LETTERS, BRONZE_EVENTS
from chart_platform.lakehouse.lake import Lake, StaleWriter
from chart_platform.quality.schemas import audit
from chart_platform.settings import Settings
from chart_platform.stream.planning import DayBatch, OffsetRange
from chart_platform.transform.chunks import decode_all
from chart_platform.transform.ingest import Batch, IngestResult, ingest, reingest_day
from chart_platform.transform.letters import EdgeLetters
from chart_platform.transform.source import Intake, Unread
from chart_platform_tests.transform.fixtures import NewHome
from chart_platform_tests.transform.homes import DAY, Home, at, event

TOPIC = "events.dlq"
REASON = {"code": "read_only", "pointer": "/ingest_ts", "message": "Only the edge sets it."}
Message = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]


@dataclass
class Refused:
    """A chunk of the edge's topic, all of one partition: values with keys and headers, from offset ``start`` on."""

    messages: list[Message]
    partition: int = 0
    start: int = 0

    @property
    def values(self) -> list[bytes | None]:
        return [value for value, _, _ in self.messages]

    @property
    def partitions(self) -> list[int]:
        return [self.partition] * len(self.messages)

    @property
    def offsets(self) -> list[int]:
        return list(range(self.start, self.start + len(self.messages)))

    @property
    def timestamps(self) -> list[int]:
        return [at(DAY, "12:00:00")] * len(self.messages)

    def headers(self, index: int) -> list[tuple[str, bytes | None]]:
        return self.messages[index][2]

    def key(self, index: int) -> bytes | None:
        return self.messages[index][1]


def labelled(value: bytes, *reasons: Any, **headers: str) -> Message:
    named = [("reasons", json.dumps(reasons).encode()), *((name, text.encode()) for name, text in headers.items())]
    return value, b"session", named


def rows(*messages: Message) -> list[dict[str, Any]]:
    return EdgeLetters(Settings(), TOPIC, DAY).decode(Refused(list(messages))).dead_letters.to_pylist()


names = st.sampled_from(["reasons", "schema_version", "context", "attempt", "lineage", "other"])
header_values = st.none() | st.binary(max_size=20) | st.sampled_from(
    [b"[]", b"[1]", b'[{"code":1}]', b'[{"code":"x"}]', b'[{"code":"\\ud800","pointer":"","message":""}]',
     b'{"code":"x"}', json.dumps([REASON]).encode(), b"1.2.0", b"\xff", b"[" * 100_000]
)  # fmt: skip


@given(st.lists(st.tuples(
    st.none() | st.binary(max_size=40), st.none() | st.binary(max_size=9),
    st.lists(st.tuples(names, header_values), max_size=6)), max_size=8))  # fmt: skip
def test_every_message_is_a_row_that_keeps_the_contract_byte_for_byte_whatever_its_headers(
    messages: list[Message],
) -> None:
    found = EdgeLetters(Settings(), TOPIC, DAY).decode(Refused(messages, partition=3, start=7))
    audit(BRONZE_DEAD_LETTERS, found.dead_letters)
    assert found.events.num_rows == 0
    letters = found.dead_letters.to_pylist()
    assert [(row["raw"], row["message_key"], row["kafka_offset"]) for row in letters] == [
        (value, key, 7 + i) for i, (value, key, _) in enumerate(messages)
    ]
    for row, (_, _, headers) in zip(letters, messages, strict=True):
        assert row["source"] == "edge" and row["topic"] == TOPIC and row["reasons"]
        assert set(json.loads(row["headers"] or "{}")) == {name for name, _ in headers}


def test_reasons_version_and_headers_are_those_that_the_edge_gave() -> None:
    context = {"attempt": "1", "context": '{"key_id":"k"}', "schema_version": "1.2.0"}
    (row,) = rows(labelled(b"{}", REASON, REASON | {"code": "schema_type"}, **context))
    assert row["reasons"] == [REASON, REASON | {"code": "schema_type"}]
    assert row["schema_version"] == "1.2.0"
    assert json.loads(row["headers"]) == context | {"reasons": json.dumps([REASON, REASON | {"code": "schema_type"}])}


@pytest.mark.parametrize(
    "header", [None, b"", b"[]", b"{}", b'["x"]', b'[{"code":1,"pointer":"","message":""}]', b"\xff"]
)
def test_a_letter_without_readable_reasons_is_unlabelled(header: bytes | None) -> None:
    (absent,), (row,) = rows((b"x", None, [])), rows((b"x", None, [("reasons", header)]))
    assert [r["code"] for r in absent["reasons"]] == [r["code"] for r in row["reasons"]] == ["unlabelled"]
    assert absent["schema_version"] == "unknown" and absent["headers"] is None


def test_a_header_that_repeats_keeps_all_its_values() -> None:
    (row,) = rows((b"x", None, [("lineage", b"a"), ("lineage", b"b"), ("context", None)]))
    assert json.loads(row["headers"]) == {"lineage": ["a", "b"], "context": None}


def take(
    home: Home, messages: list[Message], start: int = 0, again: bool = False, topic_id: str = "dlq-1"
) -> IngestResult:
    """Ingest messages of partition 0 of the edge's topic; or read them again."""
    feed = letters_feed(home.settings)
    batch = Batch(feed, topic_id, DAY, {0: (start, start + len(messages))})
    chunks: Iterator[Refused] = iter([Refused(messages, start=start)])
    return (reingest_day if again else ingest)(home.lake, batch, chunks, audit)


def offsets(home: Home, source: str) -> list[int]:
    return sorted(row["kafka_offset"] for row in home.rows(BRONZE_DEAD_LETTERS) if row["source"] == source)


def test_dead_letters_of_both_origins_keep_apart_where_their_offsets_are_the_same(new_home: NewHome) -> None:
    home = new_home()
    letters = [labelled(b"%d" % n, REASON) for n in range(5)]
    valid = event(9, at(DAY, "09:00:00"))
    home.send(DAY, [b"broken", valid, b"bad"])
    assert take(home, letters[:3]).dead_letters == 3
    home.send(DAY, [b"worse"])
    assert take(home, letters[3:], start=3).reasons == {"read_only": 2}
    before = home.multiset(BRONZE_DEAD_LETTERS)
    assert offsets(home, "stream") == [0, 2, 3] and offsets(home, "edge") == [0, 1, 2, 3, 4]

    stream = home.batch(DAY, {0: (0, 4)})
    reingest_day(home.lake, stream, home.read(stream), audit)
    assert home.multiset(BRONZE_DEAD_LETTERS) == before
    take(home, letters, again=True)
    assert home.multiset(BRONZE_DEAD_LETTERS) == before
    for table, end in ((BRONZE_EVENTS, 4), (BRONZE_DEAD_LETTERS, 5)):
        progress = home.lake.progress(table)
        assert progress is not None and progress.offsets == {0: end}


def test_a_batch_of_dead_letters_is_taken_once_and_refused_where_it_does_not_continue(new_home: NewHome) -> None:
    home = new_home()
    letters = [labelled(b"x", REASON)] * 3
    take(home, letters)
    assert take(home, letters).skipped
    for start, topic_id in ((2, "dlq-1"), (4, "dlq-1"), (3, "another")):
        with pytest.raises(StaleWriter):
            take(home, letters, start=start, topic_id=topic_id)
    with pytest.raises(StaleWriter, match="run ahead"):
        take(home, letters, start=1, again=True)
    assert offsets(home, "edge") == [0, 1, 2]


class Died(Exception):
    """Stands for the end of the process."""


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_death_at_any_commit_of_either_feed_loses_and_doubles_nothing(
    new_home: NewHome, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    letters = [labelled(b"%d" % n, REASON) for n in range(4)]
    values = [event(n, at(DAY, "09:00:00") + n) if n % 2 else b"broken %d" % n for n in range(6)]

    def pipeline(home: Home) -> None:
        """Two runs of both feeds, and a rebuild of their day; done again, it goes on where it stopped."""
        for step in range(2):
            home.take(DAY, {0: (3 * step, 3 * step + 3)})
            take(home, letters[2 * step : 2 * step + 2], start=2 * step)
        day = home.batch(DAY, {0: (0, 6)})
        reingest_day(home.lake, day, home.read(day), audit)
        take(home, letters, again=True)

    def fresh() -> Home:
        home = new_home()
        for value in values:
            home.append(0, value, at(DAY, "12:00:00"))
        return home

    publish = Lake._publish
    commits = 0

    def counted(self: Lake, *given: Any) -> Any:
        nonlocal commits
        commits += 1
        if commits == fatal and not after:
            raise Died
        done = publish(self, *given)
        if commits == fatal:
            raise Died
        return done

    monkeypatch.setattr(Lake, "_publish", counted)
    fatal, clean = 0, fresh()
    pipeline(clean)
    total = commits
    assert total == 9
    for fatal in range(1, total + 1):
        commits, home = 0, fresh()
        with pytest.raises(Died):
            pipeline(home)
        pipeline(home)
        for table in (BRONZE_EVENTS, BRONZE_DEAD_LETTERS):
            assert home.multiset(table) == clean.multiset(table), fatal
            assert home.lake.progress(table) == clean.lake.progress(table)


def test_parts_are_bounded_by_bytes_as_well_as_by_rows() -> None:
    chunks = [Refused([labelled(b"x" * 1000, REASON)] * 2, start=2 * n) for n in range(6)]
    judge = EdgeLetters(Settings(), TOPIC, DAY)
    assert [part.rows for part in decode_all(judge, iter(chunks), part_rows=100, part_bytes=4_000)] == [4, 4, 4]
    assert [part.rows for part in decode_all(judge, iter(chunks), part_rows=10, part_bytes=10**9)] == [10, 2]


def unread(*days: date) -> Unread:
    return Unread([DayBatch(day, (OffsetRange(0, n, n + 1),)) for n, day in enumerate(days)], {}, {})


def test_an_intake_takes_of_each_feed_the_first_batch_of_the_oldest_day() -> None:
    later = DAY + timedelta(days=1)
    events, letters = unread(DAY, DAY, later), unread(DAY, later)
    both = Intake.first_of({"events": events, "dead_letters": letters})
    assert both == Intake(DAY, {"events": events.batches[0], "dead_letters": letters.batches[0]})
    assert both.messages == 2 and Intake.from_json(both.to_json()) == both
    assert Intake.first_of({"events": unread(later), "dead_letters": letters}) == Intake(
        DAY, {"dead_letters": letters.batches[0]}
    )
    assert Intake.first_of({"events": unread(), "dead_letters": unread()}) is None
    assert Intake(DAY, {}).key == "2026-11-02-nothing"
    with pytest.raises(ValueError, match="No intake"):
        Intake.from_json('{"day": "2026-11-02", "batches": []}')
