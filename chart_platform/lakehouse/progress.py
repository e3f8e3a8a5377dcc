"""What a table has taken in from Kafka: the offsets that live in its snapshots and nowhere else.

Belongs here: the value object and where it is kept. Does not belong here: planning or reading of ranges.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from pyiceberg.table import Table

KEY = "chart.kafka-progress"


@dataclass(frozen=True)
class Progress:
    """Every message of ``topic`` below ``offsets[partition]`` is in the table; ``days`` is the last ingestion day of each.

    ``topic_id`` is Kafka's identity of the topic, so that a recreated topic is not taken for an ingested one.
    """

    topic: str
    topic_id: str
    offsets: Mapping[int, int]
    days: Mapping[int, date]

    @classmethod
    def on_day(cls, topic: str, topic_id: str, offsets: Mapping[int, int], day: date) -> Progress:
        """Progress whose last messages are all of one ingestion day."""
        return cls(topic, topic_id, offsets, dict.fromkeys(offsets, day))

    @property
    def day(self) -> date:
        """The newest ingestion day that any partition has reached."""
        return max(self.days.values())

    def oldest_day_until(self, until: Mapping[int, int]) -> date:
        """The oldest ingestion day that messages between this and the offsets ``until`` can have.

        By partition, as brokers' clocks differ: one may be days ahead of another.
        """
        behind = [p for p, end in until.items() if end > self.offsets.get(p, 0)]
        return min((self.days.get(p, date.min) for p in behind), default=self.day)

    def to_json(self) -> str:
        offsets = {str(p): o for p, o in sorted(self.offsets.items())}
        days = {str(p): day.isoformat() for p, day in sorted(self.days.items())}
        return json.dumps({"topic": self.topic, "topic_id": self.topic_id, "offsets": offsets, "days": days})

    @classmethod
    def from_json(cls, text: str) -> Progress:
        raw = json.loads(text)
        offsets = {int(p): int(o) for p, o in raw["offsets"].items()}
        days = {int(p): date.fromisoformat(day) for p, day in raw["days"].items()}
        return cls(raw["topic"], raw["topic_id"], offsets, days)


def snapshot_at(table: Table, offsets: Mapping[int, int]) -> int | None:
    """The newest snapshot of ``table`` that has taken in exactly ``offsets``, or None if there is none any more."""
    for snapshot in sorted(table.snapshots(), key=lambda s: s.sequence_number or 0, reverse=True):
        text = snapshot.summary.additional_properties.get(KEY) if snapshot.summary is not None else None
        if text and Progress.from_json(text).offsets == dict(offsets):
            return int(snapshot.snapshot_id)
    return None


def progress_of(table: Table) -> Progress | None:
    """The newest progress recorded in the table's history, or None for a table that has taken in nothing.

    The snapshot summary is preferred, as a rollback reverts it; the table property is the fallback for a history
    whose summaries were expired or whose head was written by a foreign engine.
    """
    snapshot = table.current_snapshot()
    while snapshot is not None:
        if snapshot.summary is not None and (text := snapshot.summary.additional_properties.get(KEY)):
            return Progress.from_json(text)
        parent = snapshot.parent_snapshot_id
        snapshot = table.snapshot_by_id(parent) if parent is not None else None
    text = table.properties.get(KEY)
    return Progress.from_json(text) if text else None
