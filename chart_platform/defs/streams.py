"""The job that carries a batch from Kafka to gold, and the sensor that asks for it."""

import time
from collections.abc import Sequence

import dagster as dg

from chart_platform.contracts.feeds import feeds
from chart_platform.contracts.tables import BRONZE_EVENTS, SILVER_EVENTS
from chart_platform.defs.bronze import TOPIC_KEYS, BronzeConfig, bronze
from chart_platform.defs.dbt_tests import dbt_tests
from chart_platform.defs.gold import analytics_duckdb, models
from chart_platform.defs.modes import BATCH_TAG, INCREMENTAL, LANE_TAG, MODE_TAG, UNFINISHED, settle_dead_runs
from chart_platform.defs.partitions import daily
from chart_platform.defs.resources import Platform
from chart_platform.defs.silver import silver_events
from chart_platform.lakehouse.lake import Lake
from chart_platform.settings import get_settings
from chart_platform.stream.planning import DayBatch, RetentionLoss, TopicTruncated
from chart_platform.stream.topics import TopicContradiction, TopicMissing
from chart_platform.transform import model
from chart_platform.transform.source import Intake, Unread, unread

JOB_NAME = "events_to_gold"
_MOST_BACKOFF_SECONDS = 600

# In process: three trivial assets with our imports took 4-7 s so, and 16-28 s with a process a step.
events_to_gold = dg.define_asset_job(
    JOB_NAME,
    # dbt's tests look at the tables beside the path, in the job of the marts.
    selection=dg.AssetSelection.assets(bronze, silver_events, models, analytics_duckdb)
    - dg.AssetSelection.checks(dbt_tests),
    partitions_def=daily,
    executor_def=dg.in_process_executor,
    tags={LANE_TAG: "events"},
    description="One batch of messages from Kafka to gold, exactly once.",
)


def request(intake: Intake, attempt: int) -> dg.RunRequest:
    """A run for one intake. The key has an attempt, as Dagster never runs one run_key twice, not even after a failure."""
    return dg.RunRequest(
        run_key=f"{intake.key}-{attempt}",
        partition_key=intake.day.isoformat(),
        run_config=dg.RunConfig(ops={"bronze": BronzeConfig(intake=intake.to_json())}),
        tags={MODE_TAG: INCREMENTAL} | _tags(intake),
    )


def _tags(intake: Intake) -> dict[str, str]:
    """What a run is about, a tag a feed: by it the sensor finds earlier tries of the same batch."""
    return {f"{BATCH_TAG}-{name}": batch.key for name, batch in intake.batches.items()} or {BATCH_TAG: intake.key}


def survey(lake: Lake) -> tuple[dict[str, Unread], dict[str, Exception]]:
    """What is unread of each feed; and why that can't be told of one, which is no reason to hold up the other."""
    plans: dict[str, Unread] = {}
    troubles: dict[str, Exception] = {}
    for feed in feeds(lake.settings):
        try:
            plans[feed.name] = unread(lake, feed)
        except (RetentionLoss, TopicContradiction, TopicMissing, TopicTruncated) as error:
            troubles[feed.name] = error
    return plans, troubles


def left_over(lake: Lake) -> Intake | None:
    """An intake of nothing, which carries the rest to gold, if a run was cut short after bronze."""
    bronze_now, silver_now = lake.progress(BRONZE_EVENTS), lake.progress(SILVER_EVENTS)
    if bronze_now is None:
        return None
    if silver_now is not None and silver_now.offsets == bronze_now.offsets and model.up_to_date(lake):
        return None
    return Intake(bronze_now.day, {})


def _tries(instance: dg.DagsterInstance, tag: str, key: str) -> tuple[int, int, float]:
    """Runs of this batch so far, failures since the last success, and when the last one ended (epoch seconds)."""
    mine = dg.RunsFilter(tags={tag: key})
    newest_first: Sequence[dg.RunRecord] = instance.get_run_records(mine, limit=20)
    failures = 0
    for record in newest_first:
        if record.dagster_run.status == dg.DagsterRunStatus.SUCCESS:
            break
        failures += 1
    ended = max((r.end_time or r.create_timestamp.timestamp() for r in newest_first), default=0.0)
    return instance.get_runs_count(mine), failures, ended


def due(instance: dg.DagsterInstance, intake: Intake) -> tuple[Intake | None, int, str]:
    """What of ``intake`` may go now, at which attempt; and why the rest waits.

    A batch that failed waits, longer each time, and then goes alone: one feed's trouble is not the other's.
    """
    fresh: dict[str, DayBatch] = {}
    attempts = 0
    waits: list[str] = []
    for tag, key in _tags(intake).items():
        name = tag.removeprefix(f"{BATCH_TAG}-")
        mine = {name: intake.batches[name]} if name in intake.batches else {}
        runs, failures, ended = _tries(instance, tag, key)
        wait = ended + min(_MOST_BACKOFF_SECONDS, 5 * 2**failures) - time.time()
        if failures and wait > 0:
            waits.append(f"Batch {key} failed {failures} times; next attempt in {wait:.0f} s.")
        elif failures or not mine:
            return Intake(intake.day, mine), runs, ""
        else:
            fresh |= mine
            attempts += runs
    return (Intake(intake.day, fresh) if fresh else None), attempts, " ".join(waits)


@dg.sensor(
    job=events_to_gold,
    minimum_interval_seconds=get_settings().sensor_interval_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Plans what Kafka has beyond the tables and asks for one run an intake, one at a time.",
)
def kafka_sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult | dg.SkipReason:
    settle_dead_runs(context.instance, JOB_NAME)
    running = context.instance.get_runs(
        dg.RunsFilter(job_name=JOB_NAME, tags={MODE_TAG: INCREMENTAL}, statuses=UNFINISHED), limit=1
    )
    if running:
        return dg.SkipReason(f"Run {running[0].run_id[:8]} still carries the batch before to gold.")
    lake = platform.lake()
    plans, troubles = survey(lake)
    for name, error in troubles.items():
        context.log.error(f"{name}: {error}")
    waits = ""
    for intake in filter(None, (Intake.first_of(plans), left_over(lake))):
        ready, attempt, why = due(context.instance, intake)
        if ready is not None:
            seen = [_observation(name, plans[name]) for name in ready.batches]
            return dg.SensorResult(run_requests=[request(ready, attempt)], asset_events=seen)
        waits = waits or why
    if troubles:
        raise next(iter(troubles.values()))
    return dg.SkipReason(waits or "Nothing unread: the lake is level with Kafka.")


def _observation(feed: str, plan: Unread) -> dg.AssetObservation:
    return dg.AssetObservation(
        TOPIC_KEYS[feed],
        metadata={
            "lag": sum(plan.lag.values()),
            "end_offset": sum(plan.latest.values()),
            "lag_by_partition": dg.MetadataValue.json({str(p): lag for p, lag in sorted(plan.lag.items())}),
        },
    )
