"""Housekeeping changes files and snapshots, never rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chart_platform.contracts.tables import BRONZE_EVENTS, SILVER_EVENTS, TABLES
from chart_platform.lakehouse import maintenance
from chart_platform.quality.schemas import audit
from chart_platform.transform import silver
from chart_platform_tests.transform.fixtures import NewHome
from chart_platform_tests.transform.homes import DAY, Home, at, event

pytestmark = pytest.mark.slow

KEEP = timedelta(hours=24)


def with_many_small_files(new_home: NewHome) -> Home:
    home = new_home()
    for number in range(maintenance.MANY_FILES):
        home.send(DAY, [event(number, at(DAY, "10:00:00") + number, session="s")])
        silver.update(home.lake, audit)
    return home


def files_on_disk(home: Home) -> set[Path]:
    return {path for path in (home.lake.settings.root / "warehouse").rglob("*.parquet") if path.is_file()}


def test_merging_small_files_keeps_every_row_and_the_progress(new_home: NewHome) -> None:
    home = with_many_small_files(new_home)
    for table in (BRONZE_EVENTS, SILVER_EVENTS):
        before, progress = home.multiset(table), home.lake.progress(table)
        done = maintenance.compact(home.lake, table)
        assert (done.files_merged, done.files_written) == (maintenance.MANY_FILES, 1)
        assert len(home.lake.files(home.lake.load(table))) == 1
        assert home.multiset(table) == before and home.lake.progress(table) == progress
    assert silver.update(home.lake, audit).messages == 0


def test_a_partition_with_few_small_files_is_left_alone(new_home: NewHome) -> None:
    home = new_home()
    home.send(DAY, [event(1, at(DAY, "10:00:00"), session="s")])
    assert maintenance.compact(home.lake, BRONZE_EVENTS).files_merged == 0


def test_young_snapshots_and_the_files_of_writers_at_work_stay(new_home: NewHome) -> None:
    home = with_many_small_files(new_home)
    home.lake.write(home.lake.load(BRONZE_EVENTS), home.arrow(BRONZE_EVENTS))
    before = files_on_disk(home)
    for table in TABLES:
        assert maintenance.expire(home.lake, table, KEEP) == maintenance.Housekeeping()
    assert files_on_disk(home) == before


def test_old_snapshots_go_with_the_files_that_only_they_had(new_home: NewHome) -> None:
    home = with_many_small_files(new_home)
    maintenance.compact(home.lake, BRONZE_EVENTS)
    rows, progress = home.multiset(BRONZE_EVENTS), home.lake.progress(BRONZE_EVENTS)
    in_two_days = datetime.now(UTC) + timedelta(days=2)
    done = maintenance.expire(home.lake, BRONZE_EVENTS, KEEP, now=in_two_days)
    assert done.snapshots_expired == maintenance.MANY_FILES
    assert done.files_deleted >= maintenance.MANY_FILES
    assert len(home.lake.load(BRONZE_EVENTS).snapshots()) == 1
    assert home.multiset(BRONZE_EVENTS) == rows and home.lake.progress(BRONZE_EVENTS) == progress
    again = maintenance.expire(home.lake, BRONZE_EVENTS, KEEP, now=in_two_days)
    assert again.snapshots_expired == 0 and home.multiset(BRONZE_EVENTS) == rows
