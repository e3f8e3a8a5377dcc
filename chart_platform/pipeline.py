"""Running the pipeline without daemon and UI: the same Dagster job, executed here until nothing is left.

Belongs here: the headless loop that `ingest`, `demo` and tests share. Does not belong here: assets (``defs``), printing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from chart_platform.settings import Settings

if TYPE_CHECKING:
    from chart_platform.lakehouse.lake import Lake

DAGSTER_YAML = Path(__file__).parents[1] / "dagster.yaml"


class PipelineFailed(RuntimeError):
    """A run failed; the message names the step and its error."""


@dataclass
class PipelineReport:
    """What the runs did: how many there were, messages taken in, checks that failed."""

    runs: int = 0
    messages: int = 0
    failed_checks: list[str] = field(default_factory=list)


def prepare_dagster_home(settings: Settings) -> Path:
    """The instance's DAGSTER_HOME, with the repository's dagster.yaml in it."""
    home = settings.root / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(DAGSTER_YAML, home / "dagster.yaml")
    return home


def run_until_current(
    settings: Settings,
    on_run: Callable[[PipelineReport, int], None] | None = None,
    most_runs: int | None = None,
) -> PipelineReport:
    """Run batches until the lake is level with Kafka, or ``most_runs`` were run; then the marts, if they are not level.

    Each run is in the Dagster history. ``on_run`` is told the report and the messages still unread after each batch.

    Raises:
        PipelineFailed: a run failed; what was committed before stays.
    """
    os.environ["DAGSTER_HOME"] = str(prepare_dagster_home(settings))
    from chart_platform.defs.modes import settle_dead_runs
    from chart_platform.defs.streams import JOB_NAME, left_over, request, survey
    from chart_platform.lakehouse.lake import Lake
    from chart_platform.transform.source import Intake

    report = PipelineReport()
    lake = Lake(settings)
    with dg.DagsterInstance.get() as instance:
        settle_dead_runs(instance, JOB_NAME)
        while most_runs is None or report.runs < most_runs:
            plans, troubles = survey(lake)
            intake = Intake.first_of(plans) or left_over(lake)
            if intake is None:
                if troubles:
                    raise next(iter(troubles.values()))
                break
            _execute(instance, JOB_NAME, request(intake, 0), report)
            report.runs += 1
            report.messages += intake.messages
            if on_run is not None:
                left = sum(sum(plan.lag.values()) for plan in plans.values())
                on_run(report, max(0, left - intake.messages))
        _make_marts(instance, lake, report)
    return report


def _make_marts(instance: dg.DagsterInstance, lake: Lake, report: PipelineReport) -> None:
    from chart_platform.defs.marts import JOB_NAME, marts_are_level, marts_request
    from chart_platform.defs.modes import settle_dead_runs

    settle_dead_runs(instance, JOB_NAME)
    if not marts_are_level(lake):
        _execute(instance, JOB_NAME, marts_request(), report)


def _execute(instance: dg.DagsterInstance, job_name: str, wanted: dg.RunRequest, report: PipelineReport) -> None:
    """Run the job as asked and report the checks that failed."""
    from chart_platform.definitions import defs
    from chart_platform.defs.modes import PROCESS_TAG, process_mark

    result = defs.resolve_job_def(job_name).execute_in_process(
        run_config={**wanted.run_config, "loggers": {"console": {"config": {"log_level": "ERROR"}}}},
        partition_key=wanted.partition_key,
        tags={**wanted.tags, PROCESS_TAG: process_mark()},
        instance=instance,
        raise_on_error=False,
    )
    if not result.success:
        raise PipelineFailed(_why(result))
    report.failed_checks += [
        f"{e.asset_key.to_user_string()}:{e.check_name}" for e in result.get_asset_check_evaluations() if not e.passed
    ]


def _why(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            detail = event.step_failure_data.user_failure_data
            text = (
                detail.description if detail is not None and detail.description else str(error.message if error else "")
            )
            return f"Step {event.step_key} failed: {text.strip()}"
    return "The run failed before its first step; see the Dagster log."
