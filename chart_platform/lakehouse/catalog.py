"""The Iceberg catalog of an instance, and the tables of the contract in it.

Belongs here: connecting (SQLite on files, or Glue on S3), creating tables and letting them follow the contract.
Does not belong here: writing rows (``lake``) or what a table means (``contracts.tables``).
"""

from __future__ import annotations

from contextlib import suppress

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema, assign_fresh_schema_ids
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import IcebergType, ListType, StructType
from sqlalchemy.exc import IntegrityError

from chart_platform.contracts.tables import Table
from chart_platform.settings import Settings

ROWS_PER_FILE = "chart.rows-per-file"
_ATTEMPTS = 10
_GLUE = "chart_platform.lakehouse.glue.SureGlueCatalog"


class SchemaContradiction(RuntimeError):
    """An existing table can't be brought to the columns that the contract declares."""


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


def ensure_table(catalog: Catalog, settings: Settings, table: Table) -> None:
    """Create the table, or add the declared columns and struct members that it lacks, as optional ones.

    Files written before stay as they are: who reads them finds nulls. Safe from several processes.

    Raises:
        SchemaContradiction: the table has columns that no addition brings to the contract; names them.
    """
    missing: dict[tuple[str, ...], IcebergType] = {}
    for _ in range(_ATTEMPTS):
        try:
            existing = catalog.load_table(identifier(settings, table))
        except NoSuchTableError:
            _create(catalog, settings, table)
            continue
        missing, different = _compare(existing.schema().as_struct(), _iceberg_schema(catalog, table).as_struct())
        if different:
            raise SchemaContradiction(
                f"Table {table.full_name} and its contract differ in {', '.join(sorted(different))}, and only optional "
                "columns and members can be added. Use another CHART_NAMESPACE_PREFIX or CHART_HOME."
            )
        if not missing:
            return
        # Another starter that comes first makes this one conflict; the second look finds nothing missing.
        with suppress(CommitFailedException), existing.update_schema() as update:
            for path, kind in missing.items():
                update.add_column(path, kind)
    raise SchemaContradiction(
        f"Table {table.full_name} kept changing while {', '.join('.'.join(path) for path in missing)} was to be added. "
        "Start again when nobody else changes its schema."
    )


def _create(catalog: Catalog, settings: Settings, table: Table) -> None:
    namespace, name = identifier(settings, table)
    # The SQL catalog looks before it inserts: who starts at the same moment meets the database's own error.
    with suppress(NamespaceAlreadyExistsError, IntegrityError):
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
    with suppress(TableAlreadyExistsError):
        catalog.create_table((namespace, name), schema=schema, partition_spec=spec, properties=_properties(table))


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


def _compare(
    have: StructType, want: StructType, path: tuple[str, ...] = ()
) -> tuple[dict[tuple[str, ...], IcebergType], set[str]]:
    """What ``have`` lacks and may get, by path and with its type; and the paths of all other differences."""
    missing: dict[tuple[str, ...], IcebergType] = {}
    different: set[str] = set()
    existing = {field.name: field for field in have.fields}
    declared = {field.name: field for field in want.fields}
    different |= {".".join((*path, name)) for name in existing.keys() - declared.keys()}
    for name, field in declared.items():
        where, found = (*path, name), existing.get(name)
        if found is None and not field.required:
            missing[where] = field.field_type
        elif found is None or found.required != field.required:
            different.add(".".join(where))
        else:
            deeper, wrong = _compare_types(found.field_type, field.field_type, where)
            missing |= deeper
            different |= wrong
    return missing, different


def _compare_types(
    have: IcebergType, want: IcebergType, where: tuple[str, ...]
) -> tuple[dict[tuple[str, ...], IcebergType], set[str]]:
    match have, want:
        case StructType(), StructType():
            return _compare(have, want, where)
        case ListType(), ListType() if have.element_required == want.element_required:
            return _compare_types(have.element_type, want.element_type, where)
        case _:
            # Nested types are equal only with their field ids, but all that come here are plain.
            return {}, set() if have == want else {".".join(where)}
