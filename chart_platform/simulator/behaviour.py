"""How visitors of each intent behave, and the true effect of the A/B test: the numbers a good analysis must find.

Belongs here: probabilities by intent and variant, and what follows from them in closed form.
Does not belong here: random draws (``visitors``) or what pages and products there are (``catalog``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Intent = Literal["browse", "compare", "buy", "dormant"]
Variant = Literal["A", "B"]

INTENTS: Final[tuple[Intent, ...]] = ("browse", "compare", "buy", "dormant")
VARIANTS: Final[tuple[Variant, ...]] = ("A", "B")

EXPERIMENT_KEY: Final = "cta-layout"
"""Every visitor is in this experiment; the variant is drawn once per visitor, half and half."""

TRUE_RELATIVE_LIFT: Final = 0.15
"""THE TRUE EFFECT: a session of a B visitor clicks an affiliate link 1.15 times as likely as the same one under A.

It multiplies every click probability alike, and nothing else depends on the variant (not the intents, not how often
a visitor returns, not the payouts): so the ratio of B's session conversion to A's is exactly 1.15 in expectation, in
any slice by country, channel, device or intent. Sessions of one visitor are correlated through the visitor's
intent: an analysis must take the visitor as its unit, as the assignment does.
"""

INITIAL_INTENT_MIX: Final[Mapping[Intent, float]] = {"browse": 0.50, "compare": 0.32, "buy": 0.18, "dormant": 0.0}
"""Intent of a visitor at the first visit."""

DAILY_TRANSITIONS: Final[Mapping[Intent, tuple[tuple[Intent, float], ...]]] = {
    "browse": (("compare", 0.30), ("dormant", 0.08)),
    "compare": (("buy", 0.35), ("dormant", 0.08)),
    "buy": (("dormant", 0.40),),
    "dormant": (("browse", 0.03),),
}
"""Chance per elapsed day to move on; what is left stays. It ignores the variant and what the visitor clicked."""

P_COMPARISON: Final[Mapping[Intent, float]] = {"browse": 0.35, "compare": 0.92, "buy": 0.85, "dormant": 0.12}
"""Chance that a session opens a comparison page."""

P_CLICK_AFTER_COMPARISON: Final[Mapping[Intent, float]] = {
    "browse": 0.06,
    "compare": 0.16,
    "buy": 0.48,
    "dormant": 0.02,
}
"""Chance, under A, that a session with a comparison page clicks an affiliate link at least once."""

P_CLICK_WITHOUT_COMPARISON: Final[Mapping[Intent, float]] = {
    "browse": 0.01,
    "compare": 0.04,
    "buy": 0.15,
    "dormant": 0.005,
}
"""The same for a session without one: reviews have affiliate links too."""


def click_probability(intent: Intent, variant: Variant, *, compared: bool) -> float:
    """Chance that a session clicks an affiliate link at least once."""
    base = (P_CLICK_AFTER_COMPARISON if compared else P_CLICK_WITHOUT_COMPARISON)[intent]
    return base * (1.0 + TRUE_RELATIVE_LIFT) if variant == "B" else base


def session_conversion(intent: Intent, variant: Variant) -> float:
    """Chance that a session of this intent converts, whatever pages it opens."""
    compared = P_COMPARISON[intent]
    return compared * click_probability(intent, variant, compared=True) + (1.0 - compared) * click_probability(
        intent, variant, compared=False
    )


def expected_conversion(variant: Variant, mix: Mapping[Intent, float] = INITIAL_INTENT_MIX) -> float:
    """Expected share of a variant's sessions with at least one affiliate click, for a mix of session intents.

    ``mix`` needs not be normalised: counts of sessions by intent, as the ground truth has them, do. The default is
    the mix of first visits; over days the mix moves towards buyers, and B/A stays ``1 + TRUE_RELATIVE_LIFT``.
    """
    total = sum(mix.values())
    if total <= 0:
        raise ValueError("the mix of intents is empty: give at least one intent a weight above 0")
    return sum(weight * session_conversion(intent, variant) for intent, weight in mix.items()) / total
