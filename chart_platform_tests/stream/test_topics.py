"""Topics on a real broker."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka.admin import NewTopic

from chart_platform.settings import Settings
from chart_platform.stream.clients import admin, producer
from chart_platform.stream.planning import OffsetRange
from chart_platform.stream.reader import read_ranges
from chart_platform.stream.topics import TopicContradiction, TopicMissing, ensure_topics, topic_identity
from chart_platform_tests.conftest import KafkaTopics

pytestmark = pytest.mark.kafka


def test_topics_are_made_once_and_keep_their_identity(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics(kafka_partitions=3)
    identity = ensure_topics(settings)
    assert (identity.name, identity.partitions) == (settings.kafka_topic, 3)
    assert identity == topic_identity(settings, settings.kafka_topic)
    assert topic_identity(settings, settings.kafka_dlq_topic).topic_id != identity.topic_id


def test_a_recreated_topic_has_another_identity(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics(kafka_partitions=1)
    before = topic_identity(settings, settings.kafka_topic)
    client = admin(settings)
    client.delete_topics([settings.kafka_topic])[settings.kafka_topic].result()
    after = ensure_topics(settings)
    assert (after.name, after.partitions) == (before.name, before.partitions)
    assert after.topic_id != before.topic_id


def test_two_who_make_the_topics_at_once_get_the_same(kafka: Settings) -> None:
    name = f"events.{uuid.uuid4().hex[:12]}"
    settings = kafka.model_copy(update={"kafka_topic": name, "kafka_dlq_topic": f"{name}.dlq"})
    with ThreadPoolExecutor(4) as pool:
        identities = set(pool.map(ensure_topics, [settings] * 4))
    assert len(identities) == 1


def test_time_is_the_brokers_whatever_the_producer_says(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics(kafka_partitions=1)
    before = int(time.time() * 1000)
    sender = producer(settings)
    sender.produce(settings.kafka_topic, b"x", timestamp=1_000)
    sender.flush()
    (chunk,) = read_ranges(settings, settings.kafka_topic, [OffsetRange(0, 0, 1)])
    assert before <= chunk.timestamps[0] <= int(time.time() * 1000)


def test_a_contradiction_lists_every_difference_of_both_topics_and_how_to_mend_it(kafka: Settings) -> None:
    name = f"events.{uuid.uuid4().hex[:12]}"
    wrong = kafka.model_copy(update={"kafka_topic": name, "kafka_dlq_topic": f"{name}.dlq", "kafka_partitions": 2})
    config = {"message.timestamp.type": "CreateTime", "retention.ms": "3600000", "compression.type": "lz4"}
    client = admin(kafka)
    small = NewTopic(wrong.kafka_dlq_topic, 2, 1, config={"max.message.bytes": "1000"})
    for made in client.create_topics([NewTopic(name, 5, 1, config=config), small]).values():
        made.result()
    with pytest.raises(TopicContradiction) as caught:
        ensure_topics(wrong)
    message = str(caught.value)
    for part in (
        f"Topic {name!r}",
        "partitions: expected 2, is 5. Mend: set CHART_KAFKA_PARTITIONS=5.",
        "message.timestamp.type: expected LogAppendTime, is CreateTime",
        "retention.ms: expected 1209600000, is 3600000. Mend: lower CHART_KAFKA_RETENTION_HOURS, or kafka-configs.sh",
        f"Topic {wrong.kafka_dlq_topic!r}",
        "compression.type: expected lz4, is producer",
        "max.message.bytes: expected 2097152, is 1000",
    ):
        assert part in message
    assert "cleanup.policy" not in message


def test_more_retention_than_asked_for_is_no_contradiction(kafka_topics: KafkaTopics) -> None:
    settings = kafka_topics(kafka_retention_hours=24 * 30)
    ensure_topics(settings.model_copy(update={"kafka_retention_hours": 24 * 7}))


def test_a_missing_topic_has_no_identity(kafka: Settings) -> None:
    with pytest.raises(TopicMissing, match=r"'no\.such\.topic'"):
        topic_identity(kafka, "no.such.topic")


def test_a_topic_that_the_cluster_cannot_make_is_named(kafka: Settings) -> None:
    settings = kafka.model_copy(update={"kafka_topic": f"e.{uuid.uuid4().hex}", "kafka_replication_factor": 3})
    with pytest.raises(TopicMissing, match="CHART_KAFKA_REPLICATION_FACTOR"):
        ensure_topics(settings)
