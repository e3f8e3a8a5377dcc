"""gold.fact_conversions and gold.conversion_reconciliation: incrementally at the cost of what changed, or again.

Each table records the snapshots of the tables that it was made from. A run compares them with the present ones, file by
file: a conversion is computed again if it has a new report, or if a click with its click id came, went or changed, so a
click that is late finds its conversion. Each is computed from all of its reports, so order and batching don't matter.

Belongs here: which rows are computed again, and committing them. Does not belong here: the rows (the ``.sql`` files).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
from pyiceberg.expressions import And, GreaterThanOrEqual, In, LessThanOrEqual
from pyiceberg.table import Table as IcebergTable

from chart_platform.contracts.tables import (
    CONVERSION_RECONCILIATION,
    CONVERSION_REPORTS,
    FACT_AFFILIATE_CLICKS,
    FACT_CONVERSIONS,
    Table,
)
from chart_platform.lakehouse.changes import Changed, Made, changed_since, heads, made_from, record
from chart_platform.lakehouse.days import in_parts, rows_by_day
from chart_platform.lakehouse.duck import connect, relation, rows
from chart_platform.lakehouse.lake import Change, Lake
from chart_platform.lakehouse.rewrite import replace_rows

Audit = Callable[[Table, pa.Table], None]

_FACT_SQL = (Path(__file__).parent / "fact_conversions.sql").read_text()
_RECONCILIATION_SQL = (Path(__file__).parent / "conversion_reconciliation.sql").read_text()
_RULES = "rules"
_CLICKS_AT_ONCE = 500_000
_CLICK_COLUMNS = (
    "c.event_id, c.event_dt, c.ts, c.click_id, c.affiliate_network, c.affiliate_link_id, c.payout_cents, c.session_id, "
    "c.ab_variant"
)
_REPORT_COLUMNS = ", ".join(f"r.{name}" for name in CONVERSION_REPORTS.arrow.names if name != "raw")


class _Follower:
    """One run of one table. ``sources`` are the tables it is made from; ``rules`` what else its rows depend on."""

    def __init__(
        self, lake: Lake, audit: Audit, table: Table, sources: Sequence[Table], products: Mapping[str, str]
    ) -> None:
        self.lake, self.audit, self.table, self.sources = lake, audit, table, sources
        settings = lake.settings
        said = [dict(sorted(products.items())), settings.conversions_click_window_days, settings.payout_currency]
        self._rules = hashlib.sha256(json.dumps(said).encode()).hexdigest()
        self.connection = connect(settings)
        self.connection.execute("create temp table products (affiliate_link_id varchar, product_id varchar)")
        if products:
            self.connection.executemany("insert into products values (?, ?)", sorted(products.items()))
        self.now: dict[str, IcebergTable] = {}

    def everything(self, declared: Table) -> str:
        current = self.now[declared.full_name]
        return relation(current, declared, self.lake.files(current))

    def run(self, compute: Callable[[IcebergTable, dict[str, Changed] | None], _Rows], days: bool) -> Made:
        """Commit what ``compute`` makes of the changed files of each source, or of None when everything is to be made.

        With ``days`` the table's record of what it has seen stays, as only some of its rows are made again.
        """
        made = Made()

        def decide(current: IcebergTable) -> Change | None:
            nonlocal made
            self.now = {declared.full_name: self.lake.load(declared) for declared in self.sources}
            seen, sources = made_from(current), {**heads(self.now), _RULES: self._rules}
            if not days and seen == sources:
                return None
            fresh = compute(current, self._changed(seen))
            self.audit(self.table, fresh.rows)
            told = seen if days else sources
            change = replace_rows(
                self.connection,
                current,
                self.table,
                self.lake.files(current),
                fresh.doomed,
                fresh.rows,
                summary=record(told) if told is not None else {},
            )
            counted = fresh.rows.group_by("event_dt").aggregate([([], "count_all")]).to_pylist()
            by_day = {row["event_dt"]: row["count_all"] for row in counted}
            made = Made(by_day, change.rows_removed - (change.rows_added - fresh.rows.num_rows))
            return change if change.add or change.remove or not days else None

        self.lake.commit(self.table, decide)
        self.connection.close()
        return made

    def _changed(self, seen: Mapping[str, int | str | None] | None) -> dict[str, Changed] | None:
        if seen is None or seen.get(_RULES) != self._rules:
            return None
        found = {}
        for name, current in self.now.items():
            before = seen.get(name)
            changed = changed_since(current, int(before) if before is not None else None)
            if changed is None:
                return None
            found[name] = changed
        return found


@dataclass(frozen=True)
class _Rows:
    rows: pa.Table
    doomed: str


def update_facts(lake: Lake, audit: Audit, products: Mapping[str, str], days: Sequence[date] | None = None) -> Made:
    """Bring gold.fact_conversions up to date; with ``days``, compute the conversions of these days again.

    ``products`` is the product of each link, by the link registry.

    Raises:
        ContractBreach: the rows break the table's contract. Nothing was committed.
    """
    follower = _Follower(lake, audit, FACT_CONVERSIONS, (CONVERSION_REPORTS, FACT_AFFILIATE_CLICKS), products)
    connection = follower.connection

    def compute(current: IcebergTable, changed: dict[str, Changed] | None) -> _Rows:
        facts = relation(current, FACT_CONVERSIONS, lake.files(current))
        reports = follower.everything(CONVERSION_REPORTS)
        whole = days is None and changed is None
        if days is not None:
            some = _dates(days)
            keys = (
                f"select network, transaction_id from {reports} where cast(event_ts as date) in ({some}) "
                f"union select network, transaction_id from {facts} where event_dt in ({some})"
            )
        elif changed is None:
            keys = f"select distinct network, transaction_id from {reports}"
        else:
            new, clicks = (
                relation(follower.now[t.full_name], t, changed[t.full_name].files)
                for t in (CONVERSION_REPORTS, FACT_AFFILIATE_CLICKS)
            )
            keys = (
                f"select network, transaction_id from {new} "
                f"union select network, transaction_id from {facts} where click_id in (select click_id from {clicks})"
            )
        connection.execute(f"create or replace temp table touched as {keys}")
        connection.execute(
            f"create or replace temp table reported as select {_REPORT_COLUMNS} from {reports} as r "
            "semi join touched as t on r.network = t.network and r.transaction_id = t.transaction_id"
        )
        # Of the window's clicks, which are many more than conversions, only those that were reported.
        connection.execute(
            f"create or replace temp table near_clicks as select {_CLICK_COLUMNS} from {_clicks_near(follower)} as c "
            "where c.click_id in (select click_id from reported)"
        )
        sql = _FACT_SQL.format(
            touched="touched",
            reports="reported",
            clicks="near_clicks",
            products="products",
            window_days=lake.settings.conversions_click_window_days,
        )
        doomed = "true" if whole else "(t.network, t.transaction_id) in (select (network, transaction_id) from touched)"
        return _Rows(rows(connection, sql, FACT_CONVERSIONS), doomed)

    return follower.run(compute, days is not None)


def _clicks_near(follower: _Follower) -> str:
    """Relation of the clicks that the conversions in ``reported`` can have come from, by their days."""
    days = "cast(event_ts as date)"
    ((low, high),) = follower.connection.sql(
        f"select min({days}), max({days}) from reported where click_id is not null"
    ).fetchall()
    current = follower.now[FACT_AFFILIATE_CLICKS.full_name]
    if low is None:
        return relation(current, FACT_AFFILIATE_CLICKS, [])
    window = timedelta(days=follower.lake.settings.conversions_click_window_days)
    span = And(GreaterThanOrEqual("event_dt", low - window), LessThanOrEqual("event_dt", high + timedelta(days=1)))
    return relation(current, FACT_AFFILIATE_CLICKS, follower.lake.files(current, span))


def update_reconciliation(
    lake: Lake, audit: Audit, products: Mapping[str, str], days: Sequence[date] | None = None
) -> Made:
    """Bring gold.conversion_reconciliation up to date with clicks and conversions; with ``days``, make these again.

    Raises:
        ContractBreach: the rows break the table's contract. Nothing was committed.
    """
    sources = (FACT_AFFILIATE_CLICKS, FACT_CONVERSIONS)
    follower = _Follower(lake, audit, CONVERSION_RECONCILIATION, sources, products)
    connection = follower.connection
    columns = {FACT_AFFILIATE_CLICKS: "event_dt", FACT_CONVERSIONS: "coalesce(click_dt, event_dt)"}

    def compute(_current: IcebergTable, changed: dict[str, Changed] | None) -> _Rows:
        if days is not None:
            touched = sorted(days)
        else:
            selects = []
            for table, day in columns.items():
                current = follower.now[table.full_name]
                files = lake.files(current) if changed is None else changed[table.full_name].files
                selects.append(f"select {day} from {relation(current, table, files)}")
            touched = sorted(day for (day,) in connection.sql(" union ".join(selects)).fetchall())
        connection.execute("create or replace temp table touched (event_dt date)")
        if touched:
            connection.executemany("insert into touched values (?)", [(day,) for day in touched])
        parts = [CONVERSION_RECONCILIATION.arrow.empty_table()]
        parts += [_reconciled(follower, some) for some in _in_parts(follower, touched)]
        whole = days is None and changed is None
        return _Rows(pa.concat_tables(parts), "true" if whole else "t.event_dt in (select event_dt from touched)")

    return follower.run(compute, days is not None)


def _in_parts(follower: _Follower, days: Sequence[date]) -> Iterator[list[date]]:
    of_days = follower.lake.files(follower.now[FACT_AFFILIATE_CLICKS.full_name], In("event_dt", days))
    return in_parts(days, rows_by_day(FACT_AFFILIATE_CLICKS, of_days), _CLICKS_AT_ONCE)


def _reconciled(follower: _Follower, days: list[date]) -> pa.Table:
    """The reconciliation of ``days``, which ascend."""
    lake, connection = follower.lake, follower.connection
    clicks, facts = (follower.now[table.full_name] for table in (FACT_AFFILIATE_CLICKS, FACT_CONVERSIONS))
    connection.execute("create or replace temp table days (event_dt date)")
    connection.executemany("insert into days values (?)", [(day,) for day in days])
    window = timedelta(days=lake.settings.conversions_click_window_days)
    near = And(
        GreaterThanOrEqual("event_dt", days[0] - timedelta(days=1)), LessThanOrEqual("event_dt", days[-1] + window)
    )
    sql = _RECONCILIATION_SQL.format(
        days="days",
        clicks=relation(clicks, FACT_AFFILIATE_CLICKS, lake.files(clicks, In("event_dt", days))),
        conversions=relation(facts, FACT_CONVERSIONS, lake.files(facts, near)),
        products="products",
        currency=lake.settings.payout_currency,
    )
    return rows(connection, sql, CONVERSION_RECONCILIATION)


def _dates(days: Sequence[date]) -> str:
    return ", ".join(f"date '{day}'" for day in days) or "null"
