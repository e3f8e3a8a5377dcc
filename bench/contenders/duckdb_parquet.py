"""DuckDB from_json to plain Parquet: what the bytes cost at least. No validation, no commit, no exactly-once."""

from __future__ import annotations

from typing import Any

from bench.contenders.common import Job, consume
from bench.contenders.duckdb_decode import QUERY, connect, register


def take_in(argument: dict[str, Any]) -> int:
    """One ``copy`` a part."""
    job = Job.of(argument)
    job.folder.mkdir(parents=True, exist_ok=True)
    connection = connect()
    rows = 0
    for number, part in enumerate(consume(job)):
        register(connection, part)
        connection.execute(
            f"copy ({QUERY}) to '{job.folder}/{number}.parquet' (format parquet, compression zstd, compression_level 1)"
        )
        rows += len(part)
    return rows
