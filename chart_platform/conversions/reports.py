"""A record of a network's file as a row of bronze.conversion_reports, or every reason why it is none.

Belongs here: which values make a report. Does not belong here: where records come from (``records``, ``postbacks``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from chart_platform.conversions import values
from chart_platform.conversions.networks import Columns, Constant, Network
from chart_platform.conversions.records import Record
from chart_platform.conversions.values import Refused

_REQUIRED = ("transaction_id", "status", "event_time", "commission", "currency")


@dataclass(frozen=True)
class Reason:
    """Why a record was refused: a stable code, the network's name of the column, and text for people."""

    code: str
    column: str | None
    message: str

    def as_row(self) -> dict[str, str | None]:
        return {"code": self.code, "column": self.column, "message": self.message}


@dataclass(frozen=True)
class Bounds:
    """The days on which a conversion can have happened; beyond them the clock or the mapping is wrong."""

    first_day: date
    latest: datetime

    @classmethod
    def at(cls, received_at: datetime, first_day: date, max_future_hours: int) -> Bounds:
        return cls(first_day, received_at + timedelta(hours=max_future_hours))


class _Reading:
    """Reads the values of one record and collects what is wrong with them."""

    def __init__(self, record: Record, columns: Columns) -> None:
        assert record.values is not None
        self._values, self._doubled, self._columns = record.values, record.doubled, columns
        self.reasons: list[Reason] = []

    def take(self, ours: str, read: Callable[[Any], Any]) -> Any:
        source = getattr(self._columns, ours)
        if source is None:
            return None
        if isinstance(source, Constant):
            return read(source.value)
        column = source.strip().casefold()
        if column in self._doubled:
            return self.refuse(Refused("duplicate_column", "is there more than once"), source)
        try:
            value = read(self._values.get(column))
        except Refused as refused:
            return self.refuse(refused, source)
        if value is None and ours in _REQUIRED:
            return self.refuse(Refused("missing", "is empty or not there"), source)
        return value

    def refuse(self, refused: Refused, column: str | None) -> None:
        self.reasons.append(Reason(refused.code, column, str(refused)))


def read(record: Record, network: Network, bounds: Bounds) -> tuple[dict[str, Any] | None, list[Reason]]:
    """The report's own columns, or None with every reason."""
    if record.values is None:
        assert record.problem is not None
        return None, [Reason(record.problem.code, None, str(record.problem))]
    columns = network.columns
    reading = _Reading(record, columns)
    word = reading.take("status", values.text)
    status = network.status_of.get(word.casefold()) if word is not None else None
    if word is not None and status is None:
        known = ", ".join(network.status_of)
        reading.refuse(Refused("unknown_status", f"{word!r} is none of {known}"), columns.named.get("status"))
    event_ts = reading.take("event_time", lambda value: values.moment(value, network))
    if event_ts is not None and (event_ts.date() < bounds.first_day or event_ts > bounds.latest):
        message = f"{event_ts} UTC is not from {bounds.first_day} to {bounds.latest:%Y-%m-%d %H:%M}"
        reading.refuse(Refused("out_of_range", message), columns.event_time)
    updated_ts = reading.take("updated_time", lambda value: values.moment(value, network))
    row = {
        "network": network.name,
        "transaction_id": reading.take("transaction_id", values.text),
        "click_id": reading.take("click_id", values.text),
        "status": status,
        "network_status": word,
        "event_ts": event_ts,
        # Where a network tells of changes, a conversion without one is as it was when it happened.
        "updated_ts": event_ts if updated_ts is None and columns.updated_time is not None else updated_ts,
        "currency": reading.take("currency", values.currency),
        "sale_amount_cents": reading.take("sale_amount", lambda value: values.cents(value, network)),
        "commission_cents": reading.take("commission", lambda value: values.cents(value, network)),
    }
    return (None, reading.reasons) if reading.reasons else (row, [])
