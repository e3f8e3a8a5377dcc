"""How a run was meant: one sensor batch carried to gold, or days computed again. Told apart by a run tag."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import dagster as dg

from chart_platform.defs.partitions import daily

MODE_TAG = "chart/mode"
BATCH_TAG = "chart/batch"
INCREMENTAL = "incremental"


def is_incremental(context: dg.AssetExecutionContext) -> bool:
    """True for runs that take in what is new; everything else (UI, backfills) rebuilds its partition."""
    return context.run.tags.get(MODE_TAG) == INCREMENTAL


def log_other_days(context: dg.AssetExecutionContext, key: dg.AssetKey, rows_by_day: Mapping[date, int]) -> None:
    """Say of the days other than the run's own that they got rows.

    A run has one partition key, the ingestion day, but its late events belong to other event days.
    """
    for day, rows in sorted(rows_by_day.items()):
        partition = day.isoformat()
        if partition != context.partition_key and daily.has_partition_key(partition):
            context.log_event(
                dg.AssetMaterialization(
                    key, partition=partition, description="Late events of a batch.", metadata={"batch/rows": rows}
                )
            )
