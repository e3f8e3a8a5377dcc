"""What is said of sums is what is said of the visitors they were added up from, and what others publish for the same data."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from itertools import product

import numpy as np
import polars as pl
import pytest
import tea_tasting as tt
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from chart_platform.experiments.statistics import (
    PRODUCTS,
    Sums,
    adjusted,
    compare,
    detectable_effect,
    sample_ratio_evidence,
    sample_ratio_p_value,
    sequential_multiple,
    sequential_p_value,
    total,
    visitors_needed,
)

Visitor = tuple[int, int, int, int]
counts = st.integers(0, 10**6)
visitors = st.lists(st.tuples(counts, counts, counts, counts), min_size=2, max_size=8)


def sums(of: list[Visitor]) -> Sums:
    columns = dict(zip("xypq", zip(*of, strict=True), strict=True))
    found = {
        name: sum(math.prod(pair) for pair in zip(*(columns[side] for side in name), strict=True)) for name in PRODUCTS
    }
    return Sums(len(of), **found)


def world(seed: int, n: int, lift: float = 0.0) -> list[Visitor]:
    """Visitors with 1 to 5 visits, of which some click: more of those who did so before."""
    rng = random.Random(seed)
    made = []
    for _ in range(n):
        eager, y, q = rng.random() * 0.5, rng.randint(1, 5), rng.randint(0, 4)
        x, p = (sum(rng.random() < eager * grown for _ in range(k)) for k, grown in ((y, 1 + lift), (q, 1.0)))
        made.append((x, y, p, q))
    return made


@given(visitors)
def test_means_and_covariances_are_those_of_the_visitors_to_the_last_bit(of: list[Visitor]) -> None:
    found, n = sums(of).aggregates(), len(of)
    columns = dict(zip("xypq", zip(*of, strict=True), strict=True))
    for a, b in product("xypq", repeat=2):
        mean_a, mean_b = Fraction(sum(columns[a]), n), Fraction(sum(columns[b]), n)
        exact = sum((va - mean_a) * (vb - mean_b) for va, vb in zip(columns[a], columns[b], strict=True)) / (n - 1)
        assert (found.var(a) if a == b else found.cov(a, b)) == float(exact)
        assert found.mean(a) == float(mean_a)


@given(visitors, st.randoms())
def test_sums_are_the_same_in_whatever_order_and_groups_they_are_added(of: list[Visitor], rng: random.Random) -> None:
    whole, cut = sums(of), rng.randrange(1, len(of))
    rng.shuffle(of)
    assert total([sums(of[:cut]), sums(of[cut:])]) == whole


@pytest.mark.parametrize(("ratio", "covariate"), product([False, True], repeat=2))
def test_a_comparison_of_sums_is_tea_tastings_of_the_visitors(ratio: bool, covariate: bool) -> None:
    groups = [world(1, 400), world(2, 500, lift=0.4)]
    rows = [(variant, *visitor) for variant, of in enumerate(groups) for visitor in of]
    frame = pl.DataFrame(rows, schema=["variant", "x", "y", "p", "q"], orient="row")
    metric = (
        tt.RatioOfMeans("x", "y", *(("p", "q") if covariate else ()), confidence_level=0.9)
        if ratio
        else tt.Mean("x", "p" if covariate else None, confidence_level=0.9)
    )
    theirs = tt.Experiment(m=metric).analyze(frame)["m"]
    ours = compare(sums(groups[0]), sums(groups[1]), ratio=ratio, alpha=0.1, tightest_at=900, covariate=covariate)
    assert ours is not None
    for mine, name in (
        (ours.effect, "effect_size"), (ours.effect_low, "effect_size_ci_lower"), (ours.p_value, "pvalue"),
        (ours.relative_low, "rel_effect_size_ci_lower"), (ours.relative_high, "rel_effect_size_ci_upper"),
        (ours.control, "control"), (ours.effect / ours.standard_error, "statistic"),
    ):  # fmt: skip
        assert mine == pytest.approx(getattr(theirs, name), rel=1e-9), name


def test_cuped_takes_away_what_the_days_before_explain() -> None:
    groups = [world(3, 3000), world(4, 3000, lift=0.3)]
    plain, cuped = (
        compare(sums(groups[0]), sums(groups[1]), ratio=True, alpha=0.05, tightest_at=6000, covariate=c)
        for c in (False, True)
    )
    assert plain is not None and cuped is not None
    # The same regression on the residuals of the delta method, visitor by visitor.
    residuals = []
    both = np.array([*groups[0], *groups[1]], dtype=float)
    for i, j in ((0, 1), (2, 3)):
        ratio = both[:, i].mean() / both[:, j].mean()
        residuals.append((both[:, i] - ratio * both[:, j]) / both[:, j].mean())
    correlation = np.corrcoef(residuals)[0, 1]
    reduction = 1 - (cuped.standard_error / plain.standard_error) ** 2
    assert reduction == pytest.approx(correlation**2, abs=0.01)
    assert reduction > 0.05


# Of the tests of GrowthBook's gbstats (SequentialTwoSidedTTest): effect, standard error, N, and the interval they expect.
@pytest.mark.parametrize(
    ("effect", "error", "tightest_at", "low", "high"),
    [
        (0.50336, 0.33341, 1000, -0.55844, 1.56516),
        (0.50386, 0.03386, 5000, 0.40098, 0.60675),
        (0.50236, 0.3093, 5000, -0.43745, 1.44217),
    ],
)
def test_sequential_intervals_are_those_that_gbstats_publishes(
    effect: float, error: float, tightest_at: int, low: float, high: float
) -> None:
    wide = error * sequential_multiple(3000 + 3461, 0.05, tightest_at)
    assert (effect - wide, effect + wide) == pytest.approx((low, high), abs=2e-5)


@given(st.integers(2, 10**8), st.floats(0.001, 0.3), st.integers(1, 10**7))
def test_a_sequential_p_value_is_alpha_at_the_very_edge_of_the_interval(n: int, alpha: float, at: int) -> None:
    edge = sequential_multiple(n, alpha, at)
    assert sequential_p_value(edge, n, alpha, at) == pytest.approx(alpha, rel=1e-6)
    assert sequential_p_value(edge * 1.01, n, alpha, at) < alpha < sequential_p_value(edge * 0.99, n, alpha, at)


def test_a_sequential_interval_is_narrowest_where_it_was_asked_to_be() -> None:
    planned = {at: sequential_multiple(10_000, 0.05, at) for at in (100, 2_000, 10_000, 50_000, 10**6)}
    assert min(planned, key=lambda at: planned[at]) == 10_000
    assert planned[10_000] < 1.6 * 1.96


@pytest.mark.parametrize(
    "of",
    [
        [(0, 1, 0, 0)] * 50,  # nobody did anything
        [(1, 1, 0, 0)] * 50,  # all did the same
        [(1, 1, 0, 0)],  # nobody to compare with
    ],
)
def test_where_there_is_too_little_to_say_nothing_is_said(of: list[Visitor]) -> None:
    for ratio in (False, True):
        assert compare(sums(of), sums(of), ratio=ratio, alpha=0.05, tightest_at=100) is None
    lively = sums(world(5, 60))
    assert compare(lively, Sums(), ratio=True, alpha=0.05, tightest_at=100) is None


def test_a_control_of_zero_has_an_effect_but_no_relative_one() -> None:
    found = compare(sums([(0, 1, 0, 0)] * 40), sums(world(6, 40)), ratio=False, alpha=0.05, tightest_at=80)
    assert found is not None and found.effect_low > 0
    assert (found.relative, found.relative_low, found.sequential_relative_high) == (None, None, None)


def test_without_days_before_cuped_says_nothing() -> None:
    strangers = [[(x, y, 0, 0) for x, y, _, _ in world(seed, 100)] for seed in (7, 8)]
    for ratio in (False, True):
        assert compare(*map(sums, strangers), ratio=ratio, alpha=0.05, tightest_at=80, covariate=True) is None  # type: ignore[misc]


def test_corrections_are_holms_and_benjamini_and_hochbergs() -> None:
    given = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.5}
    assert adjusted(given, 0.05, family_wise=True) == pytest.approx({"a": 0.04, "b": 0.09, "c": 0.09, "d": 0.5})
    by_rank = {"a": 0.01 * 4, "c": 0.04 * 4 / 3, "b": 0.04 * 4 / 3, "d": 0.5}
    assert adjusted(given, 0.05, family_wise=False) == pytest.approx(by_rank)
    assert adjusted({}, 0.05, family_wise=True) == {}


def test_the_sample_ratio_is_judged_by_the_expected_shares() -> None:
    assert sample_ratio_p_value([5000, 5010], [0.5, 0.5]) > 0.9
    assert sample_ratio_p_value([5000, 5400], [0.5, 0.5]) == pytest.approx(binomtest(5000, 10400).pvalue, rel=0.05)
    assert sample_ratio_p_value([1000, 9000], [0.1, 0.9]) == pytest.approx(1.0)
    assert sample_ratio_p_value([500, 500, 1], [0.5, 0.5, 0.0]) == 0.0
    assert sample_ratio_p_value([0, 0], [0.5, 0.5]) == 1.0


def test_evidence_against_the_ratio_is_what_the_mixture_gives_visitor_by_visitor() -> None:
    order, shares, concentration = [0, 1, 1, 1, 0, 1, 1], [0.4, 0.6], 8.0
    seen, evidence = [0, 0], 0.0
    for variant in order:
        predicted = (concentration * shares[variant] + seen[variant]) / (concentration + sum(seen))
        evidence += math.log(predicted / shares[variant])
        seen[variant] += 1
        assert sample_ratio_evidence(seen, shares, concentration) == pytest.approx(evidence)
    assert sample_ratio_evidence([10, 10, 1], [0.5, 0.5, 0.0]) == math.inf


def test_a_ratio_that_is_off_by_a_few_percent_is_found_however_often_one_looks() -> None:
    rng, counted, looks = np.random.default_rng(1), np.zeros(2), []
    for _ in range(60):
        counted += rng.multinomial(2000, [0.48, 0.52])
        looks.append(sample_ratio_evidence([int(n) for n in counted], [0.5, 0.5]))
    assert looks[0] < math.log(1000) < looks[-1]


@pytest.mark.parametrize("ratio", [False, True])
def test_planned_visitors_show_the_planned_effect(ratio: bool) -> None:
    pooled = sums(world(9, 2000))
    needed = visitors_needed(pooled, ratio=ratio, relative_effect=0.1, alpha=0.05, power=0.8)
    assert detectable_effect(pooled, ratio=ratio, visitors=needed, alpha=0.05, power=0.8) == pytest.approx(
        0.1, rel=1e-3
    )
    assert visitors_needed(pooled, ratio=ratio, relative_effect=0.05, alpha=0.05, power=0.8) > 3.9 * needed
    uneven = visitors_needed(pooled, ratio=ratio, relative_effect=0.1, alpha=0.05, power=0.8, share=0.1)
    assert uneven == pytest.approx(needed * 0.25 / 0.09, rel=1e-2)


def test_nothing_can_be_planned_with_a_metric_that_is_always_the_same() -> None:
    for of in ([(0, 1, 0, 0)] * 5, [(1, 1, 0, 0)] * 5):
        with pytest.raises(ValueError, match="plan"):
            visitors_needed(sums(of), ratio=True, relative_effect=0.1, alpha=0.05, power=0.8)
