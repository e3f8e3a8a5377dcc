"""Rows fetched for their audit come in parts that keep equal keys together."""

from __future__ import annotations

import duckdb
import pytest

from chart_platform.contracts.tables import FACT_PAGE_VIEWS
from chart_platform.lakehouse import duck
from chart_platform.lakehouse.duck import audited, duckdb_type
from chart_platform.quality.schemas import breaches

ROWS = 1_000
VALUES = {"event_id": f"('e' || (n % {ROWS - 1}))", "event_dt": "date '2026-11-02'"}


def _staged(connection: duckdb.DuckDBPyConnection) -> None:
    """As many page views as ``ROWS``, with one key twice: in the first row and the last."""
    columns = ", ".join(
        f"{VALUES.get(c.name, 'null')}::{duckdb_type(c.type)} as {c.name}" for c in FACT_PAGE_VIEWS.columns
    )
    connection.execute(f"create table staged as select {columns} from range({ROWS}) as t (n)")


def test_all_rows_come_and_a_key_that_is_there_twice_is_found_in_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duck, "_AUDITED_ROWS", 100)
    with duckdb.connect() as connection:
        _staged(connection)
        parts = list(audited(connection, "staged", FACT_PAGE_VIEWS))
    assert len(parts) == 10
    assert sum(part.num_rows for part in parts) == ROWS
    doubled = [b for part in parts for b in breaches(FACT_PAGE_VIEWS, part) if b.check == "unique"]
    assert [(b.column, b.rows) for b in doubled] == [("event_id, event_dt", 1)]
