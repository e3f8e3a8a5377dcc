"""dbt's data tests, on what has changed since they last ran.

The audit before a commit sees the rows of one batch; these tests see the tables as they then are, so that what two
batches got wrong together shows as well. They read the days of the files that are new since the snapshot tested last, and
no other. Belongs here: choosing those days, running the tests, telling what they found. Does not belong here: the tests
(dbt_project), what a failure does (``defs``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
from pyiceberg.expressions import AlwaysTrue, In
from pyiceberg.table import Table as IcebergTable

from chart_platform.contracts.tables import Table
from chart_platform.lakehouse.changes import changed_since
from chart_platform.lakehouse.days import rows_by_day
from chart_platform.lakehouse.duck import configure, relation
from chart_platform.lakehouse.lake import Lake
from chart_platform.transform.dbt import Outcome, invoke, manifest_json

_EXAMPLES = 5


@dataclass(frozen=True)
class Part:
    """What is tested of a table: a snapshot, and its days or, of a table without days, everything (None)."""

    table: Table
    current: IcebergTable
    days: tuple[date, ...] | None

    @property
    def snapshot_id(self) -> int:
        head = self.current.current_snapshot()
        assert head is not None
        return int(head.snapshot_id)


@dataclass(frozen=True)
class Verdict:
    """What a test (dbt's id of it) found in a part: how many keys or values break its rule, and rows that say so."""

    part: Part
    test: str
    failures: int
    examples: list[dict[str, Any]]
    seconds: float


def run(lake: Lake, tables: Iterable[Table], since: Mapping[str, int | None]) -> list[Verdict]:
    """Run the tests of ``tables`` on what has changed since the snapshots in ``since``, by full name.

    A table that hasn't changed is not tested. One whose snapshot has expired, or was never tested, is tested as a whole.

    Raises:
        DbtFailed: a test could not be run.
    """
    parts = [p for t in tables if (p := _part(lake, t, since.get(t.full_name))) is not None]
    by_test = {test: part for part in parts for test in tests_of(manifest_json(lake.settings), part.table)}
    if not by_test:
        return []
    work = _Parts(lake, parts)
    names = [part.table.name for part in parts]
    only = ["--exclude-resource-type", "unit_test", "--indirect-selection", "cautious"]
    outcomes = invoke(lake.settings, ["test", "--select", *names, *only], work)
    return [Verdict(by_test[o.unique_id], o.unique_id, o.failures, work.examples(o), o.seconds) for o in outcomes]


def tests_of(manifest: Mapping[str, Any], declared: Table) -> list[str]:
    """dbt's ids of the data tests on a table's model, in order."""
    found = []
    for name, node in manifest["nodes"].items():
        model = manifest["nodes"].get(node.get("attached_node"))
        if node["resource_type"] == "test" and model is not None:
            found += [name] if (model["schema"], model["name"]) == (declared.namespace, declared.name) else []
    return sorted(found)


def _part(lake: Lake, declared: Table, snapshot_id: int | None) -> Part | None:
    current = lake.load(declared)
    if current.current_snapshot() is None:
        return None
    changed = changed_since(current, snapshot_id)
    files = lake.files(current) if changed is None else changed.added
    if not files:
        return None
    if declared.day_column is None:
        return Part(declared, current, None)
    return Part(declared, current, tuple(sorted(rows_by_day(declared, files))))


class _Parts:
    """The relations that tests read."""

    def __init__(self, lake: Lake, parts: Sequence[Part]) -> None:
        self._lake = lake
        self._parts = parts

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        configure(connection, self._lake.settings)
        days = sorted({day for part in self._parts for day in part.days or ()})
        listed = ", ".join(f"(date '{day}')" for day in days) or "(null)"
        connection.execute("create schema if not exists tested")
        connection.execute(f"create or replace table tested.days as select * from (values {listed}) as t (event_dt)")
        for part in self._parts:
            table = part.table
            where = AlwaysTrue() if part.days is None else In(table.day_column, list(part.days))
            source = relation(part.current, table, self._lake.files(part.current, where))
            connection.execute(f'create schema if not exists "{table.namespace}"')
            connection.execute(f'create or replace view "{table.namespace}"."{table.name}" as select * from {source}')

    def store(self, full_name: str, _staged: str, _config: Mapping[str, Any]) -> None:
        raise AssertionError(f"Tests store nothing, but {full_name} was to be stored.")

    def examples(self, outcome: Outcome) -> list[dict[str, Any]]:
        """Some of the rows that a test returned. dbt tells only their number, so they are looked for again."""
        if not outcome.failures:
            return []
        connection = duckdb.connect()
        self.attach(connection)
        found = connection.sql(outcome.sql).limit(_EXAMPLES)
        rows = [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]
        connection.close()
        return rows
