"""Rows of bronze.dead_letters: of what ingestion refuses, and of what the edge had refused before.

Belongs here: the row of a refused message, and reading the topic of the edge's dead letters. Does not belong here:
judging of events (``bronze``), sending dead letters again (``edge.replay``).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

import msgspec
import pyarrow as pa

from chart_platform.contracts.events import Reason
from chart_platform.contracts.tables import BRONZE_DEAD_LETTERS, BRONZE_EVENTS
from chart_platform.settings import Settings
from chart_platform.stream.load import ORIGIN_HEADER
from chart_platform.transform.chunks import Chunk, Decoded

REASONS_HEADER = "reasons"
VERSION_HEADER = "schema_version"
UNLABELLED = "unlabelled"
_REASONS: msgspec.json.Decoder[list[Reason]] = msgspec.json.Decoder(Annotated[list[Reason], msgspec.Meta(min_length=1)])

Headers = Sequence[tuple[str, bytes | None]]


def letter(
    chunk: Chunk, index: int, day: date, topic: str, source: Literal["stream", "edge"], reasons: Iterable[Reason],
    schema_version: str,
) -> dict[str, Any]:  # fmt: skip
    """The row of message ``index``, refused for ``reasons`` by the contract of that version."""
    headers = _by_name(chunk.headers(index))
    origin = headers.get(ORIGIN_HEADER)
    return {
        "source": source,
        "topic": topic,
        "kafka_partition": chunk.partitions[index],
        "kafka_offset": chunk.offsets[index],
        "kafka_ts": datetime.fromtimestamp(chunk.timestamps[index] / 1000, UTC).replace(tzinfo=None),
        "message_key": chunk.key(index),
        "raw": chunk.values[index],
        "reasons": [{"code": r.code, "pointer": r.pointer, "message": r.message} for r in reasons],
        "schema_version": schema_version,
        "origin": origin if isinstance(origin, str) else None,
        "headers": json.dumps(headers) if headers else None,
        "ingest_dt": day,
    }


def _by_name(headers: Headers) -> dict[str, str | list[str | None] | None]:
    """Headers as text by name; a name that repeats has the list of its values."""
    found: dict[str, list[str | None]] = {}
    for name, value in headers:
        found.setdefault(name, []).append(None if value is None else value.decode("utf-8", "replace"))
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


class EdgeLetters:
    """Reads chunks of the edge's dead letters. Every message is a row, whatever its headers look like."""

    def __init__(self, _settings: Settings, topic: str, day: date) -> None:
        self._topic = topic
        self._day = day

    def decode(self, chunk: Chunk) -> Decoded:
        """A row of bronze.dead_letters for every message of ``chunk``."""
        rows: list[dict[str, Any]] = []
        counts: Counter[str] = Counter()
        for index in range(len(chunk.values)):
            headers = dict(chunk.headers(index))
            reasons = _reasons(headers.get(REASONS_HEADER))
            counts.update({reason.code for reason in reasons})
            version = (headers.get(VERSION_HEADER) or b"unknown").decode("utf-8", "replace")
            rows.append(letter(chunk, index, self._day, self._topic, "edge", reasons, version))
        letters = pa.Table.from_pylist(rows, schema=BRONZE_DEAD_LETTERS.arrow)
        return Decoded(BRONZE_EVENTS.arrow.empty_table(), letters, dict(counts))


def _reasons(header: bytes | None) -> list[Reason]:
    if header is None:
        return [Reason(UNLABELLED, "", "The dead letter came without the header 'reasons'.")]
    try:
        return _REASONS.decode(header)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return [Reason(UNLABELLED, "", f"The header 'reasons' is no list of reasons: {error}.")]
