"""Figures of the collector, summed over its processes, in Prometheus' text format.

Belongs here: counting cheaply and telling. Does not belong here: what is worth counting (``app``), alerts.

Each process has a file of slots that it maps into memory; whoever is asked adds up the files. A process that is started
again goes on with the file of the one before, so that no counter ever goes back while the collector runs.
"""

from __future__ import annotations

import mmap
import struct
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

_SLOT_BYTES = 256
_NAME_AT = 16
_SLOTS = 1_024
_REST = "chart_edge_uncounted_total"

_BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_SECONDS = "chart_edge_request_seconds"
_BUCKET_NAMES = tuple(f'{_SECONDS}_bucket{{le="{bound:g}"}}' for bound in (*_BUCKETS, float("inf")))

FAMILIES = {
    "chart_edge_requests_total": ("counter", "Requests answered, by route and status."),
    "chart_edge_events_total": (
        "counter",
        "Events by what became of them: accepted, duplicate (accepted too), rejected, discarded, retry.",
    ),
    "chart_edge_reasons_total": ("counter", "Reasons of rejected events; one event may have several."),
    "chart_edge_discarded_total": ("counter", "Events that were not kept, by why."),
    "chart_edge_refused_total": ("counter", "Requests refused as a whole, by the code in their answer."),
    "chart_edge_rate_limited_events_total": ("counter", "Events in requests that exceeded a rate."),
    "chart_edge_unreadable_total": ("counter", "Bodies that are no events and went whole to the dead letters."),
    "chart_edge_clicks_total": ("counter", "Redirects, by what became of the click."),
    "chart_edge_postbacks_total": ("counter", "Postbacks of networks, by network and what became of them."),
    "chart_edge_postbacks_held_bytes": ("gauge", "Acknowledged postbacks that the drop folder does not have yet."),
    "chart_edge_body_bytes_total": ("counter", "Bytes of bodies as sent."),
    "chart_edge_disconnected_total": ("counter", "Clients that left before their body was complete."),
    "chart_edge_internal_errors_total": ("counter", "Requests that met a defect: answered 503, nothing acknowledged."),
    "chart_edge_bad_http_total": ("counter", "Connections closed for what is no HTTP or has too large a head."),
    _SECONDS: ("histogram", "From the head of a request for /v1/events to its answer."),
    "chart_edge_ready": ("gauge", "Processes that can durably accept."),
    "chart_edge_outlet_state": ("gauge", "Processes by where their records go: kafka, spill, full."),
    "chart_edge_connections": ("gauge", "Open connections."),
    "chart_edge_bodies_in_memory_bytes": ("gauge", "Bytes of bodies not yet answered."),
    "chart_edge_write_keys": ("gauge", "Write keys known, valid or not, to each process, summed."),
    "chart_edge_outlet_total": ("counter", "Records and happenings of the way out, by what: see docs/collector.md."),
    "chart_edge_outlet": ("gauge", "What the way out holds at the moment, by what: see docs/collector.md."),
    _REST: ("counter", "Figures that had no slot left."),
}


class Metrics:
    """The figures of this process; not for several threads. Names carry their labels, as in the exposition.

    ``file`` is this process's alone; all files beside it count as the same collector's.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        with file.open("a+b") as handle:
            handle.truncate(_SLOTS * _SLOT_BYTES)
            self._bytes = mmap.mmap(handle.fileno(), _SLOTS * _SLOT_BYTES)
        self._values = memoryview(self._bytes).cast("d")
        self._slots = {name: slot for slot, (name, _) in enumerate(_read(bytes(self._bytes)))}
        self._add_names(_REST, "chart_edge_internal_errors_total", f"{_SECONDS}_sum", *_BUCKET_NAMES)

    def add(self, name: str, amount: float = 1.0) -> None:
        slot = self._slots.get(name)
        place = self._place(name) if slot is None else slot * (_SLOT_BYTES // 8)
        self._values[place] += amount

    def set(self, name: str, value: float) -> None:
        self._values[self._place(name)] = value

    def get(self, name: str) -> float:
        """This process's own figure."""
        return self._values[self._place(name)]

    def observe(self, seconds: float) -> None:
        self.add(_BUCKET_NAMES[bisect_left(_BUCKETS, seconds)])
        self.add(f"{_SECONDS}_sum", seconds)

    def exposition(self) -> bytes:
        """All figures of all processes."""
        sums: dict[str, float] = {}
        for file in sorted(self._file.parent.glob("*.slots")):
            for name, value in _read(file.read_bytes()):
                sums[name] = sums.get(name, 0.0) + value
        lines: list[str] = []
        for family, (kind, text) in FAMILIES.items():
            samples = _histogram(sums) if kind == "histogram" else _samples(sums, family)
            if samples:
                lines += [f"# HELP {family} {text}", f"# TYPE {family} {kind}"]
                lines += [f"{name} {value:.17g}" for name, value in samples]
        return ("\n".join(lines) + "\n").encode()

    def _place(self, name: str) -> int:
        slot = self._slots.get(name)
        if slot is None:
            self._add_names(name)
            slot = self._slots[name]
        return slot * (_SLOT_BYTES // 8)

    def _add_names(self, *names: str) -> None:
        for name in names:
            if name in self._slots:
                continue
            raw, slot = name.encode(), len(set(self._slots.values()))
            if slot >= _SLOTS or len(raw) > _SLOT_BYTES - _NAME_AT:
                self._slots[name] = self._slots[_REST]
                continue
            at = slot * _SLOT_BYTES
            self._bytes[at + _NAME_AT : at + _NAME_AT + len(raw)] = raw
            # The length comes last: a reader in another process takes a slot without one for free.
            struct.pack_into("<q", self._bytes, at + 8, len(raw))
            self._slots[name] = slot


def _read(slots: bytes) -> Iterator[tuple[str, float]]:
    for at in range(0, len(slots), _SLOT_BYTES):
        value, length = struct.unpack_from("<dq", slots, at)
        if not length:
            return
        yield slots[at + _NAME_AT : at + _NAME_AT + length].decode(), value


def _samples(sums: dict[str, float], family: str) -> list[tuple[str, float]]:
    return sorted((name, value) for name, value in sums.items() if name.partition("{")[0] == family)


def _histogram(sums: dict[str, float]) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    count = 0.0
    for name in _BUCKET_NAMES:
        count += sums.get(name, 0.0)
        found.append((name.replace('"inf"', '"+Inf"'), count))
    return [*found, (f"{_SECONDS}_sum", sums.get(f"{_SECONDS}_sum", 0.0)), (f"{_SECONDS}_count", count)]
