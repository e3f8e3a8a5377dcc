"""Messages in, rows out: the shapes that readers of messages and takers of rows agree on.

Belongs here: what a chunk of messages offers, what judging it gives, and joining the results to parts worth a file.
Does not belong here: judging (``bronze`` for events, ``letters`` for what the edge refused).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from chart_platform.contracts.tables import BRONZE_DEAD_LETTERS, BRONZE_EVENTS, Table

_PART_ROWS = 250_000
_PART_BYTES = 256 * 1024**2


class Chunk(Protocol):
    """Messages in parallel lists, as ``stream.reader`` yields them; append times in epoch milliseconds."""

    @property
    def values(self) -> list[bytes | None]: ...

    @property
    def partitions(self) -> list[int]: ...

    @property
    def offsets(self) -> list[int]: ...

    @property
    def timestamps(self) -> list[int]: ...

    def headers(self, index: int, /) -> list[tuple[str, bytes | None]]: ...

    def key(self, index: int, /) -> bytes | None: ...


@dataclass
class Decoded:
    """One chunk, judged: rows of bronze.events and of bronze.dead_letters. Together they are the chunk."""

    events: pa.Table
    dead_letters: pa.Table
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return int(self.events.num_rows + self.dead_letters.num_rows)

    @property
    def bytes(self) -> int:
        return int(self.events.nbytes + self.dead_letters.nbytes)

    def of(self, table: Table) -> pa.Table:
        """The rows of one of the two tables."""
        return {BRONZE_EVENTS.name: self.events, BRONZE_DEAD_LETTERS.name: self.dead_letters}[table.name]


class Judge(Protocol):
    """Turns chunks of one topic and one ingestion day into rows."""

    def decode(self, chunk: Chunk) -> Decoded: ...


def decode_all(
    judge: Judge, chunks: Iterator[Chunk], part_rows: int = _PART_ROWS, part_bytes: int = _PART_BYTES
) -> Iterator[Decoded]:
    """Decode ``chunks`` and join the results to parts of about so many messages or bytes, so that files are not tiny."""
    held: list[Decoded] = []

    def joined() -> Decoded:
        reasons: dict[str, int] = {}
        for part in held:
            for code, count in part.reasons.items():
                reasons[code] = reasons.get(code, 0) + count
        return Decoded(
            pa.concat_tables([d.events for d in held]), pa.concat_tables([d.dead_letters for d in held]), reasons
        )

    for chunk in chunks:
        held.append(judge.decode(chunk))
        if sum(d.rows for d in held) >= part_rows or sum(d.bytes for d in held) >= part_bytes:
            yield joined()
            held.clear()
    if held:
        yield joined()
