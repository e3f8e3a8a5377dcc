"""From sums to rows of gold.experiment_results, and the same for people who ask at the command line.

Belongs here: which comparisons an experiment has, and their order of judging. Does not belong here: the statistics
themselves, or where sums come from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from itertools import groupby
from typing import Any

import pyarrow as pa

from chart_platform.contracts.tables import EXPERIMENT_ROLES
from chart_platform.experiments.metrics import METRICS, Metric
from chart_platform.experiments.registry import Design, Registry
from chart_platform.experiments.statistics import (
    PRODUCTS,
    Comparison,
    Sums,
    adjusted,
    compare,
    sample_ratio_evidence,
    sample_ratio_p_value,
)

_ESTIMATES = (
    "effect", "effect_low", "effect_high", "relative", "relative_low", "relative_high", "p_value",
    "sequential_low", "sequential_high", "sequential_relative_low", "sequential_relative_high", "sequential_p_value",
)  # fmt: skip


@dataclass(frozen=True)
class Totals:
    """What is known of an experiment by the end of a day: sums by metric and variant, crossovers by variant."""

    sums: Mapping[str, Mapping[str, Sums]] = field(default_factory=dict)
    crossovers: Mapping[str, int] = field(default_factory=dict)

    def visitors(self) -> dict[str, int]:
        """Visitors by variant, without crossovers."""
        by_variant = next(iter(self.sums.values()), {})
        return {variant: sums.visitors for variant, sums in sorted(by_variant.items())}


def totals_by_day(rows: pa.Table) -> dict[str, list[tuple[date, Totals]]]:
    """Of each experiment the totals at the end of each day, from gold.experiment_sums by experiment and day."""
    found: dict[str, list[tuple[date, Totals]]] = {}
    for key, of_experiment in groupby(rows.to_pylist(), key=lambda row: row["experiment_key"]):
        found[key] = list(_accumulated(of_experiment))
    return found


def _accumulated(rows: Iterator[dict[str, Any]]) -> Iterator[tuple[date, Totals]]:
    totals = Totals()
    for day, of_day in groupby(rows, key=lambda row: row["event_dt"]):
        sums = {metric: dict(by_variant) for metric, by_variant in totals.sums.items()}
        crossovers = dict(totals.crossovers)
        for row in of_day:
            metric, variant = row["metric"], row["variant"]
            by_variant = sums.setdefault(metric, {})
            by_variant[variant] = by_variant.get(variant, Sums()) + Sums(
                row["visitors"], **{name: row[name] for name in PRODUCTS}
            )
            if metric == METRICS[0].name:
                crossovers[variant] = crossovers.get(variant, 0) + row["crossovers"]
        totals = replace(totals, sums=sums, crossovers=crossovers)
        yield day, totals


@dataclass(frozen=True)
class SampleRatio:
    """Whether visitors came in the expected ratio: observed and expected by variant, p-values at one look and at all."""

    visitors: Mapping[str, int]
    expected: Mapping[str, float]
    p_value: float
    sequential_p_value: float

    @property
    def unknown(self) -> list[str]:
        """Variants that had visitors and should have none."""
        return [variant for variant, n in self.visitors.items() if n and not self.expected.get(variant)]


@dataclass(frozen=True)
class Judged:
    """One treatment and metric beside the control. ``plain`` and ``cuped`` are None where there is too little to say."""

    metric: Metric
    variant: str
    role: str
    control_visitors: int
    visitors: int
    plain: Comparison | None
    cuped: Comparison | None
    p_value_adjusted: float | None


@dataclass(frozen=True)
class Conclusion:
    """What an experiment says as of the end of a day."""

    day: date
    design: Design
    totals: Totals
    sample_ratio: SampleRatio

    @cached_property
    def judged(self) -> tuple[Judged, ...]:
        """Every metric of each treatment. Not made before it is asked for: most days were concluded from long ago."""
        return tuple(_judge(self.design, self.totals))

    def harmed(self) -> list[Judged]:
        """Guardrail metrics that have lost more than their margin, by the interval that holds at all looks."""
        floor = -self.design.guardrail_margin
        return [
            j
            for j in self.judged
            if j.metric.name in self.design.guardrails
            and j.plain is not None
            and j.plain.sequential_relative_high is not None
            and j.plain.sequential_relative_high < floor
        ]


def conclude(registry: Registry, key: str, by_day: Sequence[tuple[date, Totals]]) -> Iterator[Conclusion]:
    """What experiment ``key`` says at the end of each day, in order. Days before the first visitor say nothing."""
    strongest = 0.0
    for day, totals in by_day:
        visitors = totals.visitors()
        seen = [variant for variant, n in visitors.items() if n > 0]
        if not seen:
            continue
        design = registry.design(key, seen)
        names = sorted({*design.shares, *seen})
        counts, shares = [visitors.get(name, 0) for name in names], [design.shares.get(name, 0.0) for name in names]
        strongest = max(strongest, sample_ratio_evidence(counts, shares))
        whole = sum(counts)
        ratio = SampleRatio(
            dict(zip(names, counts, strict=True)),
            {name: whole * share for name, share in zip(names, shares, strict=True)},
            sample_ratio_p_value(counts, shares),
            math.exp(-strongest),
        )
        yield Conclusion(day, design, totals, ratio)


def _judge(design: Design, totals: Totals) -> Iterator[Judged]:
    found: list[Judged] = []
    for metric in METRICS:
        by_variant = totals.sums[metric.name]
        control = by_variant.get(design.control, Sums())
        for variant in sorted(set(design.shares) - {design.control}):
            treatment = by_variant.get(variant, Sums())
            plain, cuped = (
                compare(
                    control,
                    treatment,
                    ratio=metric.denominator is not None,
                    alpha=design.alpha,
                    tightest_at=design.tightest_at,
                    covariate=covariate,
                )
                for covariate in (False, True)
            )
            role = _role(design, metric)
            found.append(Judged(metric, variant, role, control.visitors, treatment.visitors, plain, cuped, None))
    made_good: dict[tuple[str, str], float] = {}
    for roles in (("primary",), ("secondary",), ("guardrail", "other")):
        family = {(j.metric.name, j.variant): j.plain.p_value for j in found if j.role in roles and j.plain is not None}
        made_good |= adjusted(family, design.alpha, family_wise=roles == ("primary",))
    for j in found:
        yield replace(j, p_value_adjusted=made_good.get((j.metric.name, j.variant)))


def _role(design: Design, metric: Metric) -> str:
    named = ((metric.name == design.primary), metric.name in design.secondary, metric.name in design.guardrails, True)
    return next(role for role, is_it in zip(EXPERIMENT_ROLES, named, strict=True) if is_it)


def rows_of(conclusion: Conclusion) -> list[dict[str, Any]]:
    """The conclusion as rows of gold.experiment_results."""
    design, ratio = conclusion.design, conclusion.sample_ratio
    return [
        {
            "experiment_key": design.key,
            "metric": j.metric.name,
            "variant": j.variant,
            "control": design.control,
            "role": j.role,
            "registered": design.registered,
            "alpha": design.alpha,
            "visitors": j.visitors,
            "control_visitors": j.control_visitors,
            "mean": j.plain.treatment if j.plain else None,
            "control_mean": j.plain.control if j.plain else None,
            **_estimates("", j.plain),
            "p_value_adjusted": j.p_value_adjusted,
            "significant": None if j.p_value_adjusted is None else j.p_value_adjusted <= design.alpha,
            **_estimates("cuped_", j.cuped),
            "cuped_variance_reduction": variance_reduction(j),
            "srm_p_value": ratio.p_value,
            "srm_sequential_p_value": ratio.sequential_p_value,
            "event_dt": conclusion.day,
        }
        for j in conclusion.judged
    ]


def _estimates(prefix: str, found: Comparison | None) -> dict[str, float | None]:
    return {f"{prefix}{name}": getattr(found, name) if found is not None else None for name in _ESTIMATES}


def variance_reduction(judged: Judged) -> float | None:
    """Share of the variance of the effect that CUPED takes away; None where it says nothing."""
    if judged.plain is None or judged.cuped is None:
        return None
    return 1.0 - (judged.cuped.standard_error / judged.plain.standard_error) ** 2
