"""The job that carries a batch from Kafka to gold, and the sensor that asks for it."""

import time
from collections.abc import Sequence

import dagster as dg

from chart_platform.contracts.tables import BRONZE_EVENTS, SILVER_EVENTS
from chart_platform.defs.bronze import TOPIC_KEY, BronzeConfig, bronze
from chart_platform.defs.gold import analytics_duckdb, models
from chart_platform.defs.modes import BATCH_TAG, INCREMENTAL, MODE_TAG, settle_dead_runs
from chart_platform.defs.partitions import daily
from chart_platform.defs.resources import Platform
from chart_platform.defs.silver import silver_events
from chart_platform.lakehouse.lake import Lake
from chart_platform.settings import get_settings
from chart_platform.stream.planning import DayBatch
from chart_platform.transform import model
from chart_platform.transform.source import Unread, unread

JOB_NAME = "events_to_gold"
_MOST_BACKOFF_SECONDS = 600
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

# In process: three trivial assets with our imports took 4-7 s so, and 16-28 s with a process a step.
events_to_gold = dg.define_asset_job(
    JOB_NAME,
    selection=dg.AssetSelection.assets(bronze, silver_events, models, analytics_duckdb),
    partitions_def=daily,
    executor_def=dg.in_process_executor,
    description="One batch of messages from Kafka to gold, exactly once.",
)


def request(batch: DayBatch, attempt: int) -> dg.RunRequest:
    """A run for one batch. The key has an attempt, as Dagster never runs one run_key twice, not even after a failure."""
    return dg.RunRequest(
        run_key=f"{batch.key}-{attempt}",
        partition_key=batch.day.isoformat(),
        run_config=dg.RunConfig(ops={"bronze": BronzeConfig(batch=batch.to_json())}),
        tags={MODE_TAG: INCREMENTAL, BATCH_TAG: batch.key},
    )


def next_batch(lake: Lake, plan: Unread) -> DayBatch | None:
    """The first unread batch; else, when a run was cut short after bronze, an empty one that carries the rest to gold."""
    if plan.batches:
        return plan.batches[0]
    bronze_now, silver_now = lake.progress(BRONZE_EVENTS), lake.progress(SILVER_EVENTS)
    if bronze_now is None:
        return None
    if silver_now is not None and silver_now.offsets == bronze_now.offsets and model.up_to_date(lake):
        return None
    return DayBatch(bronze_now.day, ())


def _tries(instance: dg.DagsterInstance, batch: DayBatch) -> tuple[int, int, float]:
    """Runs of this batch so far, failures since the last success, and when the last one ended (epoch seconds)."""
    mine = dg.RunsFilter(tags={BATCH_TAG: batch.key})
    newest_first: Sequence[dg.RunRecord] = instance.get_run_records(mine, limit=20)
    failures = 0
    for record in newest_first:
        if record.dagster_run.status == dg.DagsterRunStatus.SUCCESS:
            break
        failures += 1
    ended = max((r.end_time or r.create_timestamp.timestamp() for r in newest_first), default=0.0)
    return instance.get_runs_count(mine), failures, ended


@dg.sensor(
    job=events_to_gold,
    minimum_interval_seconds=get_settings().sensor_interval_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Plans what Kafka has beyond the table and asks for one run a batch, one at a time.",
)
def kafka_sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult | dg.SkipReason:
    settle_dead_runs(context.instance, JOB_NAME)
    running = context.instance.get_runs(
        dg.RunsFilter(job_name=JOB_NAME, tags={MODE_TAG: INCREMENTAL}, statuses=_UNFINISHED), limit=1
    )
    if running:
        return dg.SkipReason(f"Run {running[0].run_id[:8]} still carries the batch before to gold.")
    lake = platform.lake()
    plan = unread(lake)
    batch = next_batch(lake, plan)
    if batch is None:
        return dg.SkipReason("Nothing unread: the lake is level with Kafka.")
    attempt, failures, ended = _tries(context.instance, batch)
    wait = ended + min(_MOST_BACKOFF_SECONDS, 5 * 2**failures) - time.time()
    if failures and wait > 0:
        return dg.SkipReason(f"Batch {batch.key} failed {failures} times; next attempt in {wait:.0f} s.")
    observation = dg.AssetObservation(
        TOPIC_KEY,
        metadata={
            "lag": sum(plan.lag.values()),
            "end_offset": sum(plan.latest.values()),
            "lag_by_partition": dg.MetadataValue.json({str(p): lag for p, lag in sorted(plan.lag.items())}),
        },
    )
    return dg.SensorResult(run_requests=[request(batch, attempt)], asset_events=[observation])
