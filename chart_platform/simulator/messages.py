"""What the simulator hands out: a message as the broker gets it, and the truth about it.

Belongs here: the two records and their vocabulary.
Does not belong here: counting labels (``truth``), making messages (``history``, ``live``).
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from chart_platform.simulator.behaviour import Intent, Variant

EventType = Literal["page_view", "chart_interaction", "affiliate_click"]

Fault = Literal[
    "clean",
    "exact_duplicate",
    "retry",
    "late",
    "out_of_order",
    "missing_session",
    "invalid_schema",
    "broken_json",
    "bad_utf8",
    "lone_surrogate",
    "denied_consent",
]
FAULTS: Final[tuple[Fault, ...]] = (
    "clean",
    "exact_duplicate",
    "retry",
    "late",
    "out_of_order",
    "missing_session",
    "invalid_schema",
    "broken_json",
    "bad_utf8",
    "lone_surrogate",
    "denied_consent",
)

Expected = Literal["accepted", "duplicate", "dead_letter", "discarded"]


# Tuples and not dataclasses: a million of them a run, and a frozen dataclass costs three times as much to make.
class Label(NamedTuple):
    """What is true of one message. Of a dead letter only ``event_id`` is told, and only where it can be read.

    A redirected click (``kind``) has none: the redirect mints it.
    """

    fault: Fault
    expected: Expected
    kind: str | None
    """Which sort of the fault, e.g. ``missing_ts``."""
    event_id: str | None
    event_dt: str | None
    event_type: EventType | None
    session_id: str | None
    """As the platform should see it: null for a visitor whose browser stores none."""
    payout_cents: int | None
    session_number: int | None
    """The simulator's own count of visits, present where ``session_id`` is missing, too."""
    variant: Variant | None
    intent: Intent | None
    traffic: str | None
    """``spike`` or ``drop`` when the visit began inside a burst."""


class Message(NamedTuple):
    key: bytes | None
    value: bytes
    label: Label | None
    ts_ms: int
    """Time of the event by the client's clock (of a malformed message: of the event it was made from)."""
    arrival_ms: int
    """When it reaches the collector."""
    redirected: bool = False
    """A click to be made by following the link through the redirect, which then writes the event of ``value``."""
