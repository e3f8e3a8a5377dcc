"""Planning is arithmetic, so most of it is stated as properties."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chart_platform.stream.planning import (
    DayBatch,
    OffsetRange,
    RetentionLoss,
    TopicTruncated,
    day_range,
    plan_batches,
)

D1, D2, D3, D4 = (date(2026, 11, day) for day in (20, 21, 22, 23))


class World:
    """A topic, its days and a table, as Kafka and Iceberg would tell of them."""

    def __init__(self, committed: dict[int, int], latest: dict[int, int], days: dict[date, dict[int, int]]) -> None:
        self.committed, self.latest, self.days = committed, latest, days

    def plan(self, max_messages: int, committed: dict[int, int] | None = None) -> list[DayBatch]:
        earliest = dict.fromkeys(self.latest, 0)
        known = self.committed if committed is None else committed
        return plan_batches(known, earliest, self.latest, self.days, max_messages)

    def owner(self, partition: int, offset: int) -> date:
        return max(day for day, starts in self.days.items() if starts[partition] <= offset)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    partitions = range(draw(st.integers(1, 6)))
    number_of_days = draw(st.integers(1, 4))
    latest, committed = {}, {}
    days: dict[date, dict[int, int]] = {D1 + timedelta(days=n): {} for n in range(number_of_days)}
    for p in partitions:
        latest[p] = draw(st.integers(0, 60))
        committed[p] = draw(st.integers(0, latest[p]))
        later = draw(st.lists(st.integers(0, latest[p]), min_size=number_of_days - 1, max_size=number_of_days - 1))
        for day, start in zip(days, [0, *sorted(later)], strict=True):
            days[day][p] = start
    return World(committed, latest, days)


caps = st.integers(1, 40)


@given(worlds(), caps)
def test_batches_cover_exactly_what_is_unread_and_each_offset_once(world: World, cap: int) -> None:
    read = [(r.partition, o) for batch in world.plan(cap) for r in batch.ranges for o in range(r.start, r.end)]
    unread = [(p, o) for p in world.latest for o in range(world.committed[p], world.latest[p])]
    assert sorted(read) == sorted(unread)


@given(worlds(), caps)
def test_a_batch_never_crosses_a_day(world: World, cap: int) -> None:
    for batch in world.plan(cap):
        assert {world.owner(r.partition, o) for r in batch.ranges for o in range(r.start, r.end)} == {batch.day}


@given(worlds(), caps)
def test_a_batch_is_capped_and_full_unless_it_ends_its_day(world: World, cap: int) -> None:
    batches = world.plan(cap)
    for batch, following in zip(batches, [*batches, None][1:], strict=True):
        assert 0 < batch.messages <= cap
        if following is not None and following.day == batch.day:
            assert batch.messages == cap


@given(worlds(), caps)
def test_days_come_oldest_first_and_each_partition_in_order(world: World, cap: int) -> None:
    batches = world.plan(cap)
    assert [b.day for b in batches] == sorted(b.day for b in batches)
    position = dict(world.committed)
    for batch in batches:
        for offsets in batch.ranges:
            assert offsets.start == position[offsets.partition]
            position[offsets.partition] = offsets.end


@given(worlds(), caps)
def test_planning_again_after_any_batch_continues_the_same_plan(world: World, cap: int) -> None:
    whole = world.plan(cap)
    committed = dict(world.committed)
    for done, batch in enumerate(whole, start=1):
        committed |= {r.partition: r.end for r in batch.ranges}
        assert world.plan(cap, committed) == whole[done:]


@given(worlds(), caps)
def test_a_table_that_adopts_a_topic_fixes_every_partition_with_its_first_batch(world: World, cap: int) -> None:
    batches = plan_batches({}, world.committed, world.latest, world.days, cap)
    if batches:
        assert [r.partition for r in batches[0].ranges] == sorted(world.latest)
        committed = {r.partition: r.end for r in batches[0].ranges}
        assert plan_batches(committed, world.committed, world.latest, world.days, cap) == batches[1:]


@given(worlds(), caps)
def test_a_partition_gets_as_much_of_a_batch_as_any_other_or_all_it_has_of_that_day(world: World, cap: int) -> None:
    position = dict(world.committed)
    for batch in world.plan(cap):
        share = dict.fromkeys(world.latest, 0) | {r.partition: r.messages for r in batch.ranges}
        position |= {r.partition: r.end for r in batch.ranges}
        for p, taken in share.items():
            has_more = position[p] < world.latest[p] and world.owner(p, position[p]) == batch.day
            assert not has_more or taken >= max(share.values()) - 1


@given(worlds(), caps)
def test_a_batch_survives_json_and_keeps_its_key(world: World, cap: int) -> None:
    batches = world.plan(cap)
    for batch in batches:
        again = DayBatch.from_json(batch.to_json())
        assert again == batch
        assert again.key == batch.key
    assert len({batch.key for batch in batches}) == len(batches)


@given(worlds())
def test_backfilling_every_day_reads_exactly_what_was_committed(world: World) -> None:
    after = max(world.days) + timedelta(days=1)
    starts = world.days | {after: world.latest}
    earliest = dict.fromkeys(world.latest, 0)
    read = [
        (r.partition, o)
        for day in world.days
        for r in day_range(day, world.committed, earliest, starts, ingested_from=None)
        for o in range(r.start, r.end)
    ]
    assert sorted(read) == sorted((p, o) for p, end in world.committed.items() for o in range(end))


def test_a_key_is_short_and_the_same_for_ever() -> None:
    assert DayBatch(D1, (OffsetRange(0, 5, 9),)).key == "2026-11-20-1b6c63152270"


def test_a_partition_without_messages_is_left_out() -> None:
    batches = plan_batches({0: 3, 1: 7}, {0: 0, 1: 0}, {0: 5, 1: 7}, {D1: {0: 0, 1: 0}}, 100)
    assert batches == [DayBatch(D1, (OffsetRange(0, 3, 5),))]


def test_nothing_unread_needs_no_days() -> None:
    assert plan_batches({0: 5}, {0: 0}, {0: 5}, {}, 100) == []


def test_retention_loss_names_every_partition_range_and_the_way_out() -> None:
    with pytest.raises(RetentionLoss) as caught:
        plan_batches({0: 10, 1: 0, 2: 50}, {0: 15, 1: 1, 2: 40}, dict.fromkeys(range(3), 90), {}, 100)
    assert caught.value.missing == (OffsetRange(0, 10, 15), OffsetRange(1, 0, 1))
    assert "6 offsets (partition 0: 10 to 14; partition 1: 0 to 0)" in str(caught.value)
    assert "CHART_KAFKA_RETENTION_HOURS" in str(caught.value)


def test_a_new_partition_that_lost_its_first_messages_is_a_loss_although_it_was_never_committed() -> None:
    with pytest.raises(RetentionLoss, match="partition 1: 0 to 3"):
        plan_batches({0: 10}, {0: 0, 1: 4}, {0: 10, 1: 9}, {D1: {0: 0, 1: 4}}, 100)


def test_a_table_that_never_took_anything_adopts_the_topic_unless_told_not_to() -> None:
    topic = {"earliest": {0: 4, 1: 8}, "latest": {0: 6, 1: 8}, "day_starts": {D1: {0: 4, 1: 8}}}
    adopted = plan_batches({}, **topic, max_messages=100)
    assert adopted == [DayBatch(D1, (OffsetRange(0, 4, 6), OffsetRange(1, 8, 8)))]
    with pytest.raises(RetentionLoss):
        plan_batches({}, **topic, max_messages=100, adopt=False)


@pytest.mark.parametrize("latest", [{0: 5}, {}])
def test_a_topic_that_ends_before_what_was_read_is_refused(latest: dict[int, int]) -> None:
    with pytest.raises(TopicTruncated, match="partition 0 is read up to 6"):
        plan_batches({0: 6}, dict.fromkeys(latest, 0), latest, {}, 100)


@pytest.mark.parametrize(
    ("days", "complaint"),
    [
        ({}, "names no day"),
        ({D1: {0: 0}, D3: {0: 4}}, "nothing between"),
        ({D2: {0: 4}, D3: {0: 5}}, "offset 2 of partition 0 is older"),
    ],
)
def test_days_that_do_not_fit_the_unread_span_are_refused(days: dict[date, dict[int, int]], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        plan_batches({0: 2}, {0: 0}, {0: 9}, days, 100)


def test_a_batch_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="max_messages is 0"):
        plan_batches({0: 2}, {0: 0}, {0: 9}, {D1: {0: 0}}, 0)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"day": "x", "ranges": []}', '{"day": "2026-11-20", "ranges": [[0, 9, 5]]}']
)
def test_a_text_that_is_no_batch_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"No batch"):
        DayBatch.from_json(text)


def test_a_backfill_is_bounded_by_what_was_committed() -> None:
    starts = {D2: {0: 10, 1: 0}, D3: {0: 30, 1: 0}}
    ranges = day_range(D2, {0: 25, 1: 0}, {0: 0, 1: 0}, starts, ingested_from={0: 10})
    assert ranges == (OffsetRange(0, 10, 25),)


def test_a_backfill_of_a_day_that_retention_has_begun_to_drop_fails() -> None:
    starts = {D2: {0: 15}, D3: {0: 30}}
    with pytest.raises(RetentionLoss, match=r"partition 0: 10 to 14.*2026-11-21 can't be read again"):
        day_range(D2, {0: 40}, {0: 15}, starts, ingested_from={0: 10})


def test_a_backfill_of_a_day_that_retention_dropped_whole_fails_instead_of_emptying_it() -> None:
    starts = {D2: {0: 35}, D3: {0: 35}}
    with pytest.raises(RetentionLoss, match="partition 0: 10 to 34"):
        day_range(D2, {0: 40}, {0: 35}, starts, ingested_from={0: 10})


def test_a_backfill_that_cannot_prove_it_has_the_whole_day_fails() -> None:
    with pytest.raises(RetentionLoss, match="may belong to 2026-11-21"):
        day_range(D2, {0: 40}, {0: 15}, {D2: {0: 15}, D3: {0: 30}}, ingested_from=None)
    assert day_range(D2, {0: 40}, {0: 14}, {D2: {0: 15}, D3: {0: 30}}, ingested_from=None)


def test_a_backfill_needs_the_day_after() -> None:
    with pytest.raises(ValueError, match="lacks 2026-11-22"):
        day_range(D2, {0: 4}, {0: 0}, {D2: {0: 0}}, ingested_from=None)
