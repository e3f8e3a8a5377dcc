"""A past of any length, generated in the order of arrival.

Belongs here: the timeline of visits and what faults do to delivery.
Does not belong here: content (``visitors``), wall-clock pacing (``live``), sending (``send``).

Memory is bounded by the messages under way (visits going on and late ones to come), not by the length of the history:
visits begin in order of time, so whatever arrives before the next one begins can go out.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from chart_platform.simulator.config import SimulationConfig
from chart_platform.simulator.faults import Faults, with_surrogate
from chart_platform.simulator.messages import Fault, Label, Message
from chart_platform.simulator.render import event_dt, event_text, transit, uuid7
from chart_platform.simulator.shape import TrafficShape, burst_at
from chart_platform.simulator.visitors import Population, Visit

SETTLE_MS = 3_000
"""The last event is at least this much before the end, so that it, and a duplicate of it, can still arrive."""

MIN_BATCH = 4_096


def generate(config: SimulationConfig) -> Iterator[Message]:
    """All messages of a history, by time of arrival. The same config gives the same bytes, in any process."""
    if config.events == 0:
        return
    shape = TrafficShape(config)
    population = Population(config.seed, config.faults.missing_session, config.form)
    delivery = _Delivery(config)
    under_way: list[tuple[int, int, Message]] = []
    flush_at = MIN_BATCH
    made = 0
    while made < config.events:
        start_ms = shape.at(made / config.events)
        if len(under_way) >= flush_at:
            under_way.sort()
            ready = bisect_left(under_way, (start_ms,))
            for _, _, message in under_way[:ready]:
                yield message
            del under_way[:ready]
            # Waiting until the list has doubled keeps the sorting linear when many late messages are pending.
            flush_at = max(MIN_BATCH, 2 * len(under_way))
        visit = population.visit(start_ms, config.events - made)
        made += len(visit.steps)
        population.ended(visit, delivery.deliver(visit, start_ms, under_way))
    under_way.sort()
    for _, _, message in under_way:
        yield message


class _Delivery:
    """Gives the steps of a visit their times and puts the resulting messages under way."""

    def __init__(self, config: SimulationConfig) -> None:
        self._config = config
        self._end_ms = config.end_ms
        self._faults = Faults(config.seed, config.faults, config.form)
        self._form = config.form
        self._network = random.Random(f"{config.seed}:network")
        self._number = 0

    def deliver(self, visit: Visit, start_ms: int, out: list[tuple[int, int, Message]]) -> int:
        """Append the visit's messages as (arrival, number, message); return the time of its last event."""
        steps, end_ms, getrandbits = visit.steps, self._end_ms, self._network.getrandbits
        room = end_ms - SETTLE_MS - start_ms
        length = sum(step.gap_ms for step in steps)
        squeeze = room / length if length > room else 1.0  # only the very last visits have to hurry

        # The way without faults first: an event is out of order only in comparison with it.
        times: list[tuple[int, int, int]] = []
        offset = 0
        ingest = start_ms
        for step in steps:
            offset += step.gap_ms
            ts = start_ms + (offset if squeeze == 1.0 else int(offset * squeeze))
            bits = getrandbits(20)
            sent = ts + (bits & 1023)
            # One connection: a visit's events arrive in its order.
            ingest = max(ingest + 1, sent + 20 + (bits >> 12))
            times.append((ts, sent, ingest))

        drawn = self._faults.draw(len(steps))
        session_id, head, visitor = visit.session_id, visit.head, visit.visitor
        burst = burst_at(self._config.bursts, start_ms) if self._config.bursts else None
        about = (visit.number, visitor.variant, visit.intent, burst.kind if burst else None)
        key = session_id.encode() if session_id else None
        usual: Fault = "clean" if session_id else "missing_session"
        number, form = self._number, self._form
        for index, step in enumerate(steps):
            ts, sent, ingest = times[index]
            fault = drawn.get(index) if drawn else None
            label_fault, kind = usual, None
            if fault == "late" and session_id:
                delay = self._faults.late_delay_ms(
                    self._config.faults.late_min, self._config.faults.late_max, end_ms - 1 - ingest
                )
                if delay is not None:
                    label_fault, sent, ingest = "late", sent + delay, ingest + delay
            elif (
                fault == "out_of_order"
                and session_id
                and index + 1 < len(steps)
                and drawn.get(index + 1) not in ("late", "out_of_order")
            ):
                label_fault = "out_of_order"
                ingest = min(times[index + 1][2] + self._faults.overtaken_by_ms(), end_ms - 1)
            event_id = uuid7(ts, step.id_bits)
            text = event_text(head, step.event_type, event_id, ts, transit(sent, ingest, form), step.tail)
            if fault == "lone_surrogate" and session_id:
                label_fault = "lone_surrogate"
                text, kind = with_surrogate(text, self._faults.turn("lone_surrogate"))
            value = text.encode()
            message_key_ = key or event_id.encode()
            label = Label(
                label_fault,
                "accepted",
                kind,
                event_id,
                event_dt(ts),
                step.event_type,
                session_id,
                step.payout_cents,
                *about,
            )
            out.append((ingest, number, Message(message_key_, value, label, ts, ingest)))
            number += 1
            if fault is None or label_fault == fault:
                continue

            if fault == "exact_duplicate" or fault == "retry":
                delay = (
                    self._faults.duplicate_delay_ms() if fault == "exact_duplicate" else self._faults.retry_delay_ms()
                )
                again = min(ingest + delay, end_ms - 1)
                if fault == "retry":
                    resent = min(sent + delay, again)
                    before, after = transit(sent, ingest, form), transit(resent, again, form)
                    value = text.replace(before, after, 1).encode()
                twin = label._replace(fault=fault, expected="duplicate")
                out.append((again, number, Message(message_key_, value, twin, ts, again)))
                number += 1
            elif fault == "invalid_schema" or fault == "broken_json" or fault == "bad_utf8":
                bad = self._faults.malform(fault, text, ts, session_id)
                label = dead_letter(fault, bad.kind, bad.event_id)
                out.append((ingest, number, Message(bad.key, bad.value, label, ts, ingest)))
                number += 1
                if self._faults.comes_twice():
                    again = min(ingest + self._faults.duplicate_delay_ms(), end_ms - 1)
                    label = dead_letter("exact_duplicate", bad.kind, bad.event_id)
                    out.append((again, number, Message(bad.key, bad.value, label, ts, again)))
                    number += 1
            elif fault == "denied_consent":
                other, event_id = self._faults.deny(text, ts)
                out.append((ingest, number, Message(None, other.encode(), denied(event_id), ts, ingest)))
                number += 1
        self._number = number
        return times[-1][0]


def dead_letter(fault: Fault, kind: str, event_id: str | None) -> Label:
    return Label(fault, "dead_letter", kind, event_id, *_UNTOLD)


def denied(event_id: str) -> Label:
    return Label("denied_consent", "discarded", None, event_id, *_UNTOLD)


_UNTOLD: Final = (None,) * 8
"""Members of a label that say what the platform must have of an event; of these it must have nothing."""
