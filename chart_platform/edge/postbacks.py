"""Postbacks of affiliate networks on their way into the drop folder, durable before they are answered.

A line is appended to a file of this worker and fsynced, with all others that came meanwhile. Files of some age go to the
drop folder, on this machine or on S3, and are deleted here when they are there. What a killed process left goes there
with the next one: a file's bytes are its identity, so that twice is once.

Belongs here: files, mappings as they change, parameters of a request. Does not belong here: what a line says
(``conversions.postbacks``), keys and answers (``app``).
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from urllib.parse import parse_qsl

from chart_platform.conversions import postbacks
from chart_platform.conversions.networks import DEFAULT_NETWORKS, Network, NetworksError, load_networks
from chart_platform.conversions.postbacks import Parameters
from chart_platform.conversions.reports import Bounds, Reason
from chart_platform.edge.http import Refused, Request
from chart_platform.settings import Settings

log = logging.getLogger(__name__)

MOST_BODY_BYTES = 16 * 1024
_MOST_PARAMETERS = 200
_FORM, _JSON = b"application/x-www-form-urlencoded", b"application/json"
_SECRET = "key"
_ROLL_SECONDS = 60.0
_RETRY_AFTER_SECONDS = 30.0
_PART, _DONE = ".ndjson.part", ".ndjson"
_BETWEEN = "~"


class Mappings:
    """The networks' mappings, followed as their file changes; a change that can't be read leaves them as they were.

    Raises:
        NetworksError: the file can't be used.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp = self._stamped()
        self._networks = load_networks(path)

    def get(self, name: str) -> Network | None:
        return self._networks.get(name)

    def refresh(self) -> None:
        if (stamp := self._stamped()) == self._stamp:
            return
        self._stamp = stamp
        try:
            self._networks = load_networks(self._path)
        except NetworksError as error:
            log.error("The mappings of networks changed and can't be used, the previous ones stay: %s", error)

    def _stamped(self) -> tuple[int, int] | None:
        try:
            found = (self._path or DEFAULT_NETWORKS).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size


async def parameters(request: Request, timeout_seconds: float) -> Parameters:
    """What the query and the body of a call say, without the secret.

    Raises:
        Refused: 400, 408, 413 or 415, naming what can't be read.
        Disconnected: the client left.
    """
    found = _form(request.query)
    if request.method == "POST":
        if request.headers.get(b"content-encoding", b"identity").strip().lower() not in (b"", b"identity"):
            raise Refused(415, "content_encoding", "Send the body as it is.")
        kind = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        body = request.whole_body(MOST_BODY_BYTES)
        if body is None:
            body = await request.body(MOST_BODY_BYTES, timeout_seconds)
        if kind == _JSON:
            try:
                found = [*found, *postbacks.of_json(body.decode("utf-8"))]
            except ValueError:
                raise Refused(400, "invalid_json", "The body is no JSON object.") from None
        elif kind == _FORM or not body.strip():
            found = [*found, *_form(body)]
        else:
            raise Refused(415, "content_type", "Send application/json or application/x-www-form-urlencoded.")
    return [(name, value) for name, value in found if name != _SECRET]


def _form(text: bytes) -> Parameters:
    try:
        return parse_qsl(text.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        raise Refused(400, "parameters", f"More than {_MOST_PARAMETERS} parameters.") from None


def judged(settings: Settings, network: Network, line: bytes, received_at: datetime) -> list[Reason]:
    """Every reason why the line will be a reject."""
    bounds = Bounds.at(received_at, settings.first_day, settings.max_future_hours)
    return postbacks.judge(network, line, bounds)


@dataclass
class _Open:
    """A file that lines are appended to. ``size`` counts acknowledged bytes: a failed write may have left more."""

    file: BinaryIO
    path: Path
    began: float
    size: int = 0


class Journal:
    """The lines that this worker has acknowledged and the drop folder may not have yet.

    Nobody else writes to ``folder``: the spill beside it is locked by the same process.
    """

    def __init__(self, settings: Settings, folder: Path, roll_seconds: float = _ROLL_SECONDS) -> None:
        self._settings = settings
        self._folder = folder
        self._roll_seconds = roll_seconds
        self._open: dict[str, _Open] = {}
        self._waiting: list[tuple[str, bytes, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._shipping: asyncio.Task[None] | None = None
        self._disk = ThreadPoolExecutor(1, "postbacks")
        self._ships = ThreadPoolExecutor(1, "postbacks-out")
        self.held_bytes = self._recover()

    async def keep(self, network: str, line: bytes) -> None:
        """Return when the line is on the disk.

        Raises:
            Refused: 503, it could not be written.
        """
        if self.held_bytes > self._settings.edge_spill_max_bytes:
            raise Refused(503, "unavailable", "Too many postbacks wait for the drop folder.", _RETRY_AFTER_SECONDS)
        loop = asyncio.get_running_loop()
        kept: asyncio.Future[None] = loop.create_future()
        self._waiting.append((network, line, kept))
        if self._writing is None:
            self._writing = loop.create_task(self._write_all())
        await kept

    def keep_house(self) -> None:
        """Send files of some age on their way, in the background."""
        if self._shipping is None or self._shipping.done():
            self._shipping = asyncio.get_running_loop().create_task(self._ship(self._roll_seconds))

    async def close(self) -> None:
        """Send all on its way. What the drop folder doesn't take now stays for the next process."""
        for task in (self._writing, self._shipping):
            if task is not None:
                await task
        await self._ship(0.0)
        self._disk.shutdown()
        self._ships.shutdown()

    async def _write_all(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            problem: Refused | None = None
            try:
                await loop.run_in_executor(self._disk, self._write, [(network, line) for network, line, _ in batch])
            except OSError as error:
                log.error("Postbacks can't be written: %s.", error.strerror)
                problem = Refused(503, "unavailable", "It could not be made durable.", _RETRY_AFTER_SECONDS)
            for _, _, kept in batch:
                if not kept.done():
                    kept.set_exception(problem) if problem is not None else kept.set_result(None)
        self._writing = None

    async def _ship(self, age_seconds: float) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._disk, self._finish, age_seconds)
        try:
            await loop.run_in_executor(self._ships, self._hand_over)
        except Exception as error:
            log.error("Postbacks wait for the drop folder, which can't be written: %s.", type(error).__qualname__)

    # On threads of their own from here on.

    def _write(self, batch: list[tuple[str, bytes]]) -> None:
        lines: dict[str, list[bytes]] = {}
        for network, line in batch:
            lines.setdefault(network, []).append(line)
        for network, found in lines.items():
            at = self._open.get(network) or self._begin(network)
            data = b"".join(found)
            try:
                at.file.write(data)
                at.file.flush()
                os.fsync(at.file.fileno())
            except OSError:
                # Part of it may be there: what is not acknowledged must not stand before what will be.
                at.file.close()
                os.truncate(at.path, at.size)
                del self._open[network]
                self._complete(at)
                raise
            at.size += len(data)
            self.held_bytes += len(data)

    def _begin(self, network: str) -> _Open:
        self._folder.mkdir(parents=True, exist_ok=True)
        batch = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:12]}"
        path = self._folder / f"{network}{_BETWEEN}{batch}{_PART}"
        made = self._open[network] = _Open(path.open("xb", buffering=0), path, time.monotonic())
        self._sync_folder()
        return made

    def _finish(self, age_seconds: float) -> None:
        """Close the files when one is that old: whoever follows the drop folder is called once for all of them."""
        if not any(time.monotonic() - at.began >= age_seconds for at in self._open.values()):
            return
        for at in self._open.values():
            at.file.close()
            self._complete(at)
        self._open.clear()

    def _complete(self, at: _Open) -> None:
        if at.size:
            at.path.rename(at.path.with_name(at.path.name.removesuffix(_PART) + _DONE))
        else:
            at.path.unlink()

    def _hand_over(self) -> None:
        waiting = sorted(self._folder.glob(f"*{_DONE}")) if self._folder.exists() else []
        if not waiting:
            return
        # PyArrow is 60 ms and 40 MB that a collector without postbacks does without.
        from chart_platform.lakehouse.drop import Drop

        drop = Drop(self._settings, self._settings.conversions_drop_url)
        for path in waiting:
            network, _, batch = path.name.removesuffix(_DONE).partition(_BETWEEN)
            data = path.read_bytes()
            drop.put(postbacks.file_name(network, batch), data)
            path.unlink()
            self.held_bytes -= len(data)

    def _recover(self) -> int:
        """Complete what a killed process left, but for a line cut short, which was never acknowledged."""
        held = 0
        for path in self._folder.glob("*.ndjson*") if self._folder.exists() else ():
            data = path.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            held += len(whole)
            if path.name.endswith(_PART):
                os.truncate(path, len(whole))
                self._complete(_Open(path.open("rb"), path, 0.0, len(whole)))
        return held

    def _sync_folder(self) -> None:
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
