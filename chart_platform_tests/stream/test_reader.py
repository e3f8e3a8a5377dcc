"""The range reader on a real broker: exactly the messages of the range, whatever lies between and beyond."""

from __future__ import annotations

import threading
import uuid

import pytest
from confluent_kafka import Producer, TopicPartition

from chart_platform.settings import Settings
from chart_platform.stream.clients import admin, producer
from chart_platform.stream.planning import OffsetRange
from chart_platform.stream.reader import MessageChunk, OffsetOutOfRange, ReadFailed, read_ranges
from chart_platform_tests.conftest import KafkaTopics
from chart_platform_tests.stream.conftest import wait_for_end

pytestmark = pytest.mark.kafka


def write(settings: Settings, values: list[bytes | None], partition: int = 0, source: Producer | None = None) -> None:
    sender = source or producer(settings)
    for value in values:
        sender.produce(settings.kafka_topic, value, partition=partition)
    sender.flush()


def drop(settings: Settings, partition: int, before: int) -> None:
    client = admin(settings)
    for dropped in client.delete_records([TopicPartition(settings.kafka_topic, partition, before)]).values():
        dropped.result()


def transactional(settings: Settings) -> Producer:
    sender = producer(settings, **{"transactional.id": uuid.uuid4().hex})
    sender.init_transactions()
    return sender


def numbered(start: int, end: int) -> list[bytes | None]:
    return [b"%d" % number for number in range(start, end)]


def read(settings: Settings, *ranges: OffsetRange, chunk_messages: int = 20_000) -> list[MessageChunk]:
    return list(read_ranges(settings, settings.kafka_topic, ranges, chunk_messages))


def values(chunks: list[MessageChunk]) -> list[bytes | None]:
    return [value for chunk in chunks for value in chunk.values]


def test_it_reads_the_range_and_nothing_else_in_full_chunks(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics(kafka_partitions=2)
    write(settings, numbered(0, 5_000), partition=0)
    write(settings, numbered(5_000, 9_000), partition=1)
    chunks = read(settings, OffsetRange(1, 10, 3_990), OffsetRange(0, 100, 4_900), chunk_messages=2_500)
    assert values(chunks) == [*numbered(100, 4_900), *numbered(5_010, 8_990)]
    assert [len(chunk) for chunk in chunks] == [2_500, 2_500, 2_500, 1_280]
    places = [place for chunk in chunks for place in zip(chunk.partitions, chunk.offsets, strict=True)]
    assert places == [*((0, o) for o in range(100, 4_900)), *((1, o) for o in range(10, 3_990))]


def test_it_gives_the_brokers_time_and_keys_and_headers_on_demand(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics(kafka_partitions=1)
    sender = producer(settings)
    headers = [("reason", b"a"), ("reason", b"b"), ("none", None)]
    sender.produce(settings.kafka_topic, b"x", key=b"k", headers=headers, timestamp=1_000)
    sender.produce(settings.kafka_topic, b"y")
    sender.flush()
    (chunk,) = read(settings, OffsetRange(0, 0, 2))
    assert chunk.key(0) == b"k" and chunk.key(1) is None
    assert chunk.headers(0) == headers and chunk.headers(1) == []
    assert min(chunk.timestamps) > 1_700_000_000_000


def test_a_message_without_value_is_not_an_empty_one(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics(kafka_partitions=1)
    write(settings, [None, b"", b"x"])
    assert values(read(settings, OffsetRange(0, 0, 3))) == [None, b"", b"x"]


def test_empty_ranges_need_no_broker() -> None:
    nowhere = Settings(kafka_bootstrap_servers="127.0.0.1:1")
    assert read(nowhere, OffsetRange(0, 7, 7), OffsetRange(3, 0, 0)) == []


def test_it_passes_over_transaction_markers_and_aborted_messages(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics(kafka_partitions=1)
    sender = transactional(settings)
    for first, commit in ((0, True), (10, False), (20, True), (30, False)):
        sender.begin_transaction()
        write(settings, numbered(first, first + 10), source=sender)
        (sender.commit_transaction if commit else sender.abort_transaction)()
    wait_for_end(settings, 44)
    # Ten messages and one marker each: 0-10, 11-21, 22-32, 33-43; the range ends with aborted messages and a marker.
    assert values(read(settings, OffsetRange(0, 0, 44))) == [*numbered(0, 10), *numbered(20, 30)]
    assert values(read(settings, OffsetRange(0, 5, 25))) == [*numbered(5, 10), *numbered(20, 23)]
    assert read(settings, OffsetRange(0, 10, 22)) == []
    assert read(settings, OffsetRange(0, 33, 44)) == []


def test_a_range_that_ends_in_a_gap_ends_there_although_messages_follow(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics(kafka_partitions=2)
    sender = transactional(settings)
    sender.begin_transaction()
    write(settings, numbered(0, 10), source=sender)
    sender.abort_transaction()
    wait_for_end(settings, 11)
    write(settings, numbered(11, 5_000))
    write(settings, numbered(0, 3), partition=1)
    assert values(read(settings, OffsetRange(0, 0, 11), OffsetRange(1, 0, 3))) == numbered(0, 3)
    assert values(read(settings, OffsetRange(0, 0, 13))) == numbered(11, 13)


def test_it_ends_where_told_while_others_write(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics(kafka_partitions=1)
    write(settings, numbered(0, 3_000))
    stop = threading.Event()

    def keep_writing() -> None:
        sender, number = producer(settings), 3_000
        while not stop.is_set():
            write(settings, numbered(number, number + 100), source=sender)
            number += 100

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        for end in (1, 2_999, 3_000):
            assert values(read(settings, OffsetRange(0, 0, end), chunk_messages=700)) == numbered(0, end)
    finally:
        stop.set()
        writer.join()


def test_dropped_offsets_are_named_before_anything_is_read(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics(kafka_partitions=2)
    write(settings, numbered(0, 100), partition=0)
    write(settings, numbered(0, 100), partition=1)
    drop(settings, 1, before=40)
    reading = read_ranges(settings, settings.kafka_topic, [OffsetRange(0, 0, 100), OffsetRange(1, 30, 50)])
    with pytest.raises(OffsetOutOfRange, match=r"partition 1.*begins at 40, so 30 to 39 \(10 offsets\) are lost"):
        next(reading)
    assert values(read(settings, OffsetRange(1, 40, 100))) == numbered(40, 100)


def test_offsets_dropped_while_reading_are_an_error_not_a_jump(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics(kafka_partitions=2)
    for partition in (0, 1):
        write(settings, numbered(0, 100), partition=partition)
    reading = read_ranges(settings, settings.kafka_topic, [OffsetRange(0, 0, 100), OffsetRange(1, 0, 100)], 50)
    next(reading)
    drop(settings, 1, before=40)
    with pytest.raises(OffsetOutOfRange, match=r"so 0 to 39 \(40 offsets\) are lost"):
        list(reading)


def test_a_range_beyond_the_end_is_an_error(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics(kafka_partitions=1)
    write(settings, numbered(0, 10))
    with pytest.raises(OffsetOutOfRange, match="readers may go up to 10"):
        read(settings, OffsetRange(0, 5, 11))


def test_a_range_into_an_open_transaction_is_refused_at_once(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics(kafka_partitions=1)
    write(settings, numbered(0, 10))
    sender = transactional(settings)
    sender.begin_transaction()
    write(settings, numbered(10, 20), source=sender)
    with pytest.raises(OffsetOutOfRange, match="readers may go up to 10: the range reaches into an open transaction"):
        read(settings, OffsetRange(0, 0, 15))
    sender.commit_transaction()
    wait_for_end(settings, 21)
    assert values(read(settings, OffsetRange(0, 0, 15))) == numbered(0, 15)


def test_a_missing_topic_is_named(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics(kafka_partitions=1)
    with pytest.raises(ReadFailed, match=r"'no\.such\.topic'"):
        list(read_ranges(settings, "no.such.topic", [OffsetRange(0, 0, 1)]))
