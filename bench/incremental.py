"""Does a small run cost what its own events cost, or what the history costs?

Two homes get the same kind of traffic, one of a single day and one of many days with as many events a day, are brought
up to date, and then each takes in the same number of new events.

Belongs here: building the histories and measuring the run after ingestion (silver and the models, then the marts).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from bench.measure import measure
from bench.traffic import FAULTS, fill
from chart_platform.settings import Settings
from chart_platform.simulator import Message, SimulationConfig, generate
from chart_platform.stream.offsets import TopicOffsets

_SMALL_RUN = 10_000


def compare(
    settings: Settings, folder: Path, days: int, per_day: int, repeat: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """CPU-seconds of the incremental run on one day and on ``days`` of history, and their ratio."""
    found = {n: _run(settings, folder, n, per_day, repeat, say) for n in (1, days)}
    short, long = found[1], found[days]
    return {
        "new_events": _SMALL_RUN,
        "events_a_day": per_day,
        "days": days,
        "cpu_seconds_on_1_day": short["update_all"],
        f"cpu_seconds_on_{days}_days": long["update_all"],
        "ratio": round(median(long["update_all"]) / median(short["update_all"]), 3),
        "marts_on_1_day": short["run_marts"],
        f"marts_on_{days}_days": long["run_marts"],
        "marts_ratio": round(median(long["run_marts"]) / median(short["run_marts"]), 3),
    }


def _run(
    settings: Settings, folder: Path, days: int, per_day: int, repeat: int, say: Callable[[str], None]
) -> dict[str, list[float]]:
    topic = f"bench.history-{days}"
    argument = {
        "bootstrap_servers": settings.bootstrap_servers,
        "topic": topic,
        "folder": str(folder / f"history-{days}"),
        "ends": {},
    }
    end = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    history = SimulationConfig(seed=1, events=days * per_day, days=days, end=end, faults=FAULTS)
    fill(settings, topic, generate(history))
    _bring_up_to_date(settings, argument)
    say(f"  {days} days of history with {days * per_day} events are in place")
    spent: dict[str, list[float]] = {"update_all": [], "run_marts": []}
    for number in range(repeat):
        # New visits of the last day, as many and the same in both homes.
        fill(settings, topic, _fresh(end, number))
        argument["ends"] = _ends(settings, topic)
        measure("bench.contenders.ours:take_in", argument)
        for step, found in spent.items():
            cost = measure(f"bench.model:{step}", argument)
            found.append(round(cost.cpu_seconds, 2))
            say(f"  {days} days, {step}: {cost.cpu_seconds:.2f} CPU-seconds for {_SMALL_RUN} new events")
    return spent


def _fresh(end: datetime, number: int) -> Iterator[Message]:
    hours = end - timedelta(hours=number)
    return generate(SimulationConfig(seed=100 + number, events=_SMALL_RUN, days=1, end=hours))


def _bring_up_to_date(settings: Settings, argument: dict[str, Any]) -> None:
    argument["ends"] = _ends(settings, argument["topic"])
    measure("bench.contenders.ours:take_in", argument)
    measure("bench.model:update_all", argument)
    measure("bench.model:run_marts", argument)


def _ends(settings: Settings, topic: str) -> dict[int, int]:
    return TopicOffsets(settings, topic).latest()
