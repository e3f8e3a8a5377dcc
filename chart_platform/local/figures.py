"""How the instance is doing, in three numbers: events sent, messages unread, age of the last commit to gold.

Belongs here: reading them from where they are true (Kafka, the lake). Does not belong here: showing them (``view``).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime

from chart_platform.local.instance import Files, read_json
from chart_platform.settings import Settings

_EVERY_SECONDS = 4.0


@dataclass(frozen=True)
class Figures:
    """``None``: not known (yet)."""

    sent: int | None = None
    lag: int | None = None
    gold_at: datetime | None = None


class FigureReader:
    """Reads figures over and over in a thread of its own, as Kafka may take its time to answer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._files = Files(settings)
        self._lag: int | None = None
        self._gold_at: datetime | None = None
        self._stop = threading.Event()
        # A daemon: a stop must not wait for an answer of Kafka.
        self._thread = threading.Thread(target=self._read_on, name="figures", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def now(self) -> Figures:
        return Figures(events_sent(self._files), self._lag, self._gold_at)

    def _read_on(self) -> None:
        # Here and not above: these imports take a second, which a start should not wait for.
        from chart_platform.contracts.tables import BRONZE_EVENTS, FACT_FUNNEL
        from chart_platform.lakehouse.lake import Lake
        from chart_platform.stream.offsets import TopicOffsets

        lake: Lake | None = None
        while not self._stop.is_set():
            try:
                lake = lake or Lake(self._settings)
                progress = lake.progress(BRONZE_EVENTS)
                lag = TopicOffsets(self._settings).lag(progress.offsets if progress else {})
                self._lag = sum(lag.values())
                snapshot = lake.load(FACT_FUNNEL).current_snapshot()
                self._gold_at = datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC) if snapshot else None
            except Exception:
                # Whatever it is (Kafka restarts, a table is being made), the parts' own logs tell; here it is unknown.
                self._lag = None
            self._stop.wait(_EVERY_SECONDS)


def events_sent(files: Files) -> int | None:
    """Messages that the traffic of this start has sent."""
    sent = read_json(files.ready("traffic")).get("sent")
    return sent if isinstance(sent, int) else None


def kafka_lag(settings: Settings) -> dict[str, int] | None:
    """Unread messages by partition, or None when Kafka or the lake can't say."""
    from chart_platform.contracts.tables import BRONZE_EVENTS
    from chart_platform.lakehouse.lake import Lake
    from chart_platform.stream.offsets import TopicOffsets

    try:
        progress = Lake(settings).progress(BRONZE_EVENTS)
        lag = TopicOffsets(settings).lag(progress.offsets if progress else {})
    except Exception:
        return None
    return {str(partition): behind for partition, behind in sorted(lag.items())}
