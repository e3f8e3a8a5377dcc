"""Data files of a table straight from SQL: rows go from DuckDB to Parquet without a stop in Arrow.

On silver.events that is half the price of fetching, splitting, sorting and writing, and DuckDB spills what Arrow would
hold in memory. Belongs here: the files of a relation, with the statistics that Iceberg plans by. Does not belong here:
rows that come from Kafka (``parquet``), or which rows a table should hold (``rewrite``).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from pyiceberg.conversions import to_bytes
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionFieldValue, PartitionKey
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.locations import load_location_provider
from pyiceberg.types import ListType, StructType
from pyiceberg.utils.truncate import truncate_upper_bound_text_string

from chart_platform.contracts.tables import Table
from chart_platform.lakehouse.duck import duckdb_type, local_path, quote
from chart_platform.lakehouse.parquet import METRICS

_BOUND_LENGTH = 16
# Without a limit DuckDB looks for repetition in ids and times, too, where there is none: a fifth of the time.
_OPTIONS = "format parquet, compression zstd, compression_level 1, dictionary_size_limit 2000, return_stats true"


class MissingValue(ValueError):
    """A required column holds null. The file that holds it is named by no snapshot."""


def unload(
    connection: duckdb.DuckDBPyConnection, table: IcebergTable, declared: Table, source: str, least_rows: int = 1
) -> list[DataFile]:
    """Write the rows of relation ``source`` to new files: split by partition, in the table's order. Commits nothing.

    Partitions with fewer than ``least_rows`` rows are left out. One of more rows than a file of the table may have is cut
    along the first column of the table's order. ``source`` is read once for each file: a table serves better than a query.

    Raises:
        MissingValue: a required column holds null.
        duckdb.ConversionException: a value doesn't fit its column.
    """
    columns = ", ".join(f'cast("{c.name}" as {duckdb_type(c.type)}) as "{c.name}"' for c in declared.columns)
    order = f" order by {', '.join(declared.sort_by)}" if declared.sort_by else ""
    schema = table.schema()
    ids = ", ".join(f'"{c.name}": {_field_ids(schema.find_field(c.name))}' for c in declared.columns)
    names = ", ".join(declared.partition_by)
    partitions = connection.sql(
        f"select {names}, count(*) from {source} group by {names} having count(*) >= {least_rows} order by {names}"
    ).fetchall()
    locations = load_location_provider(table_location=table.location(), table_properties=table.properties)
    written: list[DataFile] = []
    for *values, rows in partitions:
        key = _partition_key(table, dict(zip(declared.partition_by, values, strict=True)))
        of_partition = " and ".join(
            f'"{name}" = {_literal(value)}' for name, value in zip(declared.partition_by, values, strict=True)
        )
        for part in _cuts(connection, declared, source, of_partition, rows):
            location = locations.new_data_location(f"{uuid.uuid4()}.parquet", key)
            path = local_path(location)
            if not path.startswith("s3://"):
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            ((_, count, size, _, statistics, *_),) = connection.execute(
                f"copy (select {columns} from {source} where {part}{order}) "
                f"to '{quote(path)}' ({_OPTIONS}, field_ids {{{ids}}})"
            ).fetchall()
            written.append(_data_file(table, declared, key, location, count, size, statistics))
    return written


def _cuts(
    connection: duckdb.DuckDBPyConnection, declared: Table, source: str, partition: str, rows: int
) -> Iterator[str]:
    """Predicates that split the rows of a partition into files."""
    files = -(-rows // declared.rows_per_file)
    if files == 1 or not declared.sort_by:
        yield partition
        return
    column = f'"{declared.sort_by[0]}"'
    shares = ", ".join(str(n / files) for n in range(1, files))
    ((found,),) = connection.sql(
        f"select quantile_disc({column}, [{shares}]) from {source} where {partition}"
    ).fetchall()
    bounds = sorted(set(found))
    for low, high in zip([None, *bounds], [*bounds, None], strict=True):
        above = f" and {column} > {_literal(low)}" if low is not None else ""
        below = f" and {column} <= {_literal(high)}" if high is not None else ""
        yield f"{partition}{above}{below}"


def _literal(value: Any) -> str:
    match value:
        case datetime():
            return f"timestamp '{value}'"
        case date():
            return f"date '{value}'"
        case int():
            return str(value)
        case _:
            return f"'{quote(value)}'"


def _partition_key(table: IcebergTable, values: Mapping[str, Any]) -> PartitionKey:
    spec = table.spec()
    return PartitionKey([PartitionFieldValue(f, values[f.name]) for f in spec.fields], spec, table.schema())


def _field_ids(field: Any) -> str:
    """DuckDB's notation of the Iceberg ids of a column and of what is inside it."""
    match field.field_type:
        case StructType(fields=members):
            inner = ", ".join(f'"{member.name}": {_field_ids(member)}' for member in members)
            return f"{{__duckdb_field_id: {field.field_id}, {inner}}}"
        case ListType() as kind:
            return f"{{__duckdb_field_id: {field.field_id}, element: {_field_ids(kind.element_field)}}}"
        case _:
            return str(field.field_id)


def _data_file(
    table: IcebergTable,
    declared: Table,
    key: PartitionKey,
    location: str,
    rows: int,
    size: int,
    statistics: Mapping[str, Mapping[str, str]],
) -> DataFile:
    nulls: dict[int, int] = {}
    lower: dict[int, bytes] = {}
    upper: dict[int, bytes] = {}
    for column in declared.columns:
        found = statistics[f'"{column.name}"'] if not pa.types.is_nested(column.type) else {}
        missing = int(found.get("null_count", 0))
        if column.required and missing:
            raise MissingValue(f"Column {column.name} of {declared.full_name} is required, and {missing} rows lack it.")
        mode = table.properties.get(METRICS + column.name)
        if mode is None:
            continue
        field = table.schema().find_field(column.name)
        nulls[field.field_id] = missing
        if "min" not in found:
            continue
        length = None if mode == "full" else _BOUND_LENGTH
        low, high = _value(column.type, found["min"]), _value(column.type, found["max"])
        if isinstance(low, str):
            # There may be no short text above the greatest one; then there is no upper bound.
            low, high = low[:length], truncate_upper_bound_text_string(high, length)
        lower[field.field_id] = to_bytes(field.field_type, low)
        if high is not None:
            upper[field.field_id] = to_bytes(field.field_type, high)
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=location,
        file_format=FileFormat.PARQUET,
        partition=key.partition,
        record_count=rows,
        file_size_in_bytes=size,
        value_counts=dict.fromkeys(nulls, rows),
        null_value_counts=nulls,
        lower_bounds=lower,
        upper_bounds=upper,
        spec_id=table.metadata.default_spec_id,
    )


def _value(kind: pa.DataType, text: str) -> Any:
    """A value as DuckDB writes it in its statistics."""
    if pa.types.is_integer(kind):
        return int(text)
    if pa.types.is_date(kind):
        return date.fromisoformat(text)
    if pa.types.is_timestamp(kind):
        return datetime.fromisoformat(text)
    return text
