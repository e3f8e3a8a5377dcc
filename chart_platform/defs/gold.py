"""The dbt models of visits and facts as assets, and the analysts' file that follows them."""

from collections import Counter
from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg
from dagster_duckdb import DuckDBResource

from chart_platform.contracts.tables import FACT_FUNNEL, SILVER_EVENTS, TABLES, Table, table
from chart_platform.defs.dbt_specs import model_specs
from chart_platform.defs.metadata import by_day, key_of, rows_of, table_metadata
from chart_platform.defs.modes import RANGES, days_of, is_incremental, log_day, log_other_days
from chart_platform.defs.partitions import daily
from chart_platform.defs.resources import Platform
from chart_platform.defs.results import contract_specs
from chart_platform.lakehouse.duck import configure
from chart_platform.quality.reconciliation import balance_clicks
from chart_platform.quality.schemas import ContractBreach, audit
from chart_platform.serving.publish import publish, shared_copy
from chart_platform.transform import model
from chart_platform.transform.dbt import DbtFailed

ANALYSTS_FILE = dg.AssetKey(["serving", "analytics_duckdb"])
_CLICKS = dg.AssetKey(["gold", "fact_affiliate_clicks"])


_SPECS = model_specs(model.DERIVED)
_TABLES: dict[dg.AssetKey, Table] = {s.key: table(".".join(s.key.path)) for s in _SPECS}


@dg.multi_asset(
    name="models",
    specs=_SPECS,
    check_specs=[
        *contract_specs(_TABLES.values()),
        dg.AssetCheckSpec(
            "balance",
            asset=_CLICKS,
            description="Clicks and payout of each touched day are those of silver.events, to the cent.",
        ),
    ],
    partitions_def=daily,
    # Not for the sake of subsets: Dagster compares the partition subsets of the tables of a whole multi-asset by their
    # inner form in a backfill of several days, and they differ where one table depends on another.
    can_subset=True,
    backfill_policy=RANGES,
)
def models(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Any]:
    lake = platform.lake()
    days = days_of(context)
    wanted = [key for key in _TABLES if key in context.selected_asset_keys]
    checked = {check.asset_key for check in context.selected_asset_check_keys}
    try:
        runs = [model.run(lake, audit)] if is_incremental(context) else []
        for day in [] if is_incremental(context) else days:
            runs.append(model.run(lake, audit, day, only=[_TABLES[key].full_name for key in wanted]))
            for key in wanted:
                log_day(context, key, day, runs[-1][_TABLES[key].full_name].rows)
    except (DbtFailed, ContractBreach) as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    for key in wanted:
        declared = _TABLES[key]
        results = [run[declared.full_name] for run in runs if declared.full_name in run]
        rows = sum(result.rows for result in results)
        figures: dict[str, Any] = {}
        if results:
            by_event_day = sum((Counter(result.days) for result in results), Counter[date]())
            log_other_days(context, key, by_event_day)
            replaced = sum(result.replaced for result in results)
            figures = {"batch/rows": rows, "batch/replaced": replaced, "batch/days": by_day(by_event_day)}
        yield dg.MaterializeResult(asset_key=key, metadata=table_metadata(lake, declared, days[-1]) | figures)
        if key not in checked:
            continue
        yield dg.AssetCheckResult(asset_key=key, check_name="contract", passed=True, metadata={"rows": rows})
    if _CLICKS not in wanted or _CLICKS not in checked:
        return
    touched = {day for run in runs for day in (run[".".join(_CLICKS.path)].days if run else days)}
    balances = balance_clicks(lake, sorted(touched))
    yield dg.AssetCheckResult(
        asset_key=_CLICKS,
        check_name="balance",
        passed=all(b.ok for b in balances),
        metadata={
            "days": len(touched),
            "silver_clicks": sum(b.silver_clicks for b in balances),
            "gold_clicks": sum(b.gold_clicks for b in balances),
            "silver_cents": sum(b.silver_cents for b in balances),
            "gold_cents": sum(b.gold_cents for b in balances),
            "different_days": ", ".join(str(b.day) for b in balances if not b.ok) or "none",
        },
    )


@dg.asset(
    key=ANALYSTS_FILE,
    deps=[key_of(declared) for declared in TABLES],
    group_name="serving",
    kinds={"duckdb"},
    owners=[SILVER_EVENTS.owner],
    description="The analysts' DuckDB file: views of every table, swapped in atomically at the end of each run to gold and marts.",
    check_specs=[
        dg.AssetCheckSpec(
            "readable",
            asset=ANALYSTS_FILE,
            description="Opened as an analyst does, the file has the rows of the table.",
        )
    ],
)
def analytics_duckdb(platform: Platform, analysts: DuckDBResource, s3: dg.ResourceParam[Any]) -> Iterator[Any]:
    lake = platform.lake()
    path = publish(lake)
    metadata: dict[str, Any] = {"path": dg.MetadataValue.path(str(path)), "bytes": path.stat().st_size}
    if (shared := shared_copy(platform.settings)) is not None:
        s3.get_client().upload_file(str(path), shared.bucket, shared.key)
        metadata["shared"] = shared.url
    with analysts.get_connection() as connection:
        configure(connection, platform.settings)
        seen = connection.execute("select count(*) from gold.fact_funnel").fetchall()[0][0]
    yield dg.MaterializeResult(metadata=metadata)
    yield dg.AssetCheckResult(
        check_name="readable", passed=seen == rows_of(lake, FACT_FUNNEL), metadata={"fact_funnel_rows": seen}
    )
