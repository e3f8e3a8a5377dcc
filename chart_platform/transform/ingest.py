"""The exactly-once way of a range of messages into the table of its feed.

The table's rows and the offsets share one Iceberg transaction. What a feed refuses can't share it, as
bronze.dead_letters is another table: it commits first and replaces its range, and the commit of the feed's table is the
one that counts. In bronze.dead_letters every feed touches the rows of its own topic only. Belongs here: that protocol.
Does not belong here: which ranges (``stream.planning``), judging of messages (``bronze``, ``letters``), Dagster.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date

import pyarrow as pa
from pyiceberg.expressions import EqualTo
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table as IcebergTable

from chart_platform.contracts.feeds import Feed
from chart_platform.contracts.tables import BRONZE_DEAD_LETTERS, BRONZE_EVENTS, Table
from chart_platform.lakehouse.duck import connect
from chart_platform.lakehouse.lake import Change, Lake, StaleWriter, advance
from chart_platform.lakehouse.progress import Progress, progress_of
from chart_platform.lakehouse.rewrite import in_order, replace_rows
from chart_platform.transform.bronze import Decoder
from chart_platform.transform.chunks import Chunk, Judge, decode_all
from chart_platform.transform.letters import EdgeLetters

Audit = Callable[[Table, pa.Table], None]


@dataclass(frozen=True)
class Batch:
    """Messages ``[ranges[p][0], ranges[p][1])`` of each Kafka partition p, all of ingestion day ``day``."""

    feed: Feed
    topic_id: str
    day: date
    ranges: Mapping[int, tuple[int, int]]

    @property
    def target(self) -> Progress:
        return Progress.on_day(
            self.feed.topic, self.topic_id, {p: end for p, (_, end) in self.ranges.items()}, self.day
        )

    @property
    def start(self) -> dict[int, int]:
        return {p: start for p, (start, _) in self.ranges.items()}

    def predicate(self, table: Table) -> str:
        """SQL that holds for the rows ``t`` of ``table`` that are of these ranges."""
        clauses = [
            f"(t.kafka_partition = {p} and t.kafka_offset >= {start} and t.kafka_offset < {end})"
            for p, (start, end) in sorted(self.ranges.items())
            if end > start
        ]
        return f"({' or '.join(clauses) or 'false'}) and {self.feed.own(table)}"


@dataclass
class IngestResult:
    """What a batch became. ``skipped``: an earlier run had committed it already."""

    events: int = 0
    dead_letters: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    snapshot_id: int | None = None
    skipped: bool = False


@contextmanager
def _no_cycle_search() -> Iterator[None]:
    """Keep the garbage collector from walking through millions of short-lived messages, which form no cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@dataclass
class _Staged:
    files: list[DataFile]
    refused: pa.Table
    result: IngestResult


def _stage(lake: Lake, batch: Batch, chunks: Iterator[Chunk], audit: Audit) -> _Staged:
    """Judge all messages and write the files of the feed's table, which nobody sees until a commit names them."""
    feed = batch.feed
    target = lake.load(feed.table)
    judge: Judge = (Decoder if feed.table is BRONZE_EVENTS else EdgeLetters)(lake.settings, feed.topic, batch.day)
    files: list[DataFile] = []
    refused = [BRONZE_DEAD_LETTERS.arrow.empty_table()]
    result = IngestResult()
    with _no_cycle_search():
        for part in decode_all(judge, chunks):
            for table in feed.tables:
                audit(table, part.of(table))
            files += lake.write(target, in_order(part.of(feed.table), feed.table))
            if feed.may_refuse:
                refused.append(part.dead_letters)
            result.events += part.events.num_rows
            result.dead_letters += part.dead_letters.num_rows
            for code, count in part.reasons.items():
                result.reasons[code] = result.reasons.get(code, 0) + count
    return _Staged(files, pa.concat_tables(refused), result)


def _replace(lake: Lake, batch: Batch, table: Table, added: pa.Table, written: Sequence[DataFile] = ()) -> int | None:
    """Replace the rows of the batch's ranges in ``table``; the snapshot, or None if there was nothing to do."""
    connection = connect(lake.settings)

    def decide(current: IcebergTable) -> Change | None:
        candidates = lake.files(current, EqualTo("ingest_dt", batch.day))
        doomed = batch.predicate(table)
        change = replace_rows(connection, current, table, candidates, doomed, added, written=written)
        return change if change.add or change.remove else None

    committed = lake.commit(table, decide)
    connection.close()
    return committed.snapshot_id if committed else None


def _replace_refused(lake: Lake, batch: Batch, refused: pa.Table) -> None:
    if batch.feed.may_refuse:
        _replace(lake, batch, BRONZE_DEAD_LETTERS, refused)


def ingest(lake: Lake, batch: Batch, chunks: Iterator[Chunk], audit: Audit) -> IngestResult:
    """Append a batch that continues the table. Running it again, or from a stale writer, changes nothing.

    Raises:
        StaleWriter: the batch does not continue what the table has taken in.
    """
    if advance(progress_of(lake.load(batch.feed.table)), batch.start, batch.target) is None:
        return IngestResult(skipped=True)
    staged = _stage(lake, batch, chunks, audit)
    # Checked again before dead letters are touched: a writer that went stale while reading leaves them alone.
    if advance(progress_of(lake.load(batch.feed.table)), batch.start, batch.target) is None:
        return IngestResult(skipped=True)
    _replace_refused(lake, batch, staged.refused)

    def decide(current: IcebergTable) -> Change | None:
        progress = advance(progress_of(current), batch.start, batch.target)
        return Change(add=staged.files, progress=progress) if progress is not None else None

    committed = lake.commit(batch.feed.table, decide)
    if committed is None:
        return IngestResult(skipped=True)
    staged.result.snapshot_id = committed.snapshot_id
    return staged.result


def reingest_day(lake: Lake, batch: Batch, chunks: Iterator[Chunk], audit: Audit) -> IngestResult:
    """Replace the rows of a day's committed ranges by a fresh reading of the same messages, atomically.

    Rows of the day beyond the ranges, which incremental runs append meanwhile, stay. The progress stays.

    Raises:
        StaleWriter: the table has not taken in these ranges, or the topic was recreated.
    """
    seen = progress_of(lake.load(batch.feed.table))
    behind = {p: end for p, (_, end) in batch.ranges.items() if seen is None or seen.offsets.get(p, 0) < end}
    if seen is not None and seen.topic_id != batch.topic_id:
        advance(seen, batch.start, batch.target)
    if behind and any(end > start for start, end in batch.ranges.values()):
        raise StaleWriter(
            f"A rebuild of {batch.day} may not run ahead of the table, which lacks offsets up to {behind}."
        )
    staged = _stage(lake, batch, chunks, audit)
    _replace_refused(lake, batch, staged.refused)
    table = batch.feed.table
    staged.result.snapshot_id = _replace(lake, batch, table, table.arrow.empty_table(), staged.files)
    return staged.result
