"""Traffic of now: the same visitors and faults, at the pace of a clock.

Belongs here: pacing, and faults as a delay of what is to be sent.
Does not belong here: content (``visitors``), malforming (``faults``), sending (``send``).
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final, Protocol

from chart_platform.simulator.config import DAY_MS, SimulationConfig
from chart_platform.simulator.faults import EventFault, Faults, message_key, with_surrogate
from chart_platform.simulator.history import dead_letter, denied
from chart_platform.simulator.messages import Fault, Label, Message
from chart_platform.simulator.render import event_dt, event_text, transit, uuid7
from chart_platform.simulator.shape import burst_at, burst_factor
from chart_platform.simulator.visitors import Population, Step, Visit

SECONDS_PER_STEP: Final = 12.0
"""Visits go on side by side so that each acts about this often, whatever the rate."""

MAX_NAP_S: Final = 0.2
MAX_BACKLOG_S: Final = 1.0
"""A consumer that was slow gets at most this much at once; the rest of what it missed never happened."""

LIVE_LATE: Final = (timedelta(seconds=30), timedelta(minutes=5))
"""Late means less here than in a history: somebody is watching and wants to see it come in."""

LIVE_RETRY_MAX_MS: Final = 60_000

MIDNIGHT_MS: Final = 120_000
"""So long before midnight (UTC), clicks don't go through the redirect."""


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the epoch."""

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class _Open:
    """A visit that goes on."""

    __slots__ = ("held", "index", "last_ms", "visit")

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.index = 0
        self.last_ms = 0
        self.held: tuple[Step, int, int] | None = None  # out of order: waits for the next event to overtake it


def live(
    config: SimulationConfig,
    rate: float,
    clock: Clock | None = None,
    *,
    duration: timedelta | None = None,
    stop: Callable[[], bool] | None = None,
    late: tuple[timedelta, timedelta] = LIVE_LATE,
) -> Iterator[Message]:
    """Messages at ``rate`` original events a second, stamped with the clock's time, until ``duration`` or ``stop``.

    In the form of clients, a click without a fault is to be made through the redirect (``Message.redirected``).

    Blocks in between (``clock.sleep``, at most 0.2 s at a time). Of ``config`` it takes the seed, the faults and the
    bursts (absolute times); faults come on top of the rate. Delayed messages that are not due when the time is over
    are not sent, and so not part of the truth of what was sent.
    """
    if not rate > 0:
        raise ValueError(f"rate={rate}: live traffic needs more than 0 events a second")
    clock = clock or SystemClock()
    stopped = stop or (lambda: False)
    began = clock.now()
    until = began + duration.total_seconds() if duration else float("inf")
    stream = _Stream(config, max(1, round(rate * SECONDS_PER_STEP)), late)
    due = began
    while not stopped():
        now = clock.now()
        if now >= until:
            return
        now_ms = int(now * 1000)
        yield from stream.arrived(now_ms)
        factor = burst_factor(config.bursts, now_ms) if config.bursts else 1.0
        if factor == 0.0:
            due = now  # an outage is not made up for
            clock.sleep(min(MAX_NAP_S, until - now))
        elif due <= now:
            due = max(due, now - MAX_BACKLOG_S) + 1.0 / (rate * factor)
            yield from stream.event(now_ms)
        else:
            clock.sleep(max(0.0, min(due - now, MAX_NAP_S, until - now)))


def _can_redirect(step: Step, ts_ms: int) -> bool:
    """A click, and not so late in the day that the redirect, whose clock stamps it, might give it to the next one."""
    return step.event_type == "affiliate_click" and ts_ms % DAY_MS < DAY_MS - MIDNIGHT_MS


class _Stream:
    """Visits side by side and messages under way."""

    def __init__(self, config: SimulationConfig, visits: int, late: tuple[timedelta, timedelta]) -> None:
        self._config = config
        self._late = late
        self._visits = visits
        self._population = Population(config.seed, config.faults.missing_session, config.form)
        self._faults = Faults(config.seed, config.faults, config.form)
        self._rng = random.Random(f"{config.seed}:live")
        self._open: list[_Open] = []
        self._under_way: list[tuple[int, int, Message]] = []
        self._number = 0

    def arrived(self, now_ms: int) -> Iterator[Message]:
        """Delayed messages that are due."""
        while self._under_way and self._under_way[0][0] <= now_ms:
            yield heapq.heappop(self._under_way)[2]

    def _later(self, message: Message) -> None:
        heapq.heappush(self._under_way, (message.arrival_ms, self._number, message))
        self._number += 1

    def event(self, now_ms: int) -> Iterator[Message]:
        """The next original event, unless its fault is to come later, and what its fault adds at once."""
        rng = self._rng
        if len(self._open) < self._visits:
            self._open.append(_Open(self._population.visit(now_ms, 1 << 30)))
            place = len(self._open) - 1
        else:
            place = int(rng.random() * len(self._open))
        going = self._open[place]
        visit = going.visit
        step = visit.steps[going.index]
        bits = rng.getrandbits(20)
        sent = now_ms - 20 - (bits >> 12)
        ts = max(sent - (bits & 1023), going.last_ms + 1)
        sent = max(sent, ts)
        arrival = max(now_ms, sent)
        going.last_ms = ts
        going.index += 1
        last = going.index == len(visit.steps)
        if last:
            self._population.ended(visit, ts)
            # Replaced in place: the others keep their turn.
            self._open[place] = _Open(self._population.visit(now_ms, 1 << 30))

        fault = self._faults.draw(1).get(0)
        held, going.held = going.held, None
        if held is not None and fault == "late":
            fault = None  # this one must overtake what is held
        if fault == "out_of_order" and visit.session_id and not last and held is None:
            going.held = (step, ts, sent)
        else:
            yield from self._deliver(visit, step, ts, sent, arrival, fault)
        if held is not None:
            overtaken = arrival + self._faults.overtaken_by_ms()
            self._later(self._message(visit, *held, overtaken, "out_of_order")[0])

    def _deliver(
        self, visit: Visit, step: Step, ts: int, sent: int, arrival: int, fault: EventFault | None
    ) -> Iterator[Message]:
        faults = self._faults
        usual: Fault = "clean" if visit.session_id else "missing_session"
        if fault == "late" and visit.session_id:
            delay = faults.late_delay_ms(*self._late, 1 << 62)
            if delay is not None:
                self._later(self._message(visit, step, ts, sent + delay, arrival + delay, "late")[0])
                return
        if fault == "lone_surrogate" and visit.session_id:
            yield self._message(visit, step, ts, sent, arrival, "lone_surrogate")[0]
            return
        message, label, text = self._message(visit, step, ts, sent, arrival, usual)
        if self._config.form == "client" and fault is None and visit.session_id and _can_redirect(step, ts):
            label = label._replace(kind="redirected", event_id=None)
            yield message._replace(label=label, redirected=True)
            return
        yield message
        if fault == "exact_duplicate" or fault == "retry":
            value = message.value
            if fault == "exact_duplicate":
                delay = faults.duplicate_delay_ms()
            else:
                delay = min(faults.retry_delay_ms(), LIVE_RETRY_MAX_MS)
                form = self._config.form
                before, after = transit(sent, arrival, form), transit(sent + delay, arrival + delay, form)
                value = text.replace(before, after, 1).encode()
            twin = label._replace(fault=fault, expected="duplicate")
            self._later(message._replace(value=value, label=twin, arrival_ms=arrival + delay))
        elif fault == "invalid_schema" or fault == "broken_json" or fault == "bad_utf8":
            bad = faults.malform(fault, text, ts, visit.session_id)
            malformed = Message(bad.key, bad.value, dead_letter(fault, bad.kind, bad.event_id), ts, arrival)
            yield malformed
            if faults.comes_twice():
                twin = dead_letter("exact_duplicate", bad.kind, bad.event_id)
                self._later(malformed._replace(label=twin, arrival_ms=arrival + faults.duplicate_delay_ms()))
        elif fault == "denied_consent":
            other, event_id = faults.deny(text, ts)
            yield Message(None, other.encode(), denied(event_id), ts, arrival)

    def _message(
        self, visit: Visit, step: Step, ts: int, sent: int, arrival: int, fault: Fault
    ) -> tuple[Message, Label, str]:
        event_id = uuid7(ts, step.id_bits)
        in_transit = transit(sent, arrival, self._config.form)
        text = event_text(visit.head, step.event_type, event_id, ts, in_transit, step.tail)
        kind = None
        if fault == "lone_surrogate":
            text, kind = with_surrogate(text, self._faults.turn("lone_surrogate"))
        burst = burst_at(self._config.bursts, ts) if self._config.bursts else None
        label = Label(
            fault,
            "accepted",
            kind,
            event_id,
            event_dt(ts),
            step.event_type,
            visit.session_id,
            step.payout_cents,
            visit.number,
            visit.visitor.variant,
            visit.intent,
            burst.kind if burst else None,
        )
        return Message(message_key(visit.session_id, event_id), text.encode(), label, ts, arrival), label, text
