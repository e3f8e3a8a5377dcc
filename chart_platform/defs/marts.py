"""The marts as assets, and what asks for a run: gold has changed since, and the run before is long enough ago."""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from chart_platform.contracts.tables import Table, table
from chart_platform.defs.dbt_specs import model_specs
from chart_platform.defs.dbt_tests import dbt_tests
from chart_platform.defs.gold import ANALYSTS_FILE
from chart_platform.defs.modes import (
    INCREMENTAL,
    LANE_TAG,
    MODE_TAG,
    RANGES,
    UNFINISHED,
    days_of,
    is_incremental,
    settle_dead_runs,
)
from chart_platform.defs.partitions import daily
from chart_platform.defs.resources import Platform
from chart_platform.defs.results import contract_specs, told
from chart_platform.lakehouse.lake import Lake
from chart_platform.quality.marts import COMPARED, DayTotals, balance_mart
from chart_platform.quality.schemas import ContractBreach, audit
from chart_platform.settings import get_settings
from chart_platform.transform import attribution, visitors
from chart_platform.transform import marts as following
from chart_platform.transform.dbt import DbtFailed

JOB_NAME = "gold_to_marts"
GROUP = "marts"
"""Whatever is in this asset group is made by the job, in the order of its dependencies."""
_MOST_BACKOFF_SECONDS = 600
_SPECS = model_specs(following.mart_tables(), GROUP)
_TABLES: dict[dg.AssetKey, Table] = {s.key: table(".".join(s.key.path)) for s in _SPECS}


@dg.multi_asset(
    name="marts",
    specs=_SPECS,
    check_specs=contract_specs(_TABLES.values())
    + [
        dg.AssetCheckSpec(
            "balance",
            asset=key,
            description=f"{', '.join(COMPARED[declared][1])} of each touched day are those of "
            f"{COMPARED[declared][0].full_name}, to the cent.",
        )
        for key, declared in _TABLES.items()
        if declared in COMPARED
    ],
    partitions_def=daily,
    can_subset=True,
    backfill_policy=RANGES,
)
def marts(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Any]:
    lake = platform.lake()
    days = days_of(context)
    wanted = [key for key in _TABLES if key in context.selected_asset_keys]
    checked = {(check.asset_key, check.name) for check in context.selected_asset_check_keys}
    names = [_TABLES[key].full_name for key in wanted]
    try:
        results = following.run(lake, audit, None if is_incremental(context) else days, names)
    except (DbtFailed, ContractBreach) as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    for key in wanted:
        declared = _TABLES[key]
        result = results.get(declared.full_name)
        yield from told(context, lake, declared, result)
        if (key, "balance") in checked:
            touched = {*days, *(result.days if result else ())}
            yield _balance(key, balance_mart(lake, declared, touched, as_recorded=is_incremental(context)))


def _balance(key: dg.AssetKey, totals: Sequence[DayTotals]) -> dg.AssetCheckResult:
    columns = list(totals[0].source)
    lines = [
        " | ".join(["day", *(f"{c} | in the mart" for c in columns)]),
        " | ".join(["---"] * (2 * len(columns) + 1)),
    ]
    lines += [" | ".join([str(t.day), *(f"{t.source[c]} | {t.mart[c]}" for c in columns)]) for t in totals if not t.ok]
    return dg.AssetCheckResult(
        asset_key=key,
        check_name="balance",
        passed=all(t.ok for t in totals),
        metadata={
            "days": len(totals),
            **{c: sum(t.mart[c] for t in totals) for c in columns},
            "different_days": dg.MetadataValue.md("\n".join(lines)),
        },
    )


gold_to_marts = dg.define_asset_job(
    JOB_NAME,
    # The analysts' file last, so that it has what this run made.
    selection=dg.AssetSelection.groups(GROUP)
    | dg.AssetSelection.assets(ANALYSTS_FILE)
    | dg.AssetSelection.checks(dbt_tests),
    partitions_def=daily,
    executor_def=dg.in_process_executor,
    tags={LANE_TAG: "marts"},
    description="The days that have changed in gold, counted again in the marts.",
)


def marts_request() -> dg.RunRequest:
    """A run of the marts. No run key: what a failed run left undone is found by the next one."""
    return dg.RunRequest(partition_key=datetime.now(UTC).date().isoformat(), tags={MODE_TAG: INCREMENTAL})


def marts_are_level(lake: Lake) -> bool:
    """True if there is nothing to follow. What a failed run left undone is not looked for."""
    return following.up_to_date(lake) and visitors.up_to_date(lake) and attribution.up_to_date(lake)


def _wait_seconds(instance: dg.DagsterInstance) -> float:
    """How long the next run has to wait: for the interval to pass, and longer after each failure in a row."""
    mine = dg.RunsFilter(job_name=JOB_NAME, tags={MODE_TAG: INCREMENTAL})
    failures = 0
    records = instance.get_run_records(mine, limit=10)
    for record in records:
        if record.dagster_run.status == dg.DagsterRunStatus.SUCCESS:
            break
        failures += 1
    if not records:
        return 0.0
    begun: float = records[0].start_time or records[0].create_timestamp.timestamp()
    interval = get_settings().marts_interval_seconds
    wait: int = min(max(_MOST_BACKOFF_SECONDS, interval), interval * 2**failures)
    return begun + wait - time.time()


def _last_failed(instance: dg.DagsterInstance) -> bool:
    newest = instance.get_runs(dg.RunsFilter(job_name=JOB_NAME, tags={MODE_TAG: INCREMENTAL}), limit=1)
    return bool(newest) and newest[0].status == dg.DagsterRunStatus.FAILURE


@dg.sensor(
    job=gold_to_marts,
    minimum_interval_seconds=get_settings().sensor_interval_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for a run when gold has changed since the marts were made, at most every CHART_MARTS_INTERVAL_SECONDS.",
)
def marts_sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.RunRequest | dg.SkipReason:
    settle_dead_runs(context.instance, JOB_NAME)
    if context.instance.get_runs(dg.RunsFilter(job_name=JOB_NAME, statuses=UNFINISHED), limit=1):
        return dg.SkipReason("The run before has not ended yet.")
    if (wait := _wait_seconds(context.instance)) > 0:
        return dg.SkipReason(f"The next run may begin in {wait:.0f} s.")
    if marts_are_level(platform.lake()) and not _last_failed(context.instance):
        return dg.SkipReason("The marts are level with gold.")
    return marts_request()
