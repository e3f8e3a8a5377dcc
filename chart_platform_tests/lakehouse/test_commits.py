"""The commit protocol on real Iceberg tables: exactly once, refused when stale, conflicting when files are gone."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta

import pyarrow as pa
import pytest

from chart_platform.contracts.tables import BRONZE_DEAD_LETTERS, BRONZE_EVENTS, SILVER_USER_SEGMENTS
from chart_platform.lakehouse import maintenance
from chart_platform.lakehouse.duck import connect
from chart_platform.lakehouse.lake import Change, CommitConflict, Lake, StaleWriter, advance, paths
from chart_platform.lakehouse.progress import Progress
from chart_platform.lakehouse.rewrite import replace_rows
from chart_platform.quality.schemas import audit
from chart_platform.transform.ingest import ingest, reingest_day
from chart_platform_tests.transform.fixtures import NewHome
from chart_platform_tests.transform.homes import DAY, Home, at, event, ms

TOMORROW = DAY + timedelta(days=1)


def progress(offsets: dict[int, int], topic_id: str = "a", day=DAY) -> Progress:
    return Progress.on_day("t", topic_id, offsets, day)


def page_views(numbers: range) -> list[object]:
    return [event(n, at(DAY, "10:00:00") + n, session="s") for n in numbers]


def offsets_held(home: Home) -> list[tuple[int, int]]:
    found = [
        (r["kafka_partition"], r["kafka_offset"]) for t in (BRONZE_EVENTS, BRONZE_DEAD_LETTERS) for r in home.rows(t)
    ]
    return sorted(found)


def test_a_batch_that_continues_the_table_moves_only_its_own_partitions() -> None:
    after = advance(progress({0: 5, 1: 7}), {0: 5}, progress({0: 9}, day=TOMORROW))
    assert after is not None and after.offsets == {0: 9, 1: 7} and after.days == {0: TOMORROW, 1: DAY}


def test_a_batch_of_an_earlier_day_does_not_move_the_newest_day_back() -> None:
    after = advance(progress({0: 5}, day=TOMORROW), {1: 0}, progress({1: 3}))
    assert after is not None and after.day == TOMORROW


def test_a_table_without_progress_adopts_any_start() -> None:
    assert advance(None, {0: 40, 1: 0}, progress({0: 41, 1: 0})) == progress({0: 41, 1: 0})


@pytest.mark.parametrize("have", [{0: 9}, {0: 12}, {0: 9, 1: 3}])
def test_a_batch_that_is_already_there_is_skipped(have: dict[int, int]) -> None:
    assert advance(progress(have), {0: 5}, progress({0: 9})) is None


@pytest.mark.parametrize(
    ("have", "start", "end"),
    [({0: 4}, {0: 5}, {0: 9}), ({0: 6}, {0: 5}, {0: 9}), ({0: 9, 1: 0}, {0: 5, 1: 0}, {0: 9, 1: 2})],
    ids=["gap", "overlap", "one partition done and another not"],
)
def test_a_batch_that_does_not_continue_the_table_is_refused(
    have: dict[int, int], start: dict[int, int], end: dict[int, int]
) -> None:
    with pytest.raises(StaleWriter, match="partition 0"):
        advance(progress(have), start, progress(end))


def test_offsets_of_a_recreated_topic_are_refused_even_where_they_would_be_skipped() -> None:
    with pytest.raises(StaleWriter, match="recreated"):
        advance(progress({0: 9}), {0: 5}, progress({0: 9}, topic_id="b"))


def test_running_a_batch_again_or_an_overlapping_one_changes_nothing(new_home: NewHome) -> None:
    home = new_home()
    home.send(DAY, [*page_views(range(4)), b"broken"])
    head = home.lake.load(BRONZE_EVENTS).current_snapshot()
    letters = home.lake.load(BRONZE_DEAD_LETTERS).current_snapshot()
    assert home.take(DAY, {0: (0, 5)}).skipped
    home.append(0, b"also broken", at(DAY, "13:00:00"))
    with pytest.raises(StaleWriter):
        home.take(DAY, {0: (3, 6)})
    assert home.lake.load(BRONZE_EVENTS).current_snapshot() == head
    assert home.lake.load(BRONZE_DEAD_LETTERS).current_snapshot() == letters


@pytest.mark.parametrize("seed", range(2))
def test_writers_that_race_on_one_batch_commit_it_once(new_home: NewHome, seed: int) -> None:
    home = new_home()
    home.send(DAY, page_views(range(seed + 1)))
    start = seed + 1
    for value in [*page_views(range(10, 20)), b"broken"]:
        home.append(0, value, at(DAY, "13:00:00"))
    batch = home.batch(DAY, {0: (start, start + 11)})
    barrier, outcomes = threading.Barrier(3), []

    def write() -> None:
        chunks = list(home.read(batch))
        lake = Lake(home.settings)
        barrier.wait()
        outcomes.append(ingest(lake, batch, iter(chunks), audit).skipped)

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(outcomes) == [False, True, True]
    assert offsets_held(home) == [(0, n) for n in range(start + 11)]


def test_a_writer_that_goes_stale_while_it_reads_leaves_dead_letters_alone(new_home: NewHome) -> None:
    home = new_home()
    for value in (b"first", b"second"):
        home.append(0, value, at(DAY, "12:00:00"))
    slow = home.batch(DAY, {0: (0, 2)})

    def overtaken() -> object:
        home.take(DAY, {0: (0, 1)})
        yield from home.read(slow)

    with pytest.raises(StaleWriter):
        ingest(Lake(home.settings), slow, overtaken(), audit)
    assert offsets_held(home) == [(0, 0)]


def test_progress_follows_a_rollback(new_home: NewHome) -> None:
    home = new_home()
    home.send(DAY, page_views(range(3)))
    first = home.lake.load(BRONZE_EVENTS).current_snapshot()
    home.send(DAY, page_views(range(3, 5)))
    table = home.lake.load(BRONZE_EVENTS)
    assert first is not None
    with table.manage_snapshots() as snapshots:
        snapshots.set_current_snapshot(first.snapshot_id)
    found = home.lake.progress(BRONZE_EVENTS)
    assert found is not None and found.offsets == {0: 3}
    # The rows that were rolled back come again, once.
    home.take(DAY, {0: (3, 5)})
    assert offsets_held(home) == [(0, n) for n in range(5)]


@pytest.mark.slow
def test_progress_survives_compaction_and_expiry(new_home: NewHome) -> None:
    home = new_home()
    for n in range(maintenance.MANY_FILES):
        home.send(DAY, page_views(range(n, n + 1)))
    before = home.multiset(BRONZE_EVENTS)
    assert maintenance.compact(home.lake, BRONZE_EVENTS).files_written == 1
    maintenance.expire(home.lake, BRONZE_EVENTS, keep=timedelta(0))
    found = home.lake.progress(BRONZE_EVENTS)
    assert found is not None and found.offsets == {0: maintenance.MANY_FILES}
    assert home.multiset(BRONZE_EVENTS) == before


@pytest.mark.slow
def test_a_compaction_overtaken_by_a_rewrite_of_its_files_publishes_nothing(
    new_home: NewHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = new_home()
    for n in range(maintenance.MANY_FILES):
        home.send(DAY, page_views(range(n, n + 1)))
    before = home.multiset(BRONZE_EVENTS)
    everything = home.batch(DAY, {0: (0, maintenance.MANY_FILES)})
    write, overtaken = Lake.write, []

    def slowly(self: Lake, table: object, rows: pa.Table) -> object:
        files = write(self, table, rows)  # type: ignore[arg-type]
        if not overtaken:
            overtaken.append(True)
            # Between the compaction's reading and its commit a backfill replaces the same files.
            reingest_day(Lake(home.settings), everything, home.read(everything), audit)
        return files

    monkeypatch.setattr(Lake, "write", slowly)
    maintenance.compact(home.lake, BRONZE_EVENTS)
    assert home.multiset(BRONZE_EVENTS) == before


def test_a_change_based_on_files_that_are_gone_conflicts(new_home: NewHome) -> None:
    home = new_home()
    home.send(DAY, page_views(range(3)))
    table = home.lake.load(BRONZE_EVENTS)
    old = home.lake.files(table)
    again = home.batch(DAY, {0: (0, 3)})
    reingest_day(home.lake, again, home.read(again), audit)
    with pytest.raises(CommitConflict):
        home.lake.commit(BRONZE_EVENTS, lambda _: Change(remove=old), attempts=1)
    assert offsets_held(home) == [(0, n) for n in range(3)]


def test_reading_a_day_again_gives_the_same_rows_and_keeps_what_lies_beyond(new_home: NewHome) -> None:
    home = new_home()
    home.send(DAY, [*page_views(range(4)), b"broken", None])
    home.send(TOMORROW, page_views(range(6, 8)))
    home.send(DAY, [event(9, at(DAY, "09:00:00"))], partition=1)
    rows, letters = home.multiset(BRONZE_EVENTS), home.multiset(BRONZE_DEAD_LETTERS)
    tomorrow = {p for p in paths(home.lake.files(home.lake.load(BRONZE_EVENTS))) if str(TOMORROW) in p}
    day = home.batch(DAY, {0: (0, 6)})
    reingest_day(home.lake, day, home.read(day), audit)
    assert home.multiset(BRONZE_EVENTS) == rows and home.multiset(BRONZE_DEAD_LETTERS) == letters
    assert tomorrow <= paths(home.lake.files(home.lake.load(BRONZE_EVENTS)))
    found = home.lake.progress(BRONZE_EVENTS)
    assert found is not None and found.offsets == {0: 8, 1: 1} and found.day == TOMORROW


def test_a_rebuild_may_not_run_ahead_of_the_table(new_home: NewHome) -> None:
    home = new_home()
    home.send(DAY, page_views(range(2)))
    home.append(0, page_views(range(2, 3))[0], at(DAY, "13:00:00"))
    day = home.batch(DAY, {0: (0, 3)})
    with pytest.raises(StaleWriter, match="ahead"):
        reingest_day(home.lake, day, home.read(day), audit)
    assert offsets_held(home) == [(0, 0), (0, 1)]


def test_replaced_rows_go_where_the_predicate_holds_and_stay_where_it_is_null(new_home: NewHome) -> None:
    home = new_home()
    moment = pa.scalar(ms(DAY) * 1000, pa.timestamp("us"))
    later = pa.scalar(ms(TOMORROW) * 1000, pa.timestamp("us"))

    def segments(*rows: tuple[str, str, bool]) -> pa.Table:
        return pa.Table.from_pylist(
            [
                {"user_id_hash": user, "segment_key": segment, "as_of_ts": moment.as_py(), "valid_from": moment.as_py(),
                 "valid_to": later.as_py() if ended else None}
                for user, segment, ended in rows
            ],
            schema=SILVER_USER_SEGMENTS.arrow,
        )  # fmt: skip

    lake, connection = home.lake, connect(home.settings)
    lake.commit(
        SILVER_USER_SEGMENTS,
        lambda t: Change(add=lake.write(t, segments(("a", "x", True), ("b", "x", False), ("c", "y", False)))),
    )
    untouched = {p for p in paths(lake.files(lake.load(SILVER_USER_SEGMENTS))) if "segment_key=y" in p}

    def decide(current: object) -> Change:
        files = lake.files(current)  # type: ignore[arg-type]
        doomed = "t.valid_to > timestamp '2000-01-01'"  # null for b and c
        return replace_rows(connection, current, SILVER_USER_SEGMENTS, files, doomed, segments(("d", "x", False)))  # type: ignore[arg-type]

    lake.commit(SILVER_USER_SEGMENTS, decide)
    found = Counter((r["user_id_hash"], r["segment_key"]) for r in home.rows(SILVER_USER_SEGMENTS))
    assert found == Counter([("b", "x"), ("c", "y"), ("d", "x")])
    assert untouched and untouched <= paths(lake.files(lake.load(SILVER_USER_SEGMENTS)))
