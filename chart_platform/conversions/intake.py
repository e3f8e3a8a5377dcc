"""Files of the drop folder into bronze, each exactly once by the hash of its bytes.

Three tables can't share a transaction. Rejects commit first, reports second, and the row in bronze.conversion_files last:
it is the one that counts. Each commit replaces the rows of its files, so what a killed run left is put right by the next.
A file that was read with another mapping and had rejects is read again.

Belongs here: that protocol. Does not belong here: reading of files (``records``), their meaning (``reports``).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
from pyiceberg.expressions import In
from pyiceberg.table import Table as IcebergTable

from chart_platform.contracts.tables import CONVERSION_FILES, CONVERSION_REJECTS, CONVERSION_REPORTS, Table
from chart_platform.conversions import postbacks
from chart_platform.conversions.networks import Network, load_networks
from chart_platform.conversions.records import Unreadable, records, shown
from chart_platform.conversions.reports import Bounds, Reason, read
from chart_platform.lakehouse.drop import Drop, Dropped
from chart_platform.lakehouse.duck import connect, relation
from chart_platform.lakehouse.lake import Change, Lake
from chart_platform.lakehouse.rewrite import replace_rows

Audit = Callable[[Table, pa.Table], None]

_BATCH_BYTES = 32 * 1024 * 1024
_UNREADABLE_RAW_BYTES = 2_000
_TABLES = (CONVERSION_REJECTS, CONVERSION_REPORTS, CONVERSION_FILES)
"""In the order of their commits."""


@dataclass(frozen=True)
class Taken:
    """What became of one file."""

    file: str
    network: str | None
    reports: int
    rejects: int
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass
class IntakeResult:
    """What a run took in; ``known`` files were taken in before, under whatever name."""

    taken: list[Taken] = field(default_factory=list)
    known: int = 0

    @property
    def reports(self) -> int:
        return sum(taken.reports for taken in self.taken)

    @property
    def rejects(self) -> int:
        return sum(taken.rejects for taken in self.taken)

    @property
    def reasons(self) -> dict[str, int]:
        counted: Counter[str] = Counter()
        for taken in self.taken:
            counted.update(taken.reasons)
        return dict(sorted(counted.items()))


@dataclass(frozen=True)
class _Known:
    """A file of the ledger."""

    file: str
    mapping_hash: str
    rejects: int
    received_at: datetime

    def settled(self, mapping: Network | None) -> bool:
        """Whether reading it again would change nothing."""
        return self.rejects == 0 or self.mapping_hash == _digest(mapping)


@dataclass(frozen=True)
class _File:
    """A file that is to be taken in."""

    name: str
    digest: str
    modified_at: datetime
    received_at: datetime
    mapping: Network | None
    data: bytes

    @property
    def origin(self) -> dict[str, Any]:
        return {
            "file_hash": self.digest,
            "file": self.name,
            "received_at": self.received_at,
            "received_dt": self.received_at.date(),
        }


class _Clock:
    """Gives each file a time of receipt of its own, so that of two in one run the later one counts."""

    def __init__(self, now: datetime) -> None:
        self._next = _milliseconds(now)

    def tick(self) -> datetime:
        self._next += timedelta(milliseconds=1)
        return self._next


def take_in(lake: Lake, audit: Audit, now: datetime | None = None) -> IntakeResult:
    """Take in every file that is new, oldest first. Running it again changes nothing. ``now`` is naive UTC.

    Raises:
        NetworksError: the mappings can't be used; nothing was read.
        ContractBreach: rows break the tables' contract; of this batch of files nothing was committed.
    """
    networks = load_networks(lake.settings.conversions_networks)
    result = IntakeResult()
    batch: list[_File] = []
    for file in _unknown(lake, networks, now or datetime.now(UTC).replace(tzinfo=None), result):
        batch.append(file)
        if sum(len(file.data) for file in batch) >= _BATCH_BYTES:
            _take(lake, audit, batch, result)
            batch = []
    _take(lake, audit, batch, result)
    return result


def _unknown(lake: Lake, networks: dict[str, Network], now: datetime, result: IntakeResult) -> Iterator[_File]:
    """The files that are new, or that a changed mapping may read better. The others are counted."""
    by_digest, by_stamp = _ledger(lake)
    drop = Drop(lake.settings, lake.settings.conversions_drop_url)
    clock = _Clock(now)
    for dropped in drop.files(now):
        folder, _, rest = dropped.name.partition("/")
        network = networks.get(folder) if rest else None
        mapping = postbacks.mapping_for(network, dropped.name) if network is not None else None
        known = by_stamp.get(_stamp(dropped))
        if known is not None and known.settled(mapping):
            result.known += 1
            continue
        data = drop.read(dropped)
        digest = hashlib.sha256(data).hexdigest()
        known = by_digest.get(digest)
        if known is not None and known.settled(mapping):
            result.known += 1
            continue
        name, received_at = (known.file, known.received_at) if known else (dropped.name, clock.tick())
        modified_at = _milliseconds(dropped.modified)
        by_digest[digest] = _Known(name, _digest(mapping), 0, received_at)
        yield _File(name, digest, modified_at, received_at, mapping, data)


def _digest(mapping: Network | None) -> str:
    return mapping.digest if mapping is not None else ""


def _milliseconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _stamp(dropped: Dropped) -> tuple[str, int, datetime]:
    return dropped.name, dropped.size, _milliseconds(dropped.modified)


def _ledger(lake: Lake) -> tuple[dict[str, _Known], dict[tuple[str, int, datetime], _Known]]:
    """The files taken in, by hash and by what tells a file without reading it."""
    current = lake.load(CONVERSION_FILES)
    connection = connect(lake.settings)
    found = connection.sql(
        "select file_hash, file, mapping_hash, rejects, received_at, bytes, modified_at "
        f"from {relation(current, CONVERSION_FILES, lake.files(current))}"
    ).fetchall()
    connection.close()
    by_digest, by_stamp = {}, {}
    for digest, file, mapping_hash, rejects, received_at, size, modified_at in found:
        by_digest[digest] = by_stamp[file, size, modified_at] = _Known(file, mapping_hash, rejects, received_at)
    return by_digest, by_stamp


def _take(lake: Lake, audit: Audit, batch: Sequence[_File], result: IntakeResult) -> None:
    """Judge the files of a batch and commit them, the ledger last."""
    if not batch:
        return
    rows: dict[str, list[dict[str, Any]]] = {table.name: [] for table in _TABLES}
    taken = [_judge(lake, file, rows) for file in batch]
    staged = {table: pa.Table.from_pylist(rows[table.name], schema=table.arrow) for table in _TABLES}
    for table in _TABLES:
        audit(table, staged[table])
    for table in _TABLES:
        _replace(lake, table, staged[table], [file.digest for file in batch])
    result.taken += taken


def _judge(lake: Lake, file: _File, rows: dict[str, list[dict[str, Any]]]) -> Taken:
    """Add what the file holds to ``rows``."""
    settings = lake.settings
    network = file.mapping.name if file.mapping is not None else None
    bounds = Bounds.at(file.received_at, settings.first_day, settings.max_future_hours)
    before = {name: len(found) for name, found in rows.items()}
    codes: Counter[str] = Counter()

    def refuse(record: int, line: int, raw: str, reasons: list[Reason]) -> None:
        place = {"network": network, "record": record, "line": line, "raw": shown(raw)}
        rows[CONVERSION_REJECTS.name].append(file.origin | place | {"reasons": [r.as_row() for r in reasons]})
        codes.update(reason.code for reason in reasons)

    try:
        if file.mapping is None:
            folder = PurePosixPath(file.name).parent
            raise Unreadable(
                "unknown_network", f"no mapping for folder {str(folder)!r}: a file must be in its network's"
            )
        for record in records(file.data, PurePosixPath(file.name).suffix.lower(), file.mapping):
            report, reasons = read(record, file.mapping, bounds)
            if report is None:
                refuse(record.number, record.line, record.raw, reasons)
            else:
                place = {"record": record.number, "line": record.line, "raw": shown(record.raw)}
                rows[CONVERSION_REPORTS.name].append(report | file.origin | place)
    except Unreadable as error:
        first = file.data.partition(b"\n")[0][:_UNREADABLE_RAW_BYTES].decode("utf-8", "backslashreplace")
        refuse(0, 1, first, [Reason(error.code, error.column, str(error))])
    made = {name: len(found) - before[name] for name, found in rows.items()}
    reports, rejects = made[CONVERSION_REPORTS.name], made[CONVERSION_REJECTS.name]
    rows[CONVERSION_FILES.name].append(
        file.origin
        | {
            "network": network,
            "mapping_hash": _digest(file.mapping),
            "bytes": len(file.data),
            "modified_at": file.modified_at,
            "reports": reports,
            "rejects": rejects,
        }
    )
    return Taken(file.name, network, reports, rejects, dict(codes))


def _replace(lake: Lake, table: Table, added: pa.Table, digests: Sequence[str]) -> None:
    connection = connect(lake.settings)
    doomed = f"t.file_hash in ({', '.join(repr(digest) for digest in digests)})"

    def decide(current: IcebergTable) -> Change | None:
        candidates = lake.files(current, In("file_hash", digests))
        change = replace_rows(connection, current, table, candidates, doomed, added)
        return change if change.add or change.remove else None

    lake.commit(table, decide)
    connection.close()
