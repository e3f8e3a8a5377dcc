"""How each fault is made, and which event draws one.

Belongs here: drawing faults, their delays, malforming a good event.
Does not belong here: how often (``config``), delivery order (``history``, ``live``).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, Literal, NamedTuple

import orjson

from chart_platform.simulator.config import FaultRates, Form
from chart_platform.simulator.messages import Fault
from chart_platform.simulator.render import uuid7

EventFault = Literal[
    "exact_duplicate",
    "retry",
    "late",
    "out_of_order",
    "invalid_schema",
    "broken_json",
    "bad_utf8",
    "lone_surrogate",
    "denied_consent",
]
MalformedFault = Literal["invalid_schema", "broken_json", "bad_utf8"]
EVENT_FAULTS: Final[tuple[EventFault, ...]] = (
    "exact_duplicate",
    "retry",
    "late",
    "out_of_order",
    "invalid_schema",
    "broken_json",
    "bad_utf8",
    "lone_surrogate",
    "denied_consent",
)


class Malformed(NamedTuple):
    value: bytes
    key: bytes | None
    kind: str
    event_id: str | None
    """Only if a reader can find it."""


Document = dict[str, Any]


def _without(name: str) -> Callable[[Document], object]:
    return lambda event: event.pop(name)


def _with(**members: object) -> Callable[[Document], object]:
    return lambda event: event.update(members)


def _inside(name: str, **members: object) -> Callable[[Document], object]:
    return lambda event: event.update({name: {**(event.get(name) or {}), **members}})


def _click(payout_cents: object) -> Callable[[Document], object]:
    target = "https://www.sitesmith.example/premium"
    affiliate = {"link_id": "sitesmith-premium-top", "target": target, "payout_cents": payout_cents}
    return _with(event_type="affiliate_click", affiliate=affiliate)


INVALID: Final[dict[str, Callable[[Document], object]]] = {
    "missing_event_type": _without("event_type"),
    "missing_event_id": _without("event_id"),
    "missing_ts": _without("ts"),
    "missing_user": _without("user"),
    "interaction_without_chart": lambda event: (event.update(event_type="chart_interaction"), event.pop("chart", None)),
    "click_without_affiliate": _with(event_type="affiliate_click", affiliate=None),
    "wrong_type_user": _with(user="visitor-1"),
    "wrong_type_seq": _with(seq="3"),
    "wrong_type_product_ids": _inside("chart", product_ids="sitesmith"),
    "wrong_type_control_value": _inside("chart", control_value={"value": 1}),
    "wrong_type_session_id": _inside("session", session_id=4711),
    "fractional_payout": _click(1250.5),
    "payout_as_text": _click("1250"),
    "negative_payout": _click(-100),
    "bad_event_type": _with(event_type="purchase"),
    "bad_action": _inside("chart", action="zoom"),
    "unknown_member": _with(debug=True),
    "bad_uuid": _with(event_id="not-a-uuid"),
    "bad_ts_text": _with(ts="yesterday at noon"),
    "bad_ts_calendar": _with(ts="2026-02-30T10:00:00.000Z"),
    "bad_ts_number": _with(ts=1793520000000),
    "bad_schema_version": _with(schema_version="2.0.0"),
    "negative_ingest_ts": _with(ingest_ts=-1),
}
"""Kinds of ``invalid_schema`` made by changing a good event; each breaks exactly one rule."""

NOT_OBJECTS: Final[dict[str, bytes]] = {
    "not_an_object_array": b"[]",
    "not_an_object_text": b'"page_view"',
    "not_an_object_null": b"null",
}
INVALID_KINDS: Final = (*INVALID, *NOT_OBJECTS)

BROKEN: Final[dict[str, Callable[[str, random.Random], str]]] = {
    "truncated": lambda text, rng: text[: rng.randrange(1, len(text))],
    "trailing_comma": lambda text, _: text[:-1] + ",}",
    "nan": lambda text, _: text.replace('"seq":', '"seq":NaN,"was":', 1),
    "infinity": lambda text, _: text.replace('"seq":', '"seq":-Infinity,"was":', 1),
    "garbage": lambda _, rng: f"<html>502 Bad Gateway {rng.getrandbits(32):08x}</html>",
    "two_documents": lambda text, _: text + text,
    "single_quotes": lambda text, _: text.replace('"', "'"),
    "control_character": lambda text, _: text.replace('"page_url":"', '"page_url":"\x00', 1),
    "empty": lambda *_: "",
}

BAD_BYTES: Final[dict[str, bytes]] = {
    "stray_byte": b"\xff",
    "stray_continuation": b"\x80",
    "cut_sequence": b"\xe2\x82",
    "overlong": b"\xc0\xaf",
    "encoded_surrogate": b"\xed\xa0\x80",
    "latin1": b"Gr\xf6\xdfe",
    "beyond_unicode": b"\xf5\x80\x80\x80",
}

UNREADABLE: Final = frozenset((*BROKEN, *BAD_BYTES))
"""Kinds that spoil the whole request that they are part of."""

SURROGATES: Final[dict[str, str]] = {
    "high": "\\ud800",
    "low": "\\udc00",
    "reversed_pair": "\\uDE00\\uD83D",
    "two_high": "\\ud83d\\ud83d",
}


def with_surrogate(text: str, turn: int) -> tuple[str, str]:
    """The event with a lone surrogate, escaped, in its page_url or referrer; and which kind it is."""
    member = ("page_url", "referrer")[turn // len(SURROGATES) % 2]
    kind = tuple(SURROGATES)[turn % len(SURROGATES)]
    start = text.index(f'"{member}":"') + len(member) + 4
    end = text.index('"', start)
    return f"{text[:end]}{SURROGATES[kind]}{text[end:]}", f"{kind}_in_{member}"


def message_key(session_id: object, event_id: object) -> bytes | None:
    """Key of a message on the topic: the session, else the event, else none (the broker spreads those)."""
    for candidate in (session_id, event_id):
        if isinstance(candidate, str) and candidate:
            return candidate.encode()
    return None


class Faults:
    """Draws faults. Has a generator of its own, so that the original events are the same with and without faults."""

    def __init__(self, seed: int, rates: FaultRates, form: Form) -> None:
        self._rng = random.Random(f"{seed}:faults")
        self._chances = [
            (fault, float(getattr(rates, fault)))
            for fault in EVENT_FAULTS
            if form == "client" or fault != "denied_consent"
        ]
        self._total = sum(chance for _, chance in self._chances)
        self._skip = self._gap()
        self._twice = 0.1 if rates.exact_duplicate > 0 else 0.0
        # Kinds take turns, so that a short run has all of them.
        self._turns: dict[Fault, int] = {}

    def _gap(self) -> int:
        """How many events pass before the next fault: one logarithm a fault instead of one draw an event."""
        if self._total < 1e-12:  # also keeps the quotient below finite
            return 1 << 62
        if self._total >= 1:
            return 0
        return int(math.log(1.0 - self._rng.random()) / math.log1p(-self._total))

    def draw(self, events: int) -> dict[int, EventFault]:
        """Faults of the next ``events`` events by their position."""
        if self._skip >= events:
            self._skip -= events
            return {}
        drawn: dict[int, EventFault] = {}
        position = self._skip
        while position < events:
            pick = self._rng.random() * self._total
            for fault, chance in self._chances:
                if pick < chance:
                    drawn[position] = fault
                    break
                pick -= chance
            position += 1 + self._gap()
        self._skip = position - events
        return drawn

    def turn(self, fault: Fault) -> int:
        turn = self._turns.get(fault, 0)
        self._turns[fault] = turn + 1
        return turn

    def _log_uniform(self, low_ms: float, high_ms: float) -> int:
        """Every magnitude alike: many short delays, some long ones."""
        return int(low_ms * (high_ms / low_ms) ** self._rng.random())

    def duplicate_delay_ms(self) -> int:
        return self._log_uniform(5, 60_000)

    def retry_delay_ms(self) -> int:
        """Seconds, up to hours: a tab that slept. Some retries land on another day."""
        return self._log_uniform(1_000, 6 * 3_600_000)

    def late_delay_ms(self, low: timedelta, high: timedelta, room_ms: int) -> int | None:
        """None when there is no room for even the shortest one."""
        low_ms, high_ms = low / timedelta(milliseconds=1), high / timedelta(milliseconds=1)
        if room_ms <= low_ms:
            return None
        return self._log_uniform(low_ms, min(high_ms, room_ms))

    def overtaken_by_ms(self) -> int:
        return self._rng.randint(1, 3_000)

    def comes_twice(self) -> bool:
        return self._rng.random() < self._twice

    def deny(self, text: str, ts_ms: int) -> tuple[str, str]:
        """An event like ``text`` of another visitor, who denies consent, and its id."""
        event_id = uuid7(ts_ms, self._rng.getrandbits(74))
        event: Document = orjson.loads(text)
        event["event_id"] = event_id
        event["user"]["user_id_hash"] = f"sha256:{self._rng.getrandbits(256):064x}"
        event["user"]["consent"] = {"analytics": False, "ads": False}
        event["session"]["session_id"] = f"sid_{self._rng.getrandbits(96):024x}"
        return orjson.dumps(event).decode(), event_id

    def malform(self, fault: MalformedFault, text: str, ts_ms: int, session_id: str | None) -> Malformed:
        """A bad message made of a good event, under an identity of its own."""
        turn = self.turn(fault)
        event_id = uuid7(ts_ms, self._rng.getrandbits(74))
        start = text.index('"event_id":"') + len('"event_id":"')
        text = text[:start] + event_id + text[start + 36 :]
        if fault == "broken_json":
            kind = tuple(BROKEN)[turn % len(BROKEN)]
            return Malformed(BROKEN[kind](text, self._rng).encode(), None, kind, None)
        if fault == "bad_utf8":
            kind = tuple(BAD_BYTES)[turn % len(BAD_BYTES)]
            value = text.encode().replace(b'"page_url":"', b'"page_url":"' + BAD_BYTES[kind], 1)
            return Malformed(value, None, kind, None)
        kind = INVALID_KINDS[turn % len(INVALID_KINDS)]
        if kind in NOT_OBJECTS:
            return Malformed(NOT_OBJECTS[kind], None, kind, None)
        event: Document = orjson.loads(text)
        INVALID[kind](event)
        session = event.get("session")
        key = message_key(session.get("session_id") if isinstance(session, dict) else session_id, event.get("event_id"))
        readable = event_id if event.get("event_id") == event_id else None
        return Malformed(orjson.dumps(event), key, kind, readable)
