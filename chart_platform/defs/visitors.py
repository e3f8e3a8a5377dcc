"""Visitors and their retention as assets of the job of the marts."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from chart_platform.contracts.tables import RETENTION_DAILY, SILVER_SESSIONS, VISITORS, Table
from chart_platform.defs.marts import GROUP
from chart_platform.defs.metadata import by_day, spec, table_metadata
from chart_platform.defs.modes import RANGES, days_of, is_incremental, log_day, log_other_days
from chart_platform.defs.partitions import daily
from chart_platform.defs.resources import Platform
from chart_platform.quality.schemas import ContractBreach, audit
from chart_platform.transform.visitors import update_retention, update_visitors


def _key(table: Table) -> dg.AssetKey:
    return dg.AssetKey([table.namespace, table.name])


_UPDATES = {VISITORS: update_visitors, RETENTION_DAILY: update_retention}


@dg.multi_asset(
    name="visitors",
    specs=[
        spec(VISITORS, deps=[_key(SILVER_SESSIONS)], kinds={"iceberg", "duckdb"}, group=GROUP),
        spec(RETENTION_DAILY, deps=[_key(SILVER_SESSIONS), _key(VISITORS)], kinds={"iceberg", "duckdb"}, group=GROUP),
    ],
    check_specs=[
        dg.AssetCheckSpec("contract", asset=_key(table), description="Pandera: the rows keep the table's contract.")
        for table in _UPDATES
    ],
    partitions_def=daily,
    can_subset=True,
    backfill_policy=RANGES,
)
def visitors(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Any]:
    lake = platform.lake()
    days = days_of(context)
    checked = {check.asset_key for check in context.selected_asset_check_keys}
    for table, update in _UPDATES.items():
        if _key(table) not in context.selected_asset_keys:
            continue
        try:
            made = update(lake, audit, None if is_incremental(context) else days)
        except ContractBreach as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        log_other_days(context, _key(table), made.days)
        for day in days:
            log_day(context, _key(table), day, made.days.get(day, 0))
        figures = {"batch/rows": made.rows, "batch/replaced": made.replaced, "batch/days": by_day(made.days)}
        yield dg.MaterializeResult(asset_key=_key(table), metadata=table_metadata(lake, table, days[-1]) | figures)
        if _key(table) in checked:
            yield dg.AssetCheckResult(
                asset_key=_key(table), check_name="contract", passed=True, metadata={"rows": made.rows}
            )
