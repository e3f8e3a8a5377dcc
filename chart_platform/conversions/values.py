"""Reading one value of a report: an amount, a time, a text. Exact, or a refusal that says why.

Belongs here: the grammar of values, by what a mapping says of it. Does not belong here: records and files.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from chart_platform.conversions.networks import Network

_MOST_CENTS = 10**15
_MOST_CHARS = 500
_CURRENCY = re.compile(r"[A-Z]{3}")
_EPOCH = datetime(1970, 1, 1)


class Refused(ValueError):
    """A value that can't be taken. ``code`` is stable, the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def text(value: Any) -> str | None:
    """A value as text without surrounding blanks; None for null and empty.

    Raises:
        Refused: ``wrong_type`` for what is no single value, ``encoding`` for bytes that are no text, ``too_long``.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise Refused("wrong_type", f"expected a text or a number, not {type(value).__name__}")
    found = str(value).strip()
    if any("\ud800" <= char <= "\udfff" for char in found):
        raise Refused("encoding", "holds bytes that the encoding does not have")
    if len(found) > _MOST_CHARS:
        raise Refused("too_long", f"has {len(found)} characters, over {_MOST_CHARS}")
    return found or None


def cents(value: Any, network: Network) -> int | None:
    """An amount as hundredths of its currency's unit, exactly; None for null and empty.

    A number may be negative by a sign before or behind it or by parentheses. Nothing is rounded.

    Raises:
        Refused: ``not_an_amount``, ``too_fine`` (parts of a cent) or ``too_large``.
    """
    amount = value if isinstance(value, Decimal) else _decimal(text(value), network)
    if amount is None:
        return None
    if not amount.is_finite() or abs(amount.adjusted()) > 30:
        raise Refused("not_an_amount", f"{value} is no amount")
    found = amount if network.unit == "cents" else amount * 100
    if found != found.to_integral_value():
        raise Refused("too_fine", f"{value} has parts of a cent")
    if abs(found) > _MOST_CENTS:
        raise Refused("too_large", f"{value} is over {_MOST_CENTS // 100}")
    return int(found)


def _decimal(found: str | None, network: Network) -> Decimal | None:
    if found is None:
        return None
    # Thousands come in threes: 1,23 under a US mapping is a European amount, and not 123.
    group = rf"[0-9]{{1,3}}(?:{re.escape(network.thousands)}[0-9]{{3}})+|" if network.thousands else ""
    number = rf"(?P<whole>{group}[0-9]+)(?:{re.escape(network.decimal)}(?P<fraction>[0-9]+))?"
    match = re.fullmatch(rf"(?P<before>[-+\u2212]?)(?P<open>\()?{number}(?(open)\))(?P<behind>-?)", found)
    if match is None or sum(bool(match[part]) for part in ("before", "open", "behind")) > 1:
        form = f"1{network.thousands or ''}234{network.decimal}56"
        raise Refused("not_an_amount", f"{found!r} is no amount in the form {form}")
    whole = match["whole"].replace(network.thousands or " ", "")
    amount = Decimal(f"{whole}.{match['fraction'] or '0'}")
    negative = match["before"] in ("-", "\u2212") or match["open"] or match["behind"]
    return -amount if negative else amount


def moment(value: Any, network: Network) -> datetime | None:
    """A time as naive UTC, cut to milliseconds; None for null and empty.

    A time without an offset is in the network's zone. Of the two that a clock shows when it is set back, the first.

    Raises:
        Refused: ``not_a_time``: in none of the network's formats, or skipped when the clock is set forward.
    """
    found = text(value)
    if found is None:
        return None
    for form in network.time_formats:
        if (read := _read_time(found, form)) is not None:
            break
    else:
        raise Refused("not_a_time", f"{found!r} is in none of the formats {', '.join(network.time_formats)}")
    local = read if read.tzinfo is not None else read.replace(tzinfo=network.zone)
    try:
        utc = local.astimezone(UTC)
        if read.tzinfo is None and utc.astimezone(network.zone).replace(tzinfo=None) != read:
            raise Refused("not_a_time", f"{found!r} does not exist in {network.time_zone}")
    except OverflowError:
        raise Refused("not_a_time", f"{found!r} is beyond the calendar") from None
    return utc.replace(tzinfo=None, microsecond=utc.microsecond // 1000 * 1000)


def _read_time(found: str, form: str) -> datetime | None:
    try:
        if form == "iso":
            return datetime.fromisoformat(found)
        if form in ("epoch_s", "epoch_ms"):
            unit = timedelta(seconds=1) if form == "epoch_s" else timedelta(milliseconds=1)
            return (_EPOCH + int(found) * unit).replace(tzinfo=UTC)
        return datetime.strptime(found, form)
    except (ValueError, OverflowError):
        return None


def currency(value: Any) -> str | None:
    """An ISO 4217 code in capitals; None for null and empty. Raises :class:`Refused` ``not_a_currency``."""
    found = text(value)
    if found is None:
        return None
    if not _CURRENCY.fullmatch(found.upper()):
        raise Refused("not_a_currency", f"{found!r} is no ISO 4217 code")
    return found.upper()
