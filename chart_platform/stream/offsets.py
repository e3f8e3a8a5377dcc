"""Asking Kafka for offsets: where a topic begins and ends, where its days begin, how far behind the table is.

Belongs here: the questions that ``planning`` needs answered, in few round trips.
Does not belong here: any decision about the answers (``planning``).
"""

# mypy: untyped-calls-exclude="confluent_kafka"
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TypeVar

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import ListOffsetsResultInfo, OffsetSpec  # type: ignore[attr-defined]

from chart_platform.settings import Settings
from chart_platform.stream.clients import admin
from chart_platform.stream.topics import TopicContradiction, TopicMissing

_TIMEOUT_SECONDS = 30.0
_NO_OFFSET = -1
_EPOCH_YEAR = 1970
# Days asked for at once at most, while looking for the oldest unread one.
_MOST_DAYS_AT_ONCE = 32

_Name = TypeVar("_Name")


@dataclass(frozen=True)
class UnreadSpan:
    """All that ``plan_batches`` needs to know of a topic; ``day_starts`` is empty when nothing is unread."""

    earliest: dict[int, int]
    latest: dict[int, int]
    day_starts: dict[date, dict[int, int]]


class TopicOffsets:
    """Offsets of one topic. Keep it for as long as you ask: it holds one connection."""

    def __init__(self, settings: Settings, topic: str | None = None) -> None:
        self.topic = topic or settings.kafka_topic
        self._client = admin(settings)
        self._partitions: tuple[int, ...] | None = None

    def earliest(self) -> dict[int, int]:
        """The first offset that each partition still holds."""
        return {p: found.offset for p, found in self._ask(OffsetSpec.earliest()).items()}

    def latest(self) -> dict[int, int]:
        """Where each partition ends for readers: the last stable offset, so that no open transaction is read half."""
        return {p: found.offset for p, found in self._ask(OffsetSpec.latest(), IsolationLevel.READ_COMMITTED).items()}

    def day_starts(self, days: Iterable[date], latest: Mapping[int, int]) -> dict[date, dict[int, int]]:
        """The first offset of each partition appended on or after each day, bounded by ``latest``.

        ``latest`` must have been asked for *before*. Where no message of a day has come yet, the day starts at the
        latest offset; with a later one, messages of that day which came in between would fall to the day before.
        """
        return {
            day: {
                p: min(found.offset, latest[p]) if found.offset != _NO_OFFSET else latest[p] for p, found in at.items()
            }
            for day, at in self._ask_all({day: OffsetSpec.for_timestamp(_midnight_ms(day)) for day in days}).items()
        }

    def unread(self, committed: Mapping[int, int]) -> UnreadSpan:
        """What is there beyond ``committed`` and on which days.

        Days run from the owner of the oldest unread message to that of the newest message, by the broker's clock
        alone: ours may differ. The oldest day is found by going back from the newest one until it starts before all
        that is unread, in growing steps that are each one round trip. Reading the first unread message for its time
        would not do, because it may be a transaction marker, which no reader gets to see.
        """
        latest, earliest = self._ends()
        first = {p: max(committed.get(p, 0), earliest[p]) for p in latest}
        behind = [p for p in latest if first[p] < latest[p]]
        if not behind:
            return UnreadSpan(earliest, latest, {})
        newest_ms = max(found.timestamp for found in self._ask(OffsetSpec.max_timestamp()).values())
        oldest = datetime.fromtimestamp(max(newest_ms, 0) / 1000, UTC).date() + timedelta(days=1)
        starts: dict[date, dict[int, int]] = {}
        step = 1
        while not starts or any(starts[oldest][p] > first[p] for p in behind):
            if oldest.year <= _EPOCH_YEAR:
                raise TopicContradiction(
                    f"Topic {self.topic!r} has messages without append time on partitions {behind}, so no day owns "
                    f"them: set its message.timestamp.type to LogAppendTime, or use a new topic (CHART_KAFKA_TOPIC)."
                )
            starts |= self.day_starts([oldest - timedelta(days=back) for back in range(1, step + 1)], latest)
            oldest = min(starts)
            step = min(2 * step, _MOST_DAYS_AT_ONCE)
        # The last steps may have gone further back than needed: those days own nothing that is unread.
        owner = max(day for day in starts if all(starts[day][p] <= first[p] for p in behind))
        return UnreadSpan(earliest, latest, {day: starts[day] for day in sorted(starts) if day >= owner})

    def day_bounds(self, day: date) -> dict[date, dict[int, int]]:
        """The starts of ``day`` and of the day after, as ``planning.day_range`` needs them."""
        return self.day_starts([day, day + timedelta(days=1)], self.latest())

    def lag(self, committed: Mapping[int, int]) -> dict[int, int]:
        """Offsets not yet committed, by partition."""
        latest, earliest = self._ends()
        return {p: max(0, latest[p] - committed.get(p, earliest[p])) for p in latest}

    def _ends(self) -> tuple[dict[int, int], dict[int, int]]:
        """Latest and earliest offsets, in one round trip."""
        found = self._ask_all(
            {"latest": OffsetSpec.latest(), "earliest": OffsetSpec.earliest()}, IsolationLevel.READ_COMMITTED
        )
        latest, earliest = ({p: at.offset for p, at in found[name].items()} for name in ("latest", "earliest"))
        return latest, earliest

    def _ask(
        self, question: OffsetSpec, isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED
    ) -> dict[int, ListOffsetsResultInfo]:
        return self._ask_all({None: question}, isolation)[None]

    def _ask_all(
        self, questions: Mapping[_Name, OffsetSpec], isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED
    ) -> dict[_Name, dict[int, ListOffsetsResultInfo]]:
        """Put all questions at once, so that they cost one round trip.

        Only ends are asked read-committed. To questions about times the broker would then answer "none" for a whole
        partition as soon as the message found belongs to an open transaction.
        """
        partitions = [TopicPartition(self.topic, p) for p in self._all_partitions()]
        asked = {
            name: self._client.list_offsets(
                dict.fromkeys(partitions, question),
                isolation_level=isolation,
                request_timeout=_TIMEOUT_SECONDS,
            )
            for name, question in questions.items()
        }
        return {name: {at.partition: answer.result() for at, answer in each.items()} for name, each in asked.items()}

    def _all_partitions(self) -> tuple[int, ...]:
        if self._partitions is None:
            try:
                known = self._client.list_topics(self.topic, timeout=_TIMEOUT_SECONDS).topics[self.topic]
            except KafkaException as error:
                raise TopicMissing(f"Topic {self.topic!r} can't be looked up: {error.args[0].str()}.") from error
            if known.error is not None:
                raise TopicMissing(
                    f"Topic {self.topic!r} has no offsets: {known.error.str()}. Create it with ensure_topics, or set "
                    f"CHART_KAFKA_TOPIC to an existing topic."
                )
            self._partitions = tuple(sorted(known.partitions))
        return self._partitions


def _midnight_ms(day: date) -> int:
    return int(datetime.combine(day, time.min, UTC).timestamp() * 1000)
