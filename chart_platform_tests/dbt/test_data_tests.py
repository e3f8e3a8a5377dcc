"""dbt's data tests read what has changed since they last ran, and tell what they found."""

from __future__ import annotations

from datetime import timedelta

import pytest

from chart_platform.contracts.tables import FACT_FUNNEL, SILVER_SESSIONS, SILVER_USER_SEGMENTS
from chart_platform.lakehouse.lake import Lake
from chart_platform.transform import data_tests
from chart_platform_tests.dbt.spoil import spoil
from chart_platform_tests.transform.fixtures import NewHome, dbt_cache, new_home
from chart_platform_tests.transform.homes import DAY, Home, at, event

__all__ = ["dbt_cache", "new_home"]

NEXT = DAY + timedelta(days=1)
TESTED = (SILVER_SESSIONS, FACT_FUNNEL, SILVER_USER_SEGMENTS)


def snapshots(lake: Lake) -> dict[str, int | None]:
    heads = {t.full_name: lake.load(t).current_snapshot() for t in TESTED}
    return {name: head.snapshot_id if head else None for name, head in heads.items()}


def visits(home: Home, number: int, day: object = DAY) -> None:
    home.send(DAY, [event(number, at(day, "10:00:00"), session=f"s{number}", visitor="u")])  # type: ignore[arg-type]
    home.advance()


@pytest.mark.slow
def test_tests_look_at_the_days_that_changed_and_name_what_is_wrong_there(new_home: NewHome) -> None:
    home = new_home()
    visits(home, 1)
    first = data_tests.run(home.lake, TESTED, {})
    assert {v.part.table for v in first} == set(TESTED) - {SILVER_USER_SEGMENTS}
    assert len(first) == 4 and {v.failures for v in first} == {0}
    assert {v.part.days for v in first} == {(DAY,)}
    seen = snapshots(home.lake)
    assert data_tests.run(home.lake, TESTED, seen) == []

    (old,) = home.rows(FACT_FUNNEL)
    fresh = old | {"event_dt": NEXT, "session_start_ts": old["session_start_ts"] + timedelta(days=1)}
    spoil(home, FACT_FUNNEL, [fresh, fresh | {"payout_cents": -7, "saw_comparison": None}])
    found = {v.test.split(".")[2]: v for v in data_tests.run(home.lake, TESTED, seen)}
    assert {v.part.table for v in found.values()} == {FACT_FUNNEL}
    assert {v.part.days for v in found.values()} == {(NEXT,)}
    assert {name: v.failures for name, v in found.items()} == {"key_is_unique": 1, "values_are_declared": 2}
    assert found["key_is_unique"].examples[0]["session_id"] == old["session_id"]
    assert {row["rule"] for row in found["values_are_declared"].examples} == {
        "payout_cents is at least 0",
        "saw_comparison is required",
    }
