"""DuckDB over the tables: connections, relations of live files, views.

Belongs here: how DuckDB reads what Iceberg says is live. Does not belong here: business SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlparse

import duckdb
import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table as IcebergTable

from chart_platform.contracts.tables import TABLES, Table
from chart_platform.lakehouse.lake import Lake
from chart_platform.settings import Settings

# File boundaries matter to no one who asks for a table, and hive folders must not add columns.
_READ_OPTIONS = "hive_partitioning=false, union_by_name=false"
_AUDITED_ROWS = 1_000_000


def connect(settings: Settings, database: str = ":memory:") -> duckdb.DuckDBPyConnection:
    """A connection with the limits of ``settings``, UTC, and access to the warehouse's storage."""
    connection = duckdb.connect(database)
    configure(connection, settings)
    return connection


def configure(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Set limits, UTC and storage access on a connection that somebody else opened (dbt)."""
    spill = settings.root / "tmp"
    spill.mkdir(parents=True, exist_ok=True)
    connection.execute("set timezone = 'UTC'")
    connection.execute(f"set memory_limit = '{settings.duckdb_memory_limit}'")
    connection.execute(f"set threads = {settings.duckdb_threads}")
    connection.execute(f"set temp_directory = '{quote(str(spill))}'")
    connection.execute("set preserve_insertion_order = false")
    # DuckDB takes files whose schema it is told (`relation`) for one row, and would hold the larger side of a join in
    # memory. Without this it holds the side on the right.
    connection.execute("set disabled_optimizers = 'build_side_probe_side'")
    if settings.warehouse_url.startswith("s3://"):
        connection.register_filesystem(_s3_filesystem(settings))


def _s3_filesystem(settings: Settings) -> Any:
    """Arrow's S3 client as DuckDB's ``s3://``: DuckDB's own httpfs is a download that closed networks don't have."""
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import S3FileSystem

    class ArrowS3(ArrowFSWrapper):
        protocol = "s3"

    endpoint = settings.s3_endpoint
    options: dict[str, Any] = {"region": settings.aws_region}
    if endpoint:
        options |= {"endpoint_override": urlparse(endpoint).netloc, "scheme": urlparse(endpoint).scheme}
    return ArrowS3(S3FileSystem(**options), skip_instance_cache=True)


def quote(text: str) -> str:
    """Escape a text for a single-quoted SQL literal."""
    return text.replace("'", "''")


def duckdb_type(kind: pa.DataType) -> str:
    """DuckDB's name of an Arrow type that the contract uses."""
    if pa.types.is_struct(kind):
        return "STRUCT(" + ", ".join(f'"{f.name}" {duckdb_type(f.type)}' for f in kind) + ")"
    if pa.types.is_list(kind):
        return duckdb_type(kind.value_type) + "[]"
    names = {
        pa.string(): "VARCHAR",
        pa.binary(): "BLOB",
        pa.int32(): "INTEGER",
        pa.int64(): "BIGINT",
        pa.float64(): "DOUBLE",
        pa.bool_(): "BOOLEAN",
        pa.date32(): "DATE",
        pa.timestamp("us"): "TIMESTAMP",
    }
    return names[kind]


def local_path(location: str) -> str:
    """A file's location as DuckDB names it: plain for local files, unchanged for object stores."""
    return unquote(urlparse(location).path) if location.startswith("file:") else location


def relation(table: IcebergTable, declared: Table, files: Sequence[DataFile], filename: bool = False) -> str:
    """SQL of a relation over ``files``, columns by field id, so that renames and added columns read right.

    With ``filename`` the relation also has a column of that name, equal to :func:`local_path` of the file.
    """
    if not files:
        nulls = [f'cast(null as {duckdb_type(c.type)}) as "{c.name}"' for c in declared.columns]
        nulls += ["cast(null as varchar) as filename"] if filename else []
        return f"(select {', '.join(nulls)} where false)"
    schema = ", ".join(
        f"{table.schema().find_field(c.name).field_id}: {{name: '{c.name}', type: '{quote(duckdb_type(c.type))}', default_value: null}}"
        for c in declared.columns
    )
    listing = ", ".join(f"'{quote(local_path(f.file_path))}'" for f in files)
    extra = ", filename=true" if filename else ""
    columns = ", ".join(f'"{c.name}"' for c in declared.columns) + (", filename" if filename else "")
    return f"(select {columns} from read_parquet([{listing}], schema=map {{{schema}}}, {_READ_OPTIONS}{extra}))"


def create_views(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    tables: Iterable[Table] = TABLES,
    snapshots: Mapping[str, int] | None = None,
) -> None:
    """Make ``namespace.name`` a view of each table's current snapshot, or of the one that ``snapshots`` names for it."""
    for declared in tables:
        current = lake.load(declared)
        schema = f'"{declared.namespace}"'
        connection.execute(f"create schema if not exists {schema}")
        snapshot_id = (snapshots or {}).get(declared.full_name)
        source = relation(current, declared, lake.files(current, snapshot_id=snapshot_id))
        connection.execute(f'create or replace view {schema}."{declared.name}" as select * from {source}')


def rows(connection: duckdb.DuckDBPyConnection, sql: str, declared: Table) -> pa.Table:
    """Fetch ``sql`` in the table's columns, order and schema.

    Raises:
        pyarrow.ArrowInvalid: a required column holds null, or a value doesn't fit its type.
    """
    fetched = connection.sql(sql).to_arrow_table()
    return fetched.select(declared.arrow.names).cast(declared.arrow)


def audited(connection: duckdb.DuckDBPyConnection, source: str, declared: Table) -> Iterator[pa.Table]:
    """The columns of relation ``source`` that the table's declaration has a rule for. Most bytes are in the others.

    Comes in parts, as Arrow would hold millions of rows beside DuckDB. Rows of one key are in one part, so that a key
    that is unique in its part is unique.
    """
    names = [
        column.name
        for column in declared.columns
        if column.required or column.allowed is not None or column.minimum is not None or column.name in declared.key
    ]
    quoted = ", ".join(f'"{name}"' for name in names)
    ((rows,),) = connection.sql(f"select count(*) from {source}").fetchall()
    parts = max(1, -(-rows // _AUDITED_ROWS))
    part = f"hash({', '.join(declared.key)}) % {parts}"
    for number in range(parts):
        where = f" where {part} = {number}" if parts > 1 else ""
        yield connection.sql(f"select {quoted} from {source}{where}").to_arrow_table()
