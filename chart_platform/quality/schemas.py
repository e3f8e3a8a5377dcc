"""Pandera schemas, derived from ``contracts.tables``.

Belongs here: turning a table's declaration into checks, and running them on Arrow rows.
Does not belong here: what a failed check does (``defs``, ``alerting``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import pandera.polars as pandera
import polars as pl
import pyarrow as pa

from chart_platform.contracts.tables import Column, Table
from chart_platform.lakehouse.rewrite import ascending


class ContractBreach(RuntimeError):
    """Rows that are about to be committed break the table's contract. Nothing was committed."""


@dataclass(frozen=True)
class Breach:
    """One failed check: the column, the rule, how many rows, and one failing value as text."""

    column: str
    check: str
    rows: int
    example: str


def _checked(table: Table) -> list[Column]:
    """Columns with a rule on their values. Nulls and types of all columns are Arrow's to check, which costs nothing."""
    return [column for column in table.columns if column.allowed is not None or column.minimum is not None]


@cache
def pandera_schema(table: Table) -> pandera.DataFrameSchema:
    """The table's checks as a Pandera schema over an eager polars frame (a LazyFrame would check no data)."""
    columns = {}
    for column in table.columns:
        checks = []
        if column.allowed is not None:
            checks.append(pandera.Check.isin(list(column.allowed)))
        if column.minimum is not None:
            checks.append(pandera.Check.ge(column.minimum))
        columns[column.name] = pandera.Column(nullable=not column.required, checks=checks, coerce=False)
    return pandera.DataFrameSchema(columns, strict=True, ordered=True)


@cache
def _values_schema(table: Table) -> pandera.DataFrameSchema:
    return pandera_schema(table).select_columns([column.name for column in _checked(table)])


def breaches(table: Table, rows: pa.Table, unique: bool = True) -> list[Breach]:
    """Every check of ``table`` that ``rows`` fail, the uniqueness of its key included."""
    if rows.num_rows == 0:
        return []
    found = [
        Breach(column.name, "not_nullable", rows[column.name].null_count, "null")
        for column in table.columns
        if column.required and rows[column.name].null_count
    ]
    # Only these columns: the texts of a batch are most of its bytes, and polars copies what it is given.
    names = [*dict.fromkeys([*(column.name for column in _checked(table)), *table.key])]
    frame = pl.from_arrow(rows.select(names))
    assert isinstance(frame, pl.DataFrame)
    try:
        _values_schema(table).validate(frame.select(c.name for c in _checked(table)), lazy=True)
    except pandera.errors.SchemaErrors as error:
        for (column, check), failures in error.failure_cases.group_by(["column", "check"]):
            found.append(Breach(str(column), str(check), len(failures), str(failures["failure_case"][0])))
    if unique and not ascending(rows, table.key, strictly=True):
        keys = frame.select(table.key)
        doubled = len(frame) - keys.n_unique()
        if doubled:
            found.append(Breach(", ".join(table.key), "unique", doubled, str(keys.filter(keys.is_duplicated()).row(0))))
    return found


def audit(table: Table, rows: pa.Table) -> None:
    """Raise :class:`ContractBreach` naming every failed check of ``rows``, which are about to be committed."""
    if found := breaches(table, rows):
        detail = "; ".join(f"{b.column}: {b.check} fails in {b.rows} rows, e.g. {b.example}" for b in found)
        raise ContractBreach(f"Rows for {table.full_name} break its contract: {detail}. Nothing was committed.")
