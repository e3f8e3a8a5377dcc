"""silver.events as an asset."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from chart_platform.contracts.tables import SILVER_EVENTS
from chart_platform.defs.metadata import by_day, spec, table_metadata
from chart_platform.defs.modes import RANGES, days_of, is_incremental, log_day, log_other_days
from chart_platform.defs.partitions import daily
from chart_platform.defs.resources import Platform
from chart_platform.quality.schemas import ContractBreach, audit
from chart_platform.transform import silver

_KEY = dg.AssetKey(["silver", "events"])


@dg.multi_asset(
    name="silver_events",
    specs=[spec(SILVER_EVENTS, deps=[dg.AssetKey(["bronze", "events"])], kinds={"iceberg", "duckdb"})],
    check_specs=[
        dg.AssetCheckSpec("contract", asset=_KEY, description="Pandera: the rows keep the table's contract."),
        dg.AssetCheckSpec(
            "accounting",
            asset=_KEY,
            description="Messages read = events inserted + events replaced + duplicates dropped.",
        ),
    ],
    partitions_def=daily,
    backfill_policy=RANGES,
)
def silver_events(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Any]:
    lake = platform.lake()
    days = days_of(context)
    try:
        result = silver.update(lake, audit) if is_incremental(context) else silver.SilverResult()
        for day in [] if is_incremental(context) else days:
            again = silver.rebuild(lake, day, audit)
            log_day(context, _KEY, day, again.inserted)
            result += again
    except ContractBreach as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    log_other_days(context, _KEY, result.days)
    figures = {
        "batch/messages": result.messages,
        "batch/inserted": result.inserted,
        "batch/replaced": result.replaced,
        "batch/duplicates": result.duplicates,
    }
    yield dg.MaterializeResult(
        asset_key=_KEY,
        metadata=table_metadata(lake, SILVER_EVENTS, days[-1]) | figures | {"batch/days": by_day(result.days)},
    )
    yield dg.AssetCheckResult(asset_key=_KEY, check_name="contract", passed=True, metadata={"rows": result.inserted})
    yield dg.AssetCheckResult(
        asset_key=_KEY,
        check_name="accounting",
        passed=result.messages == result.inserted + result.replaced + result.duplicates,
        metadata=figures,
    )
