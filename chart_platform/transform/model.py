"""One run of the dbt models: what they are given, and how what they return is committed.

A run takes in every message that a derived table lacks (incremental), or computes one day again (rebuild). All
tables of a run see one snapshot of silver.events; each table's commit is refused if another run changed the same files
since, and the run starts over. Belongs here: that life cycle. Does not belong here: scope (``scope``), SQL (dbt_project).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import duckdb
from pyiceberg.expressions import AlwaysFalse, AlwaysTrue, BooleanExpression, In
from pyiceberg.table import Table as IcebergTable

from chart_platform.contracts.tables import (
    BRONZE_EVENTS,
    DIM_USER,
    FACT_AFFILIATE_CLICKS,
    FACT_CHART_INTERACTIONS,
    FACT_FUNNEL,
    FACT_PAGE_VIEWS,
    SILVER_EVENTS,
    SILVER_SESSIONS,
    SILVER_USER_SEGMENTS,
    Table,
    table,
)
from chart_platform.lakehouse import changes
from chart_platform.lakehouse.duck import audited, configure, relation
from chart_platform.lakehouse.lake import Lake
from chart_platform.lakehouse.progress import Progress, progress_of
from chart_platform.transform.dbt import invoke
from chart_platform.transform.ingest import Audit
from chart_platform.transform.scope import SILVER_SNAPSHOT_KEY, Scope
from chart_platform.transform.segments import load_rules, membership_macro
from chart_platform.transform.staged import Replacement, TableResult, commit, counted_by_day, unless_stale

DERIVED: tuple[Table, ...] = (
    SILVER_SESSIONS,
    SILVER_USER_SEGMENTS,
    FACT_FUNNEL,
    FACT_AFFILIATE_CLICKS,
    FACT_CHART_INTERACTIONS,
    FACT_PAGE_VIEWS,
)


@dataclass
class ModelRun:
    """State of one attempt."""

    lake: Lake
    day: date | None
    audit: Audit
    only: frozenset[str] | None = None
    results: dict[str, TableResult] = field(default_factory=dict)

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Pin the tables, make their views and the ``scope`` schema in dbt's connection."""
        self._connection = connection
        configure(connection, self.lake.settings)
        self._heads = {t.full_name: self.lake.load(t) for t in (BRONZE_EVENTS, SILVER_EVENTS, DIM_USER, *DERIVED)}
        rules = load_rules(self.lake.settings.segment_rules)
        connection.execute(membership_macro(rules))
        connection.execute("create schema if not exists staged")
        self._scope = scope = Scope(connection, self.lake, self._heads, rules)
        silver = self._heads[SILVER_EVENTS.full_name]
        self._target = progress_of(silver)
        if self.day is not None:
            scope.rebuild(self.day)
        elif self._target is not None:
            scope.incremental(self._since(), self._target, self._unseen_snapshots())
        for declared in DERIVED:
            self._view(declared)

    def _view(self, declared: Table) -> None:
        current = self._heads[declared.full_name]
        connection = self._connection
        connection.execute(f'create schema if not exists "{declared.namespace}"')
        source = relation(current, declared, self.lake.files(current, self._scope.reads(declared)))
        connection.execute(f'create or replace view "{declared.namespace}"."{declared.name}" as select * from {source}')

    def _since(self) -> Progress | None:
        """What every derived table has taken in: the least of their offsets, so that a run cut short is made good."""
        found = [progress_of(self._heads[declared.full_name]) for declared in DERIVED]
        known = [progress for progress in found if progress is not None]
        if len(known) < len(found):
            return None
        partitions = set().union(*(progress.offsets for progress in known))
        offsets = {p: min(progress.offsets.get(p, 0) for progress in known) for p in partitions}
        days = {p: min(progress.days.get(p, date.min) for progress in known) for p in partitions}
        return Progress(known[0].topic, known[0].topic_id, offsets, days)

    def _unseen_snapshots(self) -> list[int]:
        """Snapshots of silver.events since the oldest that a derived table was made from."""
        seen = set()
        for declared in DERIVED:
            current = self._heads[declared.full_name]
            if current.current_snapshot() is not None:
                seen.add(_carried(current).get(SILVER_SNAPSHOT_KEY))
        silver = self._heads[SILVER_EVENTS.full_name]
        head = silver.current_snapshot()
        unseen: list[int] = []
        while head is not None:
            seen.discard(str(head.snapshot_id))
            if not seen:
                break
            unseen.append(head.snapshot_id)
            head = silver.snapshot_by_id(head.parent_snapshot_id) if head.parent_snapshot_id is not None else None
        return unseen

    def store(self, full_name: str, staged: str, _config: Mapping[str, Any]) -> None:
        """Commit the staged rows of one model in place of the rows that the scope dooms.

        Raises:
            StaleModel: another run changed these files meanwhile.
            ContractBreach: the rows break the table's contract.
        """
        if self.only is not None and full_name not in self.only:
            return
        declared = table(full_name)
        connection = self._connection.cursor()
        for part in audited(connection, staged, declared):
            self.audit(declared, part)
        rows, by_day = counted_by_day(connection, staged, declared)
        self.results[full_name] = commit(
            self.lake,
            connection,
            declared,
            self._heads[full_name],
            Replacement(
                staged,
                by_day,
                rows,
                self._affected(connection, declared, by_day),
                self._scope.doomed[full_name],
                self._target if self.day is None else None,
                lambda current: self._seen(declared) if self.day is None else _carried(current),
            ),
        )
        self._heads[full_name] = self.lake.load(declared)
        self._view(declared)

    def _seen(self, declared: Table) -> dict[str, str]:
        """What the table is made from beside messages: the pinned state of what changes without any."""
        silver = self._heads[SILVER_EVENTS.full_name].current_snapshot()
        seen = {SILVER_SNAPSHOT_KEY: str(silver.snapshot_id)} if silver is not None else {}
        if declared is SILVER_USER_SEGMENTS:
            seen |= changes.record(changes.heads({DIM_USER.full_name: self._heads[DIM_USER.full_name]}))
        return seen

    def _affected(
        self, connection: duckdb.DuckDBPyConnection, declared: Table, fresh: Iterable[date]
    ) -> BooleanExpression:
        """The partitions in which rows may be replaced."""
        if declared.day_column is None:
            return AlwaysTrue()
        in_scope = connection.sql("select event_dt from scope.days where event_dt is not null").fetchall()
        days = {*fresh, *(day for (day,) in in_scope)}
        return In(declared.day_column, sorted(days)) if days else AlwaysFalse()


def _carried(current: IcebergTable) -> dict[str, str]:
    """What the table says of the state that its incremental runs have seen. Compaction does not repeat it."""
    snapshot = current.current_snapshot()
    while snapshot is not None:
        said = snapshot.summary.additional_properties if snapshot.summary is not None else {}
        if SILVER_SNAPSHOT_KEY in said:
            return {key: said[key] for key in (SILVER_SNAPSHOT_KEY, changes.KEY) if key in said}
        parent = snapshot.parent_snapshot_id
        snapshot = current.snapshot_by_id(parent) if parent is not None else None
    return {}


def up_to_date(lake: Lake) -> bool:
    """True if every derived table has taken in all that silver.events has, and the segments what gold.dim_user has."""
    target = lake.progress(SILVER_EVENTS)
    if target is None:
        return True
    if not all((found := lake.progress(t)) and found.offsets == target.offsets for t in DERIVED):
        return False
    profiles = changes.heads({DIM_USER.full_name: lake.load(DIM_USER)})
    return profiles == (changes.made_from(lake.load(SILVER_USER_SEGMENTS)) or dict.fromkeys(profiles))


def run(
    lake: Lake,
    audit: Audit,
    day: date | None = None,
    only: Iterable[str] | None = None,
    attempts: int = 6,
) -> dict[str, TableResult]:
    """Run the dbt models: incrementally, or for one event ``day`` as a whole. Returns what each table got.

    ``only`` names the tables to commit; the others are read as they are.

    Raises:
        DbtFailed: a model failed; or other runs kept changing the same days, ``attempts`` times.
    """
    if day is None and up_to_date(lake):
        return {}

    def attempt() -> dict[str, TableResult]:
        run = ModelRun(lake, day, audit, frozenset(only) if only is not None else None)
        invoke(
            lake.settings,
            ["run", "--exclude", "path:models/marts", "path:models/attribution", "path:models/semantic"],
            run,
        )
        return run.results

    return unless_stale(attempt, attempts)
