"""gold.visitors and gold.retention_daily say what all visits say, however these came, went and changed before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chart_platform.contracts.tables import RETENTION_DAILY, SILVER_SESSIONS, VISITORS, Table
from chart_platform.lakehouse.lake import Change
from chart_platform.quality.schemas import audit
from chart_platform.transform.visitors import up_to_date, update_retention, update_visitors
from chart_platform_tests.transform.fixtures import NewHome, dbt_cache, examples, new_home
from chart_platform_tests.transform.homes import DAY, Home

__all__ = ["dbt_cache", "new_home"]

NEXT = DAY + timedelta(days=1)


@dataclass(frozen=True)
class Visit:
    """What of a visit the tables are made from."""

    session_id: str
    user_id_hash: str | None
    start: datetime
    minutes: int = 1
    channel: str | None = "Direct"
    pageviews: int = 1
    clicks: int = 0

    @property
    def row(self) -> dict[str, Any]:
        counts = (
            "chart_interactions",
            "toggles",
            "sorts",
            "filters",
            "expands",
            "price_interactions",
            "deal_interactions",
        )
        return {
            "session_id": self.session_id,
            "user_id_hash": self.user_id_hash,
            "session_start_ts": self.start,
            "session_end_ts": self.start + timedelta(minutes=self.minutes),
            "pageviews": self.pageviews,
            "affiliate_clicks": self.clicks,
            "comparison_views": self.pageviews // 2,
            "channel": self.channel,
            "engaged": self.clicks > 0,
            "payout_cents": 7 * self.clicks,
            "event_dt": self.start.date(),
            **dict.fromkeys(counts, 0),
        }


def on(day: date, clock: str) -> datetime:
    return datetime.fromisoformat(f"{day}T{clock}")


def write(home: Home, visits: Iterable[Visit]) -> None:
    """Make silver.sessions hold exactly these visits. Days whose visits stay the same keep their files."""
    wanted: dict[date, list[dict[str, Any]]] = defaultdict(list)
    for visit in visits:
        wanted[visit.start.date()].append(visit.row)
    present: dict[date, list[dict[str, Any]]] = defaultdict(list)
    for row in home.rows(SILVER_SESSIONS):
        present[row["event_dt"]].append(row)

    def decide(current: Any) -> Change:
        changed = {d for d in {*wanted, *present} if ordered(wanted[d]) != ordered(present[d])}
        fresh = pa.Table.from_pylist([row for d in sorted(changed) for row in wanted[d]], schema=SILVER_SESSIONS.arrow)
        epoch = date(1970, 1, 1)
        gone = [f for f in home.lake.files(current) if epoch + timedelta(days=f.partition[0]) in changed]
        return Change(add=home.lake.write(current, fresh), remove=gone)

    home.lake.commit(SILVER_SESSIONS, decide)


def ordered(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(({k: v for k, v in row.items() if v is not None} for row in rows), key=lambda row: row["session_id"])


def follow(home: Home) -> None:
    update_visitors(home.lake, audit)
    update_retention(home.lake, audit)


def expected_visitors(visits: Iterable[Visit]) -> dict[str, tuple[Any, ...]]:
    of: dict[str, list[Visit]] = defaultdict(list)
    for visit in visits:
        if visit.user_id_hash is not None:
            of[visit.user_id_hash].append(visit)
    found = {}
    for visitor, own in of.items():
        first = min(own, key=lambda v: (v.start, v.session_id))
        last = max(v.start + timedelta(minutes=v.minutes) for v in own)
        sums = (len(own), sum(v.pageviews for v in own), sum(v.clicks for v in own), sum(7 * v.clicks for v in own))
        found[visitor] = (first.start.date(), first.start, last, first.session_id, first.channel, *sums)
    return found


def visitors(home: Home) -> dict[str, tuple[Any, ...]]:
    names = ("cohort_dt", "first_seen_ts", "last_seen_ts", "first_session_id", "first_channel")
    names += ("visits", "page_views", "clicks", "payout_cents")
    rows = home.rows(VISITORS)
    found = {row["user_id_hash"]: tuple(row[name] for name in names) for row in rows}
    assert len(found) == len(rows)
    return found


def expected_retention(visits: Iterable[Visit]) -> dict[tuple[date, date], tuple[int, int]]:
    visits = list(visits)
    cohort = {visitor: row[0] for visitor, row in expected_visitors(visits).items()}
    who, how_often = defaultdict(set), defaultdict(int)
    for visit in visits:
        if visit.user_id_hash is not None:
            place = (visit.start.date(), cohort[visit.user_id_hash])
            who[place].add(visit.user_id_hash)
            how_often[place] += 1
    return {place: (len(people), how_often[place]) for place, people in who.items()}


def retention(home: Home) -> dict[tuple[date, date], tuple[int, int]]:
    rows = home.rows(RETENTION_DAILY)
    assert all(row["days_since"] == (row["event_dt"] - row["cohort_dt"]).days for row in rows)
    return {(row["event_dt"], row["cohort_dt"]): (row["visitors"], row["visits"]) for row in rows}


def files(home: Home, declared: Table) -> set[str]:
    return {file.file_path for file in home.lake.files(home.lake.load(declared))}


def test_a_visit_longer_than_before_is_not_counted_twice(new_home: NewHome) -> None:
    home = new_home()
    visit = Visit("a", "u", on(DAY, "10:00"))
    write(home, [visit])
    follow(home)
    longer = replace(visit, minutes=9, pageviews=3, clicks=1)
    write(home, [longer])
    follow(home)
    assert visitors(home) == expected_visitors([longer])
    assert visitors(home)["u"][5:] == (1, 3, 1, 7)


def test_an_earlier_visit_that_comes_late_moves_the_visitor_and_all_days(new_home: NewHome) -> None:
    home = new_home()
    visits = [Visit("b", "u", on(NEXT, "10:00")), Visit("c", "u", on(NEXT + timedelta(days=3), "10:00"))]
    write(home, visits)
    follow(home)
    early = Visit("a", "u", on(DAY, "10:00"), channel="Email")
    write(home, [*visits, early])
    follow(home)
    assert visitors(home) == expected_visitors([*visits, early])
    assert {since for _, since in retention(home)} == {DAY}
    write(home, visits)
    follow(home)
    assert visitors(home) == expected_visitors(visits)
    assert retention(home) == expected_retention(visits)


def test_who_has_no_visit_any_more_is_no_visitor(new_home: NewHome) -> None:
    home = new_home()
    kept = Visit("b", "v", on(DAY, "11:00"))
    write(home, [Visit("a", "u", on(DAY, "10:00")), kept])
    follow(home)
    write(home, [kept])
    follow(home)
    assert set(visitors(home)) == {"v"}


def test_files_without_a_visitor_of_the_day_stay(new_home: NewHome) -> None:
    home = new_home()
    old = [Visit(f"a{n}", f"u{n}", on(DAY, "10:00")) for n in range(3)]
    write(home, old)
    follow(home)
    before = files(home, VISITORS), files(home, RETENTION_DAILY)
    write(home, [*old, Visit("b", "w", on(NEXT, "10:00"))])
    follow(home)
    assert before[0] < files(home, VISITORS) and before[1] < files(home, RETENTION_DAILY)


def test_nothing_is_done_when_no_visit_changed(new_home: NewHome) -> None:
    home = new_home()
    write(home, [Visit("a", "u", on(DAY, "10:00"))])
    assert not up_to_date(home.lake)
    follow(home)
    snapshots = [home.lake.load(t).current_snapshot() for t in (VISITORS, RETENTION_DAILY)]
    follow(home)
    assert up_to_date(home.lake)
    assert [home.lake.load(t).current_snapshot() for t in (VISITORS, RETENTION_DAILY)] == snapshots


VISITORS_DRAWN = st.sampled_from(["u1", "u2", "u3", None])
DRAWN = st.builds(
    Visit,
    session_id=st.sampled_from([f"s{n}" for n in range(6)]),
    user_id_hash=VISITORS_DRAWN,
    start=st.builds(
        on, st.sampled_from([DAY + timedelta(days=n) for n in range(4)]), st.sampled_from(["00:00", "09:00", "23:59"])
    ),
    minutes=st.sampled_from([0, 1, 600]),
    channel=st.sampled_from(["Direct", "Email", None]),
    pageviews=st.integers(0, 3),
    clicks=st.integers(0, 2),
)
STATES = st.lists(DRAWN, max_size=6, unique_by=(lambda v: v.session_id))


@pytest.mark.slow
@settings(max_examples=examples(12, 400))
@given(states=st.lists(STATES, min_size=2, max_size=4), rebuilt=st.integers(0, 4))
def test_following_gives_what_counting_all_visits_gives(
    states: list[list[Visit]], rebuilt: int, new_home: NewHome
) -> None:
    home = new_home()
    for visits in states:
        write(home, visits)
        follow(home)
        assert visitors(home) == expected_visitors(visits)
        assert retention(home) == expected_retention(visits)
    rows = home.multiset(VISITORS), home.multiset(RETENTION_DAILY)
    days = [DAY + timedelta(days=n) for n in range(rebuilt)]
    update_visitors(home.lake, audit, days)
    update_retention(home.lake, audit, days)
    assert (home.multiset(VISITORS), home.multiset(RETENTION_DAILY)) == rows
