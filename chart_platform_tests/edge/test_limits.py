"""Token buckets and the memory of acknowledged ids."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chart_platform.edge import limits
from chart_platform.edge.limits import Acknowledged, Limits, network

RATE = 10.0


def test_a_bucket_gives_what_it_holds_then_says_how_long_to_wait_and_gives_again() -> None:
    bucket = Limits()
    assert bucket.take([("key", RATE)], 20, 0.0) is None
    wait = bucket.take([("key", RATE)], 1, 0.0)
    assert wait == 1
    assert bucket.take([("key", RATE)], 1, 0.0 + wait) is None


def test_a_batch_larger_than_the_bucket_passes_once_and_is_waited_for() -> None:
    bucket = Limits()
    assert bucket.take([("key", RATE)], 100, 0.0) is None
    wait = bucket.take([("key", RATE)], 100, 0.0)
    assert wait is not None and 8 <= wait <= 9
    assert bucket.take([("key", RATE)], 100, wait - 1.5) is not None
    assert bucket.take([("key", RATE)], 100, float(wait)) is None


def test_who_is_refused_takes_from_no_one() -> None:
    bucket = Limits()
    assert bucket.take([("ip", 1.0)], 50, 0.0) is None
    assert bucket.take([("key", RATE), ("ip", 1.0)], 19, 0.0) is not None
    assert bucket.take([("key", RATE)], 19, 0.0) is None
    assert bucket.take([("key", RATE)], 1, 0.0) is None
    assert bucket.take([("key", RATE)], 1, 0.0) is not None


def test_looking_takes_nothing_and_no_limit_is_none() -> None:
    bucket = Limits()
    assert all(bucket.take([("key", RATE)], 0, 0.0) is None for _ in range(1_000))
    assert all(bucket.take([("key", 0)], 1_000, 0.0) is None for _ in range(1_000))
    assert bucket.take([("key", RATE)], 20, 0.0) is None


def test_workers_share_a_rate() -> None:
    bucket = Limits(workers=2)
    assert bucket.take([("key", RATE)], 10, 0.0) is None
    assert bucket.take([("key", RATE)], 1, 0.0) is not None


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 60)), min_size=1, max_size=60))
def test_over_any_time_no_more_passes_than_the_rate_and_one_bucket_and_one_batch(
    asked: list[tuple[float, int]],
) -> None:
    bucket, now, passed = Limits(), 0.0, 0
    for pause, count in asked:
        now += pause
        if bucket.take([("key", RATE)], count, now) is None:
            passed += count
        else:
            assert bucket.take([("key", RATE)], count, now) is not None
        assert passed <= RATE * now + RATE * limits._BURST_SECONDS + 60


@given(st.lists(st.integers(1, 60), min_size=1, max_size=20))
def test_who_waits_as_told_is_let_in(counts: list[int]) -> None:
    bucket, now = Limits(), 0.0
    for count in counts:
        wait = bucket.take([("key", RATE)], count, now)
        if wait is not None:
            now += wait
            assert bucket.take([("key", RATE)], count, now) is None


def test_buckets_are_bounded_and_those_in_use_stay() -> None:
    bucket = Limits()
    assert bucket.take([("busy", RATE)], 1_000, 0.0) is None
    for number in range(3 * limits._MOST_BUCKETS):
        bucket.take([(f"{number}", RATE)], 1, 0.0)
        if not number % 1_000:
            assert bucket.take([("busy", RATE)], 1, 0.0) is not None
    assert len(bucket._buckets) == limits._MOST_BUCKETS


def test_an_ipv6_customer_is_one_whatever_address_of_theirs_is_used() -> None:
    assert network("2001:db8:1:2:3:4:5:6") == network("2001:db8:1:2::1") == "2001:db8:1:2::/64"
    assert network("2001:db8:1:3::1") != network("2001:db8:1:2::1")
    assert network("192.0.2.1") == "192.0.2.1"


@given(st.lists(st.text(min_size=1, max_size=5), max_size=300))
def test_the_last_ids_are_remembered_and_no_more_than_twice_as_many(ids: list[str]) -> None:
    memory = Acknowledged(most=20)
    for number, one in enumerate(ids):
        memory.update([one])
        assert all(recent in memory for recent in ids[max(0, number - 18) : number + 1])
    assert len(memory._young) + len(memory._old) <= 40
    assert "another one" not in memory
