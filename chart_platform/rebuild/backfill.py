"""A plan as a Dagster backfill: handed to the daemon where one runs, else executed here, with the same history.

All assets take their days in one run (``defs.modes.RANGES``), each after those that it is made from.

Belongs here: Dagster's side of a rebuild. Does not belong here: what is rebuilt (``plan``), what came of it (``compare``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg
from dagster._core.execution.asset_backfill import AssetBackfillData
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG, BACKFILL_ID_TAG
from dagster_shared.error import SerializableErrorInfo

from chart_platform.definitions import build_definitions, defs
from chart_platform.defs.modes import PROCESS_TAG, process_mark, settle_dead_runs
from chart_platform.pipeline import prepare_dagster_home
from chart_platform.rebuild.plan import Plan
from chart_platform.settings import Settings

Advance = Callable[[int, str], None]
"""Told how many partitions of tables are done, and what is being done."""

_JOB = "__ASSET_JOB"
_PUBLISHED = dg.AssetKey(["serving", "analytics_duckdb"])
_LOOK_SECONDS = 1.0
_CUT_SHORT = "The process that executed this rebuild has ended before it was done; run `chart-platform rebuild` again."
_DONE = {
    dg.DagsterEventType.ASSET_OBSERVATION,
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.STEP_FAILURE,
}
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_ENDED = {
    BulkActionStatus.COMPLETED_SUCCESS,
    BulkActionStatus.COMPLETED_FAILED,
    BulkActionStatus.FAILED,
    BulkActionStatus.CANCELED,
}


class RebuildFailed(RuntimeError):
    """A run of the backfill failed or was stopped. What it had committed stays; the next rebuild does all of it again."""


@dataclass
class Done:
    """What became of a backfill: partitions of tables computed, checks that failed (warnings are none), and why a step failed."""

    partitions: set[tuple[str, str]] = field(default_factory=set)
    failed_checks: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    doing: str = ""

    def take(self, event: dg.DagsterEvent) -> None:
        kind = event.event_type
        if kind == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
                self.failed_checks.add(f"{check.asset_key.to_user_string()}:{check.check_name}")
        elif kind == dg.DagsterEventType.STEP_FAILURE:
            self.failures.append(_why(event))
        elif event.asset_key is not None and event.partition is not None:
            self.doing = ".".join(event.asset_key.path)
            self.partitions.add((self.doing, event.partition))


def _why(event: dg.DagsterEvent) -> str:
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    told = event.step_failure_data.user_failure_data
    text = told.description if told is not None and told.description else (error.message if error is not None else "")
    return f"Step {event.step_key} failed: {(text or '').strip()}"


@contextmanager
def instance_of(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance of this home. Runs whose process was killed are told to be failed."""
    os.environ["DAGSTER_HOME"] = str(prepare_dagster_home(settings))
    with dg.DagsterInstance.get() as instance:
        settle_dead_runs(instance, _JOB)
        yield instance


def is_under_way(instance: dg.DagsterInstance, backfill_id: str) -> bool:
    """Whether the daemon works on this backfill, or is to."""
    found = instance.get_backfill(backfill_id)
    return found is not None and found.status not in _ENDED


def submit(instance: dg.DagsterInstance, plan: Plan, backfill_id: str) -> None:
    """Hand the plan to the daemon."""
    instance.add_backfill(_backfill(instance, plan, backfill_id))


def watch(instance: dg.DagsterInstance, backfill_id: str, advance: Advance) -> Done:
    """Wait until the daemon has done with a backfill.

    Raises:
        RebuildFailed: it failed, or somebody cancelled it.
    """
    while True:
        found = instance.get_backfill(backfill_id)
        done = _done(instance, backfill_id)
        advance(len(done.partitions), done.doing or "waiting for the daemon")
        if found is None or found.status in _ENDED:
            break
        time.sleep(_LOOK_SECONDS)
    if found is None or found.status != BulkActionStatus.COMPLETED_SUCCESS:
        how = "was deleted" if found is None else found.status.value.lower().replace("_", " ")
        error = found.error.message.strip() if found is not None and found.error is not None else ""
        raise RebuildFailed(" ".join([f"Backfill {backfill_id} {how}.", *done.failures[:1], error]).strip())
    return done


def _done(instance: dg.DagsterInstance, backfill_id: str) -> Done:
    done = Done()
    for run in instance.get_runs(dg.RunsFilter(tags={BACKFILL_ID_TAG: backfill_id})):
        for entry in instance.all_logs(run.run_id, of_type=_DONE):
            if entry.dagster_event is not None:
                done.take(entry.dagster_event)
    return done


def execute(instance: dg.DagsterInstance, plan: Plan, backfill_id: str, advance: Advance) -> Done:
    """Execute the plan in this process.

    Raises:
        RebuildFailed: a step failed.
    """
    # To the history it is a failure until it is done: as long as it were one that is asked for, the next daemon to
    # start would begin it anew.
    begun = _backfill(instance, plan, backfill_id)._replace(status=BulkActionStatus.FAILED)
    instance.add_backfill(begun._replace(error=SerializableErrorInfo(_CUT_SHORT, [], None)))
    run_id = dg.DagsterRun(_JOB).run_id
    done = Done()

    def hear(entry: dg.EventLogEntry) -> None:
        if entry.dagster_event is not None and entry.dagster_event.event_type in _DONE:
            done.take(entry.dagster_event)
            advance(len(done.partitions), done.doing)

    instance.add_event_listener(run_id, hear)
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        run_config=_QUIET,
        asset_selection=plan.keys,
        run_id=run_id,
        tags={
            BACKFILL_ID_TAG: backfill_id,
            ASSET_PARTITION_RANGE_START_TAG: plan.days[0].isoformat(),
            ASSET_PARTITION_RANGE_END_TAG: plan.days[-1].isoformat(),
            PROCESS_TAG: process_mark(),
        },
        instance=instance,
        raise_on_error=False,
    )
    status = BulkActionStatus.COMPLETED_SUCCESS if result.success else BulkActionStatus.COMPLETED_FAILED
    ended = begun._replace(status=status).with_end_timestamp(time.time())
    instance.update_backfill(_with_outcome(instance, ended, result.success))
    if not result.success:
        raise RebuildFailed(done.failures[0] if done.failures else "The run failed before its first step; see its log.")
    return done


def publish(instance: dg.DagsterInstance) -> None:
    """Let the analysts' file follow: its views name the files that were live when it was made."""
    # Built anew, as the file's place is that of the settings at that time.
    build_definitions().resolve_implicit_global_asset_job_def().execute_in_process(
        run_config=_QUIET, asset_selection=[_PUBLISHED], instance=instance, tags={PROCESS_TAG: process_mark()}
    )


def _backfill(instance: dg.DagsterInstance, plan: Plan, backfill_id: str) -> PartitionBackfill:
    return PartitionBackfill.from_asset_partitions(
        backfill_id=backfill_id,
        asset_graph=defs.resolve_asset_graph(),
        partition_names=[day.isoformat() for day in plan.days],
        asset_selection=plan.keys,
        backfill_timestamp=time.time(),
        tags={},
        dynamic_partitions_store=instance,
        all_partitions=False,
        title=f"rebuild {plan.days[0]} to {plan.days[-1]}",
        description=f"{len(plan.tables)} tables: {', '.join(one.full_name for one in plan.tables)}",
        run_config=None,
    )


def _with_outcome(instance: dg.DagsterInstance, backfill: PartitionBackfill, success: bool) -> PartitionBackfill:
    """For the page of the backfill, which counts partitions."""
    graph = defs.resolve_asset_graph()
    data: AssetBackfillData = backfill.get_asset_backfill_data(graph)
    data = data._replace(requested_subset=data.target_subset, requested_runs_for_target_roots=True)
    if success:
        data = data._replace(materialized_subset=data.target_subset)
    else:
        data = data._replace(failed_and_downstream_subset=data.target_subset)
    return backfill.with_asset_backfill_data(data, instance, graph)


def new_id() -> str:
    """Sorts by age."""
    return f"rebuild-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
