"""What several tests of Kafka need to say to it."""

from __future__ import annotations

import time

from chart_platform.settings import Settings
from chart_platform.stream.offsets import TopicOffsets


def wait_for_end(settings: Settings, end: int, partition: int = 0) -> None:
    """Committing and aborting return before their markers are written: wait until readers may go up to ``end``."""
    offsets = TopicOffsets(settings)
    deadline = time.monotonic() + 10
    while (reached := offsets.latest()[partition]) != end:
        assert time.monotonic() < deadline, f"partition {partition} ends at {reached}, not {end}"
        time.sleep(0.01)
