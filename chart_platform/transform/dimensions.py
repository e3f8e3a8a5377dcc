"""The dimensions: products, affiliate links, campaigns, dates.

bronze.link_changes is the history of the link registry, as far as the platform has seen it. The dimensions are made as a
whole from it and from marts, which are small, and committed where that gives other rows.

Belongs here: that history, and committing the dimensions. Does not belong here: reading the registry (``edge.links``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from pyiceberg.table import Table as IcebergTable

from chart_platform.contracts.tables import (
    AFFILIATE_PERFORMANCE_DAILY,
    CAMPAIGN_DAILY,
    DIM_AFFILIATE_LINK,
    DIM_CAMPAIGN,
    DIM_DATE,
    DIM_PRODUCT,
    FACT_CONVERSIONS,
    LINK_CHANGES,
    SILVER_SESSIONS,
    Table,
)
from chart_platform.lakehouse.days import rows_by_day
from chart_platform.lakehouse.duck import connect, relation, rows
from chart_platform.lakehouse.lake import Change, Lake
from chart_platform.lakehouse.rewrite import replace_rows
from chart_platform.transform.ingest import Audit

DIMENSIONS: tuple[Table, ...] = (DIM_AFFILIATE_LINK, DIM_PRODUCT, DIM_CAMPAIGN, DIM_DATE)
"""In the order in which they are made."""
_SQL = Path(__file__).parent
_MADE_FROM: Mapping[Table, tuple[Table, ...]] = {
    DIM_AFFILIATE_LINK: (LINK_CHANGES, AFFILIATE_PERFORMANCE_DAILY),
    DIM_PRODUCT: (DIM_AFFILIATE_LINK,),
    DIM_CAMPAIGN: (CAMPAIGN_DAILY,),
}


@dataclass(frozen=True)
class RegisteredLink:
    """A link as the registry has it. ``payout_cents`` is what a click is expected to bring."""

    affiliate_link_id: str
    product_id: str
    network: str
    target: str
    payout_cents: int
    position: int | None = None


def note_links(lake: Lake, audit: Audit, links: Iterable[RegisteredLink], as_of: datetime) -> int:
    """Append to bronze.link_changes what differs from the registry as last seen. Returns how many links did.

    ``as_of`` is the time of the look, UTC without zone. Raises ``ContractBreach`` if a link has impossible values.
    """
    registry = {link.affiliate_link_id: link for link in links}
    changed = 0

    def decide(current: IcebergTable) -> Change | None:
        nonlocal changed
        known, last = _known(lake, current)
        moment = as_of if last is None else max(as_of, last + timedelta(milliseconds=1))
        news = [("upsert", link) for name, link in registry.items() if known.get(name) != link]
        news += [("delete", link) for name, link in known.items() if name not in registry]
        changed = len(news)
        if not news:
            return None
        found = [asdict(link) | {"change": what, "as_of": moment, "as_of_dt": moment.date()} for what, link in news]
        fresh = pa.Table.from_pylist(found, schema=LINK_CHANGES.arrow).sort_by("affiliate_link_id")
        audit(LINK_CHANGES, fresh)
        return Change(add=lake.write(current, fresh))

    lake.commit(LINK_CHANGES, decide)
    return changed


def _known(lake: Lake, current: IcebergTable) -> tuple[dict[str, RegisteredLink], datetime | None]:
    """The registry as last seen, and when it last changed."""
    columns = ("affiliate_link_id", "product_id", "network", "target", "payout_cents", "position")
    with closing(connect(lake.settings)) as connection:
        changes = connection.sql(
            f"""
            select {", ".join(columns)}, change, as_of from {relation(current, LINK_CHANGES, lake.files(current))}
            order by as_of
            """
        ).fetchall()
    newest = {row[0]: row for row in changes}
    known = {name: RegisteredLink(*row[:6]) for name, row in newest.items() if row[6] == "upsert"}
    return known, changes[-1][7] if changes else None


def update_dimensions(lake: Lake, audit: Audit) -> dict[str, int]:
    """Bring the dimensions up to date with what they are made from. Returns the rows of those that changed.

    Raises:
        ContractBreach: the rows break a table's contract. What came before it in :data:`DIMENSIONS` was committed.
    """
    return {declared.full_name: made for declared in DIMENSIONS if (made := _update(lake, audit, declared)) is not None}


def _update(lake: Lake, audit: Audit, declared: Table) -> int | None:
    made: int | None = None

    def decide(current: IcebergTable) -> Change | None:
        nonlocal made
        with closing(connect(lake.settings)) as connection:
            fresh = _days(lake) if declared is DIM_DATE else _made(lake, connection, declared)
            made = fresh.num_rows if _differs(connection, lake, current, declared, fresh) else None
            if made is None:
                return None
            audit(declared, fresh)
            return replace_rows(connection, current, declared, lake.files(current), "true", fresh)

    lake.commit(declared, decide)
    return made


def _made(lake: Lake, connection: duckdb.DuckDBPyConnection, declared: Table) -> pa.Table:
    sources = {}
    for source in _MADE_FROM[declared]:
        table = lake.load(source)
        sources[source.name] = relation(table, source, lake.files(table))
    return rows(connection, (_SQL / f"{declared.name}.sql").read_text().format(**sources), declared)


def _differs(
    connection: duckdb.DuckDBPyConnection, lake: Lake, current: IcebergTable, declared: Table, fresh: pa.Table
) -> bool:
    connection.register("fresh", fresh)
    present = relation(current, declared, lake.files(current))
    ((different,),) = connection.sql(
        f"select exists((from fresh except all from {present}) union all (from {present} except all from fresh))"
    ).fetchall()
    return bool(different)


def _days(lake: Lake) -> pa.Table:
    """Every day of the years in which there is a visit or conversion. From the tables' partitions, without reading rows."""
    years: set[int] = set()
    for source in (SILVER_SESSIONS, FACT_CONVERSIONS):
        years |= {day.year for day in rows_by_day(source, lake.files(lake.load(source)))}
    if not years:
        return DIM_DATE.arrow.empty_table()
    first, after = date(min(years), 1, 1), date(max(years) + 1, 1, 1)
    days = [_calendar(first + timedelta(days=n)) for n in range((after - first).days)]
    return pa.Table.from_pylist(days, schema=DIM_DATE.arrow)


def _calendar(day: date) -> dict[str, Any]:
    iso = day.isocalendar()
    quarter = (day.month + 2) // 3
    return {
        "date_dt": day,
        "year": day.year,
        "quarter": quarter,
        "month": day.month,
        "month_name": _MONTHS[day.month - 1],
        "month_start_dt": day.replace(day=1),
        "quarter_start_dt": date(day.year, 3 * quarter - 2, 1),
        "iso_year": iso.year,
        "iso_week": iso.week,
        "week_start_dt": day - timedelta(days=iso.weekday - 1),
        "day_of_month": day.day,
        "day_of_year": day.timetuple().tm_yday,
        "weekday": iso.weekday,
        "weekday_name": _WEEKDAYS[iso.weekday - 1],
        "is_weekend": iso.weekday > 5,
    }


# Not from the machine's locale.
_MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"]  # fmt: skip
_WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
