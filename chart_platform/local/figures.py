"""How the instance is doing, in three numbers: events sent, messages unread, age of the last commit to gold.

Belongs here: reading them from where they are true (Kafka, the lake), and the process that does so over and over.
Does not belong here: showing them (``view``).

A process of its own, so that the supervisor stays small, has one thread, and never waits for Kafka.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from chart_platform.local.instance import Files, read_json, replace_text
from chart_platform.settings import Settings, get_settings

if TYPE_CHECKING:
    from chart_platform.contracts.feeds import Feed
    from chart_platform.lakehouse.lake import Lake
    from chart_platform.stream.offsets import TopicOffsets

_EVERY_SECONDS = 4.0
_OUTDATED_SECONDS = 30.0


@dataclass(frozen=True)
class Figures:
    """``None``: not known (yet). ``lag`` is in messages, by topic and partition."""

    sent: int | None = None
    lag: dict[str, int] | None = None
    gold_at: datetime | None = None


def latest_figures(files: Files) -> Figures:
    """What the instance's processes noted down last; nothing that is too old to be true."""
    sent = read_json(files.ready("traffic")).get("sent")
    noted = read_json(files.ready("figures"))
    if time.time() - noted.get("at", 0.0) > _OUTDATED_SECONDS:
        return Figures(sent)
    gold_at = noted.get("gold_at")
    return Figures(sent, noted.get("lag"), datetime.fromtimestamp(gold_at, UTC) if gold_at is not None else None)


def _note_on(settings: Settings) -> None:
    # Here and not above: the supervisor reads figures, and has no need of these.
    from chart_platform.contracts.feeds import feeds
    from chart_platform.contracts.tables import FACT_FUNNEL
    from chart_platform.lakehouse.lake import Lake
    from chart_platform.stream.offsets import TopicOffsets

    lake = Lake(settings)
    topics = {feed: TopicOffsets(settings, feed.topic) for feed in feeds(settings)}
    while True:
        note: dict[str, Any] = {"pid": os.getpid(), "at": time.time()}
        note["lag"] = lag_by_partition(lake, topics)
        snapshot = lake.load(FACT_FUNNEL).current_snapshot()
        note["gold_at"] = snapshot.timestamp_ms / 1000 if snapshot is not None else None
        replace_text(Files(settings).ready("figures"), json.dumps(note))
        time.sleep(_EVERY_SECONDS)


def lag_by_partition(lake: Lake, topics: Mapping[Feed, TopicOffsets]) -> dict[str, int]:
    """Messages that no table has taken in yet, by ``topic/partition``."""
    found: dict[str, int] = {}
    for feed, offsets in topics.items():
        progress = lake.progress(feed.table)
        lag = offsets.lag(progress.offsets if progress else {})
        found |= {f"{feed.topic}/{partition}": behind for partition, behind in sorted(lag.items())}
    return found


def main() -> None:
    while True:
        try:
            _note_on(get_settings())
        except Exception as error:
            # Whatever it is (Kafka restarts, a table is being made): figures are not worth a restart, but a try.
            print(f"{datetime.now(UTC):%H:%M:%S} {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            time.sleep(_EVERY_SECONDS)


if __name__ == "__main__":
    main()
