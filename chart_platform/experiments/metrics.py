"""The metrics of every experiment, each a ratio of two sums over visitors.

Belongs here: what is measured. Does not belong here: how it is counted (the ``.sql`` files) or judged (``statistics``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

COUNTS: Final = (
    "sessions",
    "converted_sessions",
    "clicks",
    "payout_cents",
    "chart_interactions",
    "comparison_sessions",
    "comparison_clicks",
)
"""What gold.experiment_visitor_days counts of a visitor, from the exposure on and, as ``pre_…``, before it."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A mean over visitors of ``numerator``, or with a ``denominator`` the ratio of two such means.

    Both are SQL over the :data:`COUNTS` of a visitor; ``unit`` says what a value of 1 is.
    """

    name: str
    numerator: str
    description: str
    unit: str
    denominator: str | None = None


METRICS: Final[tuple[Metric, ...]] = (
    Metric(
        "click_through",
        "converted_sessions",
        "Share of visits with an affiliate click. Visits of one visitor depend on each other: the delta method over "
        "visitors accounts for it.",
        "clicking visits per visit",
        denominator="sessions",
    ),
    Metric("conversion", "case when clicks > 0 then 1 else 0 end", "Visitors with an affiliate click.", "share"),
    Metric("clicks", "clicks", "Affiliate clicks per visitor.", "clicks"),
    Metric("payout_cents", "payout_cents", "Expected affiliate payout per visitor.", "cents"),
    Metric("sessions", "sessions", "Visits per visitor.", "visits"),
    Metric("chart_interactions", "chart_interactions", "Chart interactions per visitor.", "interactions"),
    Metric(
        "comparison_click_through",
        "comparison_clicks",
        "Of the visits that saw a comparison, the share with a first affiliate click after it.",
        "clicking visits per comparing visit",
        denominator="comparison_sessions",
    ),
)
METRIC_NAMES: Final = tuple(metric.name for metric in METRICS)


def metric(name: str) -> Metric:
    """The metric of this name. Raises ``KeyError`` naming the metrics there are."""
    for found in METRICS:
        if found.name == name:
            return found
    raise KeyError(f"No metric {name!r}; there are {', '.join(METRIC_NAMES)}.")
