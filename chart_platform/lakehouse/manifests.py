"""Manifests, Iceberg's lists of a table's files, kept such that a plan for a few days opens few of them.

A manifest tells between which partitions its files lie, and a plan passes over those that lie elsewhere. PyIceberg puts
all files of a commit in one, rewrites it as one, never merges those of an overwrite, and keeps what tells of removed
files for good. Here a manifest has the files of neighbouring days, neither many nor (in the long run) few.

Belongs here: how a commit writes manifests, and what differs between two snapshots' manifests. Does not belong here:
which files a commit adds and removes (``lake``, ``rewrite``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from itertools import groupby
from typing import Any

from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, In
from pyiceberg.expressions.visitors import manifest_evaluator
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntry, ManifestEntryStatus, ManifestFile
from pyiceberg.table import ManifestGroupPlanner
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update.snapshot import _OverwriteFiles

FILES, DAYS = 256, 32
"""Of one manifest, at most. A file of it costs a plan 60 µs, whether it is wanted or not, and a manifest as much that
lies elsewhere."""
SMALL_MANIFESTS = 20
"""Manifests of fewer files than :data:`DAYS` that are worth a merge."""


def live_files(table: IcebergTable, snapshot: Snapshot, row_filter: BooleanExpression | None = None) -> list[DataFile]:
    """The snapshot's files that may hold rows of ``row_filter``, by partition values and file statistics.

    Raises:
        RuntimeError: a foreign engine left row-level delete files, which only ``scan().to_arrow()`` applies.
    """
    manifests = _live(snapshot, table.io)
    if any(manifest.content is ManifestContent.DELETES for manifest in manifests):
        return _of_foreign(table, snapshot, row_filter)
    # PyIceberg's own plan takes twice as long: it says of each file which part of the filter is left to do.
    planner = ManifestGroupPlanner(table.metadata, table.io, row_filter or AlwaysTrue())
    return [entry.data_file for found in planner.plan_manifest_entries(manifests) for entry in found]


def different_files(
    table: IcebergTable, before: Snapshot | None, now: Snapshot | None
) -> tuple[list[DataFile], list[DataFile]]:
    """Files of only ``now``, and of only ``before``. Manifests that both have in common, nearly all, aren't opened.

    Raises:
        RuntimeError: as :func:`live_files`.
    """
    old, new = (set(_live(snapshot, table.io)) for snapshot in (before, now))
    if any(manifest.content is ManifestContent.DELETES for manifest in old | new):
        removed, added = (_of_foreign(table, snapshot) if snapshot is not None else [] for snapshot in (before, now))
    else:
        removed, added = (
            [entry.data_file for manifest in some for entry in manifest.fetch_manifest_entry(table.io)]
            for some in (old - new, new - old)
        )
    both = set(removed) & set(added)
    return [file for file in added if file not in both], [file for file in removed if file not in both]


def _live(snapshot: Snapshot | None, io: FileIO) -> list[ManifestFile]:
    """The manifests of a snapshot, but for those that only tell which files it removed."""
    manifests = snapshot.manifests(io) if snapshot is not None else ()
    return [manifest for manifest in manifests if manifest.has_added_files() or manifest.has_existing_files()]


def _of_foreign(table: IcebergTable, snapshot: Snapshot, row_filter: BooleanExpression | None = None) -> list[DataFile]:
    tasks = list(table.scan(row_filter or AlwaysTrue(), snapshot_id=snapshot.snapshot_id).plan_files())
    if any(task.delete_files for task in tasks):
        raise RuntimeError(f"Table {table.name()} has delete files of a foreign engine; rewrite its data files first.")
    return [task.file for task in tasks]


class Replacement(_OverwriteFiles):
    """A snapshot with some files more and some fewer than the one before."""

    def _manifests(self) -> list[ManifestFile]:
        kept: list[ManifestFile] = []
        removed: list[ManifestEntry] = []
        moved: list[ManifestEntry] = []
        may_hold = self._may_hold_removed()
        for manifest in _live(self._transaction.table_metadata.current_snapshot(), self._io):
            found = self.fetch_manifest_entry(manifest) if may_hold(manifest) else []
            gone = [entry for entry in found if entry.data_file in self._deleted_data_files]
            if gone:
                removed += gone
                moved += [entry for entry in found if entry.data_file not in self._deleted_data_files]
            else:
                kept.append(manifest)
        self._validate_required_deletes(removed)
        sizes = {manifest: _files(manifest) for manifest in kept if manifest.content is ManifestContent.DATA}
        small = [manifest for manifest, files in sizes.items() if files < DAYS]
        misfits = {manifest for manifest, files in sizes.items() if files > FILES}
        misfits |= set(small) if len(small) > SMALL_MANIFESTS else set()
        moved += [entry for manifest in misfits for entry in self.fetch_manifest_entry(manifest)]
        kept = [manifest for manifest in kept if manifest not in misfits]
        return [
            *self._write([*self._added(), *map(self._existing, moved)]),
            *self._write(map(self._removed, removed)),
            *kept,
        ]

    def _may_hold_removed(self) -> Callable[[ManifestFile], bool]:
        metadata = self._transaction.table_metadata
        schema, specs = metadata.schema(), metadata.specs()
        evaluators: dict[int, Callable[[ManifestFile], bool]] = {}
        for spec_id in {file.spec_id for file in self._deleted_data_files}:
            partitions = [file.partition for file in self._deleted_data_files if file.spec_id == spec_id]
            among: Iterable[BooleanExpression] = (
                In(field.name, {partition[place] for partition in partitions})
                for place, field in enumerate(specs[spec_id].fields)
            )
            evaluators[spec_id] = manifest_evaluator(specs[spec_id], schema, reduce(And, among, AlwaysTrue()))
        return lambda manifest: (
            manifest.content is ManifestContent.DATA
            and manifest.partition_spec_id in evaluators
            and evaluators[manifest.partition_spec_id](manifest)
        )

    def _write(self, entries: Iterable[ManifestEntry]) -> Iterator[ManifestFile]:
        """New manifests of these entries, in the order of their days and cut between two of them where that is possible."""
        ordered = sorted(entries, key=lambda entry: (entry.data_file.spec_id, _place(entry.data_file)))
        for spec_id, of_spec in groupby(ordered, key=lambda entry: entry.data_file.spec_id):
            for part in _parts(of_spec):
                with self.new_manifest_writer(self.spec(spec_id)) as writer:
                    for entry in part:
                        writer.add_entry(entry)
                yield writer.to_manifest_file()

    def _added(self) -> Iterator[ManifestEntry]:
        spec_id = self._transaction.table_metadata.default_spec_id
        for file in self._added_data_files:
            file.spec_id = spec_id
            yield ManifestEntry.from_args(
                status=ManifestEntryStatus.ADDED, snapshot_id=self._snapshot_id, data_file=file
            )

    def _existing(self, entry: ManifestEntry) -> ManifestEntry:
        return _again(entry, ManifestEntryStatus.EXISTING, entry.snapshot_id)

    def _removed(self, entry: ManifestEntry) -> ManifestEntry:
        return _again(entry, ManifestEntryStatus.DELETED, self._snapshot_id)


def _again(entry: ManifestEntry, status: ManifestEntryStatus, snapshot_id: int | None) -> ManifestEntry:
    return ManifestEntry.from_args(
        status=status,
        snapshot_id=snapshot_id,
        sequence_number=entry.sequence_number,
        file_sequence_number=entry.file_sequence_number,
        data_file=entry.data_file,
    )


def _files(manifest: ManifestFile) -> int:
    return (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)


def _place(file: DataFile) -> tuple[Any, ...]:
    """Where a file stands in the order of partitions: first by day, which is a number, then by what is text."""
    return tuple(sorted(file.partition, key=lambda value: isinstance(value, str)))


def _parts(entries: Iterable[ManifestEntry]) -> Iterator[list[ManifestEntry]]:
    """Entries in their order, in parts of at most :data:`FILES` and :data:`DAYS`."""
    part: list[ManifestEntry] = []
    days = 0
    for _, same in groupby(entries, key=lambda entry: _place(entry.data_file)[:1]):
        of_day = list(same)
        if part and (days == DAYS or len(part) + len(of_day) > FILES):
            yield part
            part, days = [], 0
        part, days = part + of_day, days + 1
        while len(part) > FILES:
            yield part[:FILES]
            part = part[FILES:]
    if part:
        yield part
