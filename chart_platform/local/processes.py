"""Finding, marking and killing processes, with nothing but the standard library.

Belongs here: questions to the system about processes and ports. Does not belong here: which processes an instance has
(``parts``). Kept free of other imports, because ``guard`` lives as long as the instance and must stay small.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

TOKEN_VARIABLE = "CHART_INSTANCE_TOKEN"
"""Every process of an instance inherits it, however deep it is nested and whichever session or group it moves to."""

_PROC = Path("/proc")
_LISTENING = "0A"
_ZOMBIE = "Z"


def marked(token: str) -> list[int]:
    """Ids of the living processes that were started with ``token`` in their environment."""
    return _marked_in_proc(token) if (_PROC / "self" / "environ").exists() else _marked_by_ps(token)


def _marked_in_proc(token: str) -> list[int]:
    wanted = f"{TOKEN_VARIABLE}={token}".encode()
    found = []
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # A zombie has an empty environment, so that what has ended but was not waited for doesn't count.
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _marked_by_ps(token: str) -> list[int]:
    """For systems without /proc: ``e`` appends the environment to the command."""
    listing = subprocess.run(["ps", "axeww", "-o", "pid=,command="], capture_output=True, text=True, errors="replace")
    wanted = f"{TOKEN_VARIABLE}={token}"
    return [int(line.split(None, 1)[0]) for line in listing.stdout.splitlines() if wanted in line.split()]


def kill_marked(token: str, number: signal.Signals) -> list[int]:
    """Send a signal to all processes marked with ``token``; those it was sent to."""
    found = marked(token)
    for pid in found:
        send_signal(pid, number)
    return found


def end_marked(token: str, *, grace: float, patience: float = 10.0) -> bool:
    """SIGTERM, after ``grace`` seconds SIGKILL, until none is left; whether that was achieved.

    Killing is repeated, because a process may have started another one while we looked.
    """
    if not kill_marked(token, signal.SIGTERM):
        return True
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline:
        if not marked(token):
            return True
        time.sleep(0.1)
    deadline = time.monotonic() + patience
    while kill_marked(token, signal.SIGKILL):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def send_signal(pid: int, number: signal.Signals) -> None:
    """``os.kill`` that doesn't mind that the process has ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def signal_group(group: int, number: signal.Signals) -> None:
    """``os.killpg`` that doesn't mind that nothing is left of the group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def group_of(pid: int) -> int | None:
    """The process group of a process, or None if it has ended."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def born(pid: int) -> str | None:
    """When a process started, in the system's own words, or None if it has ended.

    Together with the id it names one process for good.
    """
    try:
        # The command in parentheses may hold spaces; start time is the 20th field after it.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == _ZOMBIE else fields[19]
    except (OSError, IndexError):
        answer = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True)
        return answer.stdout.strip() or None


@dataclass(frozen=True)
class Holder:
    """Who listens on a port. ``home`` is set when it belongs to an instance of this platform."""

    pid: int
    command: str
    home: str | None

    def __str__(self) -> str:
        whose = f" of the instance in {self.home}" if self.home else ""
        return f"process {self.pid}{whose} ({self.command})"


def port_is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1."""
    with socket.socket() as probe:
        # As servers do: a port in TIME_WAIT from a last run is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_holder(port: int) -> Holder | None:
    """The listener of a TCP port, as far as the system lets us know."""
    inodes = _listening_inodes(port)
    if not inodes:
        return None
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if _open_files(entry).isdisjoint(f"socket:[{inode}]" for inode in inodes):
                continue
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        of_an_instance = any(v.startswith(f"{TOKEN_VARIABLE}=".encode()) for v in variables)
        homes = [v.partition(b"=")[2].decode() for v in variables if v.startswith(b"CHART_HOME=")]
        return Holder(int(entry.name), command[:80], homes[0] if homes and of_an_instance else None)
    return None


def _open_files(process: Path) -> set[str]:
    found = set()
    for file in (process / "fd").iterdir():
        # It may have been closed since.
        with contextlib.suppress(OSError):
            found.add(str(file.readlink()))
    return found


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (_PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    return inodes
