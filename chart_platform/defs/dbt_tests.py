"""dbt's data tests as asset checks, in the runs that make the marts: the tables are tested beside the path, not on it."""

from collections.abc import Iterator

import dagster as dg
from dagster._core.storage.asset_check_execution_record import COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES

from chart_platform.contracts.tables import table
from chart_platform.defs.dbt_specs import test_specs
from chart_platform.defs.resources import Platform
from chart_platform.transform import data_tests
from chart_platform.transform.dbt import DbtFailed

_SNAPSHOT = "iceberg/tested_snapshot_id"
"""Up to which snapshot a test has found nothing; a test that failed looks at the same days again, until it passes."""
_SPECS = test_specs()
_TESTS: dict[str, dg.AssetCheckSpec] = {str(s.metadata["dagster_dbt/unique_id"]): s for s in _SPECS}


def _passed_until(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> int | None:
    """The snapshot up to which a test has found nothing, by its last result."""
    storage = instance.event_log_storage
    records = storage.get_asset_check_execution_history(
        key, limit=1, status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES
    )
    evaluation = records[0].evaluation if records else None
    value = evaluation.metadata.get(_SNAPSHOT) if evaluation is not None else None
    return int(str(value.value)) if value is not None else None


def _since(instance: dg.DagsterInstance) -> dict[str, int | None]:
    """For each table the snapshot up to which its tests passed; None where one never did, or they stand apart."""
    passed: dict[str, set[int | None]] = {}
    for spec in _SPECS:
        passed.setdefault(".".join(spec.asset_key.path), set()).add(_passed_until(instance, spec.key))
    return {name: seen.pop() if len(seen) == 1 else None for name, seen in passed.items()}


# A run of days tests what has changed since the test last passed; one without, asked for by hand, tests all there is.
@dg.multi_asset_check(specs=_SPECS, can_subset=True)
def dbt_tests(context: dg.AssetCheckExecutionContext, platform: Platform) -> Iterator[dg.AssetCheckResult]:
    wanted = sorted({key.asset_key for key in context.selected_asset_check_keys})
    op = context.op_execution_context
    since = _since(context.instance) if op.has_partition_key or op.has_partition_key_range else {}
    try:
        verdicts = data_tests.run(platform.lake(), [table(".".join(key.path)) for key in wanted], since)
    except DbtFailed as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    found = {_TESTS[verdict.test].key: verdict for verdict in verdicts}
    for key in sorted(context.selected_asset_check_keys):
        upto = since.get(".".join(key.asset_key.path))
        yield _result(key, found.get(key), upto)


def _result(key: dg.AssetCheckKey, verdict: data_tests.Verdict | None, before: int | None) -> dg.AssetCheckResult:
    if verdict is None:
        seen = {_SNAPSHOT: str(before)} if before is not None else {}
        return dg.AssetCheckResult(
            asset_key=key.asset_key, check_name=key.name, passed=True, description="Nothing new.", metadata=seen
        )
    passed, part = not verdict.failures, verdict.part
    upto = part.snapshot_id if passed else before
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=passed,
        metadata={
            "failures": verdict.failures,
            "days": ", ".join(map(str, part.days)) if part.days is not None else "all",
            "seconds": verdict.seconds,
            **({_SNAPSHOT: str(upto)} if upto is not None else {}),
            **({} if passed else {"examples": dg.MetadataValue.json([_texts(row) for row in verdict.examples])}),
        },
    )


def _texts(row: dict[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in row.items()}
