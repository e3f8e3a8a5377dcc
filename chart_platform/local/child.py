"""One part as a process: started, watched, started again when it dies, ended.

Belongs here: the life of one process and the rule of restarts. Does not belong here: the order of parts
(``supervisor``), what they are (``parts``).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from chart_platform.local.parts import Part
from chart_platform.local.processes import signal_group
from chart_platform.processes import die_with_parent

State = Literal["waiting", "starting", "running", "restarting", "stopped", "failed"]

LOG_BYTES = 8 * 1024 * 1024
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_TAIL_BYTES = 64 * 1024


@dataclass
class Backoff:
    """How long to wait before the next start of something that keeps dying, and when to give up.

    A life of ``steady_seconds`` wipes out what was before.
    """

    first_seconds: float = 1.0
    most_seconds: float = 30.0
    steady_seconds: float = 60.0
    attempts: int = 5
    deaths: int = 0

    def after(self, lived_seconds: float) -> float | None:
        """Seconds until the next start, or None: no more."""
        if lived_seconds >= self.steady_seconds:
            self.deaths = 0
        self.deaths += 1
        if self.deaths > self.attempts:
            return None
        return float(min(self.most_seconds, self.first_seconds * 2 ** (self.deaths - 1)))


class Child:
    """The process of one part. Start it from the main thread only: it dies with the thread that started it."""

    def __init__(self, part: Part, variables: Mapping[str, str]) -> None:
        self.part = part
        self.state: State = "waiting"
        self.starts = 0
        self.backoff = Backoff()
        self.started_at = 0.0
        self.ready_after = 0.0
        self.start_again_at = 0.0
        self._variables = variables
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def group(self) -> int | None:
        """Its process group, also after its end."""
        return self._process.pid if self._process is not None else None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    def start(self) -> None:
        for file in self.part.files:
            file.unlink(missing_ok=True)
        if self.starts == 0:
            # The log of the start before is kept, for whoever comes to see why it ended.
            self._set_log_aside()
        # Appending, so that shortening the file while it is written leaves no hole.
        with self.part.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.part.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self._variables),
                # A Ctrl-C in the terminal is for the supervisor alone, which ends the parts in their order.
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        self.starts += 1
        self.started_at = time.monotonic()
        self.state = "starting"

    def lived(self) -> float:
        return time.monotonic() - self.started_at

    def exit_code(self) -> int | None:
        return self._process.poll() if self._process is not None else None

    def bury(self) -> None:
        """After its death: kill what it left behind in its group, so that a successor starts alone."""
        if self._process is not None:
            signal_group(self._process.pid, signal.SIGKILL)

    def ask_to_end(self) -> None:
        """SIGTERM to it and all of its group: Dagster's run workers then note down that they were interrupted."""
        if self.exit_code() is None and self._process is not None:
            signal_group(self._process.pid, signal.SIGTERM)

    def kill(self) -> None:
        if self._process is not None:
            signal_group(self._process.pid, signal.SIGKILL)

    def keep_log_bounded(self) -> None:
        try:
            if self.part.log.stat().st_size > LOG_BYTES:
                self._older_log.write_bytes(self.part.log.read_bytes())
                os.truncate(self.part.log, 0)
        except OSError:
            # A full disk must not take the instance down with it.
            pass

    def last_lines(self, count: int = 12) -> list[str]:
        """The end of its log."""
        try:
            with self.part.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
                text = log.read().decode(errors="replace")
        except OSError:
            return []
        return [line.rstrip() for line in _COLOR.sub("", text).splitlines() if line.strip()][-count:]

    def how_it_ended(self) -> str:
        code = self.exit_code()
        if code is not None and code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.part.name,
            "what": self.part.what,
            "state": self.state,
            "pid": self.pid,
            "restarts": max(0, self.starts - 1),
            "ready_after_seconds": round(self.ready_after, 1) if self.state == "running" else None,
            "log": str(self.part.log),
        }

    @property
    def _older_log(self) -> Path:
        return self.part.log.with_suffix(".log.1")

    def _set_log_aside(self) -> None:
        self.part.log.parent.mkdir(parents=True, exist_ok=True)
        if self.part.log.exists():
            self.part.log.replace(self._older_log)
