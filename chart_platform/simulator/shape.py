"""When traffic comes: the daily and weekly rhythm, noise and bursts, as a curve that can be inverted.

Belongs here: the density of traffic over time.
Does not belong here: who comes (``visitors``).
"""

from __future__ import annotations

import random
from bisect import bisect_right
from itertools import accumulate, pairwise
from typing import Final

from chart_platform.simulator.config import DAY_MS, Burst, SimulationConfig

HOUR_MS: Final = 3_600_000

HOUR_WEIGHTS: Final = (
    0.42, 0.32, 0.26, 0.22, 0.22, 0.28, 0.40, 0.60, 0.82, 1.00, 1.10, 1.14,
    1.10, 1.12, 1.18, 1.22, 1.24, 1.28, 1.38, 1.52, 1.60, 1.46, 1.08, 0.68,
)  # fmt: skip
"""By hour UTC: offices in Europe by day, both sides of the Atlantic in the evening."""

WEEKDAY_WEIGHTS: Final = (1.08, 1.10, 1.06, 1.02, 0.94, 0.84, 0.96)
"""Monday to Sunday."""

TAIL_MS: Final = 60_000
"""No visit begins in the last minute: it must be able to end, and its events to arrive, before the history does."""


def burst_at(bursts: tuple[Burst, ...], ms: int) -> Burst | None:
    """The first burst that covers the moment."""
    for burst in bursts:
        start, end = burst.span_ms
        if start <= ms < end:
            return burst
    return None


def burst_factor(bursts: tuple[Burst, ...], ms: int) -> float:
    """Product of all bursts that cover the moment."""
    factor = 1.0
    for burst in bursts:
        start, end = burst.span_ms
        if start <= ms < end:
            factor *= burst.factor
    return factor


class TrafficShape:
    """The cumulated traffic of a history as a piecewise linear function of time."""

    def __init__(self, config: SimulationConfig) -> None:
        begin, end = config.begin_ms, config.end_ms - TAIL_MS
        hours = [begin, *range((begin // HOUR_MS + 1) * HOUR_MS, end, HOUR_MS)]
        rng = random.Random(f"{config.seed}:shape")
        # Noise belongs to the hour, so that asking for a burst does not redraw the rest of the history.
        noise = [rng.uniform(0.88, 1.12) for _ in hours]
        inside = {moment for burst in config.bursts for moment in burst.span_ms if begin < moment < end}
        self._edges: list[int] = sorted({*hours, *inside, end})
        weights = []
        for left, right in pairwise(self._edges):
            weekday = (left // DAY_MS + 3) % 7  # the epoch was a Thursday
            density = HOUR_WEIGHTS[left // HOUR_MS % 24] * WEEKDAY_WEIGHTS[weekday]
            density *= noise[bisect_right(hours, left) - 1] * burst_factor(config.bursts, left)
            weights.append(density * (right - left))
        self._cumulated: list[float] = list(accumulate(weights, initial=0.0))
        self._total = self._cumulated[-1]
        if self._total <= 0:
            raise ValueError("the bursts leave no traffic at all: give some of the history a factor above 0")

    def at(self, share: float) -> int:
        """The moment (ms) by which ``share`` (0 ≤ share < 1) of the traffic has come."""
        target = share * self._total
        piece = min(bisect_right(self._cumulated, target), len(self._cumulated) - 1) - 1
        low, high = self._cumulated[piece], self._cumulated[piece + 1]
        left, right = self._edges[piece], self._edges[piece + 1]
        return left + int((right - left) * (target - low) / (high - low)) if high > low else left
