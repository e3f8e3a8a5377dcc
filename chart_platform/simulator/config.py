"""What a caller asks of the simulator: how much traffic, over which time, with which faults.

Belongs here: the plain, validated request objects.
Does not belong here: how visitors behave (``behaviour``, ``visitors``) or how a fault is made (``faults``).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Literal

DAY_MS: Final = 86_400_000

Form = Literal["topic", "client"]
"""Where events enter, and so how they look: at the Kafka topic, as the edge writes them, or over HTTP, as clients do."""

DEFAULT_END: Final = date(2026, 11, 1)
"""A fixed day, because the same config must give the same bytes on any day."""


def epoch_ms(moment: date | datetime) -> int:
    """Milliseconds since the epoch; a bare date is its midnight UTC."""
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, time(), UTC)
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone: give a UTC datetime, e.g. with tzinfo=UTC")
    # Integer arithmetic: float seconds would round some milliseconds differently.
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRates:
    """How often each fault happens. All are shares of the original events, except ``missing_session``.

    An event draws at most one of the event-level faults, so that every message has one label and one cause.

    * ``exact_duplicate``, ``retry``: an additional message, beside the original.
    * ``invalid_schema``, ``broken_json``, ``bad_utf8``: an additional, malformed message with an identity of its own:
      the number of valid events does not change. When ``exact_duplicate`` is on, a tenth of the malformed ones
      comes twice.
    * ``late``, ``out_of_order``, ``lone_surrogate``: happen to the original itself, which stays valid.
    * ``denied_consent``: an additional event of another visitor, who denies consent to analytics: nothing of it may be
      kept. Only in the form of clients, as it is the edge that sees to it.
    * ``missing_session``: share of the *visitors* whose browser stores no session id.
    """

    exact_duplicate: float = 0.0
    retry: float = 0.0
    late: float = 0.0
    out_of_order: float = 0.0
    missing_session: float = 0.0
    invalid_schema: float = 0.0
    broken_json: float = 0.0
    bad_utf8: float = 0.0
    lone_surrogate: float = 0.0
    denied_consent: float = 0.0
    late_min: timedelta = timedelta(minutes=5)
    late_max: timedelta = timedelta(days=3)

    def __post_init__(self) -> None:
        rates = {f.name: getattr(self, f.name) for f in fields(self) if not f.name.startswith("late_")}
        for name, rate in rates.items():
            if not 0.0 <= rate <= 1.0:
                raise ValueError(f"fault rate {name}={rate} is not between 0 and 1")
        if (total := sum(rates.values()) - self.missing_session) > 1.0 + 1e-9:
            raise ValueError(f"fault rates sum to {total:.3f}: an event draws at most one fault, so keep the sum ≤ 1")
        if not timedelta(seconds=1) <= self.late_min <= self.late_max:
            raise ValueError(f"late_min={self.late_min} and late_max={self.late_max}: need 1 s ≤ late_min ≤ late_max")

    @classmethod
    def none(cls) -> FaultRates:
        return cls()

    @classmethod
    def default(cls) -> FaultRates:
        """About what a public collector sees on an ordinary day."""
        return cls(
            exact_duplicate=0.01,
            retry=0.01,
            late=0.01,
            out_of_order=0.02,
            missing_session=0.03,
            invalid_schema=0.004,
            broken_json=0.001,
            bad_utf8=0.0005,
            lone_surrogate=0.0005,
            denied_consent=0.005,
        )


@dataclass(frozen=True, slots=True)
class Burst:
    """Traffic times ``factor`` for a while: above 1 a spike, below 1 a drop, 0 an outage."""

    start: datetime
    duration: timedelta
    factor: float

    def __post_init__(self) -> None:
        if self.factor < 0 or self.duration <= timedelta(0):
            raise ValueError(f"burst of factor {self.factor} for {self.duration}: need factor ≥ 0 and a duration > 0")
        epoch_ms(self.start)  # refuses a naive datetime here, not at first use

    @property
    def kind(self) -> str:
        return "spike" if self.factor > 1 else "drop"

    @property
    def span_ms(self) -> tuple[int, int]:
        start = epoch_ms(self.start)
        return start, start + self.duration // timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationConfig:
    """One history (or, for live traffic, its seed, faults and bursts).

    ``events`` is the exact number of distinct valid events: faults add messages, they never change this number, nor
    which events these are. All times fall into ``[end - days, end)``, arrival included; a bare date as ``end`` means
    its midnight, so that its own day has no events. ``bursts`` move traffic in time and leave its sum alone.
    """

    seed: int = 0
    events: int = 100_000
    days: int = 7
    end: date | datetime = DEFAULT_END
    faults: FaultRates = field(default_factory=FaultRates.none)
    bursts: tuple[Burst, ...] = ()
    form: Form = "topic"

    def __post_init__(self) -> None:
        if self.events < 0:
            raise ValueError(f"events={self.events} is negative")
        if self.days < 1:
            raise ValueError(f"days={self.days}: a history has at least one day")
        epoch_ms(self.end)

    @property
    def end_ms(self) -> int:
        return epoch_ms(self.end)

    @property
    def begin_ms(self) -> int:
        return self.end_ms - self.days * DAY_MS
