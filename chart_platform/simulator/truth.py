"""The ground truth: what was sent, message by message, and what a platform that is right must have.

Belongs here: writing, reading and summing up labels.
Does not belong here: reading what the platform has (the tests and checks that compare do that).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

import orjson

from chart_platform.simulator.behaviour import INTENTS, VARIANTS, expected_conversion
from chart_platform.simulator.messages import Label, Message

_UNLABELLED: Final = "message without a label: only messages of this package's generators have a ground truth"


class GroundTruth:
    """Running sums over the labels of what was sent. A few bytes a visit, however long the history."""

    def __init__(self) -> None:
        self.sent = 0
        self._expected: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._kinds: Counter[tuple[str, str]] = Counter()
        self._traffic: Counter[str] = Counter()
        self._events: Counter[tuple[str, str]] = Counter()
        self._payout: Counter[str] = Counter()
        # One byte a visit, indexed by its number: a set of ids would need gigabytes for a long history.
        self._seen = bytearray()
        self._sessions: Counter[tuple[str, str]] = Counter()
        self._converted: Counter[str] = Counter()

    def add(self, label: Label) -> None:
        self.sent += 1
        self._expected[label.expected] += 1
        self._faults[label.fault] += 1
        if label.kind is not None:
            self._kinds[label.fault, label.kind] += 1
        if label.traffic is not None:
            self._traffic[label.traffic] += 1
        if label.expected != "accepted":
            return
        day, event_type, number = label.event_dt, label.event_type, label.session_number
        variant, intent = label.variant, label.intent
        if day is None or event_type is None or number is None or variant is None or intent is None:
            raise ValueError(f"label of accepted event {label.event_id} is incomplete: {label}")
        self._events[day, event_type] += 1
        if label.payout_cents is not None:
            self._payout[day] += label.payout_cents
        if number >= len(self._seen):
            self._seen.extend(bytes(max(number + 1 - len(self._seen), len(self._seen), 1024)))
        state = self._seen[number]
        if not state:
            self._sessions[variant, intent] += 1
        if event_type == "affiliate_click" and state < 2:
            self._converted[variant] += 1
            self._seen[number] = 2
        elif not state:
            self._seen[number] = 1

    def summary(self) -> dict[str, Any]:
        """What the platform must have, as plain JSON.

        ``payout_cents_by_day`` has a day only if it has a click. ``sessions`` counts visits with at least one accepted
        event; sessions split by the 30-minute gap rule give the same number, because visitors rest longer than that.
        """
        events_by_day: dict[str, dict[str, int]] = {}
        for (day, event_type), count in sorted(self._events.items()):
            events_by_day.setdefault(day, {})[event_type] = count
        kinds: dict[str, dict[str, int]] = {}
        for (fault, kind), count in sorted(self._kinds.items()):
            kinds.setdefault(fault, {})[kind] = count
        experiment: dict[str, dict[str, float | int]] = {}
        for variant in VARIANTS:
            mix = {intent: float(self._sessions[variant, intent]) for intent in INTENTS}
            if sessions := int(sum(mix.values())):
                experiment[variant] = {
                    "sessions": sessions,
                    "converted": self._converted[variant],
                    "expected_conversion": expected_conversion(variant, mix),
                }
        return {
            "sent": self.sent,
            "accepted": self._expected["accepted"],
            "duplicates": self._expected["duplicate"],
            "dead_letters": self._expected["dead_letter"],
            "discarded": self._expected["discarded"],
            "sessions": sum(self._sessions.values()),
            "payout_cents": sum(self._payout.values()),
            "payout_cents_by_day": dict(sorted(self._payout.items())),
            "events_by_day": events_by_day,
            "faults": dict(sorted(self._faults.items())),
            "kinds": kinds,
            "traffic": dict(sorted(self._traffic.items())),
            "experiment": experiment,
        }

    @classmethod
    def of(cls, messages: Iterable[Message]) -> GroundTruth:
        truth = cls()
        for message in messages:
            truth.add(_label(message))
        return truth

    @classmethod
    def read(cls, path: Path) -> GroundTruth:
        """Sum up a file that :class:`GroundTruthWriter` wrote."""
        truth = cls()
        for line in read_lines(path):
            truth.add(Label(**{name: line[name] for name in Label._fields}))
        return truth


def _label(message: Message) -> Label:
    if message.label is None:
        raise ValueError(_UNLABELLED)
    return message.label


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a ground-truth file: the members of ``Label`` plus ``index`` and ``sha256``."""
    with path.open("rb") as file:
        for line in file:
            yield orjson.loads(line)


class GroundTruthWriter:
    """Writes one NDJSON line per message sent: ``index``, ``sha256`` of the bytes, and the members of ``Label``.

    A context manager. ``truth`` has the sums so far, :meth:`summary` hands them out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.truth = GroundTruth()
        self._file: BinaryIO | None = None

    def __enter__(self) -> GroundTruthWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("wb", buffering=1 << 20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def write(self, message: Message) -> None:
        if self._file is None:
            raise ValueError(f"ground truth {self.path} is not open: use the writer in a with statement")
        label = _label(message)
        line = {"index": self.truth.sent, "sha256": hashlib.sha256(message.value).hexdigest(), **label._asdict()}
        self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        self.truth.add(label)

    def recorded(self, messages: Iterable[Message]) -> Iterator[Message]:
        """The same messages, each written just before it is handed over.

        Before and not after: a consumer that stops early (``break``, ``islice``) has sent the last one, too.
        """
        for message in messages:
            self.write(message)
            yield message

    def summary(self) -> dict[str, Any]:
        return self.truth.summary()
