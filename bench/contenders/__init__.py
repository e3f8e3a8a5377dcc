"""One module a contender: its function ``take_in(job)`` brings a topic into files and returns how many rows it wrote.

A contender runs in a process of its own. What it imports at its top is paid before the clock starts.

Belongs here: the same task solved as one would with each tool. Does not belong here: measuring (``measure``).
"""

CONTENDERS = {
    "ours": "chart_platform: validated, audited, exactly once",
    "dlt_arrow": "dlt, Arrow tables from orjson, to Iceberg",
    "dlt_duckdb": "dlt, Arrow tables from DuckDB, to Iceberg",
    "polars_pyiceberg": "Polars json_decode + PyIceberg append",
    "orjson_pyiceberg": "orjson + pa.Table.from_pylist + PyIceberg append",
    "duckdb_parquet": "DuckDB from_json to plain Parquet (the limit)",
}
LIMIT = "duckdb_parquet"
OURS = "ours"
