"""Specs of dbt's models as assets: what they are and depend on through dagster-dbt, how they look by the contract.

Belongs here: that translation. Does not belong here: assets, runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from graphlib import TopologicalSorter
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, build_dbt_asset_specs

from chart_platform.contracts.tables import SILVER_EVENTS, TABLES, Table
from chart_platform.defs.metadata import spec
from chart_platform.settings import get_settings
from chart_platform.transform.data_tests import tests_of
from chart_platform.transform.dbt import manifest_json

_NAMES = {declared.full_name for declared in TABLES}


class _Translator(DagsterDbtTranslator):
    """Assets are named as the tables they write: namespace, then name."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        return dg.AssetKey([dbt_resource_props["schema"], dbt_resource_props["name"]])


@cache
def _manifest() -> dict[str, Any]:
    return manifest_json(get_settings())


@cache
def _from_dbt() -> dict[str, dg.AssetSpec]:
    # Selecting everything and filtering here skips dbt's selector machinery, 0.5 s of every process start.
    found = build_dbt_asset_specs(manifest=_manifest(), dagster_dbt_translator=_Translator())
    return {".".join(s.key.path): s for s in found}


def _source(node: Mapping[str, Any]) -> str | None:
    """The table that a source of dbt stands for, if any."""
    if node["source_name"] == "scope":
        return SILVER_EVENTS.full_name
    name = node["name"].removeprefix("changed_")
    own = [f"{node['schema']}.{node['name']}"]
    return next((full for full in (*own, f"gold.{name}", f"silver.{name}") if full in _NAMES), None)


def _tables_above(node_id: str) -> set[str]:
    """Full names of the tables that a model is made from. Models in between are no assets: their inputs count as its own."""
    nodes = _manifest()["nodes"]
    above: set[str] = set()
    for parent in nodes[node_id]["depends_on"]["nodes"]:
        if parent.startswith("source."):
            source = _source(_manifest()["sources"][parent])
            above |= {source} if source is not None else set()
        elif nodes[parent]["config"]["materialized"] == "iceberg_table":
            above.add(f"{nodes[parent]['schema']}.{nodes[parent]['name']}")
        else:
            above |= _tables_above(parent)
    return above


def model_specs(tables: Sequence[Table], group: str | None = None) -> list[dg.AssetSpec]:
    """Specs of the models that write ``tables``, in topological order, which is the one that Dagster wants results in."""
    ids = {
        f"{node['schema']}.{node['name']}": node_id
        for node_id, node in _manifest()["nodes"].items()
        if node["resource_type"] == "model"
    }
    above = {declared: _tables_above(ids[declared.full_name]) - {declared.full_name} for declared in tables}
    by_name = {declared.full_name: declared for declared in tables}
    order = TopologicalSorter({d: [by_name[name] for name in sorted(a) if name in by_name] for d, a in above.items()})
    specs = []
    for declared in order.static_order():
        deps = [dg.AssetKey(name.split(".")) for name in sorted(above[declared])]
        ours = spec(declared, deps=deps, kinds={"iceberg", "dbt", "duckdb"}, group=group)
        from_dbt = _from_dbt()[declared.full_name]
        specs.append(ours.replace_attributes(metadata={**from_dbt.metadata, **ours.metadata}))
    return specs


def test_specs() -> list[dg.AssetCheckSpec]:
    """Specs of dbt's data tests on all models that write tables, as asset checks. None holds up what follows."""
    translator = _Translator()
    specs = []
    for declared in TABLES:
        asset = _from_dbt().get(declared.full_name)
        for test in tests_of(_manifest(), declared):
            assert asset is not None
            found = translator.get_asset_check_spec(
                asset_spec=asset, manifest=_manifest(), unique_id=test, project=None
            )
            if found is not None:
                description = _manifest()["nodes"][test]["description"]
                specs.append(found._replace(blocking=False, description=description))
    return specs
