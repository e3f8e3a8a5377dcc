"""The marts' life cycle: only days whose rows changed are made, and the result is that of making all of them."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings

from chart_platform.contracts.tables import (
    RETENTION_DAILY,
    SESSION_QUALITY_DAILY,
    SILVER_EVENTS,
    SILVER_SESSIONS,
    VISITORS,
)
from chart_platform.lakehouse import maintenance
from chart_platform.lakehouse.catalog import identifier
from chart_platform.lakehouse.lake import Lake
from chart_platform.quality.schemas import audit
from chart_platform.transform import marts
from chart_platform.transform.visitors import update_retention, update_visitors
from chart_platform_tests.transform.fixtures import NewHome, dbt_cache, examples, new_home, some
from chart_platform_tests.transform.homes import DAY, Home, at, event
from chart_platform_tests.transform.test_incremental import Story, play, rules_file, stories

__all__ = ["dbt_cache", "new_home", "rules_file"]

NEXT = DAY + timedelta(days=1)


MADE = (*marts.mart_tables(), VISITORS, RETENTION_DAILY)


def contents(home: Home) -> dict[str, Counter[str]]:
    return {table.full_name: home.multiset(table) for table in MADE}


def made(home: Home, days: list[date] | None = None) -> set[date]:
    update_visitors(home.lake, audit, days)
    results = marts.run(home.lake, audit, days)
    update_retention(home.lake, audit, days)
    result = results.get(SESSION_QUALITY_DAILY.full_name)
    return set(result.days) if result is not None else set()


@pytest.mark.slow
def test_only_the_days_whose_visits_changed_are_made_again(new_home: NewHome) -> None:
    home = new_home()
    home.send(NEXT, [event(1, at(DAY, "10:00:00"), session="a"), event(2, at(NEXT, "10:00:00"), session="b")])
    home.advance()
    assert made(home) == {DAY, NEXT}
    assert marts.up_to_date(home.lake) and made(home) == set()
    home.send(NEXT, [event(3, at(NEXT, "11:00:00"), session="c")])
    home.advance()
    assert not marts.up_to_date(home.lake)
    assert made(home) == {NEXT}
    assert {row["event_dt"]: row["visits"] for row in home.rows(SESSION_QUALITY_DAILY)} == {DAY: 1, NEXT: 2}


@pytest.mark.slow
def test_a_compaction_makes_no_day_again(new_home: NewHome, monkeypatch: pytest.MonkeyPatch) -> None:
    home = new_home()
    for number in range(3):
        home.send(NEXT, [event(number, at(DAY, f"1{number}:00:00"), session=f"s{number}")])
        home.advance()
    assert made(home) == {DAY}
    monkeypatch.setattr(maintenance, "MANY_FILES", 2)
    before = len(home.lake.files(home.lake.load(SILVER_SESSIONS)))
    maintenance.compact(home.lake, SILVER_SESSIONS)
    after = len(home.lake.files(home.lake.load(SILVER_SESSIONS)))
    assert after < before and not marts.up_to_date(home.lake)
    assert made(home) == set() and marts.up_to_date(home.lake)


@pytest.mark.slow
def test_a_first_run_takes_the_days_in_parts(new_home: NewHome, monkeypatch: pytest.MonkeyPatch) -> None:
    home = new_home()
    days = [DAY, NEXT, NEXT + timedelta(days=1)]
    home.send(days[-1], [event(n, at(day, "10:00:00"), session=f"s{n}") for n, day in enumerate(days)])
    home.advance()
    monkeypatch.setattr(marts, "_ROWS_AT_ONCE", 1)
    assert made(home) == set(days)
    parts = home.lake.load(SESSION_QUALITY_DAILY).snapshots()
    assert len(parts) == len(days) and marts.up_to_date(home.lake)


@pytest.mark.slow
@settings(max_examples=examples(3, 100))
@given(story=stories())
def test_marts_that_follow_equal_marts_made_as_a_whole(story: Story, new_home: NewHome, rules_file: Path) -> None:
    home = new_home(segment_rules=rules_file)
    with pytest.MonkeyPatch.context() as monkeypatch:
        play(home, story, monkeypatch, after_step=lambda: made(home))
    made(home)
    followed = contents(home)
    for day in some(sorted({row["event_dt"] for row in home.rows(SILVER_EVENTS)})):
        made(home, [day])
        assert contents(home) == followed, f"making {day} again changed something"
    for table in MADE:
        home.lake.catalog.drop_table(identifier(home.settings, table))
    home.lake = Lake(home.settings)
    made(home)
    assert contents(home) == followed
