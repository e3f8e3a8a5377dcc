"""What is known of the rebuilds of an instance, a file each in ``<home>/rebuilds``: one that is killed leaves its own.

Belongs here: that file, and that there is one rebuild at a time. Does not belong here: what is in the state.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chart_platform.local.instance import read_json, replace_text
from chart_platform.rebuild.plan import CannotRebuild, Plan
from chart_platform.settings import Settings

_KEPT = 50


@dataclass(frozen=True)
class Entry:
    """One rebuild: the id of its backfill, what it was about, the state of the tables before."""

    id: str
    about: dict[str, Any]
    before: dict[str, Any]
    done: bool


def about(plan: Plan) -> dict[str, Any]:
    return {"days": [day.isoformat() for day in plan.days], "tables": [one.full_name for one in plan.tables]}


@contextmanager
def alone(settings: Settings) -> Iterator[Journal]:
    """The journal, for one rebuild at a time.

    Raises:
        CannotRebuild: another one runs.
    """
    folder = settings.root / "rebuilds"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotRebuild(f"Another rebuild of {settings.root} runs: wait for its end.") from None
        yield Journal(folder)


class Journal:
    """The files of the rebuilds, newest last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def unfinished(self, plan: Plan) -> Entry | None:
        """The rebuild of the same days and tables that was begun last, if it was not brought to its end."""
        for path in reversed(self._files()):
            raw = read_json(path)
            if raw.get("about") == about(plan):
                entry = Entry(raw["id"], raw["about"], raw["before"], raw["done"])
                return None if entry.done else entry
        return None

    def begin(self, entry: Entry) -> None:
        self._write(entry)
        for path in self._files()[:-_KEPT]:
            path.unlink()

    def end(self, entry: Entry) -> None:
        self._write(Entry(entry.id, entry.about, entry.before, done=True))

    def _write(self, entry: Entry) -> None:
        said = {"id": entry.id, "about": entry.about, "before": entry.before, "done": entry.done}
        replace_text(self._folder / f"{entry.id}.json", json.dumps(said))

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*.json"))
