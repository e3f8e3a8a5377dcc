"""Resources: the platform's settings and lake. The seam for tests is ``build_definitions(resource_overrides=…)``."""

from __future__ import annotations

import dagster as dg
from dagster_aws.s3 import S3Resource
from dagster_duckdb import DuckDBResource

from chart_platform.lakehouse.lake import Lake
from chart_platform.serving.publish import published_file
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


def object_store() -> S3Resource:
    """S3 of the settings; makes no client until it is used."""
    settings = get_settings()
    return S3Resource(region_name=settings.aws_region, endpoint_url=settings.s3_endpoint)
