"""The lineage that tables declare is that of the models' SQL: of all by table, of the shorter ones by column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from sqlglot import exp
from sqlglot.lineage import lineage
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import build_scope

from chart_platform.contracts.tables import FACT_FUNNEL, TABLES, Table, table
from chart_platform.contracts.tables.declare import Source
from chart_platform.lakehouse.duck import duckdb_type
from chart_platform.transform.dbt import invoke, manifest_json
from chart_platform_tests.transform.fixtures import dbt_cache
from chart_platform_tests.transform.homes import Home

__all__ = ["dbt_cache"]

pytestmark = pytest.mark.slow

NAMES = {t.full_name for t in TABLES}
# What stands for a table in the schemas that a run makes for its models.
STANDS_FOR = {
    "scope.events": "silver.events",
    "scope.extents": "silver.events",
    "scope.slices": "silver.events",
    "scope.judged": "silver.sessions",
    "scope.evaluations": "silver.sessions",
    "scope.profiles": "gold.dim_user",
    "scope.judged_visits": "gold.fact_funnel",
    "scope.old_segments": "silver.user_segments",
    "attribution_scope.old_weights": "gold.attribution_weights",
}
# Read by a model in between, in rows that this model leaves out.
READ_FOR_OTHERS = {"gold.attribution_journeys": {"gold.fact_conversions"}}
# Computes with a function of the run's connection, whose columns sqlglot can't know.
WITHOUT_COLUMNS = {"silver.user_segments"}
# sqlglot's time grows with the square of a query's length: models above take minutes.
LONGEST = 7_000


@pytest.fixture(scope="module")
def compiled(dbt_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, exp.Expression]:
    """SQL of every model by `schema.name`."""
    settings = Home(tmp_path_factory.mktemp("lineage") / "home", dbt_cache).settings
    offline = ["--no-introspect", "--no-populate-cache"]
    done = invoke(settings, ["compile", "--select", "resource_type:model", *offline])
    nodes = manifest_json(settings)["nodes"]
    named = {f"{nodes[one.unique_id]['schema']}.{nodes[one.unique_id]['alias']}": one.sql for one in done}
    return {name: sqlglot.parse_one(sql, dialect="duckdb") for name, sql in named.items()}


def stands_for(name: str) -> str | None:
    """The table that a relation shows rows of, if any; settings and lists of days show none."""
    schema, _, short = name.partition(".")
    if schema in ("history", "marts_scope"):
        short = short.removeprefix("changed_")
        return next((full for full in (f"gold.{short}", f"silver.{short}") if full in NAMES), None)
    return STANDS_FOR.get(name, name if name in NAMES else None)


def tables_read(compiled: Mapping[str, exp.Expression], name: str) -> set[str]:
    """Tables that a model reads itself or through models in between."""
    found: set[str] = set()
    reads = {f"{node.db}.{node.name}" for node in compiled[name].find_all(exp.Table)}
    # A function is given its relation's name as a text.
    reads |= {node.name for node in compiled[name].find_all(exp.Literal) if node.name in compiled}
    for read in sorted(reads):
        if read.startswith("intermediate."):
            found |= tables_read(compiled, read)
        elif (stood := stands_for(read)) is not None:
            found.add(stood)
    return found - {name}


@cache
def origin(source: Source) -> frozenset[Source]:
    """What a column is made of in the end, as declared."""
    above = table(source[0]).lineage().get(source[1], [])
    return frozenset({source}).union(*(origin(one) for one in above if one != source))


def all_above(names: Iterable[str]) -> set[str]:
    """The tables and all that they are made of, as declared."""
    return {found for name in names for column in table(name).columns for found, _ in origin((name, column.name))}


def declared_models(compiled: Mapping[str, exp.Expression]) -> list[Table]:
    return [t for t in TABLES if t.full_name in compiled]


def test_a_table_declares_as_sources_tables_that_its_model_reads(compiled: dict[str, exp.Expression]) -> None:
    wrong = {}
    for declared in declared_models(compiled):
        named = {source for sources in declared.lineage().values() for source, _ in sources}
        # A visit is told by silver.sessions, whether the model reads that table or what it is made from.
        read = tables_read(compiled, declared.full_name) | {"silver.sessions"}
        if beside := named - all_above(read):
            wrong[declared.full_name] = beside
    assert wrong == {}


def test_a_table_declares_a_source_for_every_table_that_its_model_reads(compiled: dict[str, exp.Expression]) -> None:
    wrong = {}
    for declared in declared_models(compiled):
        named = {source for sources in declared.lineage().values() for source, _ in sources}
        if (
            missing := tables_read(compiled, declared.full_name)
            - all_above(named)
            - READ_FOR_OTHERS.get(declared.full_name, set())
        ):
            wrong[declared.full_name] = missing
    assert wrong == {}


def schema_of_everything() -> dict[str, Any]:
    columns = {t.full_name: {c.name: duckdb_type(c.type) for c in t.columns} for t in TABLES}
    schema: dict[str, Any] = {}
    for full_name, described in columns.items():
        namespace, name = full_name.split(".")
        schema.setdefault(namespace, {})[name] = described
        schema.setdefault("history", {})[name] = described
        schema.setdefault("marts_scope", {})[f"changed_{name}"] = described
    schema["marts_scope"] |= {"days": {"event_dt": "DATE"}, "run": {"kind": "VARCHAR"}}
    events = {name: kind for name, kind in columns["silver.events"].items() if name != "session_id"}
    schema["scope"] = {
        "events": {"session_key": "VARCHAR", "slice": "INTEGER", **events},
        "extents": {"session_key": "VARCHAR", "low": "TIMESTAMP", "high": "TIMESTAMP"},
        "slices": {"slice": "INTEGER", "starts_at": "TIMESTAMP"},
        "settings": {"session_cap": "INTERVAL", "comparison_path_segment": "VARCHAR"},
        "days": {"event_dt": "DATE"},
    }
    days = {name: {"event_dt": "DATE"} for name in ("journey_days", "weight_days", "fact_days")}
    settings = {"lookback": "INTERVAL", "collapse": "VARCHAR", "half_life_ms": "BIGINT", "training_days": "INTEGER"}
    schema["attribution_scope"] = {
        **days,
        "settings": settings | {"currency": "VARCHAR"},
        "old_weights": columns["gold.attribution_weights"],
    }
    return {"memory": schema}


def leaves(query: exp.Expression, schema: dict[str, Any], columns: Iterable[str]) -> dict[str, set[Source]]:
    """Columns of tables that each column of a query is computed from."""
    qualified = qualify(query, dialect="duckdb", schema=schema, validate_qualify_columns=False)
    scope = build_scope(qualified)
    found: dict[str, set[Source]] = {}
    for name in columns:
        nodes = lineage(name, qualified, schema, scope=scope, dialect="duckdb").walk()
        ends = [node for node in nodes if isinstance(node.source, exp.Table)]
        read = [(stands_for(f"{n.source.db}.{n.source.name}"), n.name.split(".")[-1].strip('"')) for n in ends]
        # A session key is what tells a visit by its session id, else its visitor.
        keyed = [(full, "session_id" if name == "session_key" else name) for full, name in read if full is not None]
        found[name] = set(keyed)
    return found


def test_a_column_declares_sources_that_its_sql_reads(compiled: dict[str, exp.Expression]) -> None:
    schema = schema_of_everything()
    between = {f"memory.{name}": sql for name, sql in compiled.items() if name.startswith("intermediate.")}
    wrong, looked_at = {}, 0
    for declared in declared_models(compiled):
        query = exp.expand(compiled[declared.full_name], between, dialect="duckdb")
        if len(query.sql()) > LONGEST or declared.full_name in WITHOUT_COLUMNS:
            continue
        named = declared.lineage()
        for name, read in leaves(query, schema, named).items():
            # Of a count SQL names no column.
            if not read:
                continue
            looked_at += 1
            ends = frozenset().union(*(origin(source) for source in named[name]))
            if not ends & frozenset().union(*(origin(source) for source in read)):
                wrong[f"{declared.full_name}.{name}"] = (named[name], read)
    assert wrong == {}
    assert looked_at > 50


def test_lineage_is_told_through_models_in_between(compiled: dict[str, exp.Expression]) -> None:
    assert tables_read(compiled, FACT_FUNNEL.full_name) == {"silver.events", "silver.user_segments"}
    assert ("bronze.events", "ts") in origin((FACT_FUNNEL.full_name, "event_dt"))
