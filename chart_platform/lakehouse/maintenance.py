"""Keeping tables small: merging small files, expiring snapshots, deleting files that nothing refers to any more.

PyIceberg's expiry deletes no files and it has no compaction, so these are ours. Belongs here: housekeeping that leaves
every row as it is. Does not belong here: when it runs (``defs.maintenance``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pyarrow import fs
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table as IcebergTable

from chart_platform.contracts.tables import Table
from chart_platform.lakehouse.duck import connect, relation, rows
from chart_platform.lakehouse.lake import Change, CommitConflict, Lake
from chart_platform.lakehouse.rewrite import in_order

SMALL_ROWS = 50_000
"""A file with fewer rows is merged with its neighbours: 50k rows of silver.events are about 3 MB."""
MANY_FILES = 12
"""Small files of one partition that are worth a merge."""
COMPACTION_KEY = "chart.compaction"


@dataclass
class Housekeeping:
    """What was done to one table."""

    files_merged: int = 0
    files_written: int = 0
    snapshots_expired: int = 0
    files_deleted: int = 0


def compact(lake: Lake, declared: Table) -> Housekeeping:
    """Merge the small files of each partition that has many. A writer that commits first wins; the next call retries."""
    done = Housekeeping()
    current = lake.load(declared)
    by_partition: dict[Any, list[DataFile]] = defaultdict(list)
    for file in lake.files(current):
        if file.record_count < SMALL_ROWS:
            by_partition[repr(file.partition)].append(file)
    for small in by_partition.values():
        if len(small) < MANY_FILES:
            continue
        try:
            written = _merge(lake, declared, current, small)
        except CommitConflict:
            continue
        done.files_merged += len(small)
        done.files_written += written
    return done


def _merge(lake: Lake, declared: Table, current: IcebergTable, small: list[DataFile]) -> int:
    connection = connect(lake.settings)
    merged = rows(connection, f"select * from {relation(current, declared, small)}", declared)
    connection.close()
    added = lake.write(current, in_order(merged, declared))
    # The commit conflicts by itself if another writer removed one of these files meanwhile; two tries, as appends to
    # other partitions also make the first one fail.
    lake.commit(
        declared, lambda _: Change(add=added, remove=small, summary={COMPACTION_KEY: str(len(small))}), attempts=5
    )
    return len(added)


def expire(lake: Lake, declared: Table, keep: timedelta, now: datetime | None = None) -> Housekeeping:
    """Expire snapshots older than ``keep`` and delete the files that only they referred to.

    The newest snapshot always stays. Files younger than ``keep`` stay too, as a running writer may be about to commit
    them, or an analyst's open database may still read them.
    """
    now = now or datetime.now(UTC)
    limit = now - keep
    current = lake.load(declared)
    head = current.current_snapshot()
    old = [
        s.snapshot_id
        for s in current.snapshots()
        if head is not None and s.snapshot_id != head.snapshot_id and s.timestamp_ms < limit.timestamp() * 1000
    ]
    if old:
        current.maintenance.expire_snapshots().by_ids(old).commit()
    deleted = _delete_unreferenced(lake.load(declared), limit)
    return Housekeeping(snapshots_expired=len(old), files_deleted=deleted)


def _delete_unreferenced(table: IcebergTable, limit: datetime) -> int:
    """Delete files under the table's location that no snapshot refers to and that were last written before ``limit``."""
    keep = {_plain(location) for location in _referenced(table)}
    assert isinstance(table.io, PyArrowFileIO)
    scheme, netloc, path = PyArrowFileIO.parse_location(table.location())
    filesystem = table.io.fs_by_scheme(scheme, netloc)
    found = filesystem.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
    stale = [
        info.path
        for info in found
        if info.type == fs.FileType.File
        and info.mtime is not None
        and info.mtime < limit
        and _plain(info.path) not in keep
    ]
    for path in stale:
        filesystem.delete_file(path)
    return len(stale)


def _referenced(table: IcebergTable) -> Iterable[str]:
    yield table.metadata_location
    yield from (entry.metadata_file for entry in table.metadata.metadata_log)
    seen: set[str] = set()
    for snapshot in table.snapshots():
        yield snapshot.manifest_list
        for manifest in snapshot.manifests(table.io):
            if manifest.manifest_path in seen:
                continue
            seen.add(manifest.manifest_path)
            yield manifest.manifest_path
            yield from (
                entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
            )


def _plain(location: str) -> str:
    """A location without its scheme, as file systems list it."""
    return location.split("://", 1)[-1].lstrip("/")
