"""The marts' clicks, money and page views are those of the facts, day by day.

Belongs here: comparing tables with each other. Does not belong here: what a failed comparison does (``defs``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import date

from pyiceberg.expressions import In

from chart_platform.contracts.tables import (
    AFFILIATE_PERFORMANCE_DAILY,
    AFFILIATE_PERFORMANCE_HOURLY,
    CAMPAIGN_DAILY,
    ENGAGEMENT_DAILY,
    ENGAGEMENT_HOURLY,
    FACT_AFFILIATE_CLICKS,
    FACT_PAGE_VIEWS,
    RETURNING_VISITORS_DAILY,
    SESSION_QUALITY_DAILY,
    SILVER_SESSIONS,
    Table,
)
from chart_platform.lakehouse.changes import made_from
from chart_platform.lakehouse.duck import connect, relation
from chart_platform.lakehouse.lake import Lake

_MONEY = {"clicks": "count(*)", "payout_cents": "coalesce(sum(payout_cents), 0)"}
_VISITS = {"visits": "count(*)", "page_views": "sum(pageviews)"}
_EARNED = _VISITS | {"clicks": "sum(affiliate_clicks)", "payout_cents": "sum(payout_cents)"}
_VIEWS = {"page_views": "count(*)", "comparison_views": "count(*) filter (is_comparison)"}

COMPARED: Mapping[Table, tuple[Table, Mapping[str, str]]] = {
    AFFILIATE_PERFORMANCE_DAILY: (FACT_AFFILIATE_CLICKS, _MONEY),
    AFFILIATE_PERFORMANCE_HOURLY: (FACT_AFFILIATE_CLICKS, _MONEY),
    CAMPAIGN_DAILY: (SILVER_SESSIONS, _EARNED),
    RETURNING_VISITORS_DAILY: (SILVER_SESSIONS, _EARNED),
    SESSION_QUALITY_DAILY: (SILVER_SESSIONS, _VISITS),
    ENGAGEMENT_DAILY: (FACT_PAGE_VIEWS, _VIEWS),
    ENGAGEMENT_HOURLY: (FACT_PAGE_VIEWS, _VIEWS),
}
"""Of a mart, the table that its sums are held against, and what each column is a sum of there."""


@dataclass(frozen=True)
class DayTotals:
    """The columns' sums of one day, in the table that a mart is made from and in the mart."""

    day: date
    source: Mapping[str, int]
    mart: Mapping[str, int]

    @property
    def ok(self) -> bool:
        return self.source == self.mart


def balance_mart(lake: Lake, mart: Table, days: Iterable[date], as_recorded: bool) -> list[DayTotals]:
    """Compare the sums of each of ``days``: with the source as the mart says that it followed it, or as it is."""
    wanted = sorted(set(days))
    if not wanted:
        return []
    source, columns = COMPARED[mart]
    current, fact = lake.load(mart), lake.load(source)
    seen = (made_from(current) or {}).get(source.full_name) if as_recorded else None
    as_of = int(seen) if seen is not None and fact.snapshot_by_id(int(seen)) is not None else None
    totals = (
        (relation(fact, source, lake.files(fact, In("event_dt", wanted), as_of)), columns),
        (relation(current, mart, lake.files(current, In("event_dt", wanted))), {c: f"sum({c})" for c in columns}),
    )
    found: list[dict[date, dict[str, int]]] = []
    with closing(connect(lake.settings)) as connection:
        for rows, sums in totals:
            select = ", ".join(f"cast({sql} as bigint)" for sql in sums.values())
            by_day = connection.sql(f"select event_dt, {select} from {rows} group by event_dt").fetchall()
            found.append({day: dict(zip(sums, values, strict=True)) for day, *values in by_day})
    nothing = dict.fromkeys(columns, 0)
    return [DayTotals(day, *(of.get(day, nothing) for of in found)) for day in wanted]
