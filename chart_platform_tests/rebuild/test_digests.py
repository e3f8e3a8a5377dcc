"""A digest is that of the rows and of nothing else, and differences are counted row by row."""

from __future__ import annotations

import random
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chart_platform.contracts.tables import FACT_AFFILIATE_CLICKS as TABLE
from chart_platform.lakehouse.lake import Change
from chart_platform.quality.digests import Content, contents, differences
from chart_platform_tests.transform.fixtures import NewHome, examples
from chart_platform_tests.transform.homes import DAY, Home

DAYS = [DAY, DAY + timedelta(days=1)]
# What a text of a row might run together: separators, quotes, nulls and their spelling.
TEXTS = [None, "", "NULL", "a", "b", "a, b", "'a', b", "(", "a'", "\\'", " "]


@st.composite
def rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = []
    for _ in range(draw(st.integers(0, 6))):
        day = draw(st.sampled_from(DAYS))
        row = dict.fromkeys(TABLE.arrow.names) | {"event_id": draw(st.sampled_from(["e1", "e2"])), "event_dt": day}
        row |= {"ts": datetime(day.year, day.month, day.day, 10), "payout_cents": draw(st.integers(0, 1))}
        row |= {name: draw(st.sampled_from(TEXTS)) for name in ("click_id", "affiliate_network")}
        found.append(row)
    return found


def put(home: Home, made: list[dict[str, Any]]) -> None:
    """Make these the table's rows, in files of some."""
    parts = [made[at::2] for at in (0, 1)]

    def decide(current: Any) -> Change:
        files = [f for part in parts for f in home.lake.write(current, pa.Table.from_pylist(part, schema=TABLE.arrow))]
        return Change(add=files, remove=home.lake.files(current))

    home.lake.commit(TABLE, decide)


def counted(made: list[dict[str, Any]]) -> Counter[str]:
    return Counter(repr(sorted(row.items(), key=lambda item: item[0])) for row in made)


@pytest.mark.slow
@settings(max_examples=examples(12, 200))
@given(before=rows(), after=rows(), seed=st.integers(0, 99))
def test_digests_are_equal_iff_the_rows_are_and_the_difference_counts_them(
    before: list[dict[str, Any]], after: list[dict[str, Any]], seed: int, new_home: NewHome
) -> None:
    home = new_home()
    put(home, before)
    then = contents(home.lake, TABLE, DAYS)
    snapshot = home.lake.load(TABLE).current_snapshot()
    random.Random(seed).shuffle(before)
    put(home, before)
    assert contents(home.lake, TABLE, DAYS) == then, "order and files are no content"
    put(home, after)
    now = contents(home.lake, TABLE, DAYS)
    found = differences(home.lake, TABLE, DAYS, snapshot.snapshot_id if snapshot else None)
    assert found is not None
    for day in DAYS:
        old, new = (counted([row for row in made if row["event_dt"] == day]) for made in (before, after))
        assert now.get(day, Content()).rows == sum(new.values())
        assert (then.get(day) == now.get(day)) == (old == new)
        wanted = (sum((old - new).values()), sum((new - old).values()))
        assert ((found[day].gone, found[day].new) if day in found else (0, 0)) == wanted


def test_differences_from_a_snapshot_that_has_expired_are_not_known(new_home: NewHome) -> None:
    home = new_home()
    assert differences(home.lake, TABLE, DAYS, 12345) is None
    assert differences(home.lake, TABLE, DAYS, None) == {}
