"""The days of a table's files, told by their partitions without reading a row.

Belongs here: counting by day, and dividing days by what they hold. Does not belong here: which files those are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta

from pyiceberg.manifest import DataFile

from chart_platform.contracts.tables import Table

_EPOCH = date(1970, 1, 1)


def rows_by_day(declared: Table, files: Iterable[DataFile]) -> Counter[date]:
    """Rows of these files of a table that has a day column, by day."""
    assert declared.day_column is not None
    place = declared.partition_by.index(declared.day_column)
    rows: Counter[date] = Counter()
    for file in files:
        rows[_EPOCH + timedelta(days=file.partition[place])] += file.record_count
    return rows


def in_parts(days: Sequence[date], rows: Mapping[date, int], most: int) -> Iterator[list[date]]:
    """``days`` in parts of at most so many rows each, or of one day: a first run may have years of them."""
    part: list[date] = []
    held = 0
    for day in days:
        if part and held + rows.get(day, 0) > most:
            yield part
            part, held = [], 0
        part.append(day)
        held += rows.get(day, 0)
    if part:
        yield part
