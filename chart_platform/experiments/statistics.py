"""What the sums of two variants say: effects, intervals that hold at one look or at all, p-values, sample sizes.

All of it is computed from a few integers a variant (:class:`Sums`), so it costs the same for a thousand visitors and for a
billion, and the same visitors give the same figures to the last bit. Tests, CUPED, power and corrections for many
comparisons are tea-tasting's; confidence sequences and the sequential sample-ratio test are ours.

Belongs here: pure functions of sums. Does not belong here: tables, definitions of experiments (``registry``).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from tea_tasting.aggr import Aggregates

Key = TypeVar("Key", bound=Hashable)
_X, _Y, _P, _Q = "x", "y", "p", "q"


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over the visitors of one variant: of the metric's numerator ``x`` and denominator ``y``, of the same before the
    exposure (``p`` and ``q``), and of their products. Adding is exact, so neither order nor grouping matters."""

    visitors: int = 0
    x: int = 0
    y: int = 0
    p: int = 0
    q: int = 0
    xx: int = 0
    yy: int = 0
    pp: int = 0
    qq: int = 0
    xy: int = 0
    xp: int = 0
    xq: int = 0
    yp: int = 0
    yq: int = 0
    pq: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def aggregates(self) -> Aggregates:
        """Means, sample variances and covariances. Needs two visitors; each figure is rounded once, at its end."""
        from tea_tasting.aggr import Aggregates

        n, names = self.visitors, (_X, _Y, _P, _Q)

        def covariance(a: str, b: str) -> float:
            product: int = getattr(self, a + b)
            return (n * product - int(getattr(self, a)) * int(getattr(self, b))) / (n * (n - 1))

        return Aggregates(
            count_=n,
            mean_={name: getattr(self, name) / n for name in names},
            var_={name: covariance(name, name) for name in names},
            cov_={(a, b): covariance(a, b) for i, a in enumerate(names) for b in names[i + 1 :]},
        )


PRODUCTS = tuple(field.name for field in fields(Sums))[1:]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A treatment beside the control. ``relative`` is treatment / control - 1.

    ``low`` and ``high`` bound the interval that holds at one look decided on beforehand; the ``sequential`` ones hold at
    all looks together. What can't be told (a control of zero has no relative effect) is None.
    """

    control: float
    treatment: float
    effect: float
    effect_low: float
    effect_high: float
    relative: float | None
    relative_low: float | None
    relative_high: float | None
    p_value: float
    sequential_low: float
    sequential_high: float
    sequential_relative_low: float | None
    sequential_relative_high: float | None
    sequential_p_value: float
    standard_error: float


def compare(
    control: Sums, treatment: Sums, *, ratio: bool, alpha: float, tightest_at: int, covariate: bool = False
) -> Comparison | None:
    """Compare the means of ``x``, or with ``ratio`` those of ``x`` over ``y``; None if there is too little to say.

    Fixed horizon: Welch's t-test, for ratios on the delta method's variance (Deng, Knoblich & Lu 2018, "Applying the Delta
    Method in Metric Analytics"), relative intervals on the scale of logarithms. With ``covariate`` CUPED (Deng, Xu, Kohavi
    & Walker 2013) takes out what ``p`` (over ``q``) explains, one coefficient for both variants; None if it doesn't vary.
    All looks: :func:`sequential_multiple`, tightest at ``tightest_at`` visitors of both variants together.
    """
    from tea_tasting.metrics.mean import RatioOfMeans

    if min(control.visitors, treatment.visitors) < 2:
        return None
    numerator, denominator = _X, _Y if ratio else None
    before = (_P, _Q if ratio else None) if covariate else (None, None)
    if ratio and not (control.y and treatment.y):
        return None
    a, b, both = control.aggregates(), treatment.aggregates(), (control + treatment).aggregates()
    theta = 0.0
    if covariate:
        if ratio and not (control.q and treatment.q):
            return None
        explained = both.ratio_var(*before)
        if explained <= 0:
            return None
        theta = both.ratio_cov(numerator, denominator, *before) / explained

    def variance(of: Aggregates) -> float:
        own, covaried = of.ratio_var(numerator, denominator), of.ratio_cov(numerator, denominator, *before)
        return float(own + theta * theta * of.ratio_var(*before) - 2 * theta * covaried)

    error_a, error_b = variance(a) / control.visitors, variance(b) / treatment.visitors
    if error_a + error_b <= 0:
        return None
    test = RatioOfMeans(numerator, denominator, *before, confidence_level=1 - alpha, alternative="two-sided")
    found = test.analyze_aggregates(a, b)
    standard_error = math.sqrt(error_a + error_b)
    visitors = control.visitors + treatment.visitors
    wide = sequential_multiple(visitors, alpha, tightest_at)
    relative = found.control > 0 and found.treatment > 0
    spread = wide * math.sqrt(error_a / found.control**2 + error_b / found.treatment**2) if relative else math.inf
    grown = found.treatment / found.control if relative else math.nan
    return Comparison(
        control=float(found.control),
        treatment=float(found.treatment),
        effect=float(found.effect_size),
        effect_low=float(found.effect_size_ci_lower),
        effect_high=float(found.effect_size_ci_upper),
        relative=float(found.rel_effect_size) if relative else None,
        relative_low=float(found.rel_effect_size_ci_lower) if relative else None,
        relative_high=float(found.rel_effect_size_ci_upper) if relative else None,
        p_value=found.pvalue,
        sequential_low=found.effect_size - wide * standard_error,
        sequential_high=found.effect_size + wide * standard_error,
        sequential_relative_low=grown * math.exp(-spread) - 1 if relative else None,
        sequential_relative_high=grown * math.exp(min(spread, 700.0)) - 1 if relative else None,
        sequential_p_value=sequential_p_value(found.effect_size / standard_error, visitors, alpha, tightest_at),
        standard_error=standard_error,
    )


def _information(visitors: int, alpha: float, tightest_at: int) -> float:
    """n ρ² of the normal mixture, ρ chosen for the narrowest interval at n = ``tightest_at``."""
    return visitors / tightest_at * (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha)))


def sequential_multiple(visitors: int, alpha: float, tightest_at: int) -> float:
    """How many standard errors wide, to each side, an interval must be to hold at all looks together.

    The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2021, arXiv:2103.06476, eq. 9),
    which is Robbins' normal mixture with an estimated variance: with V = n ρ²,
    sqrt(2 (V + 1) / V · ln(sqrt(V + 1) / α)), ρ by their eq. 161 for two sides.
    """
    v = _information(visitors, alpha, tightest_at)
    return math.sqrt(2 * (v + 1) / v * math.log(math.sqrt(v + 1) / alpha))


def sequential_p_value(z: float, visitors: int, alpha: float, tightest_at: int) -> float:
    """The p-value that belongs to :func:`sequential_multiple`: below ``alpha`` exactly when the interval excludes zero.

    ``z`` is the effect in standard errors; 1 / e-value of the same mixture (eq. 155 there), at most 1.
    """
    v = _information(visitors, alpha, tightest_at)
    return math.exp(min(0.0, 0.5 * math.log(v + 1) - 0.5 * z * z * v / (v + 1)))


def adjusted(p_values: Mapping[Key, float], alpha: float, *, family_wise: bool) -> dict[Key, float]:
    """p-values to be compared with ``alpha`` as if each were the only one.

    Holm (1979) with ``family_wise``: the chance of any false positive is at most alpha, whatever depends on what. Else
    Benjamini & Hochberg (1995): of the positives, at most alpha are false on average, if they don't depend negatively.
    """
    from tea_tasting.experiment import ExperimentResult
    from tea_tasting.multiplicity import adjust_fdr, adjust_fwer

    given: Any = {key: ExperimentResult({"": {"pvalue": p}}) for key, p in p_values.items()}
    if not given:
        return {}
    results: Any = (
        adjust_fwer(given, alpha=alpha, arbitrary_dependence=True, method="bonferroni")
        if family_wise
        else adjust_fdr(given, alpha=alpha)
    )
    return {key: min(1.0, float(results[key][""]["pvalue_adj"])) for key in p_values}


def sample_ratio_p_value(visitors: Sequence[int], shares: Sequence[float]) -> float:
    """Pearson's chi-squared test that ``visitors`` came in the ratio of ``shares``: holds at one look."""
    from scipy.stats import chisquare

    total, whole = sum(visitors), math.fsum(shares)
    if total == 0 or any(n and not share for n, share in zip(visitors, shares, strict=True)):
        return 1.0 if total == 0 else 0.0
    kept = [(n, total * share / whole) for n, share in zip(visitors, shares, strict=True) if share]
    return float(chisquare([n for n, _ in kept], [e for _, e in kept]).pvalue) if len(kept) > 1 else 1.0


def sample_ratio_evidence(visitors: Sequence[int], shares: Sequence[float], concentration: float = 10_000) -> float:
    """ln of the Bayes factor that ``visitors`` came in another ratio than that of ``shares``.

    Lindon & Malek (2020, arXiv:2011.03567): multinomial with a Dirichlet prior around the shares, of weight
    ``concentration``, against the shares. Under these it is a martingale from 1, so (Ville) it exceeds 1/p at any look with a
    chance of at most p. The prior believes in small deviations: large ones overwhelm it soon.
    """
    whole = math.fsum(shares)
    if any(n and not share for n, share in zip(visitors, shares, strict=True)):
        return math.inf
    kept = [(n, share / whole) for n, share in zip(visitors, shares, strict=True) if share]
    found = math.lgamma(concentration) - math.lgamma(concentration + sum(visitors))
    for n, share in kept:
        prior = concentration * share
        found += math.lgamma(prior + n) - math.lgamma(prior) - n * math.log(share)
    return found


def visitors_needed(
    pooled: Sums, *, ratio: bool, relative_effect: float, alpha: float, power: float, share: float = 0.5
) -> int:
    """Visitors of control and treatment together for a fixed-horizon test to find ``relative_effect`` with ``power``.

    ``pooled`` tells mean and variance, ``share`` which part of the visitors gets the treatment.

    Raises:
        ValueError: the metric is zero or does not vary, so nothing can be planned with it.
    """
    data = _plannable(pooled, ratio)
    planned = _test(ratio, alpha, power, share, rel_effect_size=relative_effect)
    return int(planned.solve_power_from_aggregates(data, "n_obs")[0].n_obs)


def detectable_effect(
    pooled: Sums, *, ratio: bool, visitors: int, alpha: float, power: float, share: float = 0.5
) -> float:
    """The smallest relative effect that ``visitors`` of both variants together show with ``power``.

    Raises:
        ValueError: as :func:`visitors_needed`.
    """
    data = _plannable(pooled, ratio)
    planned = _test(ratio, alpha, power, share, n_obs=visitors)
    return float(planned.solve_power_from_aggregates(data, "rel_effect_size")[0].rel_effect_size)


def _plannable(pooled: Sums, ratio: bool) -> Aggregates:
    if pooled.visitors < 2 or not pooled.x or (ratio and not pooled.y):
        raise ValueError("Too little has been measured to plan with: needs two visitors and a metric above zero.")
    data = pooled.aggregates()
    if data.ratio_var(_X, _Y if ratio else None) <= 0:
        raise ValueError("The metric is the same for all visitors: nothing can be planned with it.")
    return data


def _test(ratio: bool, alpha: float, power: float, share: float, **planned: Any) -> Any:
    from tea_tasting.metrics.mean import RatioOfMeans

    odds = share / (1 - share)
    return RatioOfMeans(_X, _Y if ratio else None, alpha=alpha, power=power, ratio=odds, use_t=False, **planned)


def total(sums: Sequence[Sums]) -> Sums:
    return reduce(Sums.__add__, sums, Sums())
