"""A lake and snapshots of profiles. Belongs here: making and reading them back, not what should come of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from chart_platform.contracts.tables import DIM_USER, Table
from chart_platform.lakehouse.duck import connect, relation
from chart_platform.lakehouse.lake import Lake
from chart_platform.profiles.history import Look, take_in, update_dimension
from chart_platform.profiles.snapshots import ATTRIBUTES, KEY, SCHEMA, snapshot
from chart_platform.quality.schemas import audit
from chart_platform.settings import Settings

START = datetime(2026, 11, 1)


def profile(user: str, **given: Any) -> dict[str, Any]:
    return {KEY: user, "crm_tier": "gold", "country": "DE", "signup_date": date(2025, 1, 2), "marketing_email": True,
            "marketing_ads": None, "updated_at": START} | given  # fmt: skip


class Company:
    """A lake that is given snapshots by hand. ``hour`` n is n hours after START."""

    def __init__(self, root: Path, **settings: Any) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.settings = Settings(home=root, **settings)
        self.lake = Lake(self.settings)

    def give(self, hour: int, tiers: Mapping[str, str | None]) -> Look:
        """A snapshot in which each user has a tier."""
        rows = pa.Table.from_pylist([profile(user, crm_tier=tier) for user, tier in tiers.items()], schema=SCHEMA)
        return take_in(self.lake, audit, snapshot("test", START + timedelta(hours=hour), rows))

    def dimension(self) -> list[dict[str, Any]]:
        update_dimension(self.lake, audit)
        return self.rows(DIM_USER)

    def tiers(self) -> list[tuple[str, str | None, int, int | None]]:
        """The dimension as (user, tier, from hour, to hour)."""
        return [
            (row[KEY], row["crm_tier"], _hour(row["valid_from"]), _hour(row["valid_to"])) for row in self.dimension()
        ]

    def rows(self, table: Table) -> list[dict[str, Any]]:
        connection = connect(self.settings)
        current = self.lake.load(table)
        source = relation(current, table, self.lake.files(current))
        found = connection.sql(f"from {source} order by {', '.join(table.sort_by)}").to_arrow_table().to_pylist()
        connection.close()
        return list(found)


def _hour(moment: datetime | None) -> Any:
    return None if moment is None else (moment - START) // timedelta(hours=1)


__all__ = ["ATTRIBUTES", "KEY", "START", "Company", "profile"]
