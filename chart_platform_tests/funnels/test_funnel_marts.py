"""The funnel marts on real tables, against a count of each visit's events in plain Python."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from chart_platform.contracts.tables import (
    FACT_AFFILIATE_CLICKS,
    FACT_CHART_INTERACTIONS,
    FACT_FUNNEL,
    FUNNEL_DAILY,
    FUNNEL_HOURLY,
    SILVER_SESSIONS,
    Table,
)
from chart_platform.contracts.tables.funnels import DIMENSIONS
from chart_platform.quality.schemas import audit
from chart_platform.serving.publish import publish
from chart_platform.transform import marts
from chart_platform.transform.dbt import PROJECT
from chart_platform_tests.funnels.funnel_oracle import Event, Funnel, best_attempt
from chart_platform_tests.transform.fixtures import NewHome, dbt_cache, examples, new_home
from chart_platform_tests.transform.homes import DAY, Home, at, event
from chart_platform_tests.transform.test_incremental import Story, play, rules_file, stories

__all__ = ["dbt_cache", "new_home", "rules_file"]

NEXT = DAY + timedelta(days=1)
COMPARISON = {"page_url": "https://x.example/compare/b"}
Row = dict[str, Any]


def make(home: Home, days: Sequence[date] | None = None) -> None:
    marts.run(home.lake, audit, days, only=[FUNNEL_DAILY.full_name, FUNNEL_HOURLY.full_name])


def follow(home: Home) -> None:
    home.advance()
    make(home)


def row_of(home: Home, table: Table = FUNNEL_DAILY, cut: str = "(all)", **values: Any) -> Row:
    """The one row of a cut that has these values."""
    [found] = [r for r in home.rows(table) if r["cut"] == cut and values.items() <= r.items()]
    return found


def reached(row: Row) -> tuple[int, ...]:
    return tuple(row[name] for name in ("visits", "saw_comparison", "interacted_chart", "clicked_affiliate"))


def counted(home: Home, hourly: bool) -> dict[tuple[Any, ...], Row]:
    """The rows that a mart should have, by key."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for visit in _visits(home):
        period = (visit["hour_ts"],) if hourly else (visit["event_dt"],)
        names = ("device", "channel", "ab_variant") if hourly else DIMENSIONS
        cuts = [(), *((name,) for name in names)]
        cuts += [] if hourly else [(name, "ab_variant") for name in DIMENSIONS if name != "ab_variant"]
        for cut in cuts:
            for values in itertools.product(*(visit[name] for name in cut)):
                told = dict(zip(cut, values, strict=True))
                key = (*period, "+".join(cut) or "(all)", *(told.get(name, "(all)") for name in DIMENSIONS))
                groups[key].append(visit)
    return {key: _measures(visits) for key, visits in groups.items()}


def _visits(home: Home) -> list[Row]:
    ends = {(s["session_id"], s["session_start_ts"]): s["session_end_ts"] for s in home.rows(SILVER_SESSIONS)}
    events: dict[str, list[tuple[datetime, int]]] = defaultdict(list)
    for letter, table in enumerate([FACT_CHART_INTERACTIONS, FACT_AFFILIATE_CLICKS], start=1):
        for row in home.rows(table):
            events[row["session_id"]].append((row["ts"], letter))
    visits = []
    for row in home.rows(FACT_FUNNEL):
        began, ended = row["session_start_ts"], ends[row["session_id"], row["session_start_ts"]]
        own = [(ts, letter) for ts, letter in events[row["session_id"]] if began <= ts <= ended]
        own += [(row["comparison_ts"], 0)] if row["comparison_ts"] else []
        happened: list[Event] = [
            ((ts - began) // timedelta(milliseconds=1), "ABC"[letter]) for ts, letter in sorted(own)
        ]
        attempt = best_attempt(Funnel(("A", "B", "C")), happened)
        visits.append(
            {
                "event_dt": row["event_dt"],
                "hour_ts": began.replace(minute=0, second=0, microsecond=0),
                "times": attempt.times if attempt else [None] * 3,
                "payout_cents": row["payout_cents"],
                "segment": row["segments"] or ["(none)"],
                **{name: [row[name] or "(none)"] for name in DIMENSIONS if name != "segment"},
            }
        )
    return visits


def _measures(visits: Sequence[Row]) -> Row:
    counts = [len(visits)] + [sum(v["times"][i] is not None for v in visits) for i in range(3)]
    times = [v["times"] for v in visits]
    spans = {
        "to_interaction_ms": [b - a for a, b, _ in times if b is not None],
        "to_click_ms": [c - b for _, b, c in times if c is not None],
        "convert_ms": [c - a for a, _, c in times if c is not None],
    }
    names = ("visits", "saw_comparison", "interacted_chart", "clicked_affiliate")
    lost = ("lost_before_comparison", "lost_before_interaction", "lost_before_click")
    rates = ("comparison_rate", "interaction_rate", "click_rate")
    pairs = list(itertools.pairwise(counts))
    return {
        **dict(zip(names, counts, strict=True)),
        **{name: before - after for name, (before, after) in zip(lost, pairs, strict=True)},
        **{name: after / before if before else None for name, (before, after) in zip(rates, pairs, strict=True)},
        "conversion_rate": counts[3] / counts[1] if counts[1] else None,
        **{f"median_{name}": _quantile(values, 1, 2) for name, values in spans.items()},
        **{f"p90_{name}": _quantile(values, 9, 10) for name, values in spans.items()},
        "payout_cents": sum(v["payout_cents"] for v in visits),
    }


def _quantile(values: list[int], numerator: int, denominator: int) -> int | None:
    place = max(math.ceil(numerator * len(values) / denominator), 1)
    return sorted(values)[place - 1] if values else None


def by_key(home: Home, table: Table) -> dict[tuple[Any, ...], Row]:
    rows = {tuple(row[name] for name in table.key): row for row in home.rows(table)}
    return {key: {n: v for n, v in row.items() if n not in (*table.key, "event_dt")} for key, row in rows.items()}


@pytest.mark.slow
def test_only_steps_that_follow_each_other_count(new_home: NewHome) -> None:
    home = new_home()
    home.send(
        NEXT,
        [
            event(1, at(DAY, "10:00:00"), session="in-order", ctx=COMPARISON | {"device": "mobile"}),
            event(2, at(DAY, "10:00:20"), "chart_interaction", session="in-order"),
            event(3, at(DAY, "10:01:00"), "affiliate_click", session="in-order"),
            event(4, at(DAY, "10:00:00"), "affiliate_click", session="click-first"),
            event(5, at(DAY, "10:10:00"), session="click-first", ctx=COMPARISON),
            event(6, at(DAY, "10:10:05"), "chart_interaction", session="click-first"),
            event(7, at(DAY, "10:00:00"), "chart_interaction", session="again"),
            event(8, at(DAY, "10:00:01"), session="again", ctx=COMPARISON),
            event(9, at(DAY, "10:00:02"), "affiliate_click", session="again"),
            event(10, at(DAY, "10:00:03"), "chart_interaction", session="again"),
            event(11, at(DAY, "11:30:00"), "affiliate_click", session="again"),
            event(12, at(DAY, "10:00:00"), "affiliate_click", session="no-comparison"),
        ],
    )
    follow(home)
    whole = row_of(home)
    assert reached(whole) == (4, 3, 3, 2)
    assert (whole["lost_before_comparison"], whole["lost_before_interaction"], whole["lost_before_click"]) == (1, 0, 1)
    assert (whole["median_to_interaction_ms"], whole["p90_to_interaction_ms"]) == (5_000, 20_000)
    assert (whole["median_convert_ms"], whole["p90_convert_ms"]) == (60_000, 5_399_000)
    assert (whole["comparison_rate"], whole["click_rate"], whole["conversion_rate"]) == (3 / 4, 2 / 3, 2 / 3)
    assert whole["payout_cents"] == 500
    mobile = row_of(home, cut="device+ab_variant", device="mobile", ab_variant="(none)")
    assert reached(mobile) == (1, 1, 1, 1) and mobile["segment"] == "(all)"


@pytest.mark.slow
def test_a_visit_counts_whole_on_the_day_and_hour_that_it_began(new_home: NewHome) -> None:
    home = new_home()
    home.send(
        NEXT,
        [
            event(1, at(DAY, "23:40:00"), "chart_interaction", session="a"),
            event(2, at(DAY, "23:50:00"), session="a", ctx=COMPARISON),
            event(3, at(NEXT, "00:10:00"), "chart_interaction", session="a"),
            event(4, at(NEXT, "00:20:00"), "affiliate_click", session="a"),
        ],
    )
    follow(home)
    assert reached(row_of(home)) == (1, 1, 1, 1)
    assert {row["event_dt"] for row in home.rows(FUNNEL_DAILY)} == {DAY}
    followed = home.multiset(FUNNEL_DAILY)
    make(home, [DAY])
    assert home.multiset(FUNNEL_DAILY) == followed, "making the day alone reads what its visits did on the next"
    hour = row_of(home, FUNNEL_HOURLY, hour_ts=datetime(DAY.year, DAY.month, DAY.day, 23))
    assert reached(hour) == (1, 1, 1, 1) and hour["median_convert_ms"] == 30 * 60_000


@pytest.mark.slow
def test_an_event_that_moves_after_midnight_changes_the_day_that_its_visit_began(new_home: NewHome) -> None:
    """Nothing that the visit's own row tells changes: as many events, the same first ones, the same end."""
    home = new_home()
    last = at(NEXT, "00:40:00")
    moving = {"session": "a", "visitor": "u"}
    home.send(
        NEXT,
        [
            event(1, at(DAY, "23:40:00"), "chart_interaction", **moving),
            event(2, at(DAY, "23:50:00"), ctx=COMPARISON, **moving),
            event(3, at(NEXT, "00:10:00"), "chart_interaction", ingest_ts=last + 1, **moving),
            event(4, at(NEXT, "00:20:00"), "affiliate_click", **moving),
            event(5, last, **moving),
        ],
    )
    follow(home)
    sessions = home.rows(SILVER_SESSIONS)
    assert reached(row_of(home)) == (1, 1, 1, 1)
    home.send(NEXT, [event(3, at(NEXT, "00:30:00"), "chart_interaction", ingest_ts=last, **moving)])
    follow(home)
    assert home.rows(SILVER_SESSIONS) == sessions
    assert reached(row_of(home)) == (1, 1, 1, 0)


@pytest.mark.slow
@settings(max_examples=examples(3, 200))
@given(story=stories())
def test_each_row_counts_what_its_visits_did(story: Story, new_home: NewHome, rules_file: Path) -> None:
    home = new_home(segment_rules=rules_file)
    with pytest.MonkeyPatch.context() as monkeypatch:
        play(home, story, monkeypatch, after_step=lambda: make(home))
    make(home)
    assert by_key(home, FUNNEL_DAILY) == counted(home, hourly=False)
    assert by_key(home, FUNNEL_HOURLY) == counted(home, hourly=True)


@pytest.mark.slow
def test_the_example_analysis_runs_on_the_published_file(new_home: NewHome, tmp_path: Path) -> None:
    home = new_home()
    home.send(
        NEXT,
        [
            event(1, at(DAY, "10:00:00"), visitor="converts", ctx=COMPARISON),
            event(2, at(DAY, "10:05:00"), "chart_interaction", visitor="converts"),
            event(3, at(DAY, "10:06:00"), "chart_interaction", visitor="converts"),
            event(4, at(DAY, "10:07:00"), "affiliate_click", visitor="converts"),
            event(5, at(DAY, "10:00:00"), visitor="leaves", ctx=COMPARISON),
            event(6, at(DAY, "10:05:00"), "chart_interaction", visitor="leaves"),
            event(7, at(DAY, "10:06:00"), visitor="leaves"),
            event(8, at(DAY, "10:07:00"), "affiliate_click", visitor="leaves"),
        ],
    )
    home.advance()
    publish(home.lake)
    shown = subprocess.run(
        [
            *(Path(sys.executable).with_name("dbt"), "show", "--target", "published", "--output", "json", "--quiet"),
            *("--select", "chart_to_click_in_half_an_hour", "--project-dir", PROJECT, "--profiles-dir", PROJECT),
            *("--target-path", tmp_path, "--log-path", tmp_path),
        ],
        env=os.environ | {"CHART_HOME": str(home.settings.root)},
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert json.loads(shown.stdout)["show"] == [
        {"saw": 2, "used": 2, "used_again": 1, "clicked": 1, "went_elsewhere": 1, "median_convert_ms": 420_000}
    ]
