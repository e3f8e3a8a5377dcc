"""What failed in a Dagster run, read from its event log.

Belongs here: turning runs, step failures and check evaluations into an ``Alert``.
Does not belong here: sensors (``defs.alerts``) and wording (``messages``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import cast
from urllib.parse import quote, urlencode

import dagster as dg
from dagster import DagsterEvent, DagsterEventType
from dagster_shared.error import SerializableErrorInfo

from chart_platform.alerting.messages import Alert, Failure, Figure

_ROOT_RUN_TAG = "dagster/root_run_id"
_WILL_RETRY_TAG = "dagster/will_retry"
_PARTITION_TAG = "dagster/partition"
_RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
# How Dagster names the job behind materializations that are no job's.
_AD_HOC_PREFIXES = ("__ASSET_JOB", "__ephemeral_asset_job")
# The step of a blocking check fails with it: the check says it already, and better.
_CHECK_FAILED = "DagsterAssetCheckFailedError"


def alert_for_run(
    run: dg.DagsterRun,
    instance: dg.DagsterInstance,
    repository: dg.RepositoryDefinition | None,
    base_url: str,
    run_failure: DagsterEvent | None = None,
) -> Alert | None:
    """All that failed in a finished run, or None. A green run fails too, where a check that blocks nothing failed."""
    events = _events(
        run,
        instance,
        DagsterEventType.ASSET_CHECK_EVALUATION,
        *([DagsterEventType.STEP_FAILURE, DagsterEventType.ASSET_MATERIALIZATION_PLANNED] if run_failure else []),
    )
    link = f"{base_url}/runs/{run.run_id}"
    partition = _partition(run.tags)
    job = "an ad-hoc asset run" if run.job_name.startswith(_AD_HOC_PREFIXES) else run.job_name
    failures = _failed_checks(events, partition, repository, base_url)
    if run_failure is not None:
        failures += _failed_steps(events, job, partition, repository, link)
        if not failures:
            owners = _owners((event.asset_key for event in _planned(events)), repository)
            detail = _cause(run_failure) or run_failure.message or ""
            failures = [Failure(f"run:{job}", f"Run of {job}", link, "ERROR", partition, detail, {}, owners)]
    if not failures:
        return None
    return Alert(
        run_id=run.run_id,
        root_run_id=run.tags.get(_ROOT_RUN_TAG, run.run_id),
        job=job,
        link=link,
        run_failed=run_failure is not None,
        failures=tuple(failures),
        partition=partition,
        will_retry=run_failure is not None and run.tags.get(_WILL_RETRY_TAG) == "true",
    )


def _events(run: dg.DagsterRun, instance: dg.DagsterInstance, *types: DagsterEventType) -> list[DagsterEvent]:
    records = instance.get_records_for_run(run.run_id, of_type=set(types)).records
    return [record.event_log_entry.get_dagster_event() for record in records]


def _failed_checks(
    events: Sequence[DagsterEvent], partition: str | None, repository: dg.RepositoryDefinition | None, base_url: str
) -> list[Failure]:
    # A step that was retried evaluates its checks again, and only the last word counts.
    last: dict[tuple[dg.AssetCheckKey, str | None], dg.AssetCheckEvaluation] = {}
    for event in events:
        if event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = cast(dg.AssetCheckEvaluation, event.event_specific_data)
            last[evaluation.asset_check_key, evaluation.partition] = evaluation
    return [
        Failure(
            kind=f"check:{evaluation.asset_key.to_user_string()}:{evaluation.check_name}",
            title=f"Check {evaluation.check_name} of {evaluation.asset_key.to_user_string()}",
            link=_check_link(base_url, evaluation.asset_check_key),
            severity="WARN" if evaluation.severity == dg.AssetCheckSeverity.WARN else "ERROR",
            partition=evaluation.partition or partition,
            detail=evaluation.description or "",
            figures=_figures(evaluation.metadata),
            owners=_owners([evaluation.asset_key], repository),
        )
        for evaluation in last.values()
        if not evaluation.passed
    ]


def _failed_steps(
    events: Sequence[DagsterEvent],
    job: str,
    partition: str | None,
    repository: dg.RepositoryDefinition | None,
    link: str,
) -> list[Failure]:
    failures = []
    for event in events:
        if event.event_type != DagsterEventType.STEP_FAILURE:
            continue
        data = event.step_failure_data
        if data.error is not None and _CHECK_FAILED in {error.cls_name for error in _chain(data.error)}:
            continue
        said = data.user_failure_data
        failures.append(
            Failure(
                kind=f"step:{job}:{event.step_key}",
                title=f"Step {event.step_key}",
                link=link,
                partition=partition,
                detail=(said.description if said else None) or _cause(event),
                figures=_figures(said.metadata if said else {}),
                owners=_owners(
                    (planned.asset_key for planned in _planned(events) if planned.step_key == event.step_key),
                    repository,
                ),
            )
        )
    return failures


def _planned(events: Iterable[DagsterEvent]) -> list[DagsterEvent]:
    return [event for event in events if event.event_type == DagsterEventType.ASSET_MATERIALIZATION_PLANNED]


def _chain(error: SerializableErrorInfo) -> list[SerializableErrorInfo]:
    chain = [error]
    while chain[-1].cause is not None:
        chain.append(chain[-1].cause)
    return chain


def _cause(event: DagsterEvent) -> str:
    """The error behind an event without Dagster's wrapping and without the stack, which the link leads to."""
    data = (
        event.step_failure_data
        if event.event_type == DagsterEventType.STEP_FAILURE
        else event.job_failure_data
        if event.event_type == DagsterEventType.RUN_FAILURE
        else None
    )
    return _chain(data.error)[-1].message.strip() if data is not None and data.error is not None else ""


def _partition(tags: Mapping[str, str]) -> str | None:
    start, end = (tags.get(tag) for tag in _RANGE_TAGS)
    return f"{start} to {end}" if start and end else tags.get(_PARTITION_TAG)


def _owners(keys: Iterable[dg.AssetKey | None], repository: dg.RepositoryDefinition | None) -> tuple[str, ...]:
    assets = repository.assets_defs_by_key if repository is not None else {}
    specs = (assets[key].get_asset_spec(key) for key in keys if key is not None and key in assets)
    return tuple(sorted({owner for spec in specs for owner in spec.owners}))


def _figures(metadata: Mapping[str, dg.MetadataValue]) -> dict[str, Figure]:
    return {name: _figure(value) for name, value in metadata.items()}


def _figure(value: dg.MetadataValue) -> Figure:
    if isinstance(value, dg.TableMetadataValue):
        return f"a table of {len(value.records)} rows"
    plain = value.value
    if plain is None or isinstance(plain, str | int | float | bool):
        return plain
    return json.dumps(plain, default=str)


def _check_link(base_url: str, key: dg.AssetCheckKey) -> str:
    path = "/".join(quote(part, safe="") for part in key.asset_key.path)
    return f"{base_url}/assets/{path}?{urlencode({'view': 'checks', 'checkDetail': key.name})}"
