"""Metadata of assets: schema, lineage and owners from the contract; counts and previews from the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg
from pyiceberg.expressions import AlwaysTrue, EqualTo

from chart_platform.contracts.tables import Table
from chart_platform.defs.partitions import daily
from chart_platform.lakehouse.duck import connect, relation
from chart_platform.lakehouse.lake import Lake

_PREVIEW_ROWS = 5
_PREVIEW_WIDTH = 60


def key_of(table: Table) -> dg.AssetKey:
    """The asset of a table."""
    return dg.AssetKey([table.namespace, table.name])


def column_schema(table: Table) -> dg.TableSchema:
    """The table's columns for the asset page."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                c.name,
                str(c.type),
                description=c.description,
                constraints=dg.TableColumnConstraints(nullable=not c.required, unique=table.key == (c.name,)),
                tags={"sensitivity": c.sensitivity},
            )
            for c in table.columns
        ]
    )


def spec(table: Table, deps: Sequence[Any], kinds: set[str], group: str | None = None, **extra: Any) -> dg.AssetSpec:
    """The asset of a table, described by its contract."""
    lineage = dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(asset_key=dg.AssetKey(up.split(".")), column_name=name) for up, name in sources]
            for column, sources in table.lineage().items()
        }
    )
    return dg.AssetSpec(
        key_of(table),
        deps=deps,
        description=table.description,
        group_name=group or table.namespace,
        owners=[table.owner],
        kinds=kinds,
        partitions_def=daily,
        metadata={"dagster/column_schema": column_schema(table), "dagster/column_lineage": lineage,
                  "dagster/table_name": table.full_name},
        **extra,
    )  # fmt: skip


def rows_of(lake: Lake, table: Table) -> int:
    """Rows of the table, as its snapshot says."""
    snapshot = lake.load(table).current_snapshot()
    if snapshot is None or snapshot.summary is None:
        return 0
    return int(snapshot.summary.additional_properties.get("total-records", "0"))


def table_metadata(lake: Lake, table: Table, day: date | None = None) -> dict[str, Any]:
    """Row counts (from the snapshot, not a scan), snapshot, progress in Kafka, and a few rows of the partition."""
    current = lake.load(table)
    snapshot = current.current_snapshot()
    if snapshot is None or snapshot.summary is None:
        return {"dagster/row_count": 0}
    where = EqualTo(table.day_column, day) if table.day_column and day else AlwaysTrue()
    files = lake.files(current, where)
    metadata: dict[str, Any] = {
        "dagster/row_count": rows_of(lake, table),
        "dagster/partition_row_count": sum(f.record_count for f in files),
        "iceberg/snapshot_id": str(snapshot.snapshot_id),
        "iceberg/data_files": int(snapshot.summary.additional_properties.get("total-data-files", "0")),
    }
    if progress := lake.progress(table):
        metadata["kafka/offsets"] = dg.MetadataValue.json({str(p): o for p, o in sorted(progress.offsets.items())})
    if files:
        metadata["preview"] = dg.MetadataValue.md(_preview(lake, relation(current, table, files[:1]), table))
    return metadata


def _preview(lake: Lake, source: str, table: Table) -> str:
    connection = connect(lake.settings)
    found = connection.sql(f"select * from {source} limit {_PREVIEW_ROWS}").fetchall()
    connection.close()
    names = [c.name for c in table.columns]
    lines = [" | ".join(names), " | ".join("---" for _ in names)]
    for row in found:
        cells = ["" if value is None else str(value)[:_PREVIEW_WIDTH] for value in row]
        lines.append(" | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells))
    return "\n".join(lines)


def by_day(counts: Mapping[date, int]) -> dg.MetadataValue[Any]:
    """Rows by event day, as a table for the materialization page."""
    lines = ["event day | rows", "--- | ---", *(f"{day} | {count}" for day, count in sorted(counts.items()))]
    return dg.MetadataValue.md("\n".join(lines))
