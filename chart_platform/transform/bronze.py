"""Kafka messages to rows: what is an event goes to bronze.events, what is none to bronze.dead_letters, nothing else.

Belongs here: decoding of chunks of events. Does not belong here: their commit (``ingest``), which ranges to read
(``stream.planning``), how the contract judges a message (``contracts.events``), Dagster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chart_platform.contracts import events
from chart_platform.contracts.events import Accepted, Reason
from chart_platform.contracts.tables import BRONZE_DEAD_LETTERS, BRONZE_EVENTS
from chart_platform.lakehouse.duck import connect, quote
from chart_platform.settings import Settings
from chart_platform.transform.chunks import Chunk, Decoded
from chart_platform.transform.letters import letter

_SQL = (Path(__file__).parent / "decode.sql").read_text()


class Decoder:
    """Judges chunks of messages of one ingestion day. Holds a DuckDB connection; not shared between threads."""

    def __init__(self, settings: Settings, topic: str, day: date) -> None:
        self._settings = settings
        self._topic = topic
        self._day = day
        self._fast = events.fast_decoder()
        self._scratch = BytesIO()
        # One thread: a chunk is smaller than the row group that DuckDB gives a thread.
        self._connection = connect(settings.model_copy(update={"duckdb_threads": 1}))

    @cached_property
    def _query(self) -> str:
        clauses = "\n".join(
            f"when e.event_type = '{kind}' and e.{member} is null then 'undecodable'"
            for kind, member in events.conditions().items()
        )
        patterns = "\n".join(
            f"when not judged and not regexp_full_match(e.{member}, '{quote(pattern)}') then 'undecodable'"
            for member, pattern in events.patterns().items()
        )
        return _SQL.replace("{conditions}", clauses).replace("{patterns}", patterns)

    def decode(self, chunk: Chunk) -> Decoded:
        """Judge every message of ``chunk``."""
        refused: dict[int, list[Reason]] = {}
        texts = list(chunk.values)
        extras: dict[int, str] = {}
        judged: set[int] = set()
        for index in self._not_surely_valid(chunk.values):
            self._judge(index, chunk.values[index], texts, extras, judged, refused)
        rows = self._columns(chunk, texts, extras, judged, refused)
        while rows["fault"].null_count < rows.num_rows:
            if not self._second_look(chunk, rows, texts, extras, judged, refused):
                rows = rows.filter(pc.is_null(rows["fault"]))
                break
            rows = self._columns(chunk, texts, extras, judged, refused)
        day = pa.array(np.full(rows.num_rows, np.datetime64(self._day, "D")), pa.date32())
        accepted = rows.append_column("ingest_dt", day).select(BRONZE_EVENTS.arrow.names).cast(BRONZE_EVENTS.arrow)
        reasons: dict[str, int] = {}
        for found in refused.values():
            for code in {reason.code for reason in found}:
                reasons[code] = reasons.get(code, 0) + 1
        return Decoded(accepted, self._dead_letters(chunk, refused), reasons)

    def _not_surely_valid(self, values: Sequence[bytes | None]) -> list[int]:
        """Indexes of messages that the fast decoder refuses: a superset of the invalid ones."""
        decode = self._fast.decode
        slow: list[int] = []
        for index, value in enumerate(values):
            try:
                decode(value)  # type: ignore[arg-type]
            except Exception:
                slow.append(index)
        return slow

    @staticmethod
    def _judge(
        index: int,
        value: bytes | None,
        texts: list[bytes | None],
        extras: dict[int, str],
        judged: set[int],
        refused: dict[int, list[Reason]],
    ) -> None:
        verdict = events.explain(value)
        judged.add(index)
        if isinstance(verdict, Accepted):
            texts[index] = verdict.text.encode()
            if verdict.extra is not None:
                extras[index] = verdict.extra
        else:
            refused[index] = verdict

    def _columns(
        self,
        chunk: Chunk,
        texts: Sequence[bytes | None],
        extras: Mapping[int, str],
        judged: set[int],
        refused: Mapping[int, Any],
    ) -> pa.Table:
        keep: Any = np.arange(len(texts))
        if refused:
            keep = np.delete(keep, list(refused))
            texts = [text for index, text in enumerate(texts) if index not in refused]
        messages = pa.table(
            {
                "text": _texts(texts, self._scratch),
                "row_index": pa.array(keep, pa.int64()),
                "extra": pa.array(
                    [extras.get(i) for i in keep.tolist()] if extras else [None] * len(keep), pa.string()
                ),
                "judged": pa.array(np.isin(keep, list(judged)) if judged else np.zeros(len(keep), bool)),
                "kafka_partition": pa.array(np.asarray(chunk.partitions, "int32")[keep]),
                "kafka_offset": pa.array(np.asarray(chunk.offsets, "int64")[keep]),
                "kafka_ts": pa.array(np.asarray(chunk.timestamps, "datetime64[ms]")[keep].astype("datetime64[us]")),
            }
        )
        self._connection.register("chunk", messages)
        parameters = {
            "structure": events.duckdb_structure(),
            "max_future_hours": self._settings.max_future_hours,
            "first_day": datetime.combine(self._settings.first_day, datetime.min.time()),
        }
        found = self._connection.sql(self._query, params=parameters).to_arrow_table()
        # The scratch buffer can't grow while somebody still looks at it.
        self._connection.unregister("chunk")
        return found

    def _second_look(
        self,
        chunk: Chunk,
        rows: pa.Table,
        texts: list[bytes | None],
        extras: dict[int, str],
        judged: set[int],
        refused: dict[int, list[Reason]],
    ) -> bool:
        """Give every faulty row its reasons. True if any was found to be valid after all and must be read again."""
        again = False
        # Times as text: one outside of Python's years 1 to 9999 must not stop the ingest.
        faulty = rows.filter(pc.is_valid(rows["fault"])).select(["row_index", "fault", "ts"])
        faulty = faulty.set_column(2, "ts", pc.cast(faulty["ts"], pa.string()))
        for row in faulty.to_pylist():
            index, fault = row["row_index"], row["fault"]
            if fault == "undecodable" and index not in judged:
                self._judge(index, chunk.values[index], texts, extras, judged, refused)
                again = again or index not in refused
            elif fault == "undecodable":
                message = "Valid by the schema, but a time in it can't be represented in UTC."
                refused[index] = [Reason("undecodable", "", message)]
            elif fault == "ts_in_future":
                message = f"{row['ts']} is over {self._settings.max_future_hours} h ahead of the broker's clock."
                refused[index] = [Reason(fault, "/ts", message)]
            else:
                refused[index] = [
                    Reason(fault, "/ts", f"{row['ts']} is before the platform's first day {self._settings.first_day}.")
                ]
        return again

    def _dead_letters(self, chunk: Chunk, refused: Mapping[int, list[Reason]]) -> pa.Table:
        version = events.schema_version()
        letters = [letter(chunk, i, self._day, self._topic, "stream", refused[i], version) for i in sorted(refused)]
        return pa.Table.from_pylist(letters, schema=BRONZE_DEAD_LETTERS.arrow)


def _texts(values: Sequence[bytes | None], scratch: BytesIO) -> pa.Array:
    """A string array over one joined buffer: 10x cheaper than an append a value. The values are valid UTF-8.

    The buffer is ``scratch``'s, valid until its next use: fresh memory costs more to touch than to fill.
    """
    offsets = np.zeros(len(values) + 1, "int64")
    np.cumsum(np.fromiter(map(len, values), "int64", len(values)), out=offsets[1:])  # type: ignore[arg-type]
    scratch.seek(0)
    scratch.writelines(values)  # type: ignore[arg-type]
    data = pa.py_buffer(scratch.getbuffer())
    return pa.Array.from_buffers(pa.large_string(), len(values), [None, pa.py_buffer(offsets.tobytes()), data])


@dataclass
class _Lines:
    """Lines of a file as a chunk that was appended just now, for :func:`refusals`."""

    values: list[bytes | None]
    partitions: list[int]
    offsets: list[int]
    timestamps: list[int]

    def headers(self, _index: int) -> list[tuple[str, bytes | None]]:
        return []

    def key(self, _index: int) -> bytes | None:
        return None


def refusals(decoder: Decoder, values: Sequence[bytes]) -> dict[int, list[Reason]]:
    """The reasons of each message that bronze would refuse if it were sent now, by index."""
    now = int(datetime.now(UTC).timestamp() * 1000)
    chunk = _Lines(list(values), [0] * len(values), list(range(len(values))), [now] * len(values))
    letters = decoder.decode(chunk).dead_letters.select(["kafka_offset", "reasons"]).to_pylist()
    return {letter["kafka_offset"]: [Reason(**reason) for reason in letter["reasons"]] for letter in letters}


def judge_lines(decoder: Decoder, lines: Sequence[bytes]) -> dict[int, str]:
    """The reasons of each line that bronze would refuse, in words, by index."""
    found = refusals(decoder, lines)
    return {i: "; ".join(f"{r.pointer or '/'} {r.message}" for r in reasons) for i, reasons in found.items()}
