"""The dbt-duckdb plugin: gives the models their views, takes their rows. A thin door to the run that dbt works for."""

from __future__ import annotations

from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.adapters.duckdb.utils import TargetConfig
from duckdb import DuckDBPyConnection

from chart_platform.transform.dbt import current


class Plugin(BasePlugin):
    """Configured as `lake` in dbt_project/profiles.yml."""

    def configure_connection(self, conn: DuckDBPyConnection) -> None:
        run = current()
        if run is not None:
            run.attach(conn)

    def store(self, target_config: TargetConfig) -> None:
        run = current()
        if run is None:
            raise RuntimeError("Models commit to the lakehouse only in a pipeline run; use chart-platform ingest.")
        staged = target_config.relation
        namespace, name = str(staged.identifier).split("__", 1)
        run.store(f"{namespace}.{name}", f'staged."{staged.identifier}"', target_config.config)
