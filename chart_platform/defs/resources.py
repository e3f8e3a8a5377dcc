"""Resources: the platform's settings and lake. The seam for tests is ``build_definitions(resource_overrides=…)``."""

from __future__ import annotations

from typing import Any

import dagster as dg
from dagster_duckdb import DuckDBResource

from chart_platform.lakehouse.lake import Lake
from chart_platform.serving.publish import published_file, shared_copy
from chart_platform.settings import Settings, get_settings


class Platform(dg.ConfigurableResource[None]):
    """The instance that assets work on, as ``CHART_*`` variables describe it."""

    @property
    def settings(self) -> Settings:
        return get_settings()

    def lake(self) -> Lake:
        """A lake of its own for each caller: catalogs and connections are not shared between threads."""
        return Lake(self.settings)


def analysts_file() -> DuckDBResource:
    """The published file, as analysts open it: read-only."""
    return DuckDBResource(database=str(published_file(get_settings())), connection_config={"access_mode": "READ_ONLY"})


def object_store() -> Any:
    """S3 of the settings, for an S3 warehouse; else nothing, as its import costs 1.5 s of every process start."""
    settings = get_settings()
    if shared_copy(settings) is None:
        return dg.ResourceDefinition.none_resource()
    from dagster_aws.s3 import S3Resource

    return S3Resource(region_name=settings.aws_region, endpoint_url=settings.s3_endpoint)
