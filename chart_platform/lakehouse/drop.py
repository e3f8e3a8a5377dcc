"""Folders into which files are put: listed and read, on this machine or on S3. Nothing in them is ever changed.

Belongs here: finding files that are complete, their bytes, and putting one in as a whole. Does not belong here: what is in
them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

from pyarrow import fs

from chart_platform.settings import Settings

SETTLED = timedelta(seconds=5)
"""A file is complete when nobody wrote to it for this long: a folder on disk shows files that are still being written."""
_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload")


@dataclass(frozen=True)
class Dropped:
    """A file of a drop folder: its name below the folder, bytes, and when it was last written (UTC, naive)."""

    name: str
    path: str
    size: int
    modified: datetime


class Drop:
    """One drop folder. A folder that is not there is an empty one: nobody has put anything in yet."""

    def __init__(self, settings: Settings, url: str) -> None:
        self.url = url
        place = urlparse(url)
        if place.scheme == "s3":
            options = {"region": settings.aws_region}
            if settings.s3_endpoint:
                endpoint = urlparse(settings.s3_endpoint)
                options |= {"endpoint_override": endpoint.netloc, "scheme": endpoint.scheme}
            self._files: fs.FileSystem = fs.S3FileSystem(**options)
            self._root = f"{place.netloc}{place.path}"
        elif place.scheme in ("", "file"):
            self._files, self._root = fs.LocalFileSystem(), place.path
        else:
            raise ValueError(f"Drop folder {url!r}: expected a local path, file:// or s3://.")

    def files(self, now: datetime | None = None) -> list[Dropped]:
        """The complete files in and below the folder, oldest first. Hidden and temporary ones don't count."""
        until = (now or datetime.now(UTC).replace(tzinfo=None)) - SETTLED
        found = []
        for info in self._files.get_file_info(fs.FileSelector(self._root, recursive=True, allow_not_found=True)):
            if info.type != fs.FileType.File:
                continue
            name = str(PurePosixPath(info.path).relative_to(PurePosixPath(self._root)))
            modified = info.mtime.astimezone(UTC).replace(tzinfo=None)
            hidden = any(part.startswith((".", "_")) for part in PurePosixPath(name).parts)
            if not hidden and not name.endswith(_UNFINISHED) and modified <= until:
                found.append(Dropped(name, info.path, info.size, modified))
        return sorted(found, key=lambda file: (file.modified, file.name))

    def read(self, file: Dropped) -> bytes:
        with self._files.open_input_stream(file.path) as stream:
            return bytes(stream.read())

    def put(self, name: str, data: bytes) -> None:
        """Put a file in durably: whoever looks sees all of it or nothing. One of that name is replaced."""
        path = f"{self._root}/{name}"
        if not isinstance(self._files, fs.LocalFileSystem):
            with self._files.open_output_stream(path) as stream:
                stream.write(data)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}{_UNFINISHED[0]}")
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
