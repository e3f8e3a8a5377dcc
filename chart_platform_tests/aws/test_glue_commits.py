"""Commits on Glue: its version check is what keeps two writers apart, and our commit protocol relies on nothing else."""

from __future__ import annotations

import threading
from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pytest
from botocore.exceptions import ClientError
from pyiceberg.table import Table as IcebergTable

from chart_platform.contracts.tables import BRONZE_EVENTS
from chart_platform.lakehouse.duck import connect, create_views
from chart_platform.lakehouse.lake import Change, CommitConflict, Lake, advance
from chart_platform.lakehouse.progress import Progress, progress_of
from chart_platform.settings import Settings
from chart_platform_tests.aws.conftest import Glue

# A process or a server each: too long for `make check`.
pytestmark = pytest.mark.slow

DAY = date(2026, 11, 1)


def _row(partition: int, offset: int) -> dict[str, Any]:
    ts = datetime(2026, 11, 1, 12)
    return {
        "event_type": "page_view",
        "event_id": f"00000000-0000-7000-8000-{partition:04d}{offset:08d}",
        "ts": ts,
        "ingest_ts": 0,
        "kafka_partition": partition,
        "kafka_offset": offset,
        "kafka_ts": ts,
        "ingest_dt": DAY,
        "hour": "12",
    }


def _append(lake: Lake, partition: int, offset: int, attempts: int = 30) -> bool:
    """Commit one message as the ingestion does. False if it was in the table already."""
    target = Progress.on_day("chart.events", "topic-id", {partition: offset + 1}, DAY)
    rows = pa.Table.from_pylist([_row(partition, offset)], schema=BRONZE_EVENTS.arrow)
    files = lake.write(lake.load(BRONZE_EVENTS), rows)

    def decide(current: IcebergTable) -> Change | None:
        # A partition that the table does not know yet starts at 0.
        progress = advance(progress_of(current), {partition: offset}, target)
        return Change(add=files, progress=progress) if progress is not None else None

    return lake.commit(BRONZE_EVENTS, decide, attempts) is not None


def _assert_true(found: bool) -> None:
    assert found


def _held(lake: Lake) -> list[tuple[int, int]]:
    connection = connect(lake.settings)
    create_views(connection, lake, [BRONZE_EVENTS])
    found = connection.sql("select kafka_partition, kafka_offset from bronze.events order by all").fetchall()
    connection.close()
    return found


def test_an_update_that_names_an_old_version_of_the_table_is_refused(glue: Glue, lake_settings: Settings) -> None:
    lake = Lake(lake_settings)
    lake.load(BRONZE_EVENTS)
    client = glue.client("glue")
    database = f"{lake_settings.namespace_prefix}bronze"
    table = client.get_table(DatabaseName=database, Name="events")["Table"]
    update = {"Name": "events", "Parameters": table["Parameters"], "TableType": table["TableType"]}
    client.update_table(DatabaseName=database, TableInput=update, VersionId=table["VersionId"])
    with pytest.raises(ClientError) as refused:
        client.update_table(DatabaseName=database, TableInput=update, VersionId=table["VersionId"])
    assert refused.value.response["Error"]["Code"] == "ConcurrentModificationException"


def test_a_commit_that_another_one_overtook_starts_over_and_both_are_kept(glue: Glue, lake_settings: Settings) -> None:
    ours, theirs = Lake(lake_settings), Lake(lake_settings)
    _append(ours, 0, 0)
    refused_before = glue.refused
    # Between PyIceberg's own look at the table and its update, where nothing but Glue's check can help.
    glue.before_update = lambda: _assert_true(_append(theirs, 1, 0))
    assert _append(ours, 0, 1)
    assert glue.refused == refused_before + 1
    assert _held(ours) == [(0, 0), (0, 1), (1, 0)]


def test_without_the_check_of_versions_the_overtaking_commit_would_be_lost(glue: Glue, lake_settings: Settings) -> None:
    """The control of the test above: on plain moto the same interleaving loses a commit, so that test can fail."""
    ours, theirs = Lake(lake_settings), Lake(lake_settings)
    _append(ours, 0, 0)
    glue.checks_versions = False
    glue.before_update = lambda: _assert_true(_append(theirs, 1, 0))
    assert _append(ours, 0, 1)
    assert _held(ours) == [(0, 0), (0, 1)]


def test_a_writer_that_never_wins_gives_up_and_commits_nothing(lake_settings: Settings) -> None:
    ours, theirs = Lake(lake_settings), Lake(lake_settings)
    files = ours.write(ours.load(BRONZE_EVENTS), pa.Table.from_pylist([_row(0, 99)], schema=BRONZE_EVENTS.arrow))
    turn = iter(range(10))

    def decide(_current: IcebergTable) -> Change:
        _append(theirs, 1, next(turn))
        return Change(add=files)

    with pytest.raises(CommitConflict, match=r"bronze\.events.* 3 times"):
        ours.commit(BRONZE_EVENTS, decide, attempts=3)
    assert _held(ours) == [(1, 0), (1, 1), (1, 2)]


def test_two_racing_writers_lose_and_double_nothing(lake_settings: Settings) -> None:
    each = 8
    Lake(lake_settings).load(BRONZE_EVENTS)
    start = threading.Barrier(2)
    failures: list[BaseException] = []

    def write(partition: int) -> None:
        try:
            lake = Lake(lake_settings)
            lake.load(BRONZE_EVENTS)
            start.wait()
            for offset in range(each):
                assert _append(lake, partition, offset)
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(partition,)) for partition in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lake = Lake(lake_settings)
    assert not failures
    assert _held(lake) == [(partition, offset) for partition in range(2) for offset in range(each)]
    progress = lake.progress(BRONZE_EVENTS)
    assert progress is not None and progress.offsets == {0: each, 1: each}


def test_a_commit_whose_answer_was_lost_counts_and_the_table_stays_whole(glue: Glue, lake_settings: Settings) -> None:
    lake = Lake(lake_settings)
    assert _append(lake, 0, 0)
    refused_before = glue.refused
    glue.after_update = glue.lose_answer
    assert _append(lake, 0, 1)
    assert glue.refused == refused_before + 1, "botocore did not repeat the update, so nothing was tried"
    assert _held(lake) == [(0, 0), (0, 1)]
    assert not _append(lake, 0, 1), "the same batch again changes nothing"
    assert _append(lake, 0, 2)
    assert _held(lake) == [(0, 0), (0, 1), (0, 2)]


def test_a_commit_whose_answer_was_lost_counts_when_another_one_came_on_top(
    glue: Glue, lake_settings: Settings
) -> None:
    ours, theirs = Lake(lake_settings), Lake(lake_settings)
    assert _append(ours, 0, 0)

    def overtaken() -> None:
        _assert_true(_append(theirs, 1, 0))
        glue.lose_answer()

    glue.after_update = overtaken
    assert _append(ours, 0, 1)
    assert _held(ours) == [(0, 0), (0, 1), (1, 0)]
