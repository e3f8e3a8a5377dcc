"""What a dbt model has staged, committed: audited, in place of the rows it replaces, or refused if others were faster.

Belongs here: that one commit, shared by the exact run (``model``) and the marts (``marts``).
Does not belong here: which rows are replaced, and what a run makes its models see.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

import duckdb
from pyiceberg.expressions import BooleanExpression
from pyiceberg.table import Table as IcebergTable

from chart_platform.contracts.tables import Table
from chart_platform.lakehouse.lake import Change, Lake, paths
from chart_platform.lakehouse.progress import Progress
from chart_platform.lakehouse.rewrite import replace_rows
from chart_platform.transform.dbt import DbtFailed

_log = logging.getLogger(__name__)
Result = TypeVar("Result")


class StaleModel(RuntimeError):
    """Another run changed the files this run would replace, after it had read them. Nothing of this table was committed."""


@dataclass(frozen=True)
class TableResult:
    """What a run did to one table: rows returned by event day, rows replaced, the snapshot."""

    rows: int
    replaced: int
    days: Mapping[date, int]
    snapshot_id: int | None

    def __add__(self, later: TableResult) -> TableResult:
        """Both results, of runs one after the other."""
        days = Counter(self.days) + Counter(later.days)
        return TableResult(
            self.rows + later.rows, self.replaced + later.replaced, days, later.snapshot_id or self.snapshot_id
        )


@dataclass(frozen=True)
class Replacement:
    """Rows of relation ``staged`` come in place of those for which ``doomed`` holds, looked for in the files of ``where``.

    ``counted`` is rows by event day, of a table that has days. ``summary`` is asked what the snapshot is to say of
    itself, given the table as it is.
    """

    staged: str
    counted: Mapping[date, int]
    rows: int
    where: BooleanExpression
    doomed: str
    progress: Progress | None
    summary: Callable[[IcebergTable], Mapping[str, str]]


def counted_by_day(connection: duckdb.DuckDBPyConnection, staged: str, declared: Table) -> tuple[int, dict[date, int]]:
    """Rows that were staged, and how many of them each event day has."""
    day = declared.day_column or "null"
    found = connection.sql(f"select {day}, count(*) from {staged} group by 1 order by 1").fetchall()
    return sum(rows for _, rows in found), dict(found) if declared.day_column else {}


def commit(
    lake: Lake, connection: duckdb.DuckDBPyConnection, declared: Table, pinned: IcebergTable, asked: Replacement
) -> TableResult:
    """Commit ``asked``, made from the state ``pinned``.

    Raises:
        StaleModel: another run changed these files meanwhile.
    """
    candidates = lake.files(pinned, asked.where)

    def decide(current: IcebergTable) -> Change | None:
        if paths(lake.files(current, asked.where)) != paths(candidates):
            raise StaleModel(
                f"{StaleModel.__name__}: table {declared.full_name} was changed by another run while this one computed; "
                "run it again."
            )
        summary = asked.summary(current)
        change = replace_rows(
            connection, current, declared, candidates, asked.doomed, asked.staged, (), asked.progress, summary
        )
        told = asked.progress is not None or bool(summary)
        return change if change.add or change.remove or told else None

    committed = lake.commit(declared, decide)
    return TableResult(
        asked.rows,
        committed.change.rows_removed if committed else 0,
        asked.counted,
        committed.snapshot_id if committed else None,
    )


def unless_stale(attempt: Callable[[], Result], attempts: int) -> Result:
    """What ``attempt`` returns; made again when another run was faster, ``attempts`` times at most.

    Raises:
        DbtFailed: a model failed; or other runs kept changing the same days.
    """
    for number in range(attempts):
        try:
            return attempt()
        except DbtFailed as error:
            # dbt tells errors of a plugin apart by their text only.
            if StaleModel.__name__ not in str(error) or number == attempts - 1:
                raise
            _log.warning("Another run changed the same days; computing again (attempt %d).", number + 2)
            time.sleep(0.5 * 2**number)
    raise AssertionError("unreachable")
