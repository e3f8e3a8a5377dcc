"""A lake without Kafka: messages held in memory, ingested as batches of offsets, in a home of its own.

Belongs here: what several folders of tests need to put messages into real tables and to read tables back.
Does not belong here: what the tables should hold (``oracle``).
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pyarrow as pa
from duckdb import DuckDBPyConnection

from chart_platform.contracts.feeds import events_feed
from chart_platform.contracts.tables import Table
from chart_platform.lakehouse.duck import connect, relation
from chart_platform.lakehouse.lake import Lake
from chart_platform.quality.schemas import audit
from chart_platform.settings import Settings
from chart_platform.transform import model, silver
from chart_platform.transform.ingest import Batch, IngestResult, ingest

TOPIC, TOPIC_ID = "events", "topic-1"
DAY = date(2026, 11, 2)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def ms(moment: datetime | date) -> int:
    """Epoch milliseconds of a UTC time; of a day, its midnight."""
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    return (moment - datetime(1970, 1, 1)) // timedelta(milliseconds=1)


def at(day: date, clock: str) -> int:
    """Epoch milliseconds of ``"23:59:59.999"`` on ``day``."""
    return ms(datetime.fromisoformat(f"{day}T{clock}"))


def uuid(number: int) -> str:
    """Ids that differ only behind the 16 characters that column bounds keep."""
    return f"00000000-0000-7000-8000-{number:012d}"


def event(number: int, ts_ms: int, kind: str = "page_view", **members: Any) -> dict[str, Any]:
    """A valid event; ``session`` and ``visitor`` are ids, other members replace those of the event."""
    session, visitor = members.pop("session", None), members.pop("visitor", None)
    stamp = datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ts_ms % 1000:03d}Z"
    made: dict[str, Any] = {"event_id": uuid(number), "event_type": kind, "ts": stamp, "user": {}}
    if visitor is not None:
        made["user"] = {"user_id_hash": visitor}
    if session is not None:
        made["session"] = {"session_id": session}
    if kind == "chart_interaction":
        made["chart"] = {"action": "sort"}
    if kind == "affiliate_click":
        made["affiliate"] = {"target": "https://shop.example", "payout_cents": 100}
    return made | members


@dataclass
class Messages:
    """A chunk of messages as ``transform.bronze`` reads them."""

    values: list[bytes | None] = field(default_factory=list)
    partitions: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)

    def headers(self, _index: int) -> list[tuple[str, bytes | None]]:
        return []

    def key(self, _index: int) -> bytes | None:
        return None


class Home:
    """One lake, and the Kafka partitions that feed it, as lists of (value, append time)."""

    def __init__(self, root: Path, shared_cache: Path, **settings: Any) -> None:
        root.mkdir(parents=True, exist_ok=True)
        # A parsed dbt project takes seconds to make and is the same for all.
        if not (root / "cache").exists():
            (root / "cache").symlink_to(shared_cache)
        self.settings = Settings(home=root, kafka_topic=TOPIC, **settings)
        self.lake = Lake(self.settings)
        self.log: dict[int, list[tuple[bytes | None, int]]] = {}

    def append(self, partition: int, value: Any, kafka_ms: int) -> None:
        data = value if isinstance(value, bytes | None) else json.dumps(value).encode()
        self.log.setdefault(partition, []).append((data, kafka_ms))

    def batch(self, day: date, ranges: dict[int, tuple[int, int]], topic_id: str = TOPIC_ID) -> Batch:
        return Batch(events_feed(self.settings), topic_id, day, ranges)

    def read(self, batch: Batch) -> Iterator[Messages]:
        for partition, (start, end) in sorted(batch.ranges.items()):
            part = self.log.get(partition, [])[start:end]
            if part:
                values, times = zip(*part, strict=True)
                yield Messages(list(values), [partition] * len(part), list(range(start, end)), list(times))

    def take(self, day: date, ranges: dict[int, tuple[int, int]]) -> IngestResult:
        batch = self.batch(day, ranges)
        return ingest(self.lake, batch, self.read(batch), audit)

    def send(self, day: date, values: Iterable[Any], partition: int = 0, clock: str = "12:00:00") -> IngestResult:
        """Append ``values`` on ``day`` and ingest them as one batch."""
        start = len(self.log.get(partition, []))
        for value in values:
            self.append(partition, value, at(day, clock))
        return self.take(day, {partition: (start, len(self.log.get(partition, [])))})

    def advance(self, days: Sequence[date] | None = None) -> None:
        """Carry what bronze has to gold; or compute ``days`` again."""
        if days is None:
            silver.update(self.lake, audit)
            model.run(self.lake, audit)
        for day in days or ():
            silver.rebuild(self.lake, day, audit)
            model.run(self.lake, audit, day)

    def arrow(self, table: Table) -> pa.Table:
        return arrow(self.lake, table)

    def rows(self, table: Table) -> list[dict[str, Any]]:
        return self.arrow(table).to_pylist()

    def multiset(self, table: Table) -> Counter[str]:
        return multiset(self.rows(table))


class Kept:
    """A home as it was left, which took long to fill: each test gets it in that state and may change it."""

    def __init__(self, home: Home) -> None:
        self._home, self._root = home, home.settings.root
        self._copy = self._root.with_name(f"{self._root.name}.kept")
        shutil.copytree(self._root, self._copy, symlinks=True)

    def again(self) -> Home:
        # In the same place, as tables name their files by absolute paths.
        shutil.rmtree(self._root)
        shutil.copytree(self._copy, self._root, symlinks=True)
        fresh = copy(self._home)
        fresh.settings = self._home.settings.model_copy()
        fresh.lake = Lake(fresh.settings)
        fresh.log = {partition: list(messages) for partition, messages in self._home.log.items()}
        return fresh


# A connection takes 20 ms to open, longer than most tables of tests to read.
_readers: WeakKeyDictionary[Lake, DuckDBPyConnection] = WeakKeyDictionary()


def arrow(lake: Lake, table: Table) -> pa.Table:
    """What the table holds now."""
    connection = _readers.get(lake) or _readers.setdefault(lake, connect(lake.settings))
    current = lake.load(table)
    return connection.sql(f"from {relation(current, table, lake.files(current))}").to_arrow_table()


def multiset(rows: Iterable[dict[str, Any]]) -> Counter[str]:
    """Rows as a multiset of all their columns."""
    return Counter(json.dumps(row, sort_keys=True, default=str) for row in rows)
