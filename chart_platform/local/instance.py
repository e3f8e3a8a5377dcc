"""What an instance leaves in its home for others to find: its lock, its state, and where its parts report.

Belongs here: these files, and the claim on the home. Does not belong here: processes (``parts``, ``supervisor``).

Whether an instance runs is a question to the kernel: its supervisor and its guard hold a lock on ``run/lock`` for as
long as they live, however they end. The rest is only what they wrote down.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chart_platform.local.processes import born
from chart_platform.processes import is_held
from chart_platform.settings import Settings

_LONGEST_SOCKET_PATH = 100
_CLEARING_SECONDS = 25.0


class AlreadyRuns(RuntimeError):
    """Another supervisor has this home."""


class Files:
    """Paths of an instance's own files."""

    def __init__(self, settings: Settings) -> None:
        self.root = settings.root
        self.run = self.root / "run"
        self.logs = self.root / "logs"
        self.dagster_home = self.root / "dagster"
        self.lock = self.run / "lock"
        self.state = self.run / "instance.json"

    def log(self, part: str) -> Path:
        return self.logs / f"{part}.log"

    def ready(self, part: str) -> Path:
        """Where a part says that it is up: its process id, or JSON with ``pid``."""
        return self.run / f"{part}.json"

    @property
    def socket(self) -> Path:
        """Of the code server. In the home if the system can take a path that long, else in a private folder."""
        here = self.run / "code.sock"
        if len(str(here)) < _LONGEST_SOCKET_PATH:
            return here
        digest = hashlib.sha256(str(self.root).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"chart-{os.getuid()}" / f"{digest}.sock"

    def make(self) -> None:
        for folder in (self.run, self.logs, self.dagster_home):
            folder.mkdir(parents=True, exist_ok=True)
        if self.socket.parent != self.run:
            self.socket.parent.mkdir(mode=0o700, exist_ok=True)
            if self.socket.parent.stat().st_uid != os.getuid():
                raise PermissionError(f"{self.socket.parent} belongs to another user: set TMPDIR to a folder of yours.")


def replace_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new text, and never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(f".{os.getpid()}.tmp")
    scratch.write_text(text)
    scratch.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file holds; empty when there is none or it is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {"pid": found}


def is_claimed(files: Files) -> bool:
    """Whether an instance runs in this home, or is being cleared away."""
    return is_held(files.lock)


def supervisor_pid(files: Files) -> int | None:
    """The supervisor that holds the claim, if it lives; the guard may hold it alone for some seconds."""
    if not is_claimed(files):
        return None
    state = read_json(files.state)
    pid = state.get("pid")
    return pid if isinstance(pid, int) and born(pid) == state.get("born") else None


@contextmanager
def claim(files: Files) -> Iterator[int]:
    """Hold the home for the time of the block; gives the lock's descriptor, for the guard to inherit.

    Raises:
        AlreadyRuns: another supervisor has it. One that was killed is waited for until its guard has cleared it away.
    """
    lock = os.open(files.lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + _CLEARING_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pid = supervisor_pid(files)
                if pid is not None or time.monotonic() > deadline:
                    who = f"process {pid}" if pid is not None else "processes of a killed one that don't end"
                    raise AlreadyRuns(
                        f"An instance already runs in {files.root} ({who}). Stop it with `chart-platform down`, or "
                        f"set CHART_HOME, CHART_KAFKA_PORT and CHART_DAGSTER_PORT to run a second one beside it."
                    ) from None
                time.sleep(0.1)
        # At once, so that nobody takes the pid of an earlier supervisor for the one of this lock.
        replace_text(files.state, json.dumps({"pid": os.getpid(), "born": born(os.getpid()), "state": "starting"}))
        yield lock
    finally:
        os.close(lock)
