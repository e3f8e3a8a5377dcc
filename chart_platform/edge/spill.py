"""Records on the local disk while Kafka can't have them: append-only files that a kill or a bad sector can't falsify.

Belongs here: frames, segment files, what survives a crash, the quota, and whose directory it is. Does not belong here:
when to spill and when to drain (``outlet``), and any thread: every method that touches the disk blocks.

A directory holds ``<creation time, ns>.seg`` files, read in the order of their names; ``position`` (how far the oldest one
is drained; without it, it is sent again from its start); ``refused.bin`` (frames of records that Kafka will never take)
and ``lock``, held by the process that writes here. A frame is magic, length, checksums of the record and of the header,
then the record as msgpack. Where bytes make no frame, reading goes on at the next ones that do, and the segment is kept as
``*.damaged``; only a frame that the end of the file cuts short is no damage: it was never acknowledged.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import msgspec
from crc32c import crc32c

from chart_platform.edge.records import Record

_MAGIC = b"\xc5spl"
_HEADER = struct.Struct("<4sII")
_CHECKED = struct.Struct("<4sIII")
_CLAIM_SECONDS = 5.0
_SEGMENT = ".seg"
_DAMAGED = ".damaged"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


class SpillInUse(RuntimeError):
    """Another live process writes to this spill directory."""


class SpillFull(RuntimeError):
    """The quota or the disk leaves no room; nothing of what was refused counts as written."""


def frame(record: Record) -> bytes:
    """The record as it stands in a segment."""
    body = _encode(record)
    header = _HEADER.pack(_MAGIC, len(body), crc32c(body))
    return b"".join((header, crc32c(header).to_bytes(4, "little"), body))


@dataclass(frozen=True)
class Window:
    """The next records to drain, all of one segment, and the place after them.

    ``appended_here`` says that this object wrote them; else they are what an earlier process left.
    """

    records: Sequence[Record]
    segment: Path
    end: int
    appended_here: bool


class _Position(msgspec.Struct):
    segment: str
    offset: Annotated[int, msgspec.Meta(ge=0)]


class _Segment:
    """One file. ``size`` counts acknowledged bytes only: a failed write may have left more."""

    __slots__ = ("appended_here", "path", "read", "size")

    def __init__(self, path: Path, size: int, *, appended_here: bool) -> None:
        self.path = path
        self.size = size
        self.read = 0
        self.appended_here = appended_here


class Spill:
    """One claimed directory. Not thread-safe: one caller at a time, but the public numbers may be read from anywhere.

    ``max_bytes`` bounds ``bytes_on_disk``: the segments, drained ones included until they are deleted. ``backlog_bytes`` is
    what is not yet confirmed as drained; ``damaged`` and ``refused`` count files and records set aside here.
    """

    def __init__(self, directory: Path, max_bytes: int, segment_bytes: int = 8 * 1024 * 1024) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self.segment_bytes = min(segment_bytes, max_bytes // 8)
        self.bytes_on_disk = 0
        self.backlog_bytes = 0
        self.refused = 0
        self._segments: deque[_Segment] = deque()
        self._file: int | None = None
        self._lock = _claim(directory, _CLAIM_SECONDS)
        try:
            self._adopt_siblings()
            self._find_segments()
        except BaseException:
            os.close(self._lock)
            raise
        self.damaged = len(list(directory.glob(f"*{_DAMAGED}")))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, frames: bytes) -> None:
        """Return once ``frames`` are on the disk to stay.

        Raises :class:`SpillFull` if the quota or the system refuses. A file whose write or fsync failed gets nothing more
        and no second fsync, which would report success for pages that the kernel has dropped; a fresh one gets the frames.
        """
        if self.bytes_on_disk + len(frames) > self.max_bytes:
            raise SpillFull(
                f"The spill {self.directory} holds {self.bytes_on_disk} of {self.max_bytes} bytes: bring Kafka back, or "
                f"raise CHART_EDGE_SPILL_MAX_BYTES."
            )
        if self._file is not None and self._segments[-1].size >= self.segment_bytes:
            self._retire()
        try:
            self._write(frames)
        except OSError:
            self._abandon()
            try:
                self._write(frames)
            except OSError as error:
                self._abandon()
                raise SpillFull(f"The spill {self.directory} can't be written: {error}. See to its disk.") from error

    def read(self, max_records: int, max_bytes: int) -> Window | None:
        """The next acknowledged records that are not confirmed, about ``max_bytes`` of them; ``None`` without any.

        The same again until :meth:`confirm`. Raises ``OSError`` if that is for now; what a disk has lost is passed over.
        """
        while self._segments:
            segment = self._segments[0]
            records, end = self._take(segment, max_records, max_bytes)
            if records:
                return Window(records, segment.path, end, segment.appended_here)
            self._advance(segment, segment.size)
            if self._is_written(segment):
                return None
            self._drop_first()
        return None

    def confirm(self, window: Window) -> None:
        """Kafka has the window: never give it again, and delete what is drained."""
        segment = self._segments[0]
        if segment.path != window.segment:
            raise ValueError(f"{window.segment} is not the segment being drained, {segment.path} is.")
        self._advance(segment, window.end)
        drained = segment.read >= segment.size
        if drained and self._is_written(segment) and segment.size >= self.segment_bytes:
            self._retire()
        if drained and not self._is_written(segment):
            self._drop_first()
        else:
            self._save_position(segment)

    def set_aside(self, record: Record) -> None:
        """Keep, apart from the segments, a record that Kafka will never take. Raises ``OSError``."""
        file = os.open(self.directory / "refused.bin", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            _write_all(file, frame(record))
            os.fsync(file)
        finally:
            os.close(file)
        _fsync_directory(self.directory)
        self.refused += 1

    def close(self) -> None:
        """Let go of the directory; what is drained is deleted."""
        self._retire()
        while self._segments and self._segments[0].read >= self._segments[0].size:
            self._drop_first()
        os.close(self._lock)

    def _write(self, frames: bytes) -> None:
        if self._file is None:
            self._begin()
        assert self._file is not None
        _write_all(self._file, frames)
        os.fdatasync(self._file)
        self._segments[-1].size += len(frames)
        self.bytes_on_disk += len(frames)
        self.backlog_bytes += len(frames)

    def _begin(self) -> None:
        after = int(self._segments[-1].path.stem) + 1 if self._segments else 0
        path = self.directory / f"{max(time.time_ns(), after):020d}{_SEGMENT}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._segments.append(_Segment(path, 0, appended_here=True))
        _fsync_directory(self.directory)

    def _retire(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _abandon(self) -> None:
        """Write no more to the file that failed; cut off what was not acknowledged, if that still works."""
        if self._file is None:
            return
        segment = self._segments[-1]
        with suppress(OSError):
            os.ftruncate(self._file, segment.size)
        self._retire()
        if segment.size == 0:
            self._segments.pop()
            with suppress(OSError):
                segment.path.unlink()

    def _is_written(self, segment: _Segment) -> bool:
        return self._file is not None and segment is self._segments[-1]

    def _advance(self, segment: _Segment, to: int) -> None:
        self.backlog_bytes -= to - segment.read
        segment.read = to

    def _take(self, segment: _Segment, max_records: int, max_bytes: int) -> tuple[list[Record], int]:
        """Records from where the segment is drained to, and the place after them."""
        rest = segment.size - segment.read
        for length in (min(max_bytes, rest), rest):
            try:
                content = _read_file(segment.path, segment.read, length)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                self._mark_damaged(segment)
                return [], segment.size
            records, end, damage = parse(content, max_records, whole=length == rest)
            if damage:
                self._mark_damaged(segment)
            if records:
                return records, segment.read + end
        return [], segment.size

    def _mark_damaged(self, segment: _Segment) -> None:
        """Keep the file under a second name: the first one goes when what is readable is drained."""
        kept = segment.path.with_suffix(_DAMAGED)
        if not kept.exists():
            kept.hardlink_to(segment.path)
            self.damaged += 1

    def _drop_first(self) -> None:
        segment = self._segments.popleft()
        self.bytes_on_disk -= segment.size
        # What can't be deleted is sent again by the next process: duplicates, never a loss.
        with suppress(OSError):
            segment.path.unlink()

    def _save_position(self, segment: _Segment) -> None:
        # Lost or torn it costs duplicates, never an event: no fsync, and a full disk may refuse it.
        scratch = self.directory / "position.new"
        with suppress(OSError):
            scratch.write_bytes(msgspec.json.encode(_Position(segment.path.name, segment.read)))
            scratch.replace(self.directory / "position")

    def _find_segments(self) -> None:
        for path in sorted(self.directory.glob(f"*{_SEGMENT}")):
            segment = _Segment(path, path.stat().st_size, appended_here=False)
            self._segments.append(segment)
            self.bytes_on_disk += segment.size
            self.backlog_bytes += segment.size
        if not self._segments:
            return
        first = self._segments[0]
        with suppress(OSError, msgspec.MsgspecError):
            position = msgspec.json.decode((self.directory / "position").read_bytes(), type=_Position)
            if position.segment == first.path.name:
                self._advance(first, min(position.offset, first.size))

    def _adopt_siblings(self) -> None:
        """Move here what processes that are no more left behind in directories beside this one."""
        for directory in sorted(self.directory.parent.iterdir()):
            if directory == self.directory or not (directory / "lock").is_file():
                continue
            try:
                lock = _claim(directory, 0)
            except (SpillInUse, OSError):
                continue
            try:
                for path in sorted(directory.iterdir()):
                    if path.suffix in (_SEGMENT, _DAMAGED):
                        path.rename(_free_name(self.directory / path.name))
                _fsync_directory(self.directory)
                with suppress(OSError):
                    (directory / "position").unlink(missing_ok=True)
            finally:
                os.close(lock)


def parse(content: bytes, max_records: int, *, whole: bool) -> tuple[list[Record], int, bool]:
    """The first records in ``content``, where they end, and whether bytes before that had to be passed over.

    ``whole``: the segment ends where ``content`` ends. If it doesn't, parsing stops at the first bytes that make no frame:
    more of the segment will tell whether they do.
    """
    records: list[Record] = []
    at, damage = 0, False
    while at < len(content) and len(records) < max_records:
        if (found := _frame_at(content, at)) is not None:
            record, at = found
            records.append(record)
        elif not whole:
            break
        elif (following := _next_frame(content, at + 1)) is not None:
            at, damage = following, True
        else:
            damage = damage or not _cut_short(content, at)
            at = len(content)
    return records, at, damage


def _frame_at(content: bytes, at: int) -> tuple[Record, int] | None:
    body = at + _CHECKED.size
    if body > len(content):
        return None
    magic, length, checksum, _ = _CHECKED.unpack_from(content, at)
    end = body + length
    # The body's checksum comes first: it is the one that is always needed, and both cost nothing beside the decoding.
    if magic != _MAGIC or end > len(content) or crc32c(content[body:end]) != checksum or not _has_header(content, at):
        return None
    try:
        return _decode(content[body:end]), end
    except msgspec.MsgspecError:
        return None


def _has_header(content: bytes, at: int) -> bool:
    *_, checksum = _CHECKED.unpack_from(content, at)
    return bool(crc32c(content[at : at + _HEADER.size]) == checksum)


def _next_frame(content: bytes, at: int) -> int | None:
    while (at := content.find(_MAGIC, at)) != -1:
        if _frame_at(content, at) is not None:
            return at
        at += 1
    return None


def _cut_short(content: bytes, at: int) -> bool:
    """Whether the rest is the beginning of a frame and no more, as a kill in the middle of a write leaves it."""
    if len(content) - at < _CHECKED.size:
        return _MAGIC.startswith(content[at : at + len(_MAGIC)])
    _, length, _, _ = _CHECKED.unpack_from(content, at)
    return _has_header(content, at) and bool(at + _CHECKED.size + length > len(content))


def _read_file(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(length)


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _fsync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _claim(directory: Path, patience_seconds: float) -> int:
    """A descriptor that keeps the directory this process's for as long as it is open, however the process ends."""
    directory.mkdir(parents=True, exist_ok=True)
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # A sibling that is looking for what dead processes left holds it for an instant.
            if time.monotonic() < deadline:
                time.sleep(0.01)
                continue
            os.close(lock)
            raise SpillInUse(
                f"Another live process writes to {directory}: give each collector a CHART_HOME of its own."
            ) from None
        return lock


def _free_name(path: Path) -> Path:
    while path.exists():
        path = path.with_stem(f"{int(path.stem) + 1:020d}")
    return path
