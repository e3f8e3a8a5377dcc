"""Sending existing events, line by line, to Kafka.

Every line is sent, good or bad, so that one accounting covers all: bronze judges it by the same contract, and a bad
line becomes a dead letter whose origin names file and line. Belongs here: reading files and sending. Does not belong
here: judging (``contracts.events``, passed in).
"""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson
from confluent_kafka import KafkaError, KafkaException, Message

from chart_platform.settings import Settings
from chart_platform.stream.clients import producer

ORIGIN_HEADER = "chart-origin"
_LINES_AT_ONCE = 5_000


@dataclass
class LoadReport:
    """Lines by what became of them. ``refused``: Kafka did not take the line (too large), with where and why."""

    accepted: int = 0
    rejected: int = 0
    blank: int = 0
    refused: list[str] = field(default_factory=list)
    rejections: list[str] = field(default_factory=list)


def _open(name: str) -> IO[bytes]:
    if name == "-":
        return sys.stdin.buffer
    path = Path(name)
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _lines(name: str) -> Iterator[tuple[str, bytes]]:
    number = 0
    try:
        with _open(name) as stream:
            for number, line in enumerate(stream, 1):
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                yield f"{'stdin' if name == '-' else name}:{number}", line.removesuffix(b"\n").removesuffix(b"\r")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise OSError(f"{name} is no whole gzip file ({error}); its first {number} lines were sent.") from error


def _batches(lines: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    """Lists of lines. Those before an unreadable place come before its error."""
    batch: list[tuple[str, bytes]] = []
    try:
        for line in lines:
            batch.append(line)
            if len(batch) == _LINES_AT_ONCE:
                yield batch
                batch = []
    except OSError:
        yield batch
        raise
    yield batch


def _key(line: bytes) -> bytes | None:
    """The partition key of an event: its session, else its id; None for what has neither."""
    try:
        event = orjson.loads(line)
        found = (event.get("session") or {}).get("session_id") or event.get("event_id")
        return str(found).encode() if found else None
    except (ValueError, AttributeError):
        return None


def load(
    settings: Settings,
    names: Iterable[str],
    judge: Callable[[Sequence[bytes]], Mapping[int, str]],
    on_lines: Callable[[int], None] | None = None,
) -> LoadReport:
    """Send every line of the files (``-`` is standard input, ``.gz`` is unpacked).

    ``judge`` is given some lines and returns the reason of each bad one by its index. ``on_lines`` is told how many
    lines were read so far.

    Raises:
        OSError: a file can't be read; what was sent before stays sent.
        KafkaException: the broker is gone.
    """
    report = LoadReport()
    sender = producer(settings)
    lines = (item for name in names for item in _lines(name))
    done = 0
    try:
        for batch in _batches(lines):
            filled = [(where, line) for where, line in batch if line.strip()]
            report.blank += len(batch) - len(filled)
            reasons = judge([line for _, line in filled])
            for index, (where, line) in enumerate(filled):
                _send(sender, settings, report, where, line, reasons.get(index))
            done += len(batch)
            if on_lines is not None:
                on_lines(done)
    finally:
        # Also on the way out of an error: what was handed over must arrive.
        left = sender.flush(60)
    if left:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{left} lines were not confirmed within 60 s"))
    return report


def _send(sender: Any, settings: Settings, report: LoadReport, where: str, line: bytes, reason: str | None) -> None:
    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            report.refused.append(f"{where}: {error.str()}")
        elif reason is None:
            report.accepted += 1
        else:
            report.rejected += 1
            report.rejections.append(f"{where}: {reason}")

    headers = [(ORIGIN_HEADER, where.encode())] if reason is not None else None
    while True:
        try:
            sender.produce(settings.kafka_topic, value=line, key=_key(line), headers=headers, on_delivery=delivered)
            sender.poll(0)
            return
        except BufferError:
            sender.poll(0.1)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE:
                raise
            report.refused.append(f"{where}: {len(line)} bytes are more than the topic takes")
            return
