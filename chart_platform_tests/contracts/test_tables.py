"""All that is derived from the tables' declarations agrees with them: Arrow, Iceberg, Pandera, dbt, lineage, DuckDB."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest
from pyiceberg.io.pyarrow import schema_to_pyarrow

from chart_platform.contracts.tables import (
    CONVERSION_RECONCILIATION,
    DIM_AFFILIATE_LINK,
    DIM_CAMPAIGN,
    DIM_DATE,
    DIM_PRODUCT,
    DIM_USER,
    EXPERIMENT_EXPOSURES,
    EXPERIMENT_RESULTS,
    EXPERIMENT_SUMS,
    EXPERIMENT_VISITOR_DAYS,
    FACT_CONVERSIONS,
    RETENTION_DAILY,
    SILVER_EVENTS,
    TABLES,
    VISITORS,
    Table,
    table,
)
from chart_platform.lakehouse.duck import connect, create_views, duckdb_type
from chart_platform.quality.schemas import audit, breaches, pandera_schema
from chart_platform.transform import dbt, marts, model, silver
from chart_platform_tests.transform.fixtures import NewHome, dbt_cache, new_home
from chart_platform_tests.transform.homes import DAY, at, event

__all__ = ["dbt_cache", "new_home"]

every_table = pytest.mark.parametrize("declared", TABLES, ids=lambda t: t.full_name)
DERIVED = [t for t in TABLES if t.namespace != "bronze"]
# Made by SQL of their own rooms, as they follow files and company data, not the messages of a batch.
NO_MODELS = {
    SILVER_EVENTS,
    FACT_CONVERSIONS,
    CONVERSION_RECONCILIATION,
    DIM_USER,
    EXPERIMENT_EXPOSURES,
    EXPERIMENT_VISITOR_DAYS,
    EXPERIMENT_SUMS,
    EXPERIMENT_RESULTS,
    DIM_AFFILIATE_LINK,
    DIM_PRODUCT,
    DIM_CAMPAIGN,
    DIM_DATE,
    VISITORS,
    RETENTION_DAILY,
}


def _plain(kind: pa.DataType) -> str:
    return re.sub(r"large_|element|item| not null|\b-1: |\d+: ", "", str(kind)).replace("list<: ", "list<")


@every_table
def test_the_iceberg_table_has_the_declared_columns(declared: Table, new_home: NewHome) -> None:
    current = new_home().lake.load(declared)
    made = schema_to_pyarrow(current.schema(), include_field_ids=False)
    assert [(f.name, _plain(f.type), f.nullable) for f in made] == [
        (c.name, _plain(c.type), not c.required) for c in declared.columns
    ]
    assert tuple(f.name for f in current.spec().fields) == declared.partition_by


@every_table
def test_the_pandera_schema_has_the_declared_columns_and_checks(declared: Table) -> None:
    schema = pandera_schema(declared)
    assert {name: column.nullable for name, column in schema.columns.items()} == {
        c.name: not c.required for c in declared.columns
    }
    checked = {name for name, column in schema.columns.items() if column.checks}
    assert checked == {c.name for c in declared.columns if c.allowed is not None or c.minimum is not None}


@every_table
def test_names_that_a_declaration_mentions_are_its_columns(declared: Table) -> None:
    names = {c.name for c in declared.columns}
    assert len(names) == len(declared.columns)
    mentioned = {*declared.partition_by, *declared.key, *declared.sort_by, *filter(None, [declared.day_column])}
    assert mentioned <= names
    assert all(declared.column(name).required for name in (*declared.partition_by, *declared.key))
    assert all(c.description for c in declared.columns)


@every_table
def test_lineage_covers_every_derived_column_and_names_columns_that_exist(declared: Table) -> None:
    lineage = declared.lineage()
    if declared.namespace == "bronze":
        assert lineage == {}
        return
    assert set(lineage) == {c.name for c in declared.columns}
    for column, sources in lineage.items():
        assert sources, f"{declared.full_name}.{column} comes from nowhere"
        for upstream, name in sources:
            assert name in {c.name for c in table(upstream).columns}, f"{column}: {upstream}.{name} does not exist"


@pytest.mark.slow
def test_every_derived_table_has_a_dbt_model_or_sql_of_its_own_and_each_model_a_table(new_home: NewHome) -> None:
    nodes = dbt.manifest_json(new_home().settings)["nodes"].values()
    models = {f"{n['schema']}.{n['name']}" for n in nodes if n["config"]["materialized"] == "iceberg_table"}
    assert models == {t.full_name for t in DERIVED if t not in NO_MODELS}
    assert {t.full_name for t in (*model.DERIVED, *marts.mart_tables())} < models


def test_views_show_the_declared_columns_in_their_types(new_home: NewHome) -> None:
    home = new_home()
    connection = connect(home.settings)
    create_views(connection, home.lake)
    for declared in TABLES:
        found = connection.sql(f"describe {declared.full_name}").fetchall()
        shown = [(name, kind.replace('"', "")) for name, kind, *_ in found]
        assert shown == [(c.name, duckdb_type(c.type).replace('"', "")) for c in declared.columns], declared.full_name


def test_an_audit_names_every_breach_of_the_contract(new_home: NewHome) -> None:
    home = new_home()
    home.send(DAY, [event(1, at(DAY, "10:00:00"), "affiliate_click", session="s")])
    silver.update(home.lake, audit)
    (row,) = home.rows(SILVER_EVENTS)
    bad = pa.Table.from_pylist([row | {"event_type": "purchase", "payout_cents": -1}, row], schema=SILVER_EVENTS.arrow)
    assert {b.column for b in breaches(SILVER_EVENTS, bad)} == {"event_type", "payout_cents", "event_id, event_dt"}
    audit(SILVER_EVENTS, pa.Table.from_pylist([row], schema=SILVER_EVENTS.arrow))
    with pytest.raises(RuntimeError, match=r"event_type.*purchase|payout_cents.*-1"):
        audit(SILVER_EVENTS, bad)
