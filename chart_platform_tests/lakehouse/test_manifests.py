"""What the manifests of a table say after any commits, and how many of them a plan opens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.expressions import EqualTo
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriterV2,
)
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.snapshots import Operation
from pyiceberg.typedef import Record

from chart_platform.contracts.tables import SILVER_SESSIONS
from chart_platform.lakehouse import manifests
from chart_platform.lakehouse.changes import changed_since
from chart_platform.lakehouse.lake import Change, Lake, paths
from chart_platform_tests.transform.fixtures import NewHome, examples
from chart_platform_tests.transform.homes import DAY

EPOCH = date(1970, 1, 1)


class Files:
    """Makes names of files that nobody will open, and knows which of them are live in which snapshot."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.count = 0
        self.live: list[DataFile] = []
        self.at: dict[int, frozenset[str]] = {}

    @property
    def table(self) -> IcebergTable:
        return self.lake.load(SILVER_SESSIONS)

    def commit(self, days: Iterable[int], removed: Sequence[DataFile] = ()) -> None:
        added = [self._file(day) for day in days]
        if not added and not removed:
            return
        done = self.lake.commit(SILVER_SESSIONS, lambda _: Change(add=added, remove=removed))
        assert done is not None
        self.live = [file for file in self.live if file not in removed] + added
        self.at[done.snapshot_id] = paths(self.live)

    def of(self, day: int) -> list[DataFile]:
        return [file for file in self.live if file.partition[0] == _days(day)]

    def _file(self, day: int, content: DataFileContent = DataFileContent.DATA) -> DataFile:
        self.count += 1
        return DataFile.from_args(
            content=content,
            file_path=f"file:///nowhere/{self.count}.parquet",
            file_format=FileFormat.PARQUET,
            partition=Record(_days(day)),
            record_count=1,
            file_size_in_bytes=1,
            spec_id=0,
        )


def _days(day: int) -> int:
    return (DAY - EPOCH).days + day


def live(manifest: ManifestFile) -> int:
    return (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)


def manifests_of(table: IcebergTable) -> tuple[ManifestFile, ...]:
    head = table.current_snapshot()
    return head.manifests(table.io) if head is not None else ()


days = st.integers(0, 6)
appends = st.tuples(st.just("append"), st.lists(days, min_size=1, max_size=7))
replacements = st.tuples(st.just("replace"), st.lists(st.tuples(st.integers(0, 99), days), min_size=1, max_size=4))
compactions = st.tuples(st.just("compact"), days)


@given(commits=st.lists(appends | replacements | compactions, min_size=1, max_size=14))
@settings(max_examples=examples(12, 200))
def test_any_commits_leave_the_same_files_and_differences_as_a_plain_list_of_them(
    new_home: NewHome, monkeypatch: pytest.MonkeyPatch, commits: list[tuple[str, list[object]]]
) -> None:
    monkeypatch.setattr(manifests, "FILES", 4)
    monkeypatch.setattr(manifests, "DAYS", 2)
    monkeypatch.setattr(manifests, "SMALL_MANIFESTS", 2)
    files = Files(new_home().lake)
    for kind, what in commits:
        match kind, what:
            case "append", some:
                files.commit(some)
            case "replace", some:
                gone = {files.live[place % len(files.live)] for place, _ in some} if files.live else set()
                files.commit([day for _, day in some], list(gone))
            case "compact", day:
                small = files.of(day)
                files.commit([day] if small else [], small)
        table = files.table
        head = table.current_snapshot()
        assert paths(files.lake.files(table)) == paths(files.live)
        for day in range(7):
            planned = files.lake.files(table, EqualTo("event_dt", DAY + timedelta(days=day)))
            assert paths(planned) == paths(files.of(day))
        found = manifests_of(table)
        assert all(live(m) <= 4 for m in found)
        # Both of the last commit's own may be small beside those that it found.
        assert sum(0 < live(m) < 2 for m in found) <= 2 + 2
        assert all(live(m) or (head is not None and m.added_snapshot_id == head.snapshot_id) for m in found)
    for snapshot_id, before in [(None, frozenset[str]()), *files.at.items()]:
        changed = changed_since(files.table, snapshot_id)
        assert changed is not None
        assert sorted(f.file_path for f in changed.added) == sorted(paths(files.live) - before)
        assert sorted(f.file_path for f in changed.removed) == sorted(before - paths(files.live))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Manifests that were read, in their order."""
    found: list[str] = []
    fetch = ManifestFile.fetch_manifest_entry

    def counted(self: ManifestFile, *args: object, **options: object) -> list[ManifestEntry]:
        found.append(self.manifest_path)
        return fetch(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ManifestFile, "fetch_manifest_entry", counted)
    return found


@pytest.mark.parametrize("history", [1, 400], ids=["a day", "400 days at once"])
def test_a_run_on_the_last_day_opens_as_many_manifests_however_long_the_history_is(
    new_home: NewHome, opened: list[str], history: int
) -> None:
    files = Files(new_home().lake)
    files.commit([day for day in range(-history, 0) for _ in range(5)])
    before = files.table.current_snapshot()
    files.commit([-1], files.of(-1)[:1])
    opened.clear()
    files.lake.files(files.table, EqualTo("event_dt", DAY - timedelta(days=1)))
    files.commit([-1], files.of(-1)[:1])
    assert before is not None
    changed = changed_since(files.table, before.snapshot_id)
    assert changed is not None and (len(changed.added), len(changed.removed)) == (2, 2)
    # One for the plan, one for the commit; the manifest as it was and as it is for the difference.
    assert len(opened) == 4


def test_manifests_do_not_grow_with_the_number_of_commits_that_replace_files(
    new_home: NewHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "SMALL_MANIFESTS", 3)
    files = Files(new_home().lake)
    for _ in range(12):
        files.commit([0, 1], files.of(0)[:1])
    # Beside the small ones that it found, those of the last commit: of what it added, and of what it removed.
    assert len(manifests_of(files.table)) <= 3 + 2


def with_row_level_delete(files: Files, day: int) -> None:
    """Commit a position-delete file of this day, as a foreign engine might."""

    class DeleteManifest(ManifestWriterV2):
        def content(self) -> ManifestContent:
            return ManifestContent.DELETES

    class Foreign(manifests.Replacement):
        def _manifests(self) -> list[ManifestFile]:
            metadata = self._transaction.table_metadata
            output = self.new_manifest_output()
            with DeleteManifest(metadata.spec(), metadata.schema(), output, self.snapshot_id, "gzip") as writer:
                writer.add_entry(
                    ManifestEntry.from_args(
                        status=ManifestEntryStatus.ADDED,
                        snapshot_id=self.snapshot_id,
                        data_file=files._file(day, DataFileContent.POSITION_DELETES),
                    )
                )
            return [*super()._manifests(), writer.to_manifest_file()]

    table = files.table
    with table.transaction() as transaction, Foreign(Operation.OVERWRITE, transaction, table.io):
        pass


READERS: list[Callable[[Lake, IcebergTable, int], object]] = [
    lambda lake, table, _: lake.files(table),
    lambda lake, table, _: lake.files(table, EqualTo("event_dt", DAY)),
    lambda _, table, before: changed_since(table, before),
]


@pytest.mark.parametrize("read", READERS, ids=["all files", "files of its day", "what has changed"])
def test_row_level_deletes_of_a_foreign_engine_are_refused_until_their_files_are_rewritten(
    new_home: NewHome, read: Callable[[Lake, IcebergTable, int], object]
) -> None:
    files = Files(new_home().lake)
    files.commit([0, 1])
    before = files.table.current_snapshot()
    assert before is not None
    with_row_level_delete(files, 0)
    with pytest.raises(RuntimeError, match=r"silver.*sessions.*rewrite its data files first"):
        read(files.lake, files.table, before.snapshot_id)
    assert paths(files.lake.files(files.table, EqualTo("event_dt", DAY + timedelta(days=1)))) == paths(files.of(1))
    files.commit([0], files.of(0))
    assert read(files.lake, files.table, before.snapshot_id)
    assert paths(files.lake.files(files.table)) == paths(files.live)


def test_a_snapshot_that_the_table_does_not_have_is_refused_and_no_empty_table(new_home: NewHome) -> None:
    files = Files(new_home().lake)
    files.commit([0])
    with pytest.raises(ValueError, match="has no snapshot 1; it may have expired"):
        files.lake.files(files.table, snapshot_id=1)
