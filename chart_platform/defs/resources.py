"""Resources: the platform's settings and lake. The seam for tests is ``build_definitions(resource_overrides=…)``."""

from __future__ import annotations

import dagster as dg

from chart_platform.lakehouse.lake import Lake
from chart_platform.settings import Settings, get_settings


class Platform(dg.ConfigurableResource[None]):
    """The instance that assets work on, as ``CHART_*`` variables describe it."""

    @property
    def settings(self) -> Settings:
        return get_settings()

    def lake(self) -> Lake:
        """A lake of its own for each caller: catalogs and connections are not shared between threads."""
        return Lake(self.settings)
