"""Company profiles as assets: what the source has to bronze, its history to gold.dim_user. Nothing else waits for it."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg

from chart_platform.contracts.tables import DIM_USER, PROFILE_CHANGES, PROFILE_SNAPSHOTS, Table
from chart_platform.defs.metadata import key_of, spec, table_metadata
from chart_platform.defs.modes import INCREMENTAL, LANE_TAG, MODE_TAG, UNFINISHED, is_incremental
from chart_platform.defs.partitions import daily
from chart_platform.defs.resources import Platform
from chart_platform.profiles.history import look, state, update_dimension
from chart_platform.profiles.sources import configured, offers
from chart_platform.quality.schemas import ContractBreach, audit

JOB_NAME = "profiles_to_gold"


SOURCE_KEY = dg.AssetKey(["company", "user_profiles"])

profile_source = dg.AssetSpec(
    SOURCE_KEY,
    description="The company's own user profiles: a PostgreSQL table (CHART_PROFILES_DSN) or files (CHART_PROFILES_DROP).",
    group_name="company",
    kinds={"postgres"},
    owners=[DIM_USER.owner],
)


@dg.multi_asset(
    name="profiles",
    specs=[
        spec(PROFILE_CHANGES, deps=[SOURCE_KEY], kinds={"iceberg", "python"}),
        spec(PROFILE_SNAPSHOTS, deps=[SOURCE_KEY], kinds={"iceberg", "python"}),
        spec(DIM_USER, deps=[key_of(PROFILE_CHANGES)], kinds={"iceberg", "duckdb"}),
    ],
    check_specs=[
        dg.AssetCheckSpec(
            "schema",
            asset=key_of(PROFILE_CHANGES),
            description="What the source gives has the columns and types of a profile, and one row a user.",
        ),
        dg.AssetCheckSpec(
            "freshness",
            asset=key_of(DIM_USER),
            description="Profiles are there and not older than CHART_PROFILES_STALE_HOURS.",
        ),
    ],
    partitions_def=daily,
)
def profiles(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Any]:
    lake = platform.lake()
    day = date.fromisoformat(context.partition_key)
    try:
        looks = look(lake, audit)
        written = update_dimension(lake, audit, anew=not is_incremental(context))
    except ContractBreach as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    now = state(lake)
    about: dict[str, Any] = {"state": now.name, "as_of": str(now.as_of or "never"), "profiles": now.profiles}
    for made in looks:
        context.log.info(f"{made.source}: {made.outcome}. {made.detail or ''}")
    figures: dict[Table, dict[str, Any]] = {
        PROFILE_CHANGES: {
            "batch/upserted": sum(m.upserted for m in looks),
            "batch/deleted": sum(m.deleted for m in looks),
        },
        PROFILE_SNAPSHOTS: {"batch/outcomes": ", ".join(f"{m.source}: {m.outcome}" for m in looks) or "nothing new"},
        DIM_USER: {"batch/rows": written, **about},
    }
    for table, batch in figures.items():
        yield dg.MaterializeResult(asset_key=key_of(table), metadata=table_metadata(lake, table, day) | batch)
    refused = [made.detail or "" for made in looks if made.outcome == "refused"]
    yield dg.AssetCheckResult(
        asset_key=key_of(PROFILE_CHANGES),
        check_name="schema",
        passed=not refused,
        description=" ".join(refused) or None,
        metadata={"refused": len(refused), "source": configured(platform.settings)},
    )
    unreachable = [made.detail or "" for made in looks if made.outcome == "unreachable"]
    yield dg.AssetCheckResult(
        asset_key=key_of(DIM_USER),
        check_name="freshness",
        passed=now.name == "fresh",
        # Segments and reports do without profiles: nobody is to be woken for it.
        severity=dg.AssetCheckSeverity.WARN,
        description=" ".join([now.advice, *unreachable]),
        metadata=about,
    )


profiles_to_gold = dg.define_asset_job(
    JOB_NAME,
    selection=dg.AssetSelection.assets(profiles),
    partitions_def=daily,
    executor_def=dg.in_process_executor,
    tags={LANE_TAG: "profiles"},
    description="The company's user profiles and their history.",
)


@dg.schedule(
    job=profiles_to_gold,
    cron_schedule="37 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Looks at the company's user profiles every hour, once there is a source.",
)
def profiles_schedule(context: dg.ScheduleEvaluationContext, platform: Platform) -> dg.RunRequest | dg.SkipReason:
    known = state(platform.lake())
    if known.name == "absent" and next(offers(platform.settings, since=None), None) is None:
        return dg.SkipReason(known.advice)
    if context.instance.get_runs(dg.RunsFilter(job_name=JOB_NAME, statuses=UNFINISHED), limit=1):
        return dg.SkipReason("The run before has not ended yet.")
    return dg.RunRequest(partition_key=datetime.now(UTC).date().isoformat(), tags={MODE_TAG: INCREMENTAL})
