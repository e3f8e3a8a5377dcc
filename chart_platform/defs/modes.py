"""How a run was meant: one sensor batch carried to gold, or days computed again. Told apart by a run tag."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import dagster as dg

from chart_platform.defs.partitions import daily

MODE_TAG = "chart/mode"
BATCH_TAG = "chart/batch"
LANE_TAG = "chart/lane"
"""Jobs of one lane run one at a time (dagster.yaml); a slow mart holds up no batch of events."""
PROCESS_TAG = "chart/process"
INCREMENTAL = "incremental"
COMPUTED_AGAIN = "Computed again."
RANGES = dg.BackfillPolicy.single_run()
"""A backfill takes each asset's days in one run, and the assets one after the other: a visit over midnight and a segment
need the events of the days around theirs computed before. A run a day costs 10 s of start besides."""
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def process_mark() -> str:
    """This process, told apart from a later one with the same pid by its start time."""
    return f"{os.getpid()}:{_started(os.getpid())}"


def is_alive(mark: str) -> bool:
    """True if the process that made the mark still runs on this machine."""
    pid, _, started = mark.partition(":")
    return _started(int(pid)) == started


def _started(pid: int) -> str:
    try:
        # Field 22 of /proc/<pid>/stat, counted after the command name, which may hold blanks and parentheses.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def settle_dead_runs(instance: dg.DagsterInstance, job_name: str) -> None:
    """Fail the headless runs whose process was killed: nobody else does, and they would block the next batch."""
    for run in instance.get_runs(dg.RunsFilter(job_name=job_name, statuses=[dg.DagsterRunStatus.STARTED])):
        mark = run.tags.get(PROCESS_TAG)
        if mark is not None and not is_alive(mark):
            instance.report_run_failed(
                run, "The process of this headless run is gone; the next run does its batch again."
            )


def is_incremental(context: dg.AssetExecutionContext) -> bool:
    """True for runs that take in what is new; everything else (UI, backfills) rebuilds its partition."""
    return context.run.tags.get(MODE_TAG) == INCREMENTAL


def days_of(context: dg.AssetExecutionContext) -> list[date]:
    """The days that a run is for, oldest first: one, or those of a backfill, which takes a range of them in one run."""
    return [date.fromisoformat(partition) for partition in context.partition_keys]


def log_day(context: dg.AssetExecutionContext, key: dg.AssetKey, day: date, rows: int) -> None:
    """Say that one of the days of a range is done: materializations of a range come only with its end."""
    if len(context.partition_keys) > 1:
        context.log_event(
            dg.AssetObservation(
                key, partition=day.isoformat(), description=COMPUTED_AGAIN, metadata={"batch/rows": rows}
            )
        )


def log_other_days(context: dg.AssetExecutionContext, key: dg.AssetKey, rows_by_day: Mapping[date, int]) -> None:
    """Say of the days other than the run's own that they got rows.

    A run of a batch has one partition key, the ingestion day, but its late events belong to other event days.
    """
    for day, rows in sorted(rows_by_day.items()):
        partition = day.isoformat()
        if partition not in context.partition_keys and daily.has_partition_key(partition):
            context.log_event(
                dg.AssetMaterialization(
                    key, partition=partition, description="Late events of a batch.", metadata={"batch/rows": rows}
                )
            )
