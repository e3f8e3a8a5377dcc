"""What a run tells Dagster of a table that it made: the rows of each day, the materialization, the contract's check.

Belongs here: that one way of telling it. Does not belong here: what is told of a table before a run (``metadata``), or
the checks that only some tables have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Any, Protocol

import dagster as dg

from chart_platform.contracts.tables import Table
from chart_platform.defs.metadata import by_day, key_of, table_metadata
from chart_platform.defs.modes import days_of, log_day, log_other_days
from chart_platform.lakehouse.lake import Lake

CONTRACT = "contract"


class Written(Protocol):
    """Rows that a run wrote to a table, by its day column, and how many rows they replaced."""

    @property
    def rows(self) -> int: ...

    @property
    def replaced(self) -> int: ...

    @property
    def days(self) -> Mapping[date, int]: ...


def contract_specs(tables: Iterable[Table]) -> list[dg.AssetCheckSpec]:
    """The check of each table that :func:`told` answers."""
    return [
        dg.AssetCheckSpec(CONTRACT, asset=key_of(table), description="Pandera: the rows keep the table's contract.")
        for table in tables
    ]


def told(context: dg.AssetExecutionContext, lake: Lake, table: Table, written: Written | None) -> Iterator[Any]:
    """The table's materialization and, where it was asked for, its contract's check: rows that break it are not written.

    ``written`` is None when there was nothing to do. Days other than the run's own are told besides, and of a run over
    several days each.
    """
    key, days = key_of(table), days_of(context)
    figures: dict[str, Any] = {}
    if written is not None:
        log_other_days(context, key, written.days)
        for day in days:
            log_day(context, key, day, written.days.get(day, 0))
        figures = {"batch/rows": written.rows, "batch/replaced": written.replaced, "batch/days": by_day(written.days)}
    yield dg.MaterializeResult(asset_key=key, metadata=table_metadata(lake, table, days[-1]) | figures)
    if any((check.asset_key, check.name) == (key, CONTRACT) for check in context.selected_asset_check_keys):
        rows = written.rows if written is not None else 0
        yield dg.AssetCheckResult(asset_key=key, check_name=CONTRACT, passed=True, metadata={"rows": rows})
