"""The Iceberg catalog of an instance, and the tables of the contract in it.

Belongs here: connecting (SQLite on files, or Glue on S3), creating and checking tables.
Does not belong here: writing rows (``lake``) or what a table means (``contracts.tables``).
"""

from __future__ import annotations

import re
from contextlib import suppress

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema, assign_fresh_schema_ids
from pyiceberg.table import Table as IcebergTable
from pyiceberg.transforms import IdentityTransform

from chart_platform.contracts.tables import TABLES, Table
from chart_platform.settings import Settings

ROWS_PER_FILE = "chart.rows-per-file"
_GLUE = "chart_platform.lakehouse.glue.SureGlueCatalog"


class SchemaContradiction(RuntimeError):
    """An existing table has not the columns that the contract declares."""


def open_catalog(settings: Settings) -> Catalog:
    """Connect to the catalog of ``settings``; creates the SQLite file of an embedded one."""
    properties: dict[str, str] = {"warehouse": settings.warehouse_url}
    if settings.s3_endpoint:
        properties |= {"s3.endpoint": settings.s3_endpoint, "s3.region": settings.aws_region}
    if settings.catalog_type == "glue":
        properties |= {"py-catalog-impl": _GLUE, "glue.region": settings.aws_region}
        if settings.glue_endpoint:
            properties["glue.endpoint"] = settings.glue_endpoint
    else:
        settings.root.mkdir(parents=True, exist_ok=True)
        # 60 s: a commit waits for another's write lock instead of failing with "database is locked".
        properties |= {"type": "sql", "uri": settings.sql_catalog_uri + "?timeout=60", "init_catalog_tables": "true"}
    return load_catalog("chart", **properties)


def identifier(settings: Settings, table: Table) -> tuple[str, str]:
    return f"{settings.namespace_prefix}{table.namespace}", table.name


def ensure_tables(catalog: Catalog, settings: Settings) -> None:
    """Create the tables that are missing and check the others. Safe to run from several processes at once.

    Raises:
        SchemaContradiction: a table exists with other columns; names them.
    """
    for table in TABLES:
        name = identifier(settings, table)
        try:
            existing = catalog.load_table(name)
        except NoSuchTableError:
            existing = _create(catalog, settings, table)
        _check(existing, table)


def _create(catalog: Catalog, settings: Settings, table: Table) -> IcebergTable:
    namespace, name = identifier(settings, table)
    with suppress(NamespaceAlreadyExistsError):
        catalog.create_namespace(namespace)
    schema = _iceberg_schema(catalog, table)
    spec = PartitionSpec(
        *(
            PartitionField(
                source_id=schema.find_field(column).field_id,
                field_id=1000 + i,
                transform=IdentityTransform(),
                name=column,
            )
            for i, column in enumerate(table.partition_by)
        )
    )
    try:
        return catalog.create_table(
            (namespace, name), schema=schema, partition_spec=spec, properties=_properties(table)
        )
    except TableAlreadyExistsError:
        return catalog.load_table((namespace, name))


def _iceberg_schema(catalog: Catalog, table: Table) -> Schema:
    return assign_fresh_schema_ids(catalog._convert_schema_if_needed(table.arrow))


def _properties(table: Table) -> dict[str, str]:
    properties = {
        # PyIceberg's own retry appends a stale writer's rows a second time; `lake.commit` redoes the decision instead.
        "commit.retry.num-retries": "0",
        "write.parquet.compression-codec": "zstd",
        "write.parquet.compression-level": "1",
        "write.metadata.previous-versions-max": "20",
        "write.metadata.delete-after-commit.enabled": "true",
        # Small manifests keep their partition bounds narrow, so that a plan for one day opens few of them.
        "commit.manifest.target-size-bytes": str(256 * 1024),
        "commit.manifest.min-count-to-merge": "20",
        "write.metadata.metrics.default": "none",
        "chart.owner": table.owner,
        ROWS_PER_FILE: str(table.rows_per_file),
        "comment": table.description,
    }
    for column in table.columns:
        if column.name in table.key or column.name in table.sort_by or column.name in ("ts", "session_end_ts"):
            properties[f"write.metadata.metrics.column.{column.name}"] = "truncate(16)"
    for name in table.partition_by:
        # 'chart_interaction' has 17 characters: truncated bounds would defeat pruning.
        properties[f"write.metadata.metrics.column.{name}"] = "full"
    return properties


def _check(existing: IcebergTable, table: Table) -> None:
    have = {f.name: (str(f.field_type), f.required) for f in existing.schema().fields}
    declared = existing.catalog._convert_schema_if_needed(table.arrow)
    want = {f.name: (str(f.field_type), f.required) for f in assign_fresh_schema_ids(declared).fields}
    have = {name: (_without_ids(kind), required) for name, (kind, required) in have.items()}
    want = {name: (_without_ids(kind), required) for name, (kind, required) in want.items()}
    if have != want:
        different = sorted(name for name in have.keys() | want.keys() if have.get(name) != want.get(name))
        raise SchemaContradiction(
            f"Table {table.full_name} and its contract differ in {', '.join(different)}. "
            "Evolve the table, or use another CHART_NAMESPACE_PREFIX or CHART_HOME."
        )


def _without_ids(kind: str) -> str:
    """Nested types print their field ids, which the catalog assigns; only names and types are compared."""
    return re.sub(r"\d+: ", "", kind)
