"""Accounting between layers: are the messages of both topics all in bronze, the events of bronze all in silver, the money in gold.

Belongs here: counting and comparing. Does not belong here: what follows from a difference (``defs``, ``cli``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from pyiceberg.expressions import And, BooleanExpression, EqualTo, GreaterThanOrEqual, In

from chart_platform.contracts.feeds import Feed
from chart_platform.contracts.tables import (
    BRONZE_EVENTS,
    FACT_AFFILIATE_CLICKS,
    SILVER_EVENTS,
    Table,
)
from chart_platform.lakehouse.duck import connect, relation
from chart_platform.lakehouse.lake import Lake
from chart_platform.stream.planning import OffsetRange
from chart_platform.stream.reader import read_ranges

_MOST_GAPS = 1000


@dataclass(frozen=True)
class Coverage:
    """One Kafka partition's range against the lake. ``unreadable``: offsets that hold no message (transaction markers)."""

    partition: int
    start: int
    end: int
    events: int
    dead_letters: int
    missing: int
    doubled: int
    unreadable: int

    @property
    def ok(self) -> bool:
        return self.missing == 0 and self.doubled == 0


def cover(lake: Lake, feed: Feed, day: date, ranges: Sequence[OffsetRange]) -> list[Coverage]:
    """Compare, offset by offset, what the tables of ``feed`` hold of its topic with the ranges that ``day`` owns."""
    ranges = [r for r in ranges if r.messages]
    if not ranges:
        return []
    connection = connect(lake.settings)
    floor = And(EqualTo("ingest_dt", day), GreaterThanOrEqual("kafka_offset", min(r.start for r in ranges)))
    parts = [
        f"select kafka_partition as p, kafka_offset as o, {str(table is BRONZE_EVENTS).lower()} as is_event "
        f"from {_read(lake, table, floor)} as t where {feed.own(table)}"
        for table in feed.tables
    ]
    connection.execute(f"create temp table held as {' union all '.join(parts)}")
    found = []
    for r in ranges:
        where = f"p = {r.partition} and o >= {r.start} and o < {r.end}"
        events, letters, distinct = connection.sql(
            f"select count(*) filter (is_event), count(*) filter (not is_event), count(distinct o) from held where {where}"
        ).fetchall()[0]
        gap = r.messages - distinct
        unreadable = 0
        if gap:
            gaps = connection.sql(
                f"""
                select o + 1, coalesce(lead(o) over (order by o), {r.end}) as next_o
                from (select {r.start - 1} as o union select o from held where {where})
                qualify next_o > o + 1 order by 1 limit {_MOST_GAPS}
                """
            ).fetchall()
            holes = [OffsetRange(r.partition, low, high) for low, high in gaps]
            readable = sum(len(chunk) for chunk in read_ranges(lake.settings, feed.topic, holes))
            unreadable = sum(h.messages for h in holes) - readable
        found.append(
            Coverage(
                r.partition, r.start, r.end, events, letters, gap - unreadable, events + letters - distinct, unreadable
            )
        )
    connection.close()
    return found


def _read(lake: Lake, table: Table, row_filter: BooleanExpression) -> str:
    current = lake.load(table)
    return relation(current, table, lake.files(current, row_filter))


@dataclass(frozen=True)
class ClickBalance:
    """Affiliate clicks of one event day in silver.events and gold.fact_affiliate_clicks: counts, and payout in cents."""

    day: date
    silver_clicks: int
    gold_clicks: int
    silver_cents: int
    gold_cents: int

    @property
    def ok(self) -> bool:
        return (self.silver_clicks, self.silver_cents) == (self.gold_clicks, self.gold_cents)


def balance_clicks(lake: Lake, days: Sequence[date]) -> list[ClickBalance]:
    """Compare the money of each day between silver and gold. Reads two columns of the days' clicks."""
    if not days:
        return []
    connection = connect(lake.settings)
    clicks = _read(lake, SILVER_EVENTS, And(In("event_dt", list(days)), EqualTo("event_type", "affiliate_click")))
    facts = _read(lake, FACT_AFFILIATE_CLICKS, In("event_dt", list(days)))
    counted = connection.sql(
        f"""
        with silver as (
            select event_dt, count(*) as n, coalesce(sum(payout_cents), 0) as cents
            from {clicks} where event_type = 'affiliate_click' group by 1
        ),
        gold as (
            select event_dt, count(*) as n, coalesce(sum(payout_cents), 0) as cents from {facts} group by 1
        )
        select event_dt, coalesce(silver.n, 0), coalesce(gold.n, 0),
            coalesce(silver.cents, 0)::bigint, coalesce(gold.cents, 0)::bigint
        from silver full join gold using (event_dt) order by 1
        """
    ).fetchall()
    connection.close()
    wanted = set(days)
    return [ClickBalance(*row) for row in counted if row[0] in wanted]
