"""Division of whole amounts, removal effects and Shapley values, held against fractions and against their definitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chart_platform.attribution.apportion import apportion
from chart_platform.attribution.weights import (
    BILLION,
    CONVERSION,
    NULL,
    START,
    Sets,
    Transitions,
    Weight,
    markov_weights,
    shapley_weights,
)
from chart_platform_tests.attribution.attribution_oracle import (
    Window,
    largest_remainders,
    removal_effects,
    shapley_values,
)

some_weights = st.lists(st.integers(0, 10**15), min_size=1, max_size=9).filter(any)
amounts = st.integers(-(10**12), 10**12)
windows = st.dictionaries(
    st.tuples(st.lists(st.sampled_from("ABCD"), min_size=1, max_size=5).map(tuple), st.booleans()),
    st.integers(1, 40),
    min_size=1,
    max_size=12,
)


def transitions(window: Window) -> Transitions:
    steps: Counter[tuple[str, str]] = Counter()
    for (path, converted), count in window.items():
        for step in pairwise((START, *path, CONVERSION if converted else NULL)):
            steps[step] += count
    return steps


def sets(window: Window) -> Sets:
    journeys: Counter[frozenset[str]] = Counter()
    conversions: Counter[frozenset[str]] = Counter()
    for (path, converted), count in window.items():
        journeys[frozenset(path)] += count
        conversions[frozenset(path)] += count * converted
    return {together: (count, conversions[together]) for together, count in journeys.items()}


def as_weights(effects: Mapping[str, Fraction]) -> dict[str, Weight]:
    positive = [max(effect, Fraction(0)) for effect in effects.values()]
    if not any(positive):
        return {}
    weights = largest_remainders(BILLION, positive)
    return {c: Weight(w, round(e * BILLION)) for (c, e), w in zip(effects.items(), weights, strict=True)}


@given(amounts, some_weights)
def test_parts_sum_to_the_amount_and_none_is_a_unit_off_its_share(amount: int, weights: list[int]) -> None:
    parts = apportion(amount, weights)
    assert sum(parts) == amount
    assert all(
        abs(part - Fraction(amount * weight, sum(weights))) < 1 for part, weight in zip(parts, weights, strict=True)
    )


@given(amounts, some_weights)
def test_units_left_over_go_to_the_largest_remainders(amount: int, weights: list[int]) -> None:
    assert apportion(amount, weights) == largest_remainders(amount, [Fraction(weight) for weight in weights])


def test_of_equal_remainders_the_first_gets_the_unit() -> None:
    assert apportion(100, [1, 1, 1]) == [34, 33, 33]
    assert apportion(-100, [1, 1, 1]) == [-34, -33, -33]


@pytest.mark.parametrize("weights", [[0, 0], [2, -1], []])
def test_weights_that_divide_nothing_are_refused(weights: list[int]) -> None:
    with pytest.raises(ValueError, match="divide nothing"):
        apportion(10, weights)


def test_the_removal_effect_is_the_share_of_conversions_lost() -> None:
    journeys = {(("A", "B", "C"), True): 1, (("A",), False): 1, (("B", "C"), False): 1}
    found = markov_weights(transitions(journeys))
    assert {channel: weight.effect_ppb for channel, weight in found.items()} == {
        "A": BILLION // 2,
        "B": BILLION,
        "C": BILLION,
    }
    assert [weight.weight_ppb for weight in found.values()] == [200_000_000, 400_000_000, 400_000_000]


@given(windows)
def test_markov_weights_are_those_of_gauss_elimination_on_fractions(window: Window) -> None:
    assert markov_weights(transitions(window)) == as_weights(removal_effects(window))


@given(windows)
def test_a_visit_repeated_at_once_changes_no_removal_effect(window: Window) -> None:
    stuttered: Counter[tuple[tuple[str, ...], bool]] = Counter()
    for (path, converted), count in window.items():
        stuttered[(path[0], *path), converted] += count
    assert markov_weights(transitions(stuttered)) == markov_weights(transitions(window))


def test_the_shapley_value_is_the_average_gain_of_joining() -> None:
    # Alone A converts 1 of 10 and B 2 of 10, together 6 of 10.
    counts = {("A",): (10, 1), ("B",): (10, 2), ("A", "B"): (10, 6)}
    found = shapley_weights({frozenset(channels): count for channels, count in counts.items()})
    # Of the 10 journeys with both, A earns (1 + (6 - 2)) / 2 and B (2 + (6 - 1)) / 2, beside what each earns alone.
    assert {c: w.effect_ppb for c, w in found.items()} == {
        "A": round(BILLION * Fraction(7, 2) / 9),
        "B": round(BILLION * Fraction(11, 2) / 9),
    }


@given(windows)
def test_shapley_values_are_those_of_all_orders(window: Window) -> None:
    assert shapley_weights(sets(window)) == as_weights(shapley_values(window))


@given(windows)
def test_shapley_values_share_all_conversions(window: Window) -> None:
    found = shapley_weights(sets(window))
    assert not found or abs(sum(weight.effect_ppb for weight in found.values()) - BILLION) <= len(found)


@given(windows)
def test_the_order_of_counts_changes_no_weight(window: Window) -> None:
    shuffled = dict(sorted(window.items(), reverse=True))
    assert markov_weights(transitions(shuffled)) == markov_weights(transitions(window))
    assert shapley_weights(sets(shuffled)) == shapley_weights(sets(window))


@given(windows)
def test_weights_sum_to_a_billion_unless_nothing_converted(window: Window) -> None:
    converted = any(won for _, won in window)
    for weights in (markov_weights(transitions(window)), shapley_weights(sets(window))):
        assert sum(weight.weight_ppb for weight in weights.values()) == (BILLION if converted else 0)


def test_a_set_of_too_many_channels_counts_with_the_most_common_ones() -> None:
    many = frozenset(f"channel {number:02d}" for number in range(14))
    common = {frozenset({channel}): (10 - number % 2, 1) for number, channel in enumerate(sorted(many)[:12])}
    with_many = shapley_weights({**common, many: (5, 3)})
    assert with_many == shapley_weights({**common, frozenset(sorted(many)[:12]): (5, 3)})
