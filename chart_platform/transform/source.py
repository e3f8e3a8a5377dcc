"""Between Kafka and the lake: what is unread, and taking it in. The one place where both meet.

Belongs here: asking both sides and calling the pure planner. Does not belong here: planning (``stream.planning``), the
commit (``ingest``), scheduling (``defs``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date

from pyiceberg.expressions import EqualTo

from chart_platform.contracts.feeds import Feed, feeds
from chart_platform.lakehouse.duck import connect, relation
from chart_platform.lakehouse.lake import Lake
from chart_platform.stream.offsets import TopicOffsets
from chart_platform.stream.planning import DayBatch, OffsetRange, day_range, plan_batches
from chart_platform.stream.reader import MessageChunk, read_ranges
from chart_platform.stream.topics import topic_identity
from chart_platform.transform.ingest import Audit, Batch, IngestResult, ingest, reingest_day


@dataclass(frozen=True)
class Unread:
    """What a feed's topic has that the lake lacks: batches in the order to take them, and the lag in messages by partition."""

    batches: list[DayBatch]
    committed: Mapping[int, int]
    latest: Mapping[int, int]

    @property
    def lag(self) -> dict[int, int]:
        return {p: end - self.committed.get(p, 0) for p, end in self.latest.items()}


@dataclass(frozen=True)
class Intake:
    """What one run takes in: at most one batch of each feed, by its name, all of one ingestion day."""

    day: date
    batches: Mapping[str, DayBatch]

    @classmethod
    def first_of(cls, plans: Mapping[str, Unread]) -> Intake | None:
        """The oldest day's first batches, or None if nothing is unread."""
        first = {name: plan.batches[0] for name, plan in plans.items() if plan.batches}
        if not first:
            return None
        day = min(batch.day for batch in first.values())
        return cls(day, {name: batch for name, batch in first.items() if batch.day == day})

    @property
    def key(self) -> str:
        """A short name of exactly these batches, the same in every process and for ever."""
        return "+".join(batch.key for batch in self.batches.values()) or f"{self.day}-nothing"

    @property
    def messages(self) -> int:
        """The most messages it can bring."""
        return sum(batch.messages for batch in self.batches.values())

    def to_json(self) -> str:
        """For run config; :meth:`from_json` reads it."""
        batches = {name: batch.to_json() for name, batch in self.batches.items()}
        return json.dumps({"day": self.day.isoformat(), "batches": batches})

    @classmethod
    def from_json(cls, text: str) -> Intake:
        """The intake that :meth:`to_json` wrote."""
        try:
            content = json.loads(text)
            batches = {name: DayBatch.from_json(batch) for name, batch in content["batches"].items()}
            return cls(date.fromisoformat(content["day"]), batches)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"No intake: {text!r} ({error}).") from error


def unread(lake: Lake, feed: Feed, offsets: TopicOffsets | None = None) -> Unread:
    """Plan all that is unread of one feed.

    Raises:
        RetentionLoss: Kafka dropped messages that the lake never took in.
        TopicTruncated: the topic ends before what the lake has taken in.
    """
    settings = lake.settings
    progress = lake.progress(feed.table)
    committed = dict(progress.offsets) if progress else {}
    span = (offsets or TopicOffsets(settings, feed.topic)).unread(committed)
    batches = plan_batches(committed, span.earliest, span.latest, span.day_starts, settings.batch_max_messages)
    return Unread(batches, committed or span.earliest, span.latest)


def _batch(lake: Lake, feed: Feed, day: date, ranges: Iterable[OffsetRange]) -> Batch:
    identity = topic_identity(lake.settings, feed.topic)
    return Batch(feed, identity.topic_id, day, {r.partition: (r.start, r.end) for r in ranges})


def _read(lake: Lake, feed: Feed, ranges: Iterable[OffsetRange]) -> Iterator[MessageChunk]:
    return read_ranges(lake.settings, feed.topic, ranges, feed.chunk_messages)


def take_in(lake: Lake, feed: Feed, batch: DayBatch, audit: Audit) -> IngestResult:
    """Read one planned batch and commit it exactly once."""
    full = _batch(lake, feed, batch.day, batch.ranges)
    return ingest(lake, full, _read(lake, feed, batch.ranges), audit)


def committed_ranges(lake: Lake, feed: Feed, day: date) -> tuple[OffsetRange, ...]:
    """The offsets of ``day`` that the lake has taken in, proven to be still in Kafka.

    Raises:
        RetentionLoss: Kafka no longer holds all of them.
    """
    progress = lake.progress(feed.table)
    if progress is None:
        return ()
    offsets = TopicOffsets(lake.settings, feed.topic)
    committed = dict(progress.offsets)
    return day_range(
        day,
        committed,
        offsets.earliest(),
        offsets.day_bounds(day),
        ingested_from=_first_offsets(lake, feed, day) or None,
    )


def _first_offsets(lake: Lake, feed: Feed, day: date) -> dict[int, int]:
    """First offset of each partition of the feed's topic that the lake holds for ``day``, in whichever table."""
    connection = connect(lake.settings)
    selects = []
    for declared in feed.tables:
        current = lake.load(declared)
        source = relation(current, declared, lake.files(current, EqualTo("ingest_dt", day)))
        selects.append(
            f"select kafka_partition as p, min(kafka_offset) as o from {source} as t where {feed.own(declared)} group by 1"
        )
    found = connection.sql(f"select p, min(o) from ({' union all '.join(selects)}) group by 1").fetchall()
    connection.close()
    return dict(found)


def take_in_again(lake: Lake, day: date, audit: Audit) -> dict[str, tuple[IngestResult, tuple[OffsetRange, ...]]]:
    """Replace a day by a fresh reading of every feed's committed offsets, or fail before touching anything.

    Returns what became of each feed, by its name, and the ranges that were read.
    """
    owned = {feed: committed_ranges(lake, feed, day) for feed in feeds(lake.settings)}
    done = {}
    for feed, ranges in owned.items():
        result = IngestResult()
        if ranges:
            result = reingest_day(lake, _batch(lake, feed, day, ranges), _read(lake, feed, ranges), audit)
        done[feed.name] = (result, ranges)
    return done
