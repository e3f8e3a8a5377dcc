"""Visitors and their retention as assets of the job of the marts."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from chart_platform.contracts.tables import RETENTION_DAILY, SILVER_SESSIONS, VISITORS
from chart_platform.defs.marts import GROUP
from chart_platform.defs.metadata import key_of, spec
from chart_platform.defs.modes import RANGES, days_of, is_incremental
from chart_platform.defs.partitions import daily
from chart_platform.defs.resources import Platform
from chart_platform.defs.results import contract_specs, told
from chart_platform.quality.schemas import ContractBreach, audit
from chart_platform.transform.visitors import update_retention, update_visitors

_UPDATES = {VISITORS: update_visitors, RETENTION_DAILY: update_retention}


@dg.multi_asset(
    name="visitors",
    specs=[
        spec(VISITORS, deps=[key_of(SILVER_SESSIONS)], kinds={"iceberg", "duckdb"}, group=GROUP),
        spec(
            RETENTION_DAILY, deps=[key_of(SILVER_SESSIONS), key_of(VISITORS)], kinds={"iceberg", "duckdb"}, group=GROUP
        ),
    ],
    check_specs=contract_specs(_UPDATES),
    partitions_def=daily,
    can_subset=True,
    backfill_policy=RANGES,
)
def visitors(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Any]:
    lake = platform.lake()
    days = days_of(context)
    for table, update in _UPDATES.items():
        if key_of(table) not in context.selected_asset_keys:
            continue
        try:
            made = update(lake, audit, None if is_incremental(context) else days)
        except ContractBreach as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        yield from told(context, lake, table, made)
