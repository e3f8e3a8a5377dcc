"""Running ``chart-platform`` as its users do: in a process of its own, told by CHART_* variables what to work on.

Belongs here: starting the command and handing back what it said. Does not belong here: what it should say.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chart_platform.settings import Settings

COMMAND = Path(sys.executable).with_name("chart-platform")


@dataclass(frozen=True)
class Said:
    """What a command left behind: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON value; whatever else stands there is an error."""
        return json.loads(self.out)


class CommandLine:
    """Runs commands. Homes share the parsed dbt project in ``cache``, which costs seconds to make."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def run(
        self,
        settings: Settings,
        *arguments: str,
        stdin: bytes | None = None,
        cwd: Path | None = None,
        timeout: float = 240,
    ) -> Said:
        """Run one command for ``settings`` and wait for its end."""
        self._cache.mkdir(parents=True, exist_ok=True)
        settings.root.mkdir(parents=True, exist_ok=True)
        if not (settings.root / "cache").exists():
            (settings.root / "cache").symlink_to(self._cache, target_is_directory=True)
        done = subprocess.run(
            [COMMAND, *arguments],
            env=environment(settings),
            input=stdin or b"",
            cwd=cwd,
            capture_output=True,
            timeout=timeout,
        )
        return Said(done.returncode, done.stdout.decode(), done.stderr.decode())


def environment(settings: Settings) -> dict[str, str]:
    """This process's environment, with exactly the variables that say what ``settings`` says."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CHART_", "DAGSTER_"))}
    given = settings.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    return inherited | {f"CHART_{name.upper()}": str(value) for name, value in given.items()}
