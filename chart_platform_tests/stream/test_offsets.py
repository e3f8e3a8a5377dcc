"""Offsets, days and lag on a real broker.

The broker's clock can't be set, so days in the past are made with a topic of producers' times; what is asked of Kafka
is the same for both.
"""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewTopic

from chart_platform.settings import Settings
from chart_platform.stream.clients import admin, producer
from chart_platform.stream.offsets import TopicOffsets
from chart_platform.stream.planning import DayBatch, OffsetRange, plan_batches
from chart_platform.stream.topics import TopicMissing
from chart_platform_tests.conftest import KafkaTopics
from chart_platform_tests.stream.conftest import wait_for_end

pytestmark = pytest.mark.kafka

D1, D2, D3, D4 = (datetime.now(UTC).date() - timedelta(days=back) for back in (4, 3, 2, 1))


def at(day: date, hour: float) -> int:
    return int((datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() + hour * 3600) * 1000)


@pytest.fixture
def dated(kafka: Settings) -> Settings:
    """An empty topic of 3 partitions that takes its times from the producer."""
    settings = kafka.model_copy(update={"kafka_topic": f"dated.{uuid.uuid4().hex[:12]}"})
    new = NewTopic(settings.kafka_topic, 3, 1, config={"message.timestamp.type": "CreateTime"})
    client = admin(settings)
    client.create_topics([new])[settings.kafka_topic].result()
    return settings


def write(settings: Settings, partition: int, *times: int) -> None:
    sender = producer(settings)
    for time in times:
        sender.produce(settings.kafka_topic, b"x", partition=partition, timestamp=time)
        sender.flush()


def drop(settings: Settings, partition: int, before: int) -> None:
    client = admin(settings)
    for dropped in client.delete_records([TopicPartition(settings.kafka_topic, partition, before)]).values():
        dropped.result()


def test_a_day_starts_at_its_first_message_midnight_included(dated: Settings) -> None:
    write(dated, 0, at(D1, 23), at(D2, 0) - 1, at(D2, 0), at(D2, 5), at(D3, 1))
    write(dated, 1, at(D3, 1))
    offsets = TopicOffsets(dated)
    latest = offsets.latest()
    assert latest == {0: 5, 1: 1, 2: 0}
    assert offsets.day_starts([D1, D2, D3, D4], latest) == {
        D1: {0: 0, 1: 0, 2: 0},
        D2: {0: 2, 1: 0, 2: 0},
        D3: {0: 4, 1: 0, 2: 0},
        D4: {0: 5, 1: 1, 2: 0},
    }
    assert offsets.day_bounds(D2) == offsets.day_starts([D2, D3], latest)


def test_messages_that_come_after_latest_was_asked_belong_to_no_day_yet(dated: Settings) -> None:
    write(dated, 0, at(D1, 1))
    offsets = TopicOffsets(dated)
    latest = offsets.latest()
    write(dated, 0, at(D1, 2), at(D2, 1))
    assert offsets.day_starts([D2], latest)[D2][0] == 1


def test_unread_names_the_days_from_the_oldest_unread_message_to_the_newest_message(dated: Settings) -> None:
    write(dated, 0, at(D1, 1), at(D1, 2), at(D3, 1))
    write(dated, 1, at(D2, 1), at(D3, 2))
    offsets = TopicOffsets(dated)
    assert list(offsets.unread({}).day_starts) == [D1, D2, D3]
    assert list(offsets.unread({0: 2, 1: 0, 2: 0}).day_starts) == [D2, D3]
    assert list(offsets.unread({0: 2, 1: 1, 2: 0}).day_starts) == [D3]
    assert offsets.unread({0: 3, 1: 2, 2: 0}).day_starts == {}


def test_a_clock_that_steps_back_tears_no_day(dated: Settings) -> None:
    write(dated, 0, at(D1, 23), at(D2, 0), at(D1, 23.9), at(D2, 1))
    span = TopicOffsets(dated).unread({0: 2, 1: 0, 2: 0})
    plan = plan_batches({0: 2, 1: 0, 2: 0}, span.earliest, span.latest, span.day_starts, 100)
    assert plan == [DayBatch(D2, (OffsetRange(0, 2, 4),))]


def test_what_is_asked_is_enough_to_plan_months_of_backlog(dated: Settings) -> None:
    first = D1 - timedelta(days=100)
    write(dated, 2, at(first, 12), at(D1, 12))
    write(dated, 0, at(D2, 12))
    span = TopicOffsets(dated).unread({})
    assert len(span.day_starts) == 102
    plan = plan_batches({}, span.earliest, span.latest, span.day_starts, 100)
    assert plan == [
        DayBatch(first, (OffsetRange(0, 0, 0), OffsetRange(1, 0, 0), OffsetRange(2, 0, 1))),
        DayBatch(D1, (OffsetRange(2, 1, 2),)),
        DayBatch(D2, (OffsetRange(0, 0, 1),)),
    ]


def test_dropped_messages_move_the_beginning(dated: Settings) -> None:
    write(dated, 0, at(D1, 1), at(D1, 2), at(D2, 1))
    drop(dated, 0, before=2)
    offsets = TopicOffsets(dated)
    assert offsets.earliest() == {0: 2, 1: 0, 2: 0}
    assert offsets.day_starts([D1], offsets.latest())[D1][0] == 2
    assert list(offsets.unread({}).day_starts) == [D2]
    assert offsets.lag({}) == {0: 1, 1: 0, 2: 0}
    assert offsets.lag({0: 3, 1: 0, 2: 0}) == {0: 0, 1: 0, 2: 0}


def test_messages_of_an_open_or_aborted_transaction_are_planned_only_once_it_ends(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics(kafka_partitions=1)
    today = datetime.now(UTC).date()
    write(settings, 0, 0, 0)
    sender = producer(settings, **{"transactional.id": uuid.uuid4().hex})
    sender.init_transactions()
    sender.begin_transaction()
    sender.produce(settings.kafka_topic, b"x", partition=0)
    sender.flush()
    offsets = TopicOffsets(settings)
    assert offsets.latest() == {0: 2}
    assert list(offsets.unread({0: 1}).day_starts) == [today]
    sender.abort_transaction()
    wait_for_end(settings, 4)
    # Only an aborted message and its marker are left, which no reader sees; they have a day all the same.
    assert offsets.unread({0: 2}).day_starts == {today: {0: 0}}
    assert offsets.unread({0: 3}).day_starts == {today: {0: 0}}


def test_a_missing_topic_is_named(kafka: Settings) -> None:
    with pytest.raises(TopicMissing, match=r"'no\.such\.topic'"):
        TopicOffsets(kafka, "no.such.topic").latest()
