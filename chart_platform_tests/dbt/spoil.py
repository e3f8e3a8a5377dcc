"""Rows in tables that no pipeline would have let in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from chart_platform.contracts.tables import Table
from chart_platform.lakehouse.lake import Change
from chart_platform_tests.transform.homes import Home


def spoil(home: Home, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows without an audit."""
    arrow = pa.Table.from_pylist(list(rows), schema=pa.schema([f.with_nullable(True) for f in table.arrow]))
    home.lake.commit(table, lambda current: Change(add=home.lake.write(current, arrow)))
