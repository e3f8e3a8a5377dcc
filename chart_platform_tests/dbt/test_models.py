"""Every model keeps its contract, and every unit test of the dbt project passes, in one call of dbt on empty tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
import pytest

from chart_platform.contracts.tables import TABLES
from chart_platform.lakehouse.duck import create_views
from chart_platform.lakehouse.lake import Lake
from chart_platform.quality.schemas import audit
from chart_platform.transform import attribution, dbt, marts, model
from chart_platform_tests.transform.fixtures import NewHome, dbt_cache, new_home
from chart_platform_tests.transform.homes import DAY

__all__ = ["dbt_cache", "new_home"]


class OnEmptyTables:
    """All that the models read, in its types and without rows. What they return is looked at and dropped."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.returned: set[str] = set()

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        create_views(connection, self.lake, TABLES)
        marts.MartRun(self.lake, audit, marts.Pinned.now(self.lake), [DAY], None, True, {}).attach(connection)
        nothing = attribution.AttributionRun(
            self.lake, audit, attribution.pinned_now(self.lake), attribution.Days(), {}
        )
        nothing.attach(connection)
        model.ModelRun(self.lake, DAY, audit).attach(connection)

    def store(self, full_name: str, _staged: str, _config: Mapping[str, Any]) -> None:
        self.returned.add(full_name)


@pytest.mark.slow
def test_all_models_keep_their_contracts_and_all_unit_tests_pass(new_home: NewHome) -> None:
    home = new_home()
    run = OnEmptyTables(home.lake)
    outcomes = dbt.invoke(home.settings, ["build", "--resource-type", "model", "--resource-type", "unit_test"], run)
    assert {outcome.status for outcome in outcomes} == {"success", "pass"}, outcomes
    nodes = dbt.manifest_json(home.settings)
    assert len([o for o in outcomes if o.status == "pass"]) == len(nodes["unit_tests"]) > 0
    made = {
        f"{n['schema']}.{n['name']}" for n in nodes["nodes"].values() if n["config"]["materialized"] == "iceberg_table"
    }
    assert run.returned == made
