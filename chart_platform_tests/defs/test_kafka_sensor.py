"""One sensor for both topics: a run carries the batches of both, and one topic's trouble is not the other's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
import pytest
from confluent_kafka import TopicPartition

from chart_platform.contracts.feeds import feeds
from chart_platform.contracts.tables import BRONZE_DEAD_LETTERS, BRONZE_EVENTS
from chart_platform.defs.resources import Platform
from chart_platform.defs.streams import JOB_NAME, due, kafka_sensor
from chart_platform.lakehouse.lake import Lake
from chart_platform.local.figures import lag_by_partition
from chart_platform.quality.schemas import audit
from chart_platform.settings import Settings
from chart_platform.stream.clients import admin, producer
from chart_platform.stream.offsets import TopicOffsets
from chart_platform.transform.source import Intake, take_in
from chart_platform_tests.conftest import KafkaTopics

pytestmark = pytest.mark.kafka


class Here(Platform):
    """The platform of one test's settings."""

    settings_json: str

    def lake(self) -> Lake:
        return Lake(Settings.model_validate_json(self.settings_json))


@dataclass
class Sensor:
    """The sensor of one home, with the runs that it asked for and what became of them."""

    settings: Settings
    instance: dg.DagsterInstance

    def tick(self) -> dg.SensorResult | dg.SkipReason:
        context = dg.build_sensor_context(
            instance=self.instance, resources={"platform": Here(settings_json=self.settings.model_dump_json())}
        )
        found = kafka_sensor(context)
        assert isinstance(found, dg.SensorResult | dg.SkipReason)
        return found

    def asked(self) -> tuple[Intake, dict[str, str]]:
        """The intake of the one run that a tick asks for, and the tags of that run."""
        found = self.tick()
        assert isinstance(found, dg.SensorResult) and found.run_requests is not None
        (wanted,) = found.run_requests
        return Intake.from_json(wanted.run_config["ops"]["bronze"]["config"]["intake"]), dict(wanted.tags)

    def ends(self, tags: dict[str, str], status: dg.DagsterRunStatus) -> None:
        """Note a run with these tags as ended so."""
        self.instance.add_run(dg.DagsterRun(job_name=JOB_NAME, tags=tags, status=status))

    def send(self, **messages: int) -> None:
        """Messages of which no one is an event; how many to which topic (events, dead_letters)."""
        sender = producer(self.settings)
        for feed in feeds(self.settings):
            for _ in range(messages.get(feed.name, 0)):
                sender.produce(feed.topic, b"no event", partition=0)
        assert sender.flush(30) == 0

    def take(self, intake: Intake) -> None:
        lake = Lake(self.settings)
        for feed in feeds(self.settings):
            if feed.name in intake.batches:
                take_in(lake, feed, intake.batches[feed.name], audit)


@pytest.fixture
def sensor(kafka_topics: KafkaTopics, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sensor]:
    monkeypatch.setattr("chart_platform.transform.model.up_to_date", lambda _lake: True)
    monkeypatch.setattr("chart_platform.defs.streams.left_over", lambda _lake: None)
    with dg.instance_for_test() as instance:
        yield Sensor(kafka_topics(kafka_partitions=2), instance)


def test_a_run_carries_the_batches_of_both_topics_and_an_idle_one_is_not_named(sensor: Sensor) -> None:
    assert isinstance(sensor.tick(), dg.SkipReason)
    sensor.send(events=2)
    intake, _ = sensor.asked()
    assert {name: batch.messages for name, batch in intake.batches.items()} == {"events": 2}
    sensor.take(intake)
    assert Lake(sensor.settings).progress(BRONZE_DEAD_LETTERS) is None
    sensor.send(events=1, dead_letters=3)
    intake, _ = sensor.asked()
    assert {name: batch.messages for name, batch in intake.batches.items()} == {"events": 1, "dead_letters": 3}
    sensor.take(intake)
    assert isinstance(sensor.tick(), dg.SkipReason)
    letters = Lake(sensor.settings).progress(BRONZE_DEAD_LETTERS)
    assert letters is not None and letters.offsets == {0: 3, 1: 0}


def test_after_a_failed_run_each_topic_goes_alone_and_waits_by_itself(sensor: Sensor) -> None:
    sensor.send(events=1, dead_letters=1)
    both, tags = sensor.asked()
    assert set(both.batches) == {"events", "dead_letters"}
    # The events were committed, the dead letters were not.
    sensor.take(Intake(both.day, {"events": both.batches["events"]}))
    sensor.ends(tags, dg.DagsterRunStatus.FAILURE)
    waiting = sensor.tick()
    assert isinstance(waiting, dg.SkipReason) and "failed 1 times" in str(waiting.skip_message)
    sensor.send(events=1)
    events, _ = sensor.asked()
    assert set(events.batches) == {"events"}
    assert due(sensor.instance, both)[0] is None


def test_a_batch_whose_wait_is_over_goes_alone_at_its_next_attempt(
    sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sensor.send(events=1, dead_letters=1)
    both, tags = sensor.asked()
    sensor.ends(tags, dg.DagsterRunStatus.FAILURE)
    monkeypatch.setattr("chart_platform.defs.streams._MOST_BACKOFF_SECONDS", -1)
    alone, attempt, _ = due(sensor.instance, both)
    assert alone == Intake(both.day, {"events": both.batches["events"]}) and attempt == 1
    sensor.ends({k: v for k, v in tags.items() if "dead_letters" not in k}, dg.DagsterRunStatus.SUCCESS)
    alone, attempt, _ = due(sensor.instance, both)
    assert alone == Intake(both.day, {"dead_letters": both.batches["dead_letters"]}) and attempt == 1


def test_loss_in_one_topic_is_told_and_does_not_hold_up_the_other(sensor: Sensor) -> None:
    sensor.send(events=1, dead_letters=4)
    sensor.take(sensor.asked()[0])
    sensor.send(events=1, dead_letters=4)
    client = admin(sensor.settings)  # kept until the answer is there
    for dropped in client.delete_records([TopicPartition(sensor.settings.kafka_dlq_topic, 0, 6)]).values():
        dropped.result()
    intake, _ = sensor.asked()
    assert set(intake.batches) == {"events"}
    sensor.take(intake)
    events = Lake(sensor.settings).progress(BRONZE_EVENTS)
    assert events is not None and events.offsets == {0: 2, 1: 0}
    with pytest.raises(RuntimeError, match="Kafka no longer holds 2 offsets"):
        sensor.tick()


def test_the_lag_of_both_topics_is_told(sensor: Sensor) -> None:
    sensor.send(events=2, dead_letters=3)
    settings, lake = sensor.settings, Lake(sensor.settings)
    topics = {feed: TopicOffsets(settings, feed.topic) for feed in feeds(settings)}
    events, letters = settings.kafka_topic, settings.kafka_dlq_topic
    unread = {f"{events}/0": 2, f"{events}/1": 0, f"{letters}/0": 3, f"{letters}/1": 0}
    assert lag_by_partition(lake, topics) == unread
    sensor.take(sensor.asked()[0])
    sensor.send(dead_letters=1)
    assert lag_by_partition(lake, topics) == dict.fromkeys(unread, 0) | {f"{letters}/0": 1}
