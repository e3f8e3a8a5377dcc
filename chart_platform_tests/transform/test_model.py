"""What one late, displaced or torn thing does to the tables, case by case."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from chart_platform.contracts.tables import (
    FACT_AFFILIATE_CLICKS,
    FACT_CHART_INTERACTIONS,
    FACT_FUNNEL,
    FACT_PAGE_VIEWS,
    SILVER_EVENTS,
    SILVER_SESSIONS,
    SILVER_USER_SEGMENTS,
    Table,
)
from chart_platform.lakehouse.lake import paths
from chart_platform.quality.schemas import audit
from chart_platform.transform import model, scope, silver
from chart_platform_tests.transform.fixtures import NewHome
from chart_platform_tests.transform.homes import DAY, Home, at, event, multiset
from chart_platform_tests.transform.test_incremental import crash_after

pytestmark = pytest.mark.slow

NEXT, THIRD, FOURTH = (DAY + timedelta(days=n) for n in (1, 2, 3))


@pytest.fixture
def fresh_rule(tmp_path: Path) -> Path:
    """A file of one rule: who had a visit the day before is `fresh`."""
    rules = tmp_path / "rules.yml"
    rules.write_text("[{name: fresh, owner: o, description: d, valid_from: 2020-01-01, predicate: sessions_1d >= 1}]")
    return rules


def days_files(home: Home, table: Table, day: date) -> frozenset[str]:
    return frozenset(p for p in paths(home.lake.files(home.lake.load(table))) if f"event_dt={day}" in p)


def segments_of_visits(home: Home) -> dict[str, list[str]]:
    return {row["session_id"]: row["segments"] for row in home.rows(FACT_FUNNEL)}


def test_a_late_event_rewrites_the_files_of_its_day_and_of_no_other(new_home: NewHome) -> None:
    home = new_home()
    for number, day in enumerate([DAY, NEXT, THIRD]):
        home.send(
            day,
            [
                event(10 * number + n, at(day, "10:00:00") + n, "affiliate_click", session=f"s{number}")
                for n in range(3)
            ],
        )
        home.advance()
    tables = (SILVER_EVENTS, SILVER_SESSIONS, FACT_FUNNEL, FACT_AFFILIATE_CLICKS)
    files = {(t, d): days_files(home, t, d) for t in tables for d in (DAY, NEXT, THIRD)}
    rows = {t: home.rows(t) for t in tables}
    home.send(THIRD, [event(99, at(DAY, "10:05:00"), "affiliate_click", session="s0")])
    home.advance()
    for table in tables:
        for day in (NEXT, THIRD):
            assert days_files(home, table, day) == files[table, day], f"{table.full_name} of {day} was rewritten"
        assert days_files(home, table, DAY) != files[table, DAY]
        after = home.rows(table)
        others = [multiset(r for r in found if r["event_dt"] != DAY) for found in (rows[table], after)]
        assert others[0] == others[1]
    # silver.events is only added to: one more click is no reason to rewrite an hour.
    assert files[SILVER_EVENTS, DAY] < days_files(home, SILVER_EVENTS, DAY)
    (visit,) = [r for r in home.rows(FACT_FUNNEL) if r["event_dt"] == DAY]
    assert visit["payout_cents"] == 400


def test_messages_that_were_all_seen_before_leave_every_data_file_alone(new_home: NewHome) -> None:
    home = new_home()
    sent = [event(n, at(DAY, "10:00:00") + n, session="s") for n in range(3)]
    home.send(DAY, sent)
    home.advance()
    before = paths(home.lake.files(home.lake.load(SILVER_EVENTS)))
    home.send(NEXT, sent)
    result = silver.update(home.lake, audit)
    assert (result.messages, result.inserted, result.replaced, result.duplicates) == (3, 0, 0, 3)
    assert paths(home.lake.files(home.lake.load(SILVER_EVENTS))) == before


def test_a_visitor_active_on_two_days_is_counted_once_in_a_segment_window(new_home: NewHome, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text("[{name: two, owner: o, description: d, valid_from: 2020-01-01, predicate: pageviews_7d >= 2}]")
    home = new_home(segment_rules=rules)
    home.send(
        FOURTH,
        [event(1, at(DAY, "10:00:00"), "chart_interaction", visitor="u"), event(2, at(THIRD, "10:00:00"), visitor="u")],
    )
    home.advance()
    assert home.rows(SILVER_USER_SEGMENTS) == []


def test_a_visit_that_names_its_visitor_after_midnight_counts_for_the_day_it_began_on(
    new_home: NewHome, fresh_rule: Path
) -> None:
    home = new_home(segment_rules=fresh_rule)
    home.send(
        NEXT,
        [event(1, at(DAY, "23:50:00"), session="s"), event(2, at(NEXT, "00:10:00"), session="s", visitor="u")],
    )
    home.advance()
    (row,) = home.rows(SILVER_USER_SEGMENTS)
    assert (row["user_id_hash"], row["valid_from"].date(), row["valid_to"]) == ("u", NEXT, None)


def test_a_run_that_dies_after_the_segments_still_updates_later_visits(new_home: NewHome) -> None:
    home = new_home()
    home.send(THIRD, [event(1, at(THIRD, "10:00:00"), session="later", visitor="u")])
    home.advance()
    assert segments_of_visits(home) == {"later": []}
    home.send(THIRD, [event(2, at(DAY, "10:00:00"), "affiliate_click", session="earlier", visitor="u")])
    silver.update(home.lake, audit)
    with pytest.MonkeyPatch.context() as monkeypatch:
        crash_after(home, [t.full_name for t in committed_in_order()].index("gold.fact_funnel"), monkeypatch)
    assert len(home.rows(SILVER_USER_SEGMENTS)) == 1 and segments_of_visits(home) == {"later": []}
    model.run(home.lake, audit)
    assert segments_of_visits(home) == {"later": ["high_intent"], "earlier": []}


def committed_in_order() -> list[Table]:
    """Tables in the order in which dbt commits them: facts of single events need no session table."""
    of_events = [FACT_AFFILIATE_CLICKS, FACT_CHART_INTERACTIONS, FACT_PAGE_VIEWS]
    return [*of_events, SILVER_SESSIONS, SILVER_USER_SEGMENTS, FACT_FUNNEL]


def test_a_visit_ahead_of_the_newest_ingestion_day_gets_its_segments_when_that_day_is_judged(
    new_home: NewHome, fresh_rule: Path
) -> None:
    home = new_home(segment_rules=fresh_rule)
    # The visitor's clock is ahead: on NEXT the member of `fresh` visits on THIRD, when the membership is over.
    home.send(
        NEXT,
        [
            event(1, at(DAY, "10:00:00"), session="a", visitor="u"),
            event(2, at(THIRD, "00:30:00"), session="b", visitor="u"),
        ],
        clock="23:50:00",
    )
    home.advance()
    home.send(THIRD, [event(3, at(THIRD, "12:00:00"), session="other")])
    home.advance()
    assert segments_of_visits(home) == {"a": [], "b": [], "other": []}


def test_what_a_rebuild_displaces_before_the_update_sees_it_leaves_no_stale_visit(new_home: NewHome) -> None:
    home = new_home()
    late, early = at(DAY, "10:00:01"), at(DAY, "10:00:00")
    # The visit begins on the day before, so that the rebuild of the event's day alone does not reach its row.
    home.send(
        NEXT,
        [event(1, at(DAY, "23:50:00"), session="old"), event(2, at(NEXT, "00:05:00"), session="old", ingest_ts=late)],
    )
    home.advance()
    home.send(NEXT, [event(2, at(NEXT, "00:05:00"), session="new", ingest_ts=early)])
    silver.rebuild(home.lake, NEXT, audit)
    home.advance()
    assert {r["session_id"]: r["pageviews"] for r in home.rows(SILVER_SESSIONS)} == {"old": 1, "new": 1}


def test_a_partition_that_reaches_a_new_day_later_than_another_loses_nothing(new_home: NewHome) -> None:
    home = new_home()
    home.send(NEXT, [event(1, at(DAY, "10:00:00"), session="a")], partition=0)
    home.advance()
    home.send(DAY, [event(2, at(DAY, "11:00:00"), session="b")], partition=1, clock="23:59:59.999")
    home.advance()
    assert {r["session_id"] for r in home.rows(SILVER_EVENTS)} == {"a", "b"}
    assert {r["session_id"] for r in home.rows(FACT_FUNNEL)} == {"a", "b"}


def test_a_partition_far_behind_in_days_loses_nothing(new_home: NewHome) -> None:
    home = new_home()
    # One broker's clock ran days ahead for a moment: its partition owns messages of a day to come.
    home.send(FOURTH, [event(1, at(DAY, "10:00:00"), session="a")], partition=0)
    home.advance()
    home.send(NEXT, [event(2, at(DAY, "11:00:00"), session="b")], partition=1)
    home.advance()
    assert {r["session_id"] for r in home.rows(SILVER_EVENTS)} == {"a", "b"}


def test_a_session_id_that_comes_back_after_days_makes_two_visits(new_home: NewHome) -> None:
    home = new_home()
    home.send(FOURTH, [event(1, at(DAY, "10:00:00"), session="s"), event(2, at(THIRD, "10:00:00"), session="s")])
    home.advance()
    assert sorted(r["session_start_ts"].date() for r in home.rows(FACT_FUNNEL)) == [DAY, THIRD]


def test_a_cap_below_a_day_lets_a_session_id_come_back_on_the_same_day(new_home: NewHome) -> None:
    home = new_home(session_cap_hours=2)
    home.send(DAY, [event(1, at(DAY, "01:00:00"), session="s"), event(2, at(DAY, "10:00:00"), session="s")])
    home.advance()
    assert sorted(r["session_start_ts"].hour for r in home.rows(FACT_FUNNEL)) == [1, 10]


def test_events_that_are_too_many_to_copy_are_read_where_they_lie_and_in_slices_to_the_same_tables(
    new_home: NewHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(home: Home) -> dict[str, object]:
        first = [event(n, at(DAY, "10:00:00") + n, "affiliate_click", session=f"s{n % 3}") for n in range(6)]
        page: dict[str, Any] = {"session": "over-the-hour", "page_view_id": "pv"}
        read = [
            event(7, at(DAY, "10:59:59"), **page),
            event(8, at(DAY, "11:00:00"), "chart_interaction", **page),
        ]
        home.send(DAY, [*first, event(6, at(DAY, "10:10:00")), *read])
        home.advance()
        # Of the file of ten o'clock one visit goes on and two and somebody's event don't; three o'clock has a file of its own.
        later = [event(10, at(DAY, "10:30:00"), session="s0"), event(11, at(DAY, "15:00:00"), session="new")]
        home.send(DAY, [*later, event(12, at(DAY, "15:00:01"))])
        home.advance()
        return {table.full_name: home.multiset(table) for table in model.DERIVED}

    copied = told(new_home())
    monkeypatch.setattr(scope, "_MANY_CHAINS", 0)
    assert told(new_home()) == copied
    monkeypatch.setattr(scope, "_SLICE_EVENTS", 1)
    assert told(new_home()) == copied
