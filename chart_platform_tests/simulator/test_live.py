"""Live traffic: its pace, its times and its faults, by a clock that needs no waiting."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest

from chart_platform.simulator import Burst, FaultRates, GroundTruth, SimulationConfig, live
from chart_platform_tests.simulator.conftest import HEAVY, scrub, strict_json

START = datetime(2026, 11, 20, 23, 50, tzinfo=UTC)


class FakeClock:
    """Time passes by sleeping alone."""

    def __init__(self) -> None:
        self.time = START.timestamp()

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.time += max(seconds, 0.0005)


def test_the_rate_is_kept_and_the_run_ends_by_its_duration() -> None:
    clock = FakeClock()
    messages = list(live(SimulationConfig(seed=1), 50.0, clock, duration=timedelta(minutes=2)))
    assert len(messages) == pytest.approx(6_000, rel=0.03)
    assert clock.now() - START.timestamp() == pytest.approx(120, abs=0.5)


def test_live_events_are_valid_and_stamped_with_the_time_of_the_clock(is_valid: Callable[[Any], bool]) -> None:
    clock = FakeClock()
    seen = 0
    for message in live(SimulationConfig(seed=1, faults=HEAVY), 40.0, clock, duration=timedelta(minutes=5)):
        assert message.label
        assert message.arrival_ms <= clock.now() * 1000 + 50
        if message.label.expected == "dead_letter":
            continue
        assert is_valid(scrub(strict_json(message.value)))
        if message.label.fault in ("clean", "missing_session", "lone_surrogate"):
            assert 0 < clock.now() * 1000 - message.ts_ms < 2_000
        if message.label.fault == "late":
            assert message.arrival_ms - message.ts_ms >= 30_000
        seen += 1
    assert seen > 10_000


def test_live_traffic_has_every_fault_and_its_truth_adds_up() -> None:
    messages = list(live(SimulationConfig(seed=1, faults=HEAVY), 40.0, FakeClock(), duration=timedelta(minutes=12)))
    summary = GroundTruth.of(messages).summary()
    assert len(summary["faults"]) == 10
    assert summary["sent"] == summary["accepted"] + summary["duplicates"] + summary["dead_letters"]
    assert set(summary["events_by_day"]) == {"2026-11-20", "2026-11-21"}
    accepted = [m.label.event_id for m in messages if m.label and m.label.expected == "accepted"]
    assert len(accepted) == len(set(accepted)) == summary["accepted"]


def test_live_events_out_of_order_are_overtaken_by_a_later_one() -> None:
    faults = FaultRates(out_of_order=0.1, late=0.1)
    latest: dict[str, int] = {}
    overtaken = 0
    for message in live(SimulationConfig(seed=2, faults=faults), 20.0, FakeClock(), duration=timedelta(minutes=10)):
        assert message.label and message.label.session_id
        seq = strict_json(message.value)["seq"]
        if message.label.fault == "out_of_order":
            assert latest[message.label.session_id] > seq
            overtaken += 1
        latest[message.label.session_id] = max(seq, latest.get(message.label.session_id, -1))
    assert overtaken > 100


def test_a_spike_and_an_outage_change_the_pace() -> None:
    minute = timedelta(minutes=1)
    bursts = (Burst(START + minute, minute, 5.0), Burst(START + 3 * minute, minute, 0.0))
    counts = [0] * 5
    for message in live(SimulationConfig(bursts=bursts), 20.0, FakeClock(), duration=5 * minute):
        counts[int((message.arrival_ms / 1000 - START.timestamp()) // 60)] += 1
    assert counts == pytest.approx([1_200, 6_000, 1_200, 0, 1_200], rel=0.06, abs=30)


def test_the_content_is_seeded_aside_from_time() -> None:
    def pages(offset: float) -> list[str]:
        clock = FakeClock()
        clock.time += offset
        return [
            strict_json(m.value)["ctx"]["page_url"] for m in islice(live(SimulationConfig(seed=9), 5.0, clock), 200)
        ]

    assert pages(0.0) == pages(1_000.0)


def test_it_stops_when_told() -> None:
    messages = []
    for message in live(SimulationConfig(), 1_000.0, FakeClock(), stop=lambda: len(messages) >= 25):
        messages.append(message)
    assert len(messages) == 25


def test_a_slow_consumer_is_not_flooded_afterwards() -> None:
    clock = FakeClock()
    stream = live(SimulationConfig(), 10.0, clock)
    next(stream)
    clock.time += 3_600
    before = clock.now()
    burst = 0
    for _ in stream:
        if clock.now() > before:
            break
        burst += 1
    assert burst <= 12


def test_the_system_clock_keeps_the_rate() -> None:
    began = time.monotonic()
    messages = list(live(SimulationConfig(seed=1), 200.0, duration=timedelta(seconds=1)))
    assert 0.9 < time.monotonic() - began < 2.0
    assert 120 <= len(messages) <= 210


def test_no_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="rate=0"):
        next(live(SimulationConfig(), 0.0))
