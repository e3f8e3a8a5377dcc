"""Reading a topic again with another client than the pipeline's: kafka-python, so that an error of one can't hide in both.

Belongs here: ends of the topic and its messages, for ``verify``. Does not belong here: comparing them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from chart_platform.settings import Settings

_POLL_MS = 1_000
_SILENT_POLLS = 30


class RecountStalled(RuntimeError):
    """Kafka stopped answering in the middle of a recount."""


@dataclass(frozen=True)
class Recounted:
    """One message: where it is, when the broker appended it (epoch ms), and its bytes."""

    partition: int
    offset: int
    appended_ms: int
    value: bytes | None


class IndependentReader:
    """A consumer without group that reads what transactions have committed. Close it."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._topic = topic
        options: dict[str, Any] = {
            "bootstrap_servers": settings.bootstrap_servers,
            "security_protocol": settings.kafka_security_protocol,
            "group_id": None,
            "enable_auto_commit": False,
            "isolation_level": "read_committed",
            "max_poll_records": 20_000,
        }
        if settings.kafka_sasl_mechanism and settings.kafka_sasl_password:
            options |= {
                "sasl_mechanism": settings.kafka_sasl_mechanism,
                "sasl_plain_username": settings.kafka_sasl_username,
                "sasl_plain_password": settings.kafka_sasl_password.get_secret_value(),
            }
        if settings.kafka_ssl_ca_location:
            options["ssl_cafile"] = str(settings.kafka_ssl_ca_location)
        self._consumer = KafkaConsumer(**options)

    def ends(self) -> tuple[dict[int, int], dict[int, int]]:
        """First offset held and end offset of each partition."""
        found = [TopicPartition(self._topic, p) for p in sorted(self._consumer.partitions_for_topic(self._topic) or ())]
        first, end = self._consumer.beginning_offsets(found), self._consumer.end_offsets(found)
        return {tp.partition: o for tp, o in first.items()}, {tp.partition: o for tp, o in end.items()}

    def messages(self, ranges: Mapping[int, tuple[int, int]]) -> Iterator[list[Recounted]]:
        """Every message of ``[start, end)`` of each partition, in lists of at most 20,000.

        Raises:
            RecountStalled: nothing came for half a minute before the end was reached.
        """
        for partition, (start, end) in sorted(ranges.items()):
            where = TopicPartition(self._topic, partition)
            self._consumer.assign([where])
            self._consumer.seek(where, start)
            silent = 0
            while self._consumer.position(where) < end:
                records = self._consumer.poll(timeout_ms=_POLL_MS).get(where, [])
                silent = 0 if records else silent + 1
                if silent > _SILENT_POLLS:
                    raise RecountStalled(
                        f"Kafka sends nothing of {self._topic} partition {partition} before offset {end}."
                    )
                if wanted := [Recounted(partition, r.offset, r.timestamp, r.value) for r in records if r.offset < end]:
                    yield wanted

    def close(self) -> None:
        self._consumer.close()
