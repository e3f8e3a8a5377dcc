"""A real PostgreSQL server for tests: its own data folder, a socket and a port of its own, stopped at the end.

Belongs here: starting and stopping it. Does not belong here: what is in its tables.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_VERSIONS = Path("/usr/lib/postgresql")


class NoPostgres(RuntimeError):
    """Why there can be no server here."""


def _binaries() -> Path:
    """The newest installed version; installs Debian's package where that is allowed."""
    found = sorted(_VERSIONS.glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
    if not found and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-qq", "-y", "postgresql"], check=False, capture_output=True, timeout=300)
        found = sorted(_VERSIONS.glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise NoPostgres(f"no pg_ctl under {_VERSIONS}: apt-get install postgresql")
    return found[-1].parent


def _as_server(command: Sequence[str]) -> list[str]:
    """PostgreSQL refuses to run as root."""
    return (
        ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]
        if os.geteuid() == 0
        else [*command]
    )


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A running server; gives its DSN.

    Raises:
        NoPostgres: it isn't installed and can't be.
    """
    binaries = _binaries()
    data = folder / "data"
    data.mkdir(parents=True)
    data.chmod(0o700)
    if os.geteuid() == 0:
        server = pwd.getpwnam("postgres")
        os.chown(data, server.pw_uid, server.pw_gid)
        # The server's user must reach its folder through those that pytest made for root alone.
        for parent in [folder, *folder.parents]:
            if parent == Path("/tmp") or not parent.is_relative_to("/tmp"):
                break
            parent.chmod(parent.stat().st_mode | 0o011)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(*command: str) -> None:
        made = subprocess.run(
            _as_server([str(binaries / command[0]), *command[1:]]),
            capture_output=True,
            text=True,
            cwd=data,
            check=False,
        )
        if made.returncode:
            raise RuntimeError(f"{' '.join(command)}: {made.stdout}{made.stderr}")

    run("initdb", "-D", str(data), "-U", "chart", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c timezone=Asia/Tokyo"
    run("pg_ctl", "-D", str(data), "-w", "-l", str(data / "log"), "-o", options, "start")
    try:
        yield f"postgresql://chart@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
