"""Housekeeping as an asset on a schedule: small files merged, old snapshots expired, unreferenced files deleted."""

from datetime import timedelta
from typing import Any

import dagster as dg

from chart_platform.contracts.tables import SILVER_EVENTS, TABLES
from chart_platform.defs.resources import Platform
from chart_platform.lakehouse.maintenance import compact, expire


@dg.asset(
    key=["lakehouse", "housekeeping"],
    group_name="maintenance",
    kinds={"iceberg", "python"},
    owners=[SILVER_EVENTS.owner],
    description="Merges small files, expires snapshots older than CHART_SNAPSHOT_RETENTION_HOURS and deletes what only they used.",
)
def housekeeping(platform: Platform) -> dg.MaterializeResult[Any]:
    lake = platform.lake()
    keep = timedelta(hours=platform.settings.snapshot_retention_hours)
    lines = ["table | files merged | written | snapshots expired | files deleted", "--- | " * 4 + "---"]
    totals = {"files_merged": 0, "files_written": 0, "snapshots_expired": 0, "files_deleted": 0}
    for table in TABLES:
        merged, expired = compact(lake, table), expire(lake, table, keep)
        totals["files_merged"] += merged.files_merged
        totals["files_written"] += merged.files_written
        totals["snapshots_expired"] += expired.snapshots_expired
        totals["files_deleted"] += expired.files_deleted
        lines.append(
            f"{table.full_name} | {merged.files_merged} | {merged.files_written} | "
            f"{expired.snapshots_expired} | {expired.files_deleted}"
        )
    return dg.MaterializeResult(metadata={**totals, "by_table": dg.MetadataValue.md("\n".join(lines))})


maintenance_job = dg.define_asset_job(
    "lakehouse_maintenance", selection=dg.AssetSelection.assets(housekeeping), executor_def=dg.in_process_executor
)

# A batch writes about three files a table and comes two or three times a minute; every 20 minutes keeps plans short.
maintenance_schedule = dg.ScheduleDefinition(
    job=maintenance_job, cron_schedule="*/20 * * * *", default_status=dg.DefaultScheduleStatus.RUNNING
)
