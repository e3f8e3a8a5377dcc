"""Reading exactly the offsets one was told to read, fast and in bounded memory.

Belongs here: the range reader, its chunks and its errors.
Does not belong here: choosing the ranges (``planning``), decoding what was read, committing it (``lakehouse``).
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from chart_platform.settings import Settings
from chart_platform.stream.clients import consumer
from chart_platform.stream.planning import OffsetRange

# Short steps and a short queue keep messages in the CPU's cache from decompression to the lists: 2,000 a step and
# 10,000 queued read 1.0M messages of 750 bytes per CPU-second, 20,000 and the default 100,000 read 0.65M.
_STEP_MESSAGES = 2_000
_TUNING = {
    "queued.min.messages": 10_000,
    # The bound of memory: at most this much is fetched ahead, plus one fetch.
    "queued.max.messages.kbytes": 32 * 1024,
    "fetch.message.max.bytes": 4 * 1024 * 1024,
    # The default of a second makes the reader sleep each time the short queue was full.
    "fetch.queue.backoff.ms": 5,
    # What is to be read is already there, so waiting for more only delays the end of a partition.
    "fetch.wait.max.ms": 10,
    # The only sign of the end where a range ends with transaction markers or aborted messages.
    "enable.partition.eof": True,
}
_POLL_SECONDS = 0.1
_WATERMARK_TIMEOUT_SECONDS = 30.0


class ReadFailed(RuntimeError):
    """Kafka refused to deliver a partition."""


class OffsetOutOfRange(ReadFailed):
    """Offsets of a range are not in the topic, any more or yet."""

    def __init__(self, topic: str, wanted: OffsetRange, earliest: int, latest: int) -> None:
        self.wanted, self.earliest, self.latest = wanted, earliest, latest
        where = f"Topic {topic!r} can't give offsets {wanted.start} to {wanted.end - 1} of partition {wanted.partition}"
        if wanted.start < earliest:
            last_lost = min(wanted.end, earliest) - 1
            why = (
                f"it begins at {earliest}, so {wanted.start} to {last_lost} ({last_lost - wanted.start + 1} offsets) "
                f"are lost: retention or a delete-records request dropped them. Plan again from what is left, and "
                f"raise CHART_KAFKA_RETENTION_HOURS if readers fall behind."
            )
        else:
            why = (
                f"readers may go up to {latest}: the range reaches into an open transaction, or the topic was recreated "
                f"or truncated after it was planned. Plan again when the transaction has ended, or check that "
                f"CHART_KAFKA_TOPIC and the cluster are those the range was planned on."
            )
        super().__init__(f"{where}: {why}")


class ReadStalled(ReadFailed):
    """Nothing came for too long."""


@dataclass(frozen=True)
class MessageChunk:
    """Messages as parallel lists, each partition's in the order of its offsets.

    A message without a value (a tombstone) is ``None`` in ``values``, which is not the same as ``b""``. Keys and
    headers are needed for the few bad messages only, so they are taken from the message when asked for.
    """

    values: list[bytes | None] = field(default_factory=list)
    partitions: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)
    """The broker's append time, milliseconds since 1970 UTC."""
    _messages: list[Message] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return len(self.values)

    def key(self, index: int) -> bytes | None:
        """The key of one message."""
        key: bytes | None = self._messages[index].key()
        return key

    def headers(self, index: int) -> list[tuple[str, bytes | None]]:
        """The headers of one message, in order; names may repeat."""
        return list(self._messages[index].headers() or [])

    def _extend(self, partition: int, messages: list[Message], offsets: list[int]) -> None:
        self.values.extend(map(Message.value, messages))
        self.partitions.extend([partition] * len(messages))
        self.offsets.extend(offsets)
        self.timestamps.extend([milliseconds for _, milliseconds in map(Message.timestamp, messages)])
        self._messages.extend(messages)


def read_ranges(
    settings: Settings,
    topic: str,
    ranges: Iterable[OffsetRange],
    chunk_messages: int = 50_000,
    *,
    stall_timeout_seconds: float = 30.0,
) -> Iterator[MessageChunk]:
    """Every committed message of ``ranges``, in chunks of at most ``chunk_messages``; only the last may be smaller.

    Offsets that hold no readable message (transaction markers, aborted messages) are passed over. Offsets that the
    topic doesn't hold raise :class:`OffsetOutOfRange`, for all ranges before anything is read.

    Partitions are read one after the other: then every message of a step is of one partition, in order, and its range
    ends at one place, which leaves nothing to do per message but copying it to the lists.
    """
    wanted = [offsets for offsets in sorted(ranges) if offsets.messages]
    if not wanted:
        return
    source = consumer(settings, **_TUNING)
    try:
        for offsets in wanted:
            _check_held(source, topic, offsets)
        chunk = MessageChunk()
        for offsets in wanted:
            position = offsets.start
            source.assign([TopicPartition(topic, offsets.partition, position)])
            last_sign_of_life = time.monotonic()
            while position < offsets.end:
                room = min(_STEP_MESSAGES, offsets.end - position, chunk_messages - len(chunk))
                messages = source.consume(room, _POLL_SECONDS)
                end_of_partition = -1
                if any(map(Message.error, messages)):
                    messages, end_of_partition = _without_events(source, topic, offsets, messages)
                if messages:
                    found = list(map(Message.offset, messages))
                    position = found[-1] + 1
                    if position > offsets.end:
                        inside = bisect_left(found, offsets.end)
                        messages, found = messages[:inside], found[:inside]
                    chunk._extend(offsets.partition, messages, found)
                    last_sign_of_life = time.monotonic()
                    if len(chunk) >= chunk_messages:
                        yield chunk
                        chunk = MessageChunk()
                        # The caller's own work is no stall of Kafka's.
                        last_sign_of_life = time.monotonic()
                position = max(position, end_of_partition)
                if position < offsets.end and time.monotonic() - last_sign_of_life > stall_timeout_seconds:
                    raise ReadStalled(
                        f"Topic {topic!r} gave nothing for {stall_timeout_seconds:g} s at offset {position} of "
                        f"partition {offsets.partition}, {offsets.end - position} offsets before the end: the broker "
                        f"at {settings.bootstrap_servers} is down or unreachable. Read again when "
                        f"the broker answers; nothing was committed."
                    )
        if len(chunk):
            yield chunk
    finally:
        source.close()


def _check_held(source: Consumer, topic: str, wanted: OffsetRange) -> None:
    partition = TopicPartition(topic, wanted.partition)
    try:
        earliest, latest = source.get_watermark_offsets(partition, timeout=_WATERMARK_TIMEOUT_SECONDS)
    except KafkaException as error:
        raise ReadFailed(
            f"Partition {wanted.partition} of topic {topic!r} does not tell its offsets: {error.args[0].str()}. Check "
            f"that the topic exists and the broker is up."
        ) from error
    if wanted.start < earliest or wanted.end > latest:
        raise OffsetOutOfRange(topic, wanted, earliest, latest)


def _without_events(
    source: Consumer, topic: str, wanted: OffsetRange, messages: list[Message]
) -> tuple[list[Message], int]:
    """The real messages, and the offset at which the partition ended if that was among the events, else -1."""
    end_of_partition = -1
    for event in messages:
        error: KafkaError | None = event.error()
        if error is None:
            continue
        if error.code() == KafkaError._PARTITION_EOF:
            end_of_partition = event.offset()
            continue
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            # Retention overtook the reader: say by how much.
            _check_held(source, topic, wanted)
        raise ReadFailed(f"Partition {wanted.partition} of topic {topic!r} can't be read: {error.str()}.")
    return [message for message in messages if message.error() is None], end_of_partition
