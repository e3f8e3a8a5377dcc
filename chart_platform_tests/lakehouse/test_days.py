"""Dividing days by the rows that they hold."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from chart_platform.lakehouse.days import in_parts
from chart_platform_tests.transform.homes import DAY


@given(rows=st.lists(st.integers(0, 12), max_size=12))
def test_parts_hold_every_day_once_in_order_and_are_as_full_as_may_be(rows: list[int]) -> None:
    of_day = {DAY + timedelta(days=n): count for n, count in enumerate(rows)}
    parts = list(in_parts(list(of_day), of_day, 10))
    assert [day for part in parts for day in part] == list(of_day)
    sizes = [sum(of_day[day] for day in part) for part in parts]
    assert all(size <= 10 or len(part) == 1 for size, part in zip(sizes, parts, strict=True))
    assert all(size + of_day[after[0]] > 10 for size, after in zip(sizes, parts[1:], strict=False))
