"""Kafka → bronze: every contender on the same topic, in turns.

Belongs here: running them, and proving that they wrote the same events.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import duckdb

from bench.contenders import CONTENDERS, LIMIT, OURS
from bench.measure import Cost, WorkFailed, measure
from bench.traffic import Traffic


def compare(
    argument: dict[str, Any],
    warm_up: dict[str, Any],
    traffic: Traffic,
    repeat: int,
    names: list[str],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Measure each contender ``repeat`` times, one after the other so that a busy spell hits all. Keeps our last home."""
    folder = Path(argument["folder"])
    warm = folder / "warm-up"
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    failed: dict[str, str] = {}
    expected: tuple[int, int] | None = None
    for round_number in range(repeat):
        for name in names:
            if name in failed:
                continue
            home = folder / name
            shutil.rmtree(home, ignore_errors=True)
            shutil.rmtree(warm, ignore_errors=True)
            try:
                cost = measure(
                    f"bench.contenders.{name}:take_in",
                    argument | {"folder": str(home)},
                    warm_up | {"folder": str(warm)},
                )
            except WorkFailed as error:
                failed[name] = str(error)
                say(f"  {name}: FAILED {error}")
                continue
            wrote = fingerprint(home)
            # What was sent is known, and all must agree on which events these were.
            expected = expected or (traffic.messages, wrote[1])
            if wrote != expected:
                failed[name] = f"wrote {wrote[0]} events of sum {wrote[1]}, expected {expected[0]} of {expected[1]}"
                say(f"  {name}: FAILED {failed[name]}")
                continue
            costs[name].append(cost)
            say(f"  {round_number + 1}/{repeat} {name}: {cost.cpu_seconds / traffic.messages * 1e6:.2f} µs an event")
            if name != OURS:
                shutil.rmtree(home, ignore_errors=True)
    return {
        "messages": traffic.messages,
        "average_bytes": round(traffic.average_bytes, 1),
        "contenders": _table(costs, failed, traffic.messages),
    }


def _table(costs: dict[str, list[Cost]], failed: dict[str, str], messages: int) -> dict[str, Any]:
    rates = {name: messages / median(c.cpu_seconds for c in found) for name, found in costs.items() if found}
    limit = rates.get(LIMIT)
    table: dict[str, Any] = {}
    for name in costs:
        if name in failed:
            table[name] = {"what": CONTENDERS[name], "failed": failed[name]}
            continue
        table[name] = {
            "what": CONTENDERS[name],
            "events_per_cpu_second": round(rates[name]),
            "microseconds_per_event": round(1e6 / rates[name], 2),
            "of_the_limit": round(rates[name] / limit, 2) if limit else None,
            "ours_is_times": round(rates[OURS] / rates[name], 2) if OURS in rates else None,
            "peak_rss_mb": round(max(c.peak_rss_mb for c in costs[name])),
            "start_cpu_seconds": round(median(c.start_cpu_seconds for c in costs[name]), 2),
            "cpu_seconds": [round(c.cpu_seconds, 2) for c in costs[name]],
        }
    return table


def fingerprint(home: Path) -> tuple[int, int]:
    """Rows of the data files below ``home`` and the sum of their event ids' hashes: equal iff the same events are there."""
    files = [
        str(file)
        for file in home.rglob("*.parquet")
        # dlt keeps the packages it has loaded; dead letters have no event id.
        if "pipelines" not in file.parts
        and "_dlt_loads" not in file.parts
        and "dead_letters" not in file.parts
        and not any(part.startswith("_dlt") for part in file.parts)
    ]
    if not files:
        return 0, 0
    ((rows, total),) = duckdb.sql(
        f"select count(*), sum(hash(event_id)::hugeint) from read_parquet({files}, hive_partitioning=false)"
    ).fetchall()
    return int(rows), int(total)
