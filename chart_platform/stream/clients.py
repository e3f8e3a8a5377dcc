"""Kafka clients made from ``Settings``, all of them confluent-kafka.

One library for hot paths and questions alike: four offset questions on a topic of 6 partitions take a warm
AdminClient 4 ms (1.2 ms CPU) and kafka-python's 10 ms (4 ms CPU), its import 60 ms against 260 ms.

Belongs here: what every client of the platform must have in common (addresses, security, delivery guarantees).
Does not belong here: what one use tunes for itself; callers pass it as overrides.
"""

# mypy: untyped-calls-exclude="confluent_kafka"
from __future__ import annotations

from typing import Any

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from chart_platform.settings import Settings

# lz4, because reading decides: decompression is on the hot path of every run, and zstd's costs more there.
COMPRESSION = "lz4"


def client_config(settings: Settings) -> dict[str, Any]:
    """How to reach the cluster, in the words of librdkafka."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap_servers,
        "client.id": "chart-platform",
        "security.protocol": settings.kafka_security_protocol,
        # Idle connections are closed by brokers as a matter of course; it is no news for the log.
        "log.connection.close": False,
        # Errors only: what librdkafka retries by itself is no news for a terminal.
        "log_level": 3,
    }
    if settings.kafka_sasl_mechanism is not None:
        if settings.kafka_sasl_username is None or settings.kafka_sasl_password is None:
            raise ValueError(
                f"CHART_KAFKA_SASL_MECHANISM is {settings.kafka_sasl_mechanism}, which needs a user: set "
                f"CHART_KAFKA_SASL_USERNAME and CHART_KAFKA_SASL_PASSWORD."
            )
        config["sasl.mechanism"] = settings.kafka_sasl_mechanism
        config["sasl.username"] = settings.kafka_sasl_username
        config["sasl.password"] = settings.kafka_sasl_password.get_secret_value()
    if settings.kafka_ssl_ca_location is not None:
        config["ssl.ca.location"] = str(settings.kafka_ssl_ca_location)
    return config


def producer(settings: Settings, **overrides: Any) -> Producer:
    """A producer that neither loses nor doubles a message it has reported as delivered."""
    return Producer(
        client_config(settings)
        | {"enable.idempotence": True, "acks": "all", "compression.type": COMPRESSION}
        | overrides
    )


def consumer(settings: Settings, **overrides: Any) -> Consumer:
    """A consumer for manual assignment: it joins no group, commits nothing and never skips silently."""
    return Consumer(
        client_config(settings)
        | {
            # librdkafka wants a name although no group is ever joined.
            "group.id": "chart-platform",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
        }
        | overrides
    )


def admin(settings: Settings, **overrides: Any) -> AdminClient:
    """A client for topics and offsets."""
    return AdminClient(client_config(settings) | overrides)
