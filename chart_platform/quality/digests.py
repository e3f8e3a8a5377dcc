"""What a table holds, as a number: rows and a digest of their content by day, and how many rows two states differ in.

A digest is the sum of the MD5 of every row's text, so that it doesn't depend on the order of rows or on files, and equal
digests mean equal rows, counted as often as they are there. The text is DuckDB's of all columns in the contract's order.

Belongs here: reading and comparing states. Does not belong here: what a difference means (``rebuild``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from pyiceberg.expressions import AlwaysTrue, In

from chart_platform.contracts.tables import Table
from chart_platform.lakehouse.duck import connect, relation
from chart_platform.lakehouse.lake import Lake

Day = date | None
"""An event day, or None for the whole of a table that has none."""

_HALF = 1 << 64


@dataclass(frozen=True)
class Content:
    """Rows and their digest, 32 hexadecimal digits."""

    rows: int = 0
    digest: str = "0" * 32


@dataclass(frozen=True)
class Difference:
    """Rows that only the state before has, and rows that only the state after has. A changed row is in both."""

    gone: int
    new: int

    @property
    def rows(self) -> int:
        """How many rows are different."""
        return max(self.gone, self.new)


def contents(lake: Lake, table: Table, days: Sequence[date]) -> dict[Day, Content]:
    """Content of each of ``days`` that has rows; of a table without days, of all of it."""
    connection = connect(lake.settings)
    row = f"md5(cast(row({', '.join(_quoted(table))}) as varchar))"
    found = connection.sql(
        f"""
        with hashed as (select {_day(table)} as day, {row} as hash from {_rows(lake, table, days, None)})

        select
            day,
            count(*),
            sum(cast('0x' || hash[1:16] as ubigint)::hugeint),
            sum(cast('0x' || hash[17:32] as ubigint)::hugeint)
        from hashed group by day
        """
    ).fetchall()
    connection.close()
    return {day: Content(rows, f"{high % _HALF:016x}{low % _HALF:016x}") for day, rows, high, low in found}


def differences(lake: Lake, table: Table, days: Sequence[date], before: int | None) -> dict[Day, Difference] | None:
    """By day, in how many rows the table differs from its snapshot ``before`` (None: the empty table).

    None if that snapshot has expired.
    """
    if before is not None and lake.load(table).snapshot_by_id(before) is None:
        return None
    connection = connect(lake.settings)
    columns = ", ".join(_quoted(table))
    now = _rows(lake, table, days, None)
    then = _rows(lake, table, days, before) if before is not None else f"(select * from {now} where false)"
    found = connection.sql(
        f"""
        with gone as (select {columns} from {then} except all select {columns} from {now}),

        new as (select {columns} from {now} except all select {columns} from {then}),

        counted as (
            select {_day(table)} as day, count(*) as gone, 0 as new from gone group by 1
            union all
            select {_day(table)}, 0, count(*) from new group by 1
        )

        select day, sum(gone)::bigint, sum(new)::bigint from counted group by day
        """
    ).fetchall()
    connection.close()
    return {day: Difference(gone, new) for day, gone, new in found}


def _rows(lake: Lake, table: Table, days: Sequence[date], snapshot_id: int | None) -> str:
    current = lake.load(table)
    where = In(table.day_column, days) if table.day_column is not None else AlwaysTrue()
    return relation(current, table, lake.files(current, where, snapshot_id))


def _quoted(table: Table) -> list[str]:
    return [f'"{column.name}"' for column in table.columns]


def _day(table: Table) -> str:
    return f'"{table.day_column}"' if table.day_column is not None else "cast(null as date)"
