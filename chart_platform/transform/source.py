"""Between Kafka and the lake: what is unread, and taking it in. The one place where both meet.

Belongs here: asking both sides and calling the pure planner. Does not belong here: planning (``stream.planning``), the
commit (``ingest``), scheduling (``defs``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from pyiceberg.expressions import EqualTo

from chart_platform.contracts.tables import BRONZE_DEAD_LETTERS, BRONZE_EVENTS
from chart_platform.lakehouse.duck import connect, relation
from chart_platform.lakehouse.lake import Lake
from chart_platform.stream.offsets import TopicOffsets
from chart_platform.stream.planning import DayBatch, OffsetRange, day_range, plan_batches
from chart_platform.stream.reader import read_ranges
from chart_platform.stream.topics import topic_identity
from chart_platform.transform.ingest import Audit, Batch, IngestResult, ingest, reingest_day


@dataclass(frozen=True)
class Unread:
    """What Kafka has that the lake lacks: batches in the order to take them, and the lag in messages by partition."""

    batches: list[DayBatch]
    committed: Mapping[int, int]
    latest: Mapping[int, int]

    @property
    def lag(self) -> dict[int, int]:
        return {p: end - self.committed.get(p, 0) for p, end in self.latest.items()}


def unread(lake: Lake, offsets: TopicOffsets | None = None) -> Unread:
    """Plan all that is unread.

    Raises:
        RetentionLoss: Kafka dropped messages that the lake never took in.
        TopicTruncated: the topic ends before what the lake has taken in.
    """
    settings = lake.settings
    progress = lake.progress(BRONZE_EVENTS)
    committed = dict(progress.offsets) if progress else {}
    span = (offsets or TopicOffsets(settings)).unread(committed)
    batches = plan_batches(committed, span.earliest, span.latest, span.day_starts, settings.batch_max_messages)
    return Unread(batches, committed or span.earliest, span.latest)


def _batch(lake: Lake, day: date, ranges: tuple[OffsetRange, ...]) -> Batch:
    topic = lake.settings.kafka_topic
    identity = topic_identity(lake.settings, topic)
    return Batch(topic, identity.topic_id, day, {r.partition: (r.start, r.end) for r in ranges})


def take_in(lake: Lake, batch: DayBatch, audit: Audit) -> IngestResult:
    """Read one planned batch and commit it exactly once."""
    full = _batch(lake, batch.day, batch.ranges)
    return ingest(lake, full, read_ranges(lake.settings, full.topic, batch.ranges), audit)


def committed_ranges(lake: Lake, day: date) -> tuple[OffsetRange, ...]:
    """The offsets of ``day`` that the lake has taken in, proven to be still in Kafka.

    Raises:
        RetentionLoss: Kafka no longer holds all of them.
    """
    progress = lake.progress(BRONZE_EVENTS)
    if progress is None:
        return ()
    offsets = TopicOffsets(lake.settings)
    committed = dict(progress.offsets)
    return day_range(
        day, committed, offsets.earliest(), offsets.day_bounds(day), ingested_from=_first_offsets(lake, day) or None
    )


def _first_offsets(lake: Lake, day: date) -> dict[int, int]:
    """First offset of each partition that the lake holds for ``day``, dead letters included."""
    connection = connect(lake.settings)
    selects = []
    for declared in (BRONZE_EVENTS, BRONZE_DEAD_LETTERS):
        current = lake.load(declared)
        source = relation(current, declared, lake.files(current, EqualTo("ingest_dt", day)))
        selects.append(f"select kafka_partition as p, min(kafka_offset) as o from {source} group by 1")
    found = connection.sql(f"select p, min(o) from ({' union all '.join(selects)}) group by 1").fetchall()
    connection.close()
    return dict(found)


def take_in_again(lake: Lake, day: date, audit: Audit) -> tuple[IngestResult, tuple[OffsetRange, ...]]:
    """Replace a day by a fresh reading of its committed offsets, or fail before touching anything."""
    ranges = committed_ranges(lake, day)
    if not ranges:
        return IngestResult(), ()
    full = _batch(lake, day, ranges)
    return reingest_day(lake, full, read_ranges(lake.settings, full.topic, ranges), audit), ranges
