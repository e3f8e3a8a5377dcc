"""The analysts' DuckDB file: views of every table, pinned to one snapshot each, swapped in at once.

The file holds views over the tables' immutable Parquet files, not copies, so publishing costs the same after a day and
after a year. Replaced files stay on disk for a day (``lakehouse.maintenance``), so an open file keeps working meanwhile.
With an S3 warehouse a copy stands beside the tables, where those find it who have no access to this machine.
Belongs here: that file. Does not belong here: dashboards, APIs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import duckdb

from chart_platform.lakehouse.duck import connect, create_views, quote
from chart_platform.lakehouse.lake import Lake
from chart_platform.settings import Settings


def published_file(settings: Settings) -> Path:
    return settings.root / "published" / "chart.duckdb"


@dataclass(frozen=True)
class SharedCopy:
    """Where the file also stands for an S3 warehouse."""

    bucket: str
    key: str

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def shared_copy(settings: Settings) -> SharedCopy | None:
    """The file's place beside the tables of an S3 warehouse; None for a local one."""
    warehouse = urlparse(settings.warehouse_url)
    if warehouse.scheme != "s3":
        return None
    return SharedCopy(warehouse.netloc, f"{warehouse.path.strip('/')}/published/chart.duckdb".lstrip("/"))


def publish(lake: Lake) -> Path:
    """Write the file anew and put it in place. Readers of the old one are not disturbed."""
    target = published_file(lake.settings)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(f".{os.getpid()}.tmp")
    fresh.unlink(missing_ok=True)
    # A view's files are opened once when it is made, so the connection must reach the warehouse.
    connection = connect(lake.settings)
    # The storage version of DuckDB 1.5, so that older clients open the file too.
    connection.execute(f"attach '{quote(str(fresh))}' as published (storage_version 'v1.5.0')")
    connection.execute("use published")
    create_views(connection, lake)
    create_time_spine(connection)
    connection.close()
    fresh.replace(target)
    return target


def create_time_spine(connection: duckdb.DuckDBPyConnection) -> None:
    """The days that MetricFlow joins metrics to: what dbt's model ``time_spine`` says."""
    connection.execute(
        """
        create schema if not exists semantic;
        create or replace view semantic.time_spine as
        select cast(unnest(generate_series(date '2020-01-01', date '2039-12-31', interval 1 day)) as date) as date_day
        """
    )
