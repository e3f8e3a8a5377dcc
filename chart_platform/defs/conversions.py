"""Conversions as assets: files of the networks to bronze, bronze and clicks to gold, and what asks for a run."""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg

from chart_platform.contracts.tables import (
    CONVERSION_FILES,
    CONVERSION_RECONCILIATION,
    CONVERSION_REJECTS,
    CONVERSION_REPORTS,
    FACT_AFFILIATE_CLICKS,
    FACT_CONVERSIONS,
    Table,
)
from chart_platform.conversions.gold import update_facts, update_reconciliation
from chart_platform.conversions.intake import IntakeResult, take_in
from chart_platform.conversions.networks import NetworksError
from chart_platform.defs.metadata import key_of, rows_of, spec, table_metadata
from chart_platform.defs.modes import (
    INCREMENTAL,
    LANE_TAG,
    MODE_TAG,
    RANGES,
    UNFINISHED,
    days_of,
    is_incremental,
)
from chart_platform.defs.partitions import daily
from chart_platform.defs.resources import Platform
from chart_platform.defs.results import contract_specs, told
from chart_platform.edge.links import Links, LinksError
from chart_platform.lakehouse.changes import Made
from chart_platform.lakehouse.drop import Drop
from chart_platform.lakehouse.lake import Lake
from chart_platform.quality.conversions import (
    balance_conversions,
    balance_reconciliation,
    doubled_transactions,
    matches,
    unmatched_share,
)
from chart_platform.quality.schemas import ContractBreach, audit
from chart_platform.settings import Settings

JOB_NAME = "conversions_to_gold"
_LOOK_SECONDS = 30
_MOST_FILES_SHOWN = 50


DROP_KEY = dg.AssetKey(["drop", "conversions"])
_BRONZE = (CONVERSION_REJECTS, CONVERSION_REPORTS, CONVERSION_FILES)

conversions_drop = dg.AssetSpec(
    DROP_KEY,
    description="The folder into which reports of affiliate networks are put (CHART_CONVERSIONS_DROP), one folder a network.",
    group_name="drop",
    kinds={"file"},
    owners=[FACT_CONVERSIONS.owner],
)


@dg.multi_asset(
    name="conversion_intake",
    specs=[spec(table, deps=[DROP_KEY], kinds={"iceberg", "python"}) for table in _BRONZE],
    check_specs=[
        dg.AssetCheckSpec(
            "contract", asset=key_of(CONVERSION_REPORTS), description="Pandera: the rows keep the tables' contracts."
        ),
        dg.AssetCheckSpec(
            "readable",
            asset=key_of(CONVERSION_REJECTS),
            description="Every record of the files of this run could be read.",
        ),
    ],
    partitions_def=daily,
)
def conversion_intake(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Any]:
    lake = platform.lake()
    try:
        result = take_in(lake, audit)
    except (NetworksError, ContractBreach) as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    day = date.fromisoformat(context.partition_key)
    figures = {"batch/files": len(result.taken), "batch/known_files": result.known, "batch/by_file": _by_file(result)}
    for table, batch in (
        (CONVERSION_REJECTS, {"batch/rejects": result.rejects, "batch/reasons": dg.MetadataValue.json(result.reasons)}),
        (CONVERSION_REPORTS, {"batch/reports": result.reports}),
        (CONVERSION_FILES, figures),
    ):
        yield dg.MaterializeResult(asset_key=key_of(table), metadata=table_metadata(lake, table, day) | batch)
    yield dg.AssetCheckResult(
        asset_key=key_of(CONVERSION_REPORTS), check_name="contract", passed=True, metadata={"rows": result.reports}
    )
    yield dg.AssetCheckResult(
        asset_key=key_of(CONVERSION_REJECTS),
        check_name="readable",
        passed=result.rejects == 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"rejects": result.rejects, "reasons": dg.MetadataValue.json(result.reasons)},
    )


def _by_file(result: IntakeResult) -> dg.MetadataValue[Any]:
    lines = ["file | network | reports | rejects", "--- | " * 3 + "---"]
    lines += [
        f"{taken.file} | {taken.network or ''} | {taken.reports} | {taken.rejects}"
        for taken in result.taken[:_MOST_FILES_SHOWN]
    ]
    return dg.MetadataValue.md("\n".join(lines))


def _products(settings: Settings) -> dict[str, str]:
    try:
        return {link.link_id: link.product_id for link in Links.load(settings.edge_links)}
    except LinksError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


_CLICKS_KEY = key_of(FACT_AFFILIATE_CLICKS)


@dg.multi_asset(
    name="conversion_facts",
    specs=[
        spec(FACT_CONVERSIONS, deps=[key_of(CONVERSION_REPORTS), _CLICKS_KEY], kinds={"iceberg", "duckdb"}),
        spec(CONVERSION_RECONCILIATION, deps=[key_of(FACT_CONVERSIONS), _CLICKS_KEY], kinds={"iceberg", "duckdb"}),
    ],
    check_specs=[
        *contract_specs((FACT_CONVERSIONS, CONVERSION_RECONCILIATION)),
        dg.AssetCheckSpec(
            "sums",
            asset=key_of(FACT_CONVERSIONS),
            description="Conversions and commission of each network, state and currency are those of the reports, to the cent.",
        ),
        dg.AssetCheckSpec(
            "once", asset=key_of(FACT_CONVERSIONS), description="No transaction of a network is there twice."
        ),
        dg.AssetCheckSpec(
            "matched",
            asset=key_of(FACT_CONVERSIONS),
            description="No more conversions than CHART_CONVERSIONS_MAX_UNMATCHED are without a known click.",
        ),
        dg.AssetCheckSpec(
            "balance",
            asset=key_of(CONVERSION_RECONCILIATION),
            description="Every click and conversion of the touched days is there once, with its money.",
        ),
    ],
    partitions_def=daily,
    # As for the models: a backfill of several days compares the tables' partition subsets otherwise.
    can_subset=True,
    backfill_policy=RANGES,
)
def conversion_facts(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Any]:
    lake = platform.lake()
    days = days_of(context)
    again = None if is_incremental(context) else days
    products = _products(platform.settings)
    made: dict[Table, Made] = {}
    try:
        for table, update in ((FACT_CONVERSIONS, update_facts), (CONVERSION_RECONCILIATION, update_reconciliation)):
            if key_of(table) in context.selected_asset_keys:
                made[table] = update(lake, audit, products, again)
    except ContractBreach as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    for table, result in made.items():
        yield from told(context, lake, table, result)
    wanted = {(check.asset_key, check.name) for check in context.selected_asset_check_keys}
    for check in _checked(lake, made, platform.settings):
        if (check.asset_key, check.check_name) in wanted:
            yield check


def _checked(lake: Lake, made: Mapping[Table, Made], settings: Settings) -> Iterator[dg.AssetCheckResult]:
    if FACT_CONVERSIONS in made:
        yield from _checked_facts(lake, settings)
    if CONVERSION_RECONCILIATION not in made:
        return
    balances = balance_reconciliation(lake, made[CONVERSION_RECONCILIATION].days)
    yield dg.AssetCheckResult(
        asset_key=key_of(CONVERSION_RECONCILIATION),
        check_name="balance",
        passed=all(b.ok for b in balances),
        metadata={
            "days": len(balances),
            "clicks": sum(b.clicks for b in balances),
            "conversions": sum(b.conversions for b in balances),
            "different_days": ", ".join(str(b.day) for b in balances if not b.ok) or "none",
        },
    )


def _checked_facts(lake: Lake, settings: Settings) -> Iterator[dg.AssetCheckResult]:
    sums = balance_conversions(lake)
    lines = ["network | state | currency | reported | in fact | reported cents | cents in fact", "--- | " * 6 + "---"]
    lines += [
        f"{s.network} | {s.status} | {s.currency} | {s.reported} | {s.in_fact} | {s.reported_cents} | {s.fact_cents}"
        for s in sums
    ]
    yield dg.AssetCheckResult(
        asset_key=key_of(FACT_CONVERSIONS),
        check_name="sums",
        passed=all(s.ok for s in sums),
        metadata={"conversions": sum(s.in_fact for s in sums), "by_state": dg.MetadataValue.md("\n".join(lines))},
    )
    doubled = doubled_transactions(lake)
    yield dg.AssetCheckResult(
        asset_key=key_of(FACT_CONVERSIONS), check_name="once", passed=doubled == 0, metadata={"doubled": doubled}
    )
    found = matches(lake)
    yield dg.AssetCheckResult(
        asset_key=key_of(FACT_CONVERSIONS),
        check_name="matched",
        passed=unmatched_share(found) <= settings.conversions_max_unmatched,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"unmatched_share": unmatched_share(found), **found},
    )


conversions_to_gold = dg.define_asset_job(
    JOB_NAME,
    selection=dg.AssetSelection.assets(conversion_intake, conversion_facts),
    partitions_def=daily,
    executor_def=dg.in_process_executor,
    tags={LANE_TAG: "conversions"},
    description="New files of the affiliate networks, and new clicks, to gold.",
)


def _request() -> dg.RunRequest:
    # No run key: what a failed run left undone is found by the next, and one that finds nothing changes nothing.
    return dg.RunRequest(partition_key=datetime.now(UTC).date().isoformat(), tags={MODE_TAG: INCREMENTAL})


def _is_running(instance: dg.DagsterInstance) -> bool:
    return bool(instance.get_runs(dg.RunsFilter(job_name=JOB_NAME, statuses=UNFINISHED), limit=1))


@dg.sensor(
    job=conversions_to_gold,
    minimum_interval_seconds=_LOOK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for a run when the files in the drop folder are others than at the last look.",
)
def conversions_sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult | dg.SkipReason:
    settings = platform.settings
    files = Drop(settings, settings.conversions_drop_url).files()
    listing = hashlib.sha256(repr([(f.name, f.size, f.modified) for f in files]).encode()).hexdigest()
    if not files or listing == context.cursor:
        return dg.SkipReason(f"No new files in {settings.conversions_drop_url}.")
    if _is_running(context.instance):
        return dg.SkipReason("The run before has not ended yet.")
    return dg.SensorResult(run_requests=[_request()], cursor=listing)


# Clicks that come late, and those that nobody has reported yet, need no new file.
@dg.schedule(
    job=conversions_to_gold,
    cron_schedule="17 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Matches what was reported with the clicks that have come since, every hour.",
)
def conversions_schedule(context: dg.ScheduleEvaluationContext, platform: Platform) -> dg.RunRequest | dg.SkipReason:
    if rows_of(platform.lake(), CONVERSION_FILES) == 0:
        return dg.SkipReason("No network has ever reported anything.")
    if _is_running(context.instance):
        return dg.SkipReason("The run before has not ended yet.")
    return _request()
