"""What affiliate networks would report of given clicks, in each network's own way of writing, and the truth.

:func:`simulate` makes the files of a history, :class:`Live` tells what is to be reported as time goes by.

Of the clicks some convert. A conversion is pending first, days later approved or reversed, and approved ones are paid.
Networks report every day what is new; they re-send files, repeat rows, lose a sub-id, invent one, and pay other amounts.

Belongs here: making reports. Does not belong here: clicks (the other modules make them), reading reports (``conversions``).
"""

from __future__ import annotations

import csv
import heapq
import io
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

_DEFAULT_COMMISSION_CENTS = 500


@dataclass(frozen=True)
class Click:
    """An affiliate click as a network sees it. ``ts`` is naive UTC."""

    click_id: str
    network: str
    ts: datetime
    payout_cents: int


@dataclass(frozen=True, kw_only=True)
class Habits:
    """Shares, each of the conversions unless said otherwise, and delays in days."""

    conversion: float = 0.05
    """Share of the clicks."""
    reversed: float = 0.12
    lost_sub_id: float = 0.02
    unknown_sub_id: float = 0.02
    other_amount: float = 0.05
    repeated_row: float = 0.05
    resent_file: float = 0.1
    """Share of the files."""
    decision_days: tuple[int, int] = (2, 20)
    payment_days: tuple[int, int] = (5, 15)


@dataclass(frozen=True)
class State:
    """What a network says of a conversion from ``at`` on."""

    transaction_id: str
    click_id: str | None
    status: str
    commission_cents: int
    sale_cents: int
    happened: datetime
    at: datetime


@dataclass(frozen=True)
class ReportFile:
    """A file for the drop folder, on the day on which the network sends it."""

    name: str
    day: date
    content: bytes


@dataclass
class Reports:
    """The files in the order in which they are sent, and what each conversion ends as, by network and transaction id."""

    files: list[ReportFile] = field(default_factory=list)
    truth: dict[tuple[str, str], State] = field(default_factory=dict)


def simulate(clicks: Iterable[Click], until: date, habits: Habits | None = None, seed: int = 0) -> Reports:
    """Reports of all days up to and including ``until``. The same arguments give the same bytes."""
    habits = habits or Habits()
    rng = random.Random(f"networks-{seed}")
    by_day: dict[tuple[date, str], list[State]] = defaultdict(list)
    reports = Reports()
    for number, click in enumerate(sorted(clicks, key=lambda c: (c.ts, c.click_id))):
        if rng.random() >= habits.conversion:
            continue
        for state in _life(rng, habits, click, f"{click.network[:2].upper()}{number:08d}"):
            if state.at.date() > until:
                break
            by_day[state.at.date(), click.network].append(state)
            reports.truth[click.network, state.transaction_id] = state
    for (day, network), states in sorted(by_day.items()):
        repeated = [state for state in states if rng.random() < habits.repeated_row]
        suffix, render = _FORMS[network]
        file = ReportFile(f"{network}/{day}{suffix}", day, render([*states, *repeated]))
        reports.files.append(file)
        if rng.random() < habits.resent_file:
            reports.files.append(ReportFile(f"{network}/{day}-again{suffix}", day, file.content))
    return reports


def _life(rng: random.Random, habits: Habits, click: Click, transaction_id: str) -> list[State]:
    """The states of one conversion, in order."""
    happened = (click.ts + timedelta(minutes=rng.randint(2, 3 * 24 * 60))).replace(
        second=rng.randint(0, 59), microsecond=0
    )
    draw = rng.random()
    click_id: str | None = click.click_id
    if draw < habits.lost_sub_id:
        click_id = None
    elif draw < habits.lost_sub_id + habits.unknown_sub_id:
        click_id = f"unknown{rng.randrange(10**9)}"
    commission = click.payout_cents or _DEFAULT_COMMISSION_CENTS
    if rng.random() < habits.other_amount:
        commission = max(1, commission * rng.randint(50, 150) // 100)
    sale = commission * rng.randint(3, 12) + rng.randint(0, 99)

    def state(status: str, at: datetime, cents: int = commission) -> State:
        return State(transaction_id, click_id, status, cents, sale, happened, at)

    decided = happened + timedelta(days=rng.randint(*habits.decision_days), minutes=rng.randint(0, 600))
    if rng.random() < habits.reversed:
        return [state("pending", happened), state("reversed", decided, rng.choice((0, -commission)))]
    paid = decided + timedelta(days=rng.randint(*habits.payment_days))
    return [state("pending", happened), state("approved", decided), state("paid", paid)]


class Live:
    """Networks whose time runs faster: ``day`` of the clock is a day of theirs, so that what takes weeks is seen soon.

    Times are naive UTC. A conversion happens at least two seconds after its click, as networks tell no milliseconds.
    """

    def __init__(self, habits: Habits, seed: int, day: timedelta) -> None:
        self._habits, self._day = habits, day
        self._rng = random.Random(f"live-networks-{seed}")
        self._prefix = f"{seed:x}"
        self._clicks = 0
        self._coming: list[tuple[datetime, int, str, State]] = []
        self._number = 0

    def clicked(self, click: Click) -> None:
        """A click came; most never convert."""
        self._clicks += 1
        if self._rng.random() >= self._habits.conversion:
            return
        transaction_id = f"{click.network[:2].upper()}{self._prefix}-{self._clicks:06d}"
        for state in _life(self._rng, self._habits, click, transaction_id):
            happened, at = (self._sooner(click.ts, moment) for moment in (state.happened, state.at))
            quick = replace(state, happened=happened, at=at)
            heapq.heappush(self._coming, (at, self._number, click.network, quick))
            self._number += 1

    def due(self, now: datetime) -> Iterator[tuple[str, State]]:
        """What there is to report since the last call, by network and oldest first; some of it twice."""
        while self._coming and self._coming[0][0] <= now:
            _, _, network, state = heapq.heappop(self._coming)
            yield network, state
            if self._rng.random() < self._habits.repeated_row:
                yield network, state

    def _sooner(self, click: datetime, moment: datetime) -> datetime:
        return click + timedelta(seconds=2) + (moment - click) / timedelta(days=1) * self._day


def report_file(network: str, name: str, states: list[State]) -> tuple[str, bytes]:
    """Name and bytes of a file of the network that reports ``states``."""
    suffix, render = _FORMS[network]
    return f"{network}/{name}{suffix}", render(states)


def _money(cents: int, decimal: str = ".", thousands: str = "") -> str:
    units, rest = divmod(abs(cents), 100)
    return ("-" if cents < 0 else "") + f"{units:,}".replace(",", thousands) + f"{decimal}{rest:02d}"


def _local(moment: datetime, zone: str, form: str) -> str:
    return moment.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).strftime(form)


def _csv(rows: list[dict[str, str]], delimiter: str, encoding: str) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode(encoding)


def _harborlink(states: list[State]) -> bytes:
    form = "%m/%d/%Y %I:%M:%S %p"
    words = {"pending": "Pending", "approved": "Locked", "paid": "Paid", "reversed": "Reversed"}
    return _csv(
        [
            {
                "Action ID": s.transaction_id,
                "Event Date": _local(s.happened, "America/New_York", form),
                "Modified Date": _local(s.at, "America/New_York", form),
                "Status": words[s.status],
                "SubId1": s.click_id or "",
                "Sale Amount": _money(s.sale_cents, ".", ","),
                "Payout": _money(s.commission_cents, ".", ","),
                "Currency": "USD",
                "Notes": 'multi-line\nnote, with "quotes"' if s.status == "reversed" else "",
            }
            for s in states
        ],
        ",",
        "utf-8-sig",
    )


def _meridian(states: list[State]) -> bytes:
    form = "%d.%m.%Y %H:%M:%S"
    words = {"pending": "offen", "approved": "bestätigt", "paid": "ausgezahlt", "reversed": "storniert"}
    return _csv(
        [
            {
                "Transaktionsnummer": s.transaction_id,
                "SID": s.click_id or "",
                "Status": words[s.status],
                "Zeitpunkt": _local(s.happened, "Europe/Berlin", form),
                "Geändert": _local(s.at, "Europe/Berlin", form),
                "Warenwert": _money(s.sale_cents, ",", "."),
                "Provision": _money(s.commission_cents, ",", "."),
                "Währung": "USD",
            }
            for s in states
        ],
        ";",
        "latin-1",
    )


_BRIGHTPATH = {"pending": "pending", "approved": "validated", "paid": "paid", "reversed": "declined"}
_PARTNERLY = {"pending": "open", "approved": "accepted", "paid": "settled", "reversed": "rejected"}


def _epoch_ms(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1)) // timedelta(milliseconds=1)


def _brightpath_call(state: State) -> dict[str, str]:
    return {
        "conversion_id": state.transaction_id,
        "clickref": state.click_id or "",
        "state": _BRIGHTPATH[state.status],
        "commission": str(state.commission_cents),
    }


def _partnerly_call(state: State) -> dict[str, str]:
    return {
        "id": state.transaction_id,
        "pubref": state.click_id or "",
        "status": _PARTNERLY[state.status],
        "created": str(_epoch_ms(state.happened)),
        "updated": str(_epoch_ms(state.at)),
        "sale": _money(state.sale_cents),
        "commission": _money(state.commission_cents),
        "currency": "USD",
    }


def _brightpath(states: list[State]) -> bytes:
    lines: list[Mapping[str, Any]] = [
        {
            "conversion": {"id": s.transaction_id, "time": s.happened.isoformat() + "Z"},
            "clickref": s.click_id,
            "state": _BRIGHTPATH[s.status],
            "order_value": s.sale_cents,
            "commission": s.commission_cents,
        }
        for s in states
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _partnerly(states: list[State]) -> bytes:
    rows = [
        {
            "id": s.transaction_id,
            "pubref": s.click_id,
            "status": _PARTNERLY[s.status],
            "created": _epoch_ms(s.happened),
            "updated": _epoch_ms(s.at),
            "amounts": {"sale": _money(s.sale_cents), "commission": _money(s.commission_cents), "currency": "USD"},
        }
        for s in states
    ]
    return json.dumps({"data": {"transactions": rows}}, indent=2).encode()


_FORMS: dict[str, tuple[str, Callable[[list[State]], bytes]]] = {
    "harborlink": (".csv", _harborlink),
    "meridian": (".csv", _meridian),
    "brightpath": (".ndjson", _brightpath),
    "partnerly": (".json", _partnerly),
}

POSTBACKS: dict[str, Callable[[State], dict[str, str]]] = {"brightpath": _brightpath_call, "partnerly": _partnerly_call}
"""The networks that call back over HTTP in live traffic, and the parameters of such a call."""
NETWORKS = tuple(_FORMS)
