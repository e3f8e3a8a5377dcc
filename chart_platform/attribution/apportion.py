"""Division of a whole amount in proportion to weights, without losing a unit.

Belongs here: the method of largest remainders. The macro `largest_remainders` does the same in SQL.
"""

from __future__ import annotations

from collections.abc import Sequence


def apportion(amount: int, weights: Sequence[int]) -> list[int]:
    """``amount`` in whole parts proportional to ``weights``, none negative and not all 0. The parts sum to ``amount``.

    Each gets its share rounded towards 0; the units left over go one each to the largest remainders, of equal ones to
    the first (the method of Hamilton). A negative amount is divided like its opposite.

    Raises:
        ValueError: no weight is positive.
    """
    whole = sum(weights)
    if whole <= 0 or min(weights) < 0:
        raise ValueError(
            f"Weights {list(weights)} divide nothing: they must not be negative, and one must be positive."
        )
    quotas = [divmod(abs(amount) * weight, whole) for weight in weights]
    left = abs(amount) - sum(quota for quota, _ in quotas)
    lucky = sorted(range(len(weights)), key=lambda place: (-quotas[place][1], place))[:left]
    sign = -1 if amount < 0 else 1
    return [sign * (quota + (place in lucky)) for place, (quota, _) in enumerate(quotas)]
