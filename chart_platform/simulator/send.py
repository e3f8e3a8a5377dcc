"""Hands messages to Kafka and waits until the broker has every one of them.

Belongs here: the produce loop with its back pressure and its accounting.
Does not belong here: how a client is configured (``stream.clients``), what is sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from chart_platform.settings import Settings
from chart_platform.simulator.messages import Message

PROGRESS_EVERY: Final = 5_000


class Producer(Protocol):
    """The part of ``confluent_kafka.Producer`` used here."""

    def produce(
        self, topic: str, value: bytes, key: bytes | None, *, on_delivery: Callable[[Any, Any], None]
    ) -> None: ...

    def poll(self, timeout: float) -> int: ...

    def flush(self, timeout: float) -> int: ...


@dataclass(slots=True)
class SendReport:
    """Counts of messages: ``sent`` to the client, ``delivered`` by the broker's word, ``failed`` by reason."""

    sent: int = 0
    delivered: int = 0
    bytes: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def unreported(self) -> int:
        return self.sent - self.delivered - sum(self.failed.values())


class SendError(RuntimeError):
    def __init__(self, topic: str, report: SendReport) -> None:
        reasons = ", ".join(f"{count} × {reason}" for reason, count in sorted(report.failed.items()))
        super().__init__(
            f"topic {topic!r}: of {report.sent} messages {report.delivered} were delivered, "
            f"{sum(report.failed.values())} failed ({reasons or 'none with a reason'}), "
            f"{report.unreported} got no report. Check that the broker is up and the topic exists, then send again: "
            f"what was delivered already then counts as duplicates."
        )
        self.report = report


def send(
    messages: Iterable[Message],
    settings: Settings,
    *,
    topic: str | None = None,
    producer: Producer | None = None,
    on_progress: Callable[[SendReport], None] | None = None,
    flush_timeout_s: float = 60.0,
) -> SendReport:
    """Send all messages in their order and wait for all delivery reports; raise :class:`SendError` if any failed.

    ``on_progress`` is called about every 5,000 messages and once at the end. The default topic is the events topic.
    """
    if producer is None:
        # Here and not above: generating and testing need no stream clients.
        from chart_platform.stream.clients import producer as make_producer

        producer = make_producer(settings)
    topic = topic or settings.kafka_topic
    report = SendReport()
    began = time.monotonic()

    def delivered(error: Any, _message: Any) -> None:
        if error is None:
            report.delivered += 1
        else:
            reason = str(error)
            report.failed[reason] = report.failed.get(reason, 0) + 1

    try:
        for message in messages:
            _produce(producer, topic, message, delivered, flush_timeout_s)
            report.sent += 1
            report.bytes += len(message.value)
            producer.poll(0)
            if on_progress is not None and report.sent % PROGRESS_EVERY == 0:
                report.seconds = time.monotonic() - began
                on_progress(report)
    finally:
        # Also on the way out of an interrupt: what was handed over should arrive.
        producer.flush(flush_timeout_s)
        report.seconds = time.monotonic() - began
    if on_progress is not None:
        on_progress(report)
    if report.delivered != report.sent:
        raise SendError(topic, report)
    return report


def _produce(
    producer: Producer, topic: str, message: Message, delivered: Callable[[Any, Any], None], timeout_s: float
) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            producer.produce(topic, message.value, message.key, on_delivery=delivered)
            return
        except BufferError:
            # The local queue is full: let reports come in, which frees it. Without any for this long, nobody listens.
            if time.monotonic() > deadline:
                raise
            producer.poll(0.1)
