"""What changed in a table since a snapshot, as files: how a derived table follows others at the cost of the change.

Belongs here: comparing two snapshots, and remembering in a table which snapshots of others it was made from.
Does not belong here: what a change means for the derived rows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from pyiceberg.manifest import DataFile
from pyiceberg.table import Table as IcebergTable

from chart_platform.lakehouse.manifests import different_files

KEY = "chart.made-from"


@dataclass(frozen=True)
class Made:
    """What a run wrote to a table that follows others: rows by its day column, rows that they replaced."""

    days: Mapping[date, int] = field(default_factory=dict)
    replaced: int = 0

    @property
    def rows(self) -> int:
        return sum(self.days.values())

    def __add__(self, later: Made) -> Made:
        """Both results, of runs one after the other."""
        return Made(Counter(self.days) + Counter(later.days), self.replaced + later.replaced)


@dataclass(frozen=True)
class Changed:
    """Files that came and went between two snapshots. A compaction looks like a change of the rows that it moved."""

    added: list[DataFile]
    removed: list[DataFile]

    @property
    def files(self) -> list[DataFile]:
        return [*self.added, *self.removed]


def changed_since(current: IcebergTable, snapshot_id: int | None) -> Changed | None:
    """Files that differ between ``snapshot_id`` (None: the empty table) and ``current``; None if that has expired."""
    head = current.current_snapshot()
    return changed_between(current, snapshot_id, head.snapshot_id if head is not None else None)


def changed_between(current: IcebergTable, before: int | None, now: int | None) -> Changed | None:
    """Files that differ between two snapshots (None: the empty table); None if one of them has expired."""
    old, new = (current.snapshot_by_id(number) if number is not None else None for number in (before, now))
    if (old is None) != (before is None) or (new is None) != (now is None):
        return None
    return Changed(*different_files(current, old, new))


def heads(tables: Mapping[str, IcebergTable]) -> dict[str, int | None]:
    """The current snapshots of tables, by the names given."""
    found = {}
    for name, table in tables.items():
        head = table.current_snapshot()
        found[name] = head.snapshot_id if head is not None else None
    return found


def made_from(current: IcebergTable) -> dict[str, int | str | None] | None:
    """What the table last recorded under :data:`KEY`, or None when it never did or its snapshots have expired.

    Compactions don't repeat it, hence the look at the snapshots before.
    """
    snapshot = current.current_snapshot()
    while snapshot is not None:
        if snapshot.summary is not None and (text := snapshot.summary.additional_properties.get(KEY)):
            found: dict[str, int | str | None] = json.loads(text)
            return found
        parent = snapshot.parent_snapshot_id
        snapshot = current.snapshot_by_id(parent) if parent is not None else None
    return None


def record(sources: Mapping[str, int | str | None]) -> dict[str, str]:
    """The snapshot summary that :func:`made_from` reads."""
    return {KEY: json.dumps(dict(sources), sort_keys=True)}
