"""A pipeline process that kills itself: ``python -m … <settings.json> <mode> <place> <n>``.

It dies with SIGKILL just before the n-th time that it does what ``place`` names: reading a chunk, writing files, or
committing to one table (before or after the commit). Modes: ``forward`` carries all that is unread to gold,
``again`` reads a day again. Exit code 0: it was done before the n-th time came.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from chart_platform.contracts.feeds import feeds
from chart_platform.lakehouse.lake import Lake
from chart_platform.quality.schemas import audit
from chart_platform.settings import Settings
from chart_platform.transform import model, silver, source

_left = 0


def _pass() -> None:
    global _left
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    _left -= 1


def lay_trap(place: str, number: int) -> None:
    """Make the ``number``-th (from 0) passage of ``place`` the last thing that this process does."""
    global _left
    _left = number
    if place == "read":
        read = source.read_ranges

        def reading(*args: Any, **given: Any) -> Iterator[Any]:
            for chunk in read(*args, **given):
                _pass()
                yield chunk

        source.read_ranges = reading  # type: ignore[assignment]
        return
    name = "write" if place == "write" else "_publish"
    original = getattr(Lake, name)

    def trapped(self: Lake, *args: Any) -> Any:
        if place != "committed":
            _pass()
        done = original(self, *args)
        if place == "committed":
            _pass()
        return done

    setattr(Lake, name, trapped)


def forward(lake: Lake) -> None:
    """What one pipeline run does, until nothing is unread."""
    while True:
        plans = {feed: source.unread(lake, feed) for feed in feeds(lake.settings)}
        intake = source.Intake.first_of({feed.name: plan for feed, plan in plans.items()})
        for feed in plans:
            if intake is not None and feed.name in intake.batches:
                source.take_in(lake, feed, intake.batches[feed.name], audit)
        silver.update(lake, audit)
        model.run(lake, audit)
        if intake is None:
            return


def main(settings_file: str, mode: str, place: str, number: str) -> None:
    settings = Settings.model_validate_json(Path(settings_file).read_text())
    if place != "nowhere":
        lay_trap(place, int(number))
    lake = Lake(settings)
    if mode == "forward":
        forward(lake)
    else:
        source.take_in_again(lake, date.fromisoformat(mode), audit)


if __name__ == "__main__":
    main(*sys.argv[1:])
