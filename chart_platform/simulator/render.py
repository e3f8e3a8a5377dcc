"""From numbers to text, fast: timestamps, UUIDv7 and the event itself.

Belongs here: formatting.
Does not belong here: any choice of content.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from typing import Final

from chart_platform.simulator.config import DAY_MS, Form

SCHEMA_VERSION: Final = "1.2.0"

# Formatting through datetime costs more than all the rest of an event; these two tables cost 60k short strings once.
_MINUTES: Final = tuple(f"{m // 60:02d}:{m % 60:02d}:" for m in range(1440))


@lru_cache(maxsize=1)
def _seconds() -> tuple[str, ...]:
    return tuple(f"{ms // 1000:02d}.{ms % 1000:03d}Z" for ms in range(60_000))


@lru_cache(maxsize=4096)
def day_of(day_number: int) -> str:
    """``2026-11-21`` from days since the epoch."""
    return datetime.fromtimestamp(day_number * 86_400, UTC).date().isoformat()


def event_dt(ms: int) -> str:
    return day_of(ms // DAY_MS)


def iso(ms: int) -> str:
    """``2026-11-21T10:20:30.123Z``."""
    day, rest = divmod(ms, DAY_MS)
    minute, rest = divmod(rest, 60_000)
    return f"{day_of(day)}T{_MINUTES[minute]}{_seconds()[rest]}"


def uuid7(ms: int, bits: int) -> str:
    """UUIDv7 (RFC 9562) of a moment and 74 random bits."""
    return (
        f"{ms >> 16:08x}-{ms & 0xFFFF:04x}-7{bits >> 62:03x}"
        f"-{0x8000 | bits >> 48 & 0x3FFF:04x}-{bits & 0xFFFFFFFFFFFF:012x}"
    )


@lru_cache(maxsize=1)
def schema_hash() -> str:
    """What the edge writes as ``metadata.schema_hash``: the sha256 of the contract's text."""
    contract = files("chart_platform.contracts").joinpath("schemas", f"chart_event-{SCHEMA_VERSION}.json")
    return "sha256:" + hashlib.sha256(contract.read_bytes()).hexdigest()


def transit(sent_ms: int, ingest_ms: int, form: Form) -> str:
    """The members that differ between attempts to send one event. Kept together, so that a retry can swap them."""
    sent_at = f'"sent_at":"{iso(sent_ms)}"'
    return sent_at if form == "client" else f'{sent_at},"ingest_ts":{ingest_ms}'


def event_text(head: str, event_type: str, event_id: str, ts_ms: int, in_transit: str, tail: str) -> str:
    """One event as JSON text, between what its visit and what its step have rendered already."""
    return f'{head}"event_type":"{event_type}","event_id":"{event_id}","ts":"{iso(ts_ms)}",{in_transit},{tail}'
