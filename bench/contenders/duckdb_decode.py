"""JSON to columns with DuckDB, for the contenders that use it."""

from __future__ import annotations

import json

import duckdb
import pyarrow as pa

from bench.contenders.common import EVENT, TIMES, Part, kafka_columns, texts


def _structure(kind: pa.DataType) -> object:
    if pa.types.is_struct(kind):
        return {member.name: _structure(member.type) for member in kind}
    if pa.types.is_list(kind):
        return [_structure(kind.value_type)]
    return {pa.int64(): "BIGINT", pa.bool_(): "BOOLEAN"}.get(kind, "VARCHAR")


_STRUCTURE = json.dumps({member.name: _structure(member.type) for member in EVENT})
_COLUMNS = ", ".join(
    f"timezone('UTC', cast(e.{f.name} as timestamptz)) as \"{f.name}\"" if f.name in TIMES else f'e."{f.name}"'
    for f in EVENT
)
QUERY = f"""
    select {_COLUMNS}, kafka_partition, kafka_offset, kafka_ts, ingest_dt, hour
    from (select from_json(text, '{_STRUCTURE}') as e, * exclude (text) from part)
"""


def connect() -> duckdb.DuckDBPyConnection:
    """One thread costs least: more of them only buy wall-clock time."""
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    connection.execute("set preserve_insertion_order = false")
    connection.execute("set threads = 1")
    return connection


def register(connection: duckdb.DuckDBPyConnection, part: Part) -> None:
    """Make ``part`` what :data:`QUERY` reads."""
    connection.register("part", pa.table({"text": texts(part.values)} | kafka_columns(part)))
