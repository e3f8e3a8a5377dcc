"""The messages of a benchmark: the simulator's, or trimmed to the size that the design's bar is set for.

Belongs here: what is sent and sending it. Does not belong here: reading it (``contenders``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from socket import socket

import orjson

from chart_platform.settings import Settings
from chart_platform.simulator import FaultRates, Message, SimulationConfig, generate
from chart_platform.simulator.send import send
from chart_platform.stream.broker import ensure_broker
from chart_platform.stream.topics import ensure_topics

# Duplicates, retries, late events and visitors without a session: what every contender can store. Malformed messages
# are left out, because the rivals have no answer to them and would fail or write nulls.
FAULTS = FaultRates(exact_duplicate=0.01, retry=0.01, late=0.01, out_of_order=0.02, missing_session=0.03)
_MALFORMED = FaultRates.default()


@dataclass(frozen=True)
class Traffic:
    """What was sent: messages and their bytes."""

    messages: int
    bytes: int

    @property
    def average_bytes(self) -> float:
        return self.bytes / self.messages


def messages(
    count: int, days: int = 1, lean: bool = False, malformed: bool = False, seed: int = 7
) -> Iterator[Message]:
    """Exactly ``count`` messages, the first of a seeded history of ``days`` that ended last midnight UTC."""
    faults = _MALFORMED if malformed else FAULTS
    # Not a fixed day: the further back events lie, the more days segments are judged for.
    end = datetime.now(UTC).date()
    config = SimulationConfig(seed=seed, events=count, days=days, end=end, faults=faults)
    found: Iterator[Message] = islice(generate(config), count)
    return map(_trimmed, found) if lean else found


def _trimmed(message: Message) -> Message:
    """The same event with a short user agent, no referrer and only few optional members: about 650 bytes."""
    try:
        event = orjson.loads(message.value)
    except orjson.JSONDecodeError:
        return message
    for member in ("metadata", "page_view_id", "sent_at"):
        event.pop(member, None)
    for member in ("privacy", "session", "ctx", "affiliate", "chart"):
        if event.get(member) is not None:
            event[member] = {name: value for name, value in event[member].items() if value is not None}
        else:
            event.pop(member, None)
    if ctx := event.get("ctx"):
        ctx["user_agent"] = "Mozilla/5.0 Chrome/142"
        ctx.pop("referrer", None)
        ctx["page_url"] = ctx["page_url"].partition("?")[0]
    return message._replace(value=orjson.dumps(event))


def free_port_pair() -> int:
    """A port that is free together with the next one, as the embedded broker needs them."""
    while True:
        with socket() as first, socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


@contextmanager
def broker(home: Path) -> Iterator[Settings]:
    """An embedded Kafka in ``home`` for the time of the block, with settings that reach it as an external one."""
    embedded = Settings(home=home, kafka_port=free_port_pair(), kafka_bootstrap_servers=None)
    with ensure_broker(embedded, die_with_parent=True):
        yield embedded.model_copy(update={"kafka_bootstrap_servers": embedded.bootstrap_servers})


def fill(settings: Settings, topic: str, traffic: Iterator[Message]) -> Traffic:
    """Create ``topic`` and send everything to it."""
    settings = settings.model_copy(update={"kafka_topic": topic, "kafka_dlq_topic": f"{topic}.dlq"})
    ensure_topics(settings)
    report = send(traffic, settings)
    return Traffic(report.delivered, report.bytes)
