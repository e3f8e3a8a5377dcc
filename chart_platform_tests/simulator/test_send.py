"""Sending: every message is accounted for. The broker is librdkafka's own mock, or a stub that misbehaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chart_platform.settings import Settings
from chart_platform.simulator import SimulationConfig, generate
from chart_platform.simulator.send import SendError, SendReport, send
from chart_platform.stream.clients import producer
from chart_platform_tests.simulator.conftest import History


class Stub:
    """A producer with a queue of ten that reports on poll and fails what it is told to fail."""

    def __init__(self, fails: Callable[[bytes], bool] = lambda _: False, *, silent: bool = False) -> None:
        self.fails = fails
        self.silent = silent
        self.taken: list[tuple[str, bytes | None, bytes]] = []
        self.waiting: list[tuple[bytes, Callable[[Any, Any], None]]] = []
        self.refused = 0

    def produce(self, topic: str, value: bytes, key: bytes | None, *, on_delivery: Callable[[Any, Any], None]) -> None:
        if len(self.waiting) >= 10:
            self.refused += 1
            raise BufferError("queue full")
        self.taken.append((topic, key, value))
        self.waiting.append((value, on_delivery))

    def poll(self, timeout: float) -> int:
        if timeout == 0:
            return 0
        return self._report()

    def flush(self, timeout: float) -> int:
        assert timeout > 0
        return self._report()

    def _report(self) -> int:
        if self.silent:
            return 0
        waiting, self.waiting = self.waiting, []
        for value, report in waiting:
            report("broker said no" if self.fails(value) else None, None)
        return len(waiting)


def test_messages_go_out_in_order_through_a_full_queue(heavy: History) -> None:
    stub = Stub()
    report = send(heavy.messages, Settings(), producer=stub)
    assert stub.taken == [("chart.events", m.key, m.value) for m in heavy.messages]
    assert stub.refused > 0
    assert report.delivered == report.sent == len(heavy.messages)
    assert report.bytes == sum(len(m.value) for m in heavy.messages)


def test_failures_raise_with_their_counts(pure: History) -> None:
    clicks = [m for m in pure.messages if b"affiliate_click" in m.value]
    with pytest.raises(SendError, match="broker said no") as raised:
        send(pure.messages, Settings(), producer=Stub(lambda value: b"affiliate_click" in value), topic="other")
    report = raised.value.report
    assert report.failed == {"broker said no": len(clicks)}
    assert report.delivered == len(pure.messages) - len(clicks)


def test_messages_without_a_report_are_not_taken_for_delivered(pure: History) -> None:
    with pytest.raises(SendError, match="5 got no report"):
        send(pure.messages[:5], Settings(), producer=Stub(silent=True))


def test_a_queue_that_never_drains_is_an_error_and_no_hang(pure: History) -> None:
    with pytest.raises(BufferError):
        send(pure.messages, Settings(), producer=Stub(silent=True), flush_timeout_s=0.05)


def test_progress_is_told_along_the_way_and_at_the_end(heavy: History) -> None:
    told: list[int] = []

    def on_progress(report: SendReport) -> None:
        told.append(report.sent)

    send(heavy.messages, Settings(), producer=Stub(), on_progress=on_progress)
    assert told == [*range(5_000, len(heavy.messages) + 1, 5_000), len(heavy.messages)]


def test_the_platforms_own_producer_delivers_everything() -> None:
    client = producer(Settings(), **{"test.mock.num.brokers": 1, "log_level": 0})
    report = send(generate(SimulationConfig(events=2_000)), Settings(), producer=client)
    assert report.delivered == report.sent == 2_000
