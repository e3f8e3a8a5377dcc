"""The platform's topics: what they must be, making them, and telling one incarnation from the next.

Belongs here: the declared settings of both topics, creation, the check of existing ones, topic identity.
Does not belong here: offsets (``offsets``) or the broker's own settings (``broker``).
"""

# mypy: untyped-calls-exclude="confluent_kafka"
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
    TopicDescription,
)

from chart_platform.settings import Settings
from chart_platform.stream.clients import COMPRESSION, admin

_TIMEOUT_SECONDS = 30.0
_EVENT_BYTES = 1024 * 1024
# A dead letter is an event as it came plus headers with every reason: what fits the one must fit the other.
_DEAD_LETTER_BYTES = 2 * _EVENT_BYTES


class TopicMissing(RuntimeError):
    """A topic does not exist."""


class TopicContradiction(RuntimeError):
    """An existing topic is not what the settings say."""


@dataclass(frozen=True)
class TopicIdentity:
    """One incarnation of a topic: a recreated topic has the same name but another ``topic_id``."""

    name: str
    topic_id: str
    partitions: int


@dataclass(frozen=True)
class _Difference:
    setting: str
    expected: str
    actual: str
    mend: str

    def __str__(self) -> str:
        return f"  {self.setting}: expected {self.expected}, is {self.actual}. {self.mend}"


@dataclass(frozen=True)
class _Rule:
    """What one topic setting must be; ``allows`` says which other values serve as well."""

    setting: str
    expected: str
    allows: Callable[[str], bool]
    mend: str


def ensure_topics(settings: Settings) -> TopicIdentity:
    """Create ``chart.events`` and ``chart.events.dlq`` where missing, check them where not; the identity of the first.

    Existing topics are never changed: they may be shared, and an altered timestamp type or partition count would
    not apply to the messages already there.
    """
    client = admin(settings)
    rules = {
        settings.kafka_topic: _rules(settings, settings.kafka_topic, _EVENT_BYTES),
        settings.kafka_dlq_topic: _rules(settings, settings.kafka_dlq_topic, _DEAD_LETTER_BYTES),
    }
    for topic in rules:
        _create(client, settings, topic, rules[topic])
    descriptions = {topic: _describe(client, topic) for topic in rules}
    contradictions = [
        f"Topic {topic!r} at {settings.bootstrap_servers} contradicts the settings:\n"
        + "\n".join(map(str, differences))
        for topic in rules
        if (differences := _differences(client, settings, descriptions[topic], rules[topic]))
    ]
    if contradictions:
        raise TopicContradiction("\n".join(contradictions))
    return _identity(descriptions[settings.kafka_topic])


def topic_identity(settings: Settings, topic: str) -> TopicIdentity:
    """Which incarnation of ``topic`` the cluster has now."""
    return _identity(_describe(admin(settings), topic))


def _rules(settings: Settings, topic: str, message_bytes: int) -> Sequence[_Rule]:
    retention = settings.kafka_retention_hours * 3_600_000
    in_sync = max(1, settings.kafka_replication_factor - 1)

    def alter(value: str) -> str:
        return (
            f"kafka-configs.sh --bootstrap-server {settings.bootstrap_servers} --entity-type topics "
            f"--entity-name {topic} --alter --add-config {value}"
        )

    def exactly(setting: str, value: str, mend: str = "") -> _Rule:
        return _Rule(setting, value, lambda actual: actual == value, mend or f"Mend: {alter(f'{setting}={value}')}")

    def at_least(setting: str, value: int, mend: str = "") -> _Rule:
        return _Rule(
            setting,
            str(value),
            lambda actual: int(actual) == -1 or (value != -1 and int(actual) >= value),
            f"Mend: {mend}{alter(f'{setting}={value}')}",
        )

    return (
        exactly(
            "message.timestamp.type",
            "LogAppendTime",
            "Days are cut by append time, and what is in the topic keeps its producers' times: use a new topic "
            "(CHART_KAFKA_TOPIC, CHART_KAFKA_DLQ_TOPIC).",
        ),
        exactly("cleanup.policy", "delete"),
        at_least("retention.ms", retention, "lower CHART_KAFKA_RETENTION_HOURS, or "),
        at_least("retention.bytes", -1),
        exactly("compression.type", COMPRESSION),
        at_least("max.message.bytes", message_bytes),
        at_least("min.insync.replicas", in_sync),
    )


def _create(client: AdminClient, settings: Settings, topic: str, rules: Sequence[_Rule]) -> None:
    new = NewTopic(
        topic,
        num_partitions=settings.kafka_partitions,
        replication_factor=settings.kafka_replication_factor,
        config={rule.setting: rule.expected for rule in rules},
    )
    try:
        client.create_topics([new], request_timeout=_TIMEOUT_SECONDS)[topic].result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise TopicMissing(
                f"Topic {topic!r} can't be created at {settings.bootstrap_servers} with {settings.kafka_partitions} "
                f"partitions and {settings.kafka_replication_factor} replicas: {error.args[0].str()}. Create it by "
                f"hand, or set CHART_KAFKA_PARTITIONS and CHART_KAFKA_REPLICATION_FACTOR to what the cluster allows."
            ) from error
    # Whoever created it: somebody else may have done so an instant ago.
    _wait_until_led(client, topic)


def _wait_until_led(client: AdminClient, topic: str) -> None:
    """Creation returns before the brokers know of it; who asks at once would be told that there is no such topic."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        known = client.list_topics(topic, timeout=_TIMEOUT_SECONDS).topics[topic]
        if known.error is None and all(partition.leader >= 0 for partition in known.partitions.values()):
            return
        time.sleep(0.05)
    raise TopicMissing(
        f"Topic {topic!r} exists, but not all of its partitions have a leader after "
        f"{_TIMEOUT_SECONDS:g} s: check the brokers' health, then run this again."
    )


def _describe(client: AdminClient, topic: str) -> TopicDescription:
    try:
        answer = client.describe_topics(TopicCollection([topic]), request_timeout=_TIMEOUT_SECONDS)[topic]
        description: TopicDescription = answer.result()
    except KafkaException as error:
        raise TopicMissing(
            f"Topic {topic!r} can't be described: {error.args[0].str()}. Create it with ensure_topics, or set "
            f"CHART_KAFKA_TOPIC and CHART_KAFKA_DLQ_TOPIC to existing topics."
        ) from error
    return description


def _identity(description: TopicDescription) -> TopicIdentity:
    return TopicIdentity(description.name, str(description.topic_id), len(description.partitions))


def _differences(
    client: AdminClient, settings: Settings, description: TopicDescription, rules: Sequence[_Rule]
) -> list[_Difference]:
    found: list[_Difference] = []
    partitions = len(description.partitions)
    if partitions != settings.kafka_partitions:
        expected = str(settings.kafka_partitions)
        found.append(
            _Difference("partitions", expected, str(partitions), f"Mend: set CHART_KAFKA_PARTITIONS={partitions}.")
        )
    replicas = min(len(partition.replicas) for partition in description.partitions)
    if replicas < settings.kafka_replication_factor:
        mend = f"Mend: set CHART_KAFKA_REPLICATION_FACTOR={replicas}, or reassign the partitions to more brokers."
        found.append(_Difference("replicas", str(settings.kafka_replication_factor), str(replicas), mend))
    resource = ConfigResource(ResourceType.TOPIC, description.name)
    actual = client.describe_configs([resource], request_timeout=_TIMEOUT_SECONDS)[resource].result()
    found += [
        _Difference(rule.setting, rule.expected, actual[rule.setting].value, rule.mend)
        for rule in rules
        if not rule.allows(actual[rule.setting].value)
    ]
    return found
