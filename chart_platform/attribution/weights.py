"""Weights of channels from journeys, converted and not: Markov removal effects and Shapley values.

All arithmetic is in whole numbers and fractions, so the same counts give the same weights, to the last digit, in any
order and on any machine. Belongs here: those two models. Does not belong here: counting journeys (SQL), or dividing the
money of one conversion by the weights (SQL).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import factorial, lcm

from chart_platform.attribution.apportion import apportion

START, CONVERSION, NULL = "(start)", "(conversion)", "(null)"
BILLION = 1_000_000_000

Transitions = Mapping[tuple[str, str], int]
"""How many journeys' steps led from one state to the next: channels, :data:`START`, and the two ends."""

Sets = Mapping[frozenset[str], tuple[int, int]]
"""Journeys, and those of them that converted, by the set of their channels."""


@dataclass(frozen=True)
class Weight:
    """What a channel weighs, in billionths of all; and what that was made from: the share of the conversions that the
    model gives it, in billionths, which may be negative or sum to more than all of them."""

    weight_ppb: int
    effect_ppb: int


def markov_weights(transitions: Transitions) -> dict[str, Weight]:
    """Removal effects in the first-order Markov chain of ``transitions``, normalised. Empty without any conversion.

    The effect of a channel is the share of conversions lost if every step into it led to :data:`NULL` instead: Anderl,
    Becker, von Wangenheim, Schumann, "Mapping the customer journey", International Journal of Research in Marketing 33
    (2016), 457-474.
    """
    channels = sorted({state for step in transitions for state in step} - {START, CONVERSION, NULL})
    whole = _conversion_probability(transitions, channels)
    if whole == 0:
        return {}
    effects = {
        channel: 1 - _conversion_probability(transitions, [c for c in channels if c != channel]) / whole
        for channel in channels
    }
    return _weights(effects)


def _conversion_probability(transitions: Transitions, channels: list[str]) -> Fraction:
    """Probability of reaching :data:`CONVERSION` from :data:`START` over ``channels`` only.

    With n(i) steps out of state i and n(i, j) of them into j, the probabilities h solve
    n(i) h(i) - sum over j of n(i, j) h(j) = n(i, CONVERSION). Solved by Bareiss' elimination, whose divisions leave no
    remainder. No pivot is 0: the matrix is a nonsingular M-matrix, as every state leads to an end.
    """
    states = [*channels, START]
    place = {state: number for number, state in enumerate(states)}
    rows = [[0] * (len(states) + 1) for _ in states]
    for (origin, target), steps in transitions.items():
        if origin not in place:
            continue
        row = rows[place[origin]]
        row[place[origin]] += steps
        if target in place:
            row[place[target]] -= steps
        elif target == CONVERSION:
            row[-1] += steps
    before = 1
    for k, pivot in enumerate(rows):
        for row in rows[k + 1 :]:
            factor = row[k]
            for j in range(k + 1, len(row)):
                row[j] = (row[j] * pivot[k] - factor * pivot[j]) // before
        before = pivot[k]
    *_, own, known = rows[-1]
    return Fraction(known, own) if own else Fraction(0)


_MOST_CHANNELS = 12
_ORDERS = 27_720
"""Least common multiple of 1 to 12: every probability of a place in a random order is a whole number of parts of it."""


def shapley_weights(sets: Sets) -> dict[str, Weight]:
    """Shapley values of channels, normalised; negative ones weigh nothing. Empty without any conversion.

    A coalition S of channels is worth the conversions there would be if every journey had only its channels in S and
    converted as often as the journeys with just these channels did: v(S) = sum over sets T of n(T) r(T ∩ S), r of a set
    that no journey has being 0. So v(all) is the number of conversions, and the value of channel c is

        sum over S without c of |S|! (N - |S| - 1)! / N! (v(S + c) - v(S)),    N channels

    (Shapley 1953; for attribution: Dalessandro et al., "Causally motivated attribution for online advertising", ADKDD
    2012). As v is a sum over sets T, so is the value, and only subsets of T matter in each part: it is exact for any
    number of channels, at 2^|T| steps a set. A set of more than 12 channels is taken for the 12 of them that most
    journeys have.
    """
    few = _of_few_channels(sets)
    conversions = sum(converted for _, converted in few.values())
    if not conversions:
        return {}
    # How much of its rate each set gives to each channel, in parts of _ORDERS journeys.
    given: dict[frozenset[str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for together, (journeys, _) in few.items():
        size = len(together)
        members = sorted(together)
        for mask in range(1, 1 << size):
            subset = frozenset(channel for bit, channel in enumerate(members) if mask >> bit & 1)
            if subset in few and few[subset][1]:
                inside, outside = _orders(len(subset) - 1, size), _orders(len(subset), size)
                for channel in members:
                    given[subset][channel] += journeys * (inside if channel in subset else -outside)
    common = lcm(*(few[subset][0] for subset in given))
    values = dict.fromkeys(sorted({channel for together in few for channel in together}), 0)
    for subset, parts in given.items():
        journeys, converted = few[subset]
        for channel, orders in parts.items():
            values[channel] += orders * converted * (common // journeys)
    return _weights({c: Fraction(value, common * _ORDERS * conversions) for c, value in values.items()})


def _orders(before: int, size: int) -> int:
    """In how many of :data:`_ORDERS` random orders of ``size`` channels just ``before`` given ones precede another."""
    return _ORDERS * factorial(before) * factorial(size - before - 1) // factorial(size) if before < size else 0


def _of_few_channels(sets: Sets) -> Sets:
    journeys: dict[str, int] = defaultdict(int)
    for together, (count, _) in sets.items():
        for channel in together:
            journeys[channel] += count
    few: dict[frozenset[str], tuple[int, int]] = {}
    for together, (count, converted) in sets.items():
        kept = frozenset(sorted(together, key=lambda c: (-journeys[c], c))[:_MOST_CHANNELS])
        before = few.get(kept, (0, 0))
        few[kept] = (before[0] + count, before[1] + converted)
    return few


def _weights(effects: Mapping[str, Fraction]) -> dict[str, Weight]:
    """Effects as shares of conversions, and what of them is positive as weights that sum to a billion."""
    positive = [max(effect, Fraction(0)) for effect in effects.values()]
    if not any(positive):
        return {}
    common = lcm(*(share.denominator for share in positive))
    weights = apportion(BILLION, [int(share * common) for share in positive])
    return {
        channel: Weight(weight, round(effect * BILLION))
        for (channel, effect), weight in zip(effects.items(), weights, strict=True)
    }
