"""What all rivals share: reading the topic, and the shape of the rows.

Reading is the platform's own tuned consumer configuration with ``consume(n)``, and rows go to one unpartitioned table:
both are kinder to the rivals than what they would do by themselves.

Belongs here: nothing that decides between contenders.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
from pyiceberg.catalog import load_catalog
from pyiceberg.table import Table as IcebergTable

ROWS_PER_PART = 250_000
_STEP = 2_000
_PATIENCE_SECONDS = 30
_TUNING = {
    "queued.min.messages": 10_000,
    "queued.max.messages.kbytes": 32 * 1024,
    "fetch.message.max.bytes": 4 * 1024 * 1024,
    "fetch.queue.backoff.ms": 5,
    "fetch.wait.max.ms": 10,
    "enable.partition.eof": True,
}

S = pa.string()


def _struct(**members: pa.DataType) -> pa.DataType:
    return pa.struct(list(members.items()))


EVENT = pa.schema(
    [
        ("schema_version", S),
        ("event_type", S),
        ("event_id", S),
        ("ts", S),
        ("ingest_ts", pa.int64()),
        ("source", S),
        ("privacy", _struct(analytics=pa.bool_(), ads=pa.bool_(), source_ip_anonymized=S)),
        ("user", _struct(user_id_hash=S, geo_country=S)),
        ("session", _struct(session_id=S, utm=_struct(source=S, medium=S, campaign=S, term=S, content=S))),
        ("ctx", _struct(page_url=S, referrer=S, locale=S, user_agent=S, ab_variant=S)),
        ("chart", _struct(product_ids=pa.list_(S), action=S, control_id=S, control_value=S)),
        ("affiliate", _struct(link_id=S, target=S, payout_cents=pa.int64())),
        ("metadata", _struct(sdk_version=S, experiment_keys=pa.list_(S), schema_hash=S)),
        ("sent_at", S),
        ("seq", pa.int64()),
        ("page_view_id", S),
        ("click_id", S),
    ]
)
"""An event as its JSON says it: times are still texts."""

TIMES = ("ts", "sent_at")


@dataclass(frozen=True)
class Job:
    """What a contender is to do: read ``[0, ends[p])`` of each partition of ``topic`` and leave files in ``folder``."""

    bootstrap_servers: str
    topic: str
    ends: dict[int, int]
    folder: Path

    @classmethod
    def of(cls, argument: dict[str, Any]) -> Job:
        """The job that ``argument`` tells in JSON."""
        ends = {int(partition): end for partition, end in argument["ends"].items()}
        return cls(argument["bootstrap_servers"], argument["topic"], ends, Path(argument["folder"]))


@dataclass
class Part:
    """Messages as consumed, in parallel lists."""

    values: list[bytes] = field(default_factory=list)
    partitions: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.values)


def consume(job: Job, rows: int = ROWS_PER_PART) -> Iterator[Part]:
    """The whole topic in parts of about ``rows`` messages."""
    client = Consumer(
        {"bootstrap.servers": job.bootstrap_servers, "group.id": "bench", "enable.auto.commit": False} | _TUNING
    )
    part = Part()
    for partition, end in sorted(job.ends.items()):
        client.assign([TopicPartition(job.topic, partition, 0)])
        position = 0
        last = time.monotonic()
        while position < end:
            found = client.consume(_STEP, 1.0)
            if any(map(Message.error, found)):
                for message in found:
                    error = message.error()
                    if error is not None and error.code() != KafkaError._PARTITION_EOF:
                        raise RuntimeError(error.str())
                found = [message for message in found if message.error() is None]
            if not found:
                if time.monotonic() - last > _PATIENCE_SECONDS:
                    raise RuntimeError(f"Nothing came from {job.bootstrap_servers} for {_PATIENCE_SECONDS} s.")
                continue
            last = time.monotonic()
            part.values.extend(map(Message.value, found))
            part.partitions.extend([partition] * len(found))
            part.offsets.extend(map(Message.offset, found))
            part.timestamps.extend([at for _, at in map(Message.timestamp, found)])
            position = found[-1].offset() + 1
            if len(part) >= rows:
                yield part
                part = Part()
    if len(part):
        yield part
    client.close()


def kafka_columns(part: Part) -> dict[str, Any]:
    """Where each row came from, and the day and hour it was appended."""
    at = np.asarray(part.timestamps, "datetime64[ms]")
    hours = at.astype("datetime64[h]").astype("int64") % 24
    names = pa.array([f"{hour:02d}" for hour in range(24)])
    return {
        "kafka_partition": pa.array(np.asarray(part.partitions, "int32")),
        "kafka_offset": pa.array(np.asarray(part.offsets, "int64")),
        "kafka_ts": pa.array(at.astype("datetime64[us]")),
        "ingest_dt": pa.array(at.astype("datetime64[D]")),
        "hour": names.take(pa.array(hours)),
    }


def with_kafka(events: pa.Table, part: Part) -> pa.Table:
    """``events`` with the columns of :func:`kafka_columns`."""
    for name, column in kafka_columns(part).items():
        events = events.append_column(name, column)
    return events


def texts(values: list[bytes]) -> pa.Array:
    """A string column over one joined buffer: the fastest way from bytes to Arrow, for every rival that wants one."""
    offsets = np.zeros(len(values) + 1, "int64")
    np.cumsum(np.fromiter(map(len, values), "int64", len(values)), out=offsets[1:])
    joined = pa.py_buffer(b"".join(values))
    return pa.Array.from_buffers(pa.large_string(), len(values), [None, pa.py_buffer(offsets), joined])


class Append:
    """An Iceberg table in ``job.folder``, made for the first rows; one commit an append."""

    def __init__(self, job: Job) -> None:
        job.folder.mkdir(parents=True, exist_ok=True)
        self._catalog = load_catalog(
            "bench", type="sql", uri=f"sqlite:///{job.folder}/catalog.db", warehouse=f"file://{job.folder}/warehouse"
        )
        self._table: IcebergTable | None = None
        self.rows = 0

    def __call__(self, rows: pa.Table) -> None:
        if self._table is None:
            self._catalog.create_namespace("bronze")
            self._table = self._catalog.create_table(
                "bronze.events",
                schema=rows.schema,
                properties={"write.parquet.compression-codec": "zstd", "write.parquet.compression-level": "1"},
            )
        self._table.append(rows)
        self.rows += rows.num_rows
