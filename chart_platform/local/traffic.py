"""The process that sends live simulated traffic, with the usual faults, and keeps the truth about it.

Belongs here: wiring the simulator to this instance. Does not belong here: what is sent (``simulator``).

Each start has a seed of its own, so that a restart sends new events and not those of the last start again, and a file
of its own, ``<home>/truth/live-<start>-<seed>.ndjson``. Of earlier starts the newest files stay.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from chart_platform.demo.keys import demo_keys
from chart_platform.local.collector import address
from chart_platform.local.instance import Files, replace_text
from chart_platform.settings import get_settings
from chart_platform.simulator import FaultRates, GroundTruthWriter, Message, SimulationConfig, live
from chart_platform.simulator.post import PostError, post
from chart_platform.simulator.send import SendError, send

_NOTE_EVERY_SECONDS = 1.0
_FLUSH_SECONDS = 2.0
_EARLIER_TRUTHS = 5
_PATIENCE_SECONDS = 300.0
"""With a collector that is away. Its restart takes seconds; waiting costs nothing but the traffic of that time."""


def prune(folder: Path, keep: int = _EARLIER_TRUTHS) -> None:
    """Delete the truths of live traffic but for the newest ``keep``; other files stay."""
    # The names have the time of the start.
    for path in sorted(folder.glob("live-*.ndjson"))[:-keep]:
        path.unlink(missing_ok=True)


def main() -> int:
    settings = get_settings()
    stopped = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    seed = secrets.randbits(31)
    started = datetime.now(UTC)
    truth = settings.root / "truth" / f"live-{started:%Y%m%dT%H%M%SZ}-{seed}.ndjson"
    prune(truth.parent)
    note_file = Files(settings).ready("traffic")
    note: dict[str, Any] = {"seed": seed, "truth": str(truth), "started": started.isoformat(timespec="seconds")}

    def noting(messages: Iterator[Message]) -> Iterator[Message]:
        due = 0.0
        for sent, message in enumerate(messages):
            if time.monotonic() >= due:
                replace_text(note_file, json.dumps({"pid": os.getpid(), "sent": sent, **note}))
                due = time.monotonic() + _NOTE_EVERY_SECONDS
            yield message

    replace_text(note_file, json.dumps({"pid": os.getpid(), "sent": 0, **note}))
    posting = settings.simulate_through == "collector"
    config = SimulationConfig(seed=seed, faults=FaultRates.default(), form="client" if posting else "topic")
    messages = live(config, settings.simulate_rate, stop=lambda: stopped)
    with GroundTruthWriter(truth) as writer:
        try:
            if posting:
                posted = post(
                    noting(writer.recorded(messages)),
                    address(settings),
                    demo_keys(settings).traffic,
                    patience_s=lambda: _FLUSH_SECONDS if stopped else _PATIENCE_SECONDS,
                )
                sent = posted.sent
                for surprise, count in posted.surprises.items():
                    print(f"Not as labelled: {surprise}, {count} times.", file=sys.stderr, flush=True)
            else:
                sent = send(noting(writer.recorded(messages)), settings, flush_timeout_s=_FLUSH_SECONDS).sent
        except (SendError, PostError) as error:
            print(error, file=sys.stderr, flush=True)
            return 1
    replace_text(note_file, json.dumps({"pid": os.getpid(), "sent": sent, **note}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
