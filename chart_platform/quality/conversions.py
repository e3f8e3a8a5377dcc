"""Conversions hold together: nothing is lost or counted twice between reports, fact and reconciliation, to the cent.

The sums are taken from the reports by other SQL than the fact's own. Belongs here: comparing tables with each other.
Does not belong here: what a failed comparison does (``defs``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import duckdb
from pyiceberg.expressions import In

from chart_platform.contracts.tables import (
    CONVERSION_RECONCILIATION,
    CONVERSION_REPORTS,
    FACT_AFFILIATE_CLICKS,
    FACT_CONVERSIONS,
    Table,
)
from chart_platform.lakehouse.duck import connect, relation
from chart_platform.lakehouse.lake import Lake


@dataclass(frozen=True)
class Sums:
    """Conversions and commission (hundredths) of one network, state and currency, by the reports and by the fact."""

    network: str
    status: str
    currency: str
    reported: int
    in_fact: int
    reported_cents: int
    fact_cents: int

    @property
    def ok(self) -> bool:
        return (self.reported, self.reported_cents) == (self.in_fact, self.fact_cents)


def balance_conversions(lake: Lake) -> list[Sums]:
    """Of every network, state and currency, what the newest report of each transaction says and what the fact says."""
    connection = connect(lake.settings)
    found = connection.sql(
        f"""
        with newest as (
            select
                network,
                max_by(
                    {{'status': status, 'currency': currency, 'cents': commission_cents}},
                    (coalesce(updated_ts, timestamp '0001-01-01'), received_at, file_hash, record)
                ) as state
            from {_rows(lake, CONVERSION_REPORTS)} group by network, transaction_id
        ),
        reports as (
            select network, state.status, state.currency, count(*) as n, sum(state.cents) as cents from newest group by all
        ),
        facts as (
            select network, status, currency, count(*) as n, sum(commission_cents) as cents
            from {_rows(lake, FACT_CONVERSIONS)} group by all
        )
        select
            network, status, currency, coalesce(r.n, 0), coalesce(f.n, 0),
            cast(coalesce(r.cents, 0) as bigint), cast(coalesce(f.cents, 0) as bigint)
        from reports as r full join facts as f using (network, status, currency)
        order by network, status, currency
        """
    ).fetchall()
    connection.close()
    return [Sums(*row) for row in found]


def doubled_transactions(lake: Lake) -> int:
    """Transactions that the fact has more than once."""
    return _number(
        lake,
        "select count(*) from (select network, transaction_id from "
        f"{_rows(lake, FACT_CONVERSIONS)} group by all having count(*) > 1)",
    )


def matches(lake: Lake) -> dict[str, int]:
    """Conversions by how they were matched with clicks."""
    connection = connect(lake.settings)
    found = connection.sql(
        f"select match, count(*) from {_rows(lake, FACT_CONVERSIONS)} group by 1 order by 1"
    ).fetchall()
    connection.close()
    return dict(found)


def unmatched_share(found: dict[str, int]) -> float:
    """Share of conversions without one known click; 0 without conversions."""
    total = sum(found.values())
    return 1 - found.get("matched", 0) / total if total else 0.0


@dataclass(frozen=True)
class DayBalance:
    """Clicks, conversions and commission due plus lost (hundredths, currencies summed) of a day, before and in the mart."""

    day: date
    clicks: int
    mart_clicks: int
    conversions: int
    mart_conversions: int
    cents: int
    mart_cents: int

    @property
    def ok(self) -> bool:
        return (self.clicks, self.conversions, self.cents) == (self.mart_clicks, self.mart_conversions, self.mart_cents)


def balance_reconciliation(lake: Lake, days: Iterable[date]) -> list[DayBalance]:
    """Of each of ``days``, whether every click and conversion is in the reconciliation once."""
    wanted = sorted(set(days))
    if not wanted:
        return []
    connection = connect(lake.settings)
    connection.execute("create temp table days (event_dt date)")
    connection.executemany("insert into days values (?)", [(day,) for day in wanted])
    found = _by_day(connection, lake, wanted)
    connection.close()
    return [DayBalance(*row) for row in found]


def _by_day(
    connection: duckdb.DuckDBPyConnection, lake: Lake, days: list[date]
) -> list[tuple[date, int, int, int, int, int, int]]:
    return connection.sql(
        f"""
        with clicks as (
            select event_dt, count(*) as n from {_rows(lake, FACT_AFFILIATE_CLICKS, days)} group by 1
        ),
        conversions as (
            select coalesce(click_dt, event_dt) as event_dt, count(*) as n, sum(due_cents + reversed_cents) as cents
            from {_rows(lake, FACT_CONVERSIONS)} group by 1
        ),
        mart as (
            select
                event_dt, sum(clicks) as clicks, sum(conversions) as conversions,
                sum(pending_cents + approved_cents + paid_cents + reversed_cents) as cents
            from {_rows(lake, CONVERSION_RECONCILIATION, days)} group by 1
        )
        select
            d.event_dt, coalesce(k.n, 0), cast(coalesce(m.clicks, 0) as bigint),
            coalesce(c.n, 0), cast(coalesce(m.conversions, 0) as bigint),
            cast(coalesce(c.cents, 0) as bigint), cast(coalesce(m.cents, 0) as bigint)
        from days as d
        left join clicks as k using (event_dt)
        left join conversions as c using (event_dt)
        left join mart as m using (event_dt)
        order by 1
        """
    ).fetchall()


def _rows(lake: Lake, table: Table, days: list[date] | None = None) -> str:
    current = lake.load(table)
    source = relation(current, table, lake.files(current, In("event_dt", days) if days else None))
    return source if days is None else f"(select * from {source} where event_dt in (select event_dt from days))"


def _number(lake: Lake, sql: str) -> int:
    connection = connect(lake.settings)
    found = int(connection.sql(sql).fetchall()[0][0])
    connection.close()
    return found
