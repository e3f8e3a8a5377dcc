"""The marts: what is counted by day, made by dbt from the visits and facts after these have come to rest.

A mart's day is a function of rows of its sources. A run compares the sources with the snapshots that the marts were made
from, row by row, and makes the days again in which a row came, went or changed; a compaction changes none. All models of
a run see one snapshot of each source. What they read:

* ``ref('sessions')``, ``ref('fact_page_views')`` and so on: the source's rows of the days to make (and of no other),
* ``source('history', 'sessions')`` and so on: also those of the days around, CHART_MARTS_HISTORY_DAYS before, for conversions
  CHART_CONVERSIONS_CLICK_WINDOW_DAYS after, for facts of events as many as a visit can go on,
* ``source('marts_scope', 'days')``: the days to make, ``event_dt``,
* ``source('gold', 'visitors')``: those whose first visit was on a day to make; no more than who they are and when that
  was makes a day again (`_COMPARED`),
* ``source('bronze', 'link_changes')``: all of it; a change makes the days of the link's clicks and conversions again,
* ``source('marts_scope', 'run')``: one row, ``kind`` is `changes` or, for a rebuild, `days`; ``payout_currency``,
* ``source('marts_scope', 'changed_sessions')`` and so on: the rows that differ, in their old and their new form (for a
  rebuild: all rows of the days). Only of tables that were made from the sources' present snapshots before.

A model is to be idempotent: its rows depend on its sources, never on its own old rows. It replaces all rows of the days
to make, or those for which its config ``doomed`` holds: SQL over the table's columns under the alias ``t``, which may
read the relations above and its own ephemeral parents' tables.

Belongs here: that life cycle. Does not belong here: SQL (dbt_project/models/marts), what Python computes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import duckdb
from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, GreaterThanOrEqual, In, LessThanOrEqual
from pyiceberg.table import Table as IcebergTable

from chart_platform.contracts.tables import (
    FACT_AFFILIATE_CLICKS,
    FACT_CHART_INTERACTIONS,
    FACT_CONVERSIONS,
    FACT_FUNNEL,
    FACT_PAGE_VIEWS,
    LINK_CHANGES,
    SILVER_SESSIONS,
    TABLES,
    VISITORS,
    Table,
    table,
)
from chart_platform.lakehouse.changes import Changed, changed_since, heads, made_from, record
from chart_platform.lakehouse.days import in_parts, rows_by_day
from chart_platform.lakehouse.duck import audited, configure, relation
from chart_platform.lakehouse.lake import Lake
from chart_platform.settings import Settings
from chart_platform.transform.dbt import PROJECT, invoke
from chart_platform.transform.ingest import Audit
from chart_platform.transform.staged import Replacement, TableResult, commit, counted_by_day, unless_stale

SOURCES: tuple[Table, ...] = (
    SILVER_SESSIONS,
    FACT_FUNNEL,
    FACT_AFFILIATE_CLICKS,
    FACT_CHART_INTERACTIONS,
    FACT_PAGE_VIEWS,
    FACT_CONVERSIONS,
    VISITORS,
)
_EVENTS_OF_VISITS = (FACT_AFFILIATE_CLICKS, FACT_CHART_INTERACTIONS, FACT_PAGE_VIEWS)
_DAY_OF = {FACT_CONVERSIONS.full_name: "coalesce(click_dt, event_dt)", VISITORS.full_name: "cohort_dt"}
"""The day that a row of a source counts on, where that isn't its event day."""
_COMPARED = {VISITORS.full_name: ("user_id_hash", "first_session_id", "first_seen_ts", "cohort_dt")}
"""The columns in which a row has to differ, where a change of others must not make its day again."""
_CURRENCY = "payout_currency"
_ROWS_AT_ONCE = 12_000_000
"""Of all sources together. A first run may have years of days before it, and takes them in parts."""


def mart_tables() -> tuple[Table, ...]:
    """Every table that has a model among the marts."""
    models = {path.stem for path in (PROJECT / "models" / "marts").rglob("*.sql")}
    return tuple(declared for declared in TABLES if declared.namespace == "gold" and declared.name in models)


def day_of(declared: Table) -> str:
    """SQL of the day that a row of a source counts on."""
    return _DAY_OF.get(declared.full_name, "event_dt")


@dataclass(frozen=True)
class Pinned:
    """One state of every source."""

    tables: Mapping[str, IcebergTable]

    @classmethod
    def now(cls, lake: Lake) -> Pinned:
        return cls({declared.full_name: lake.load(declared) for declared in (*SOURCES, LINK_CHANGES)})

    def made_from(self, settings: Settings) -> dict[str, int | str | None]:
        """What a mart says of itself that was made from this state."""
        return {**heads(self.tables), _CURRENCY: settings.payout_currency}


def up_to_date(lake: Lake) -> bool:
    """True if every mart was made from the sources as they are."""
    present = Pinned.now(lake).made_from(lake.settings)
    return all(made_from(lake.load(declared)) == present for declared in mart_tables())


def run(
    lake: Lake,
    audit: Audit,
    days: Sequence[date] | None = None,
    only: Iterable[str] | None = None,
    attempts: int = 6,
) -> dict[str, TableResult]:
    """Make the days whose sources have changed; or, as a whole, the ``days`` given. Returns what each mart got.

    ``only`` names the tables to make; of the others nothing is read or written.

    Raises:
        DbtFailed: a model failed; or other runs kept changing the same days, ``attempts`` times.
    """
    wanted = [declared for declared in mart_tables() if only is None or declared.full_name in set(only)]
    if not wanted or (days is None and up_to_date(lake)):
        return {}
    return unless_stale(lambda: _run(lake, audit, wanted, days), attempts)


def _run(lake: Lake, audit: Audit, wanted: Sequence[Table], days: Sequence[date] | None) -> dict[str, TableResult]:
    pinned = Pinned.now(lake)
    changed = None if days is not None else _changed(lake, pinned, wanted)
    touched = sorted(days) if days is not None else _touched(lake, pinned, wanted, changed)
    results: dict[str, TableResult] = {}
    parts = list(_in_parts(lake, pinned, touched)) or [[]]
    for part in parts:
        # Only the last part says that the marts are level: one cut short begins again.
        told = record(pinned.made_from(lake.settings)) if days is None and part is parts[-1] else {}
        work = MartRun(lake, audit, pinned, part, changed, days is not None, told)
        models = [f"+{declared.name},path:models/marts" for declared in wanted]
        invoke(lake.settings, ["run", "--select", *models], work)
        results = {name: results[name] + got if name in results else got for name, got in work.results.items()}
    return results


def _changed(lake: Lake, pinned: Pinned, wanted: Sequence[Table]) -> dict[str, list[Changed]] | None:
    """Files of each source that differ from the snapshots that the marts were made from; None if that can't be told."""
    found: dict[str, list[Changed]] = {name: [] for name in pinned.tables}
    seen = [made_from(lake.load(declared)) for declared in wanted]
    for before in {tuple(sorted(s.items(), key=str)) if s is not None else None for s in seen}:
        if before is None or dict(before).get(_CURRENCY) != lake.settings.payout_currency:
            return None
        for name, current in pinned.tables.items():
            snapshot = dict(before).get(name)
            some = changed_since(current, int(snapshot) if snapshot is not None else None)
            if some is None:
                return None
            found[name].append(some)
    return found


def _touched(
    lake: Lake, pinned: Pinned, wanted: Sequence[Table], changed: Mapping[str, list[Changed]] | None
) -> list[date]:
    """Days in which a row of a source differs; every day there is when nothing is known of before."""
    connection = duckdb.connect()
    configure(connection, lake.settings)
    days: set[date] = set()
    for declared in SOURCES:
        current = pinned.tables[declared.full_name]
        if changed is None:
            source = relation(current, declared, lake.files(current))
            days |= _dates(connection, f"select distinct {day_of(declared)} from {source}")
            continue
        for some in changed[declared.full_name]:
            days |= _dates(
                connection, f"select distinct {day_of(declared)} from ({different_rows(current, declared, some)})"
            )
            if declared in _EVENTS_OF_VISITS:
                days |= _began_before(connection, lake, pinned, different_rows(current, declared, some))
    for some in changed[LINK_CHANGES.full_name] if changed is not None else ():
        if some.files:
            days |= _clicked(connection, lake, pinned, some)
    if changed is None:
        for declared in wanted:
            days |= set(rows_by_day(declared, lake.files(lake.load(declared)))) if declared.day_column else set()
    connection.close()
    return sorted(days)


def _clicked(connection: duckdb.DuckDBPyConnection, lake: Lake, pinned: Pinned, links: Changed) -> set[date]:
    """Days on which clicks and conversions of links count that are in these files."""
    names = (
        f"select affiliate_link_id from {relation(pinned.tables[LINK_CHANGES.full_name], LINK_CHANGES, links.files)}"
    )
    days: set[date] = set()
    for declared in (FACT_AFFILIATE_CLICKS, FACT_CONVERSIONS):
        current = pinned.tables[declared.full_name]
        rows = relation(current, declared, lake.files(current))
        days |= _dates(
            connection, f"select distinct {day_of(declared)} from {rows} where affiliate_link_id in ({names})"
        )
    return days


def _began_before(connection: duckdb.DuckDBPyConnection, lake: Lake, pinned: Pinned, events: str) -> set[date]:
    """Days before these events' own on which their visits began: a visit counts, as a whole, on its first day."""
    own = _dates(connection, f"select distinct event_dt from ({events})")
    before = {day - timedelta(days=back) for day in own for back in range(1, _visit_days(lake.settings) + 1)}
    current = pinned.tables[SILVER_SESSIONS.full_name]
    visits = relation(current, SILVER_SESSIONS, lake.files(current, _among(sorted(before))))
    return _dates(
        connection,
        f"""
        select distinct visits.event_dt
        from ({events}) as events
        inner join (from {visits} where session_end_ts >= event_dt + interval 1 day) as visits
            on
                events.session_id = visits.session_id
                and events.event_dt > visits.event_dt
                and events.ts between visits.session_start_ts and visits.session_end_ts
        """,
    )


def _visit_days(settings: Settings) -> int:
    """How many midnights a visit can span."""
    return -(-settings.session_cap_hours // 24)


def _dates(connection: duckdb.DuckDBPyConnection, sql: str) -> set[date]:
    return {day for (day,) in connection.sql(sql).fetchall() if day is not None}


def different_rows(current: IcebergTable, declared: Table, some: Changed) -> str:
    """SQL of the rows that are in the files of only one side. Copy-on-write moves many rows that stay the same.

    Rows are told apart by two 64-bit hashes: comparing them whole takes several times the memory.
    """
    compared = _COMPARED.get(declared.full_name)
    row = f"row({', '.join(compared)})" if compared is not None else "r"
    added, removed = (relation(current, declared, files) for files in (some.added, some.removed))
    if not some.removed or not some.added:
        return f"select * from {added} union all select * from {removed}"
    marks = f"hash({row}) as mark, hash('r', {row}) as second"
    return f"""
        with added as (select *, {marks} from {added} as r), removed as (select *, {marks} from {removed} as r)
        select * exclude (mark, second) from added where (mark, second) not in (select (mark, second) from removed)
        union all
        select * exclude (mark, second) from removed where (mark, second) not in (select (mark, second) from added)
    """


def _in_parts(lake: Lake, pinned: Pinned, days: Sequence[date]) -> Iterator[list[date]]:
    rows: Counter[date] = Counter()
    for declared in SOURCES:
        rows += rows_by_day(declared, lake.files(pinned.tables[declared.full_name], _among(days, declared)))
    return in_parts(days, rows, _ROWS_AT_ONCE)


@dataclass
class MartRun:
    """One dbt command for some days. ``changed`` is None when all rows of the days count as changed."""

    lake: Lake
    audit: Audit
    pinned: Pinned
    days: Sequence[date]
    changed: Mapping[str, list[Changed]] | None
    rebuild: bool
    told: Mapping[str, str]
    results: dict[str, TableResult] = field(default_factory=dict)

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        configure(connection, self.lake.settings)
        for schema in ("staged", "marts_scope", "history"):
            connection.execute(f"create schema if not exists {schema}")
        listed = ", ".join(f"(date '{day}')" for day in self.days) or "(null)"
        connection.execute(
            f"""
            create table marts_scope.days as select * from (values {listed}) as t (event_dt) where event_dt is not null;
            create table marts_scope.run as
            select '{"days" if self.rebuild else "changes"}' as kind, '{self.lake.settings.payout_currency}' as payout_currency
            """
        )
        self._heads = {declared.full_name: self.lake.load(declared) for declared in mart_tables()}
        for declared in SOURCES:
            current = self.pinned.tables[declared.full_name]
            self._view(declared.namespace, declared, current, _among(self.days, declared))
            self._view("history", declared, current, self._around(declared))
            connection.execute(
                f"create view marts_scope.changed_{declared.name} as select * from ({self._changed_rows(declared)}) "
                f"where {day_of(declared)} in (select event_dt from marts_scope.days)"
            )
        self._view(LINK_CHANGES.namespace, LINK_CHANGES, self.pinned.tables[LINK_CHANGES.full_name], AlwaysTrue())
        for declared in mart_tables():
            self._view_of_mart(declared)

    def _changed_rows(self, declared: Table) -> str:
        current = self.pinned.tables[declared.full_name]
        if self.changed is None:
            window = AlwaysTrue() if declared is FACT_CONVERSIONS else _among(self.days, declared)
            return f"select * from {relation(current, declared, self.lake.files(current, window))}"
        parts = [different_rows(current, declared, some) for some in self.changed[declared.full_name]]
        return " union ".join(f"({part})" for part in parts)

    def _around(self, declared: Table) -> BooleanExpression:
        """The days that the settings' windows reach: visits before a click count, and conversions after it."""
        if not self.days:
            return _among([], declared)
        settings = self.lake.settings
        first, last = min(self.days), max(self.days)
        if declared is FACT_CONVERSIONS:
            last += timedelta(days=settings.conversions_click_window_days)
        if declared in _EVENTS_OF_VISITS:
            last += timedelta(days=_visit_days(settings))
        first -= timedelta(days=settings.marts_history_days)
        day = _partition(declared)
        return And(GreaterThanOrEqual(day, first), LessThanOrEqual(day, last))

    def _view(self, schema: str, declared: Table, current: IcebergTable, where: BooleanExpression) -> None:
        self._connection.execute(f'create schema if not exists "{schema}"')
        source = relation(current, declared, self.lake.files(current, where))
        self._connection.execute(f'create or replace view "{schema}"."{declared.name}" as select * from {source}')

    def _view_of_mart(self, declared: Table) -> None:
        where = _among(self.days) if declared.day_column == "event_dt" else AlwaysTrue()
        self._view(declared.namespace, declared, self._heads[declared.full_name], where)

    def store(self, full_name: str, staged: str, config: Mapping[str, Any]) -> None:
        """Commit one mart's rows in place of those that they replace.

        Raises:
            StaleModel: another run changed these files meanwhile.
            ContractBreach: the rows break the table's contract.
        """
        declared = table(full_name)
        connection = self._connection.cursor()
        for part in audited(connection, staged, declared):
            self.audit(declared, part)
        rows, by_day = counted_by_day(connection, staged, declared)
        own, of_days = config.get("doomed"), declared.day_column == "event_dt"
        doomed = own or ("t.event_dt in (select event_dt from marts_scope.days)" if of_days else "true")
        where = _among(self.days) if of_days and not own else AlwaysTrue()
        asked = Replacement(staged, by_day, rows, where, doomed, None, lambda _current: self.told)
        self.results[full_name] = commit(self.lake, connection, declared, self._heads[full_name], asked)
        self._heads[full_name] = self.lake.load(declared)
        self._view_of_mart(declared)


def _among(days: Sequence[date], declared: Table = SILVER_SESSIONS) -> BooleanExpression:
    return In(_partition(declared), list(days))


def _partition(declared: Table) -> str:
    """The column that says in which partition of days a row is."""
    assert declared.day_column is not None
    return declared.day_column
