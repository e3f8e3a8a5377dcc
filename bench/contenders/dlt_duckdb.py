"""dlt with Arrow tables that DuckDB decoded: dlt as fast as we could make it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from bench.contenders.common import Job, Part
from bench.contenders.dlt_load import load
from bench.contenders.duckdb_decode import QUERY, connect, register


def take_in(argument: dict[str, Any]) -> int:
    """Decode a part in one query."""
    connection = connect()

    def decode(part: Part) -> pa.Table:
        register(connection, part)
        return connection.sql(QUERY).to_arrow_table()

    return load(Job.of(argument), decode)
