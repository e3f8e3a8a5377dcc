"""Experiments as assets of the job of the marts, with the checks that tell whether their results can be believed."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from chart_platform.contracts.tables import (
    EXPERIMENT_EXPOSURES,
    EXPERIMENT_RESULTS,
    EXPERIMENT_SUMS,
    EXPERIMENT_VISITOR_DAYS,
    FACT_AFFILIATE_CLICKS,
    FACT_CHART_INTERACTIONS,
    FACT_FUNNEL,
    SILVER_EVENTS,
    SILVER_SESSIONS,
    Table,
)
from chart_platform.defs.marts import GROUP
from chart_platform.defs.metadata import key_of, spec
from chart_platform.defs.modes import RANGES, days_of, is_incremental
from chart_platform.defs.partitions import daily
from chart_platform.defs.resources import Platform
from chart_platform.defs.results import contract_specs, told
from chart_platform.experiments.gold import TABLES, conclusions, update
from chart_platform.experiments.registry import ExperimentsError, load_experiments
from chart_platform.experiments.results import Conclusion
from chart_platform.quality.experiments import account_for_visitors
from chart_platform.quality.schemas import ContractBreach, audit

SAMPLE_RATIO_ALPHA = 0.001
"""A sequential p-value below it fails the check: of a thousand sound experiments one ever does."""
RECENT = timedelta(days=7)
"""An experiment without news for so long, by the newest day of any, is over: its check has been told."""

_ABOVE: dict[Table, Sequence[Table]] = {
    EXPERIMENT_EXPOSURES: (SILVER_EVENTS, SILVER_SESSIONS),
    EXPERIMENT_VISITOR_DAYS: (
        EXPERIMENT_EXPOSURES, SILVER_SESSIONS, FACT_FUNNEL, FACT_AFFILIATE_CLICKS, FACT_CHART_INTERACTIONS,
    ),
    EXPERIMENT_SUMS: (EXPERIMENT_EXPOSURES, EXPERIMENT_VISITOR_DAYS),
    EXPERIMENT_RESULTS: (EXPERIMENT_SUMS,),
}  # fmt: skip


_RESULTS = key_of(EXPERIMENT_RESULTS)


@dg.multi_asset(
    name="experiments",
    specs=[
        spec(table, deps=[key_of(above) for above in _ABOVE[table]], kinds={"iceberg", "duckdb"}, group=GROUP)
        for table in TABLES
    ],
    check_specs=[
        *contract_specs(TABLES),
        dg.AssetCheckSpec(
            "accounted",
            asset=key_of(EXPERIMENT_SUMS),
            description="Every exposed visitor is in the sums of each metric once, or crossed over and was taken out.",
        ),
        dg.AssetCheckSpec(
            "sample_ratio",
            asset=_RESULTS,
            description="Visitors of running experiments came in the expected ratio, and to no unknown variant. If not, "
            "their results can't be believed.",
        ),
        dg.AssetCheckSpec(
            "guardrails",
            asset=_RESULTS,
            description="No guardrail metric of a running experiment has lost more than its margin, at all looks together.",
        ),
    ],
    partitions_def=daily,
    # As in gold.py, not for the sake of subsets: all four are made whatever is selected.
    can_subset=True,
    backfill_policy=RANGES,
)
def experiments(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Any]:
    lake = platform.lake()
    days = days_of(context)
    try:
        registry = load_experiments(platform.settings.experiments)
        made = update(lake, audit, registry, None if is_incremental(context) else days)
    except (ExperimentsError, ContractBreach) as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    checked = {(check.asset_key, check.name) for check in context.selected_asset_check_keys}
    for table in TABLES:
        if key_of(table) not in context.selected_asset_keys:
            continue
        yield from told(context, lake, table, made[table.full_name])
    if (key_of(EXPERIMENT_SUMS), "accounted") in checked:
        accounts = account_for_visitors(lake)
        yield dg.AssetCheckResult(
            asset_key=key_of(EXPERIMENT_SUMS),
            check_name="accounted",
            passed=all(a.ok for a in accounts),
            metadata={
                "visitors": sum(a.visitors for a in accounts),
                "crossovers": sum(a.crossovers for a in accounts),
                "different": ", ".join(f"{a.experiment_key} {a.variant}" for a in accounts if not a.ok) or "none",
            },
        )
    latest = conclusions(lake, registry)
    newest = max((c.day for c in latest), default=None)
    running = [c for c in latest if newest is not None and c.day > newest - RECENT]
    checks = {"sample_ratio": sample_ratio_check, "guardrails": guardrails_check}
    yield from (check(running) for name, check in checks.items() if (_RESULTS, name) in checked)


def sample_ratio_check(running: Sequence[Conclusion]) -> dg.AssetCheckResult:
    """Whether any experiment's visitors came in another ratio than expected: an error for those that are registered, a
    warning for the others, of which equal shares are only assumed."""
    wrong = [c for c in running if c.sample_ratio.sequential_p_value < SAMPLE_RATIO_ALPHA]
    severe = any(c.design.registered for c in wrong)
    lines = ["experiment | variant | visitors | expected | crossovers | p (all looks) | p (this look)", "--- | " * 7]
    for c in running:
        ratio = c.sample_ratio
        lines += [
            f"{c.design.key} | {variant} | {n} | {ratio.expected[variant]:.0f} | {c.totals.crossovers.get(variant, 0)} | "
            f"{ratio.sequential_p_value:.2g} | {ratio.p_value:.2g}"
            for variant, n in ratio.visitors.items()
        ]
    return dg.AssetCheckResult(
        asset_key=_RESULTS,
        check_name="sample_ratio",
        passed=not wrong,
        severity=dg.AssetCheckSeverity.ERROR if severe else dg.AssetCheckSeverity.WARN,
        metadata={
            "experiments": len(running),
            "mismatch": ", ".join(c.design.key for c in wrong) or "none",
            "unknown_variants": ", ".join(f"{c.design.key} {v}" for c in running for v in c.sample_ratio.unknown)
            or "none",
            "by_variant": dg.MetadataValue.md("\n".join(lines)),
        },
    )


def guardrails_check(running: Sequence[Conclusion]) -> dg.AssetCheckResult:
    """Whether any experiment does harm to a metric that it must not harm."""
    lines = ["experiment | metric | variant | relative effect | at all looks, from | to | margin", "--- | " * 7]
    harmed = 0
    for c in running:
        for j in c.harmed():
            harmed += 1
            assert j.plain is not None
            low, high = j.plain.sequential_relative_low, j.plain.sequential_relative_high
            lines.append(
                f"{c.design.key} | {j.metric.name} | {j.variant} | {j.plain.relative:+.1%} | {low:+.1%} | {high:+.1%} | "
                f"{-c.design.guardrail_margin:.1%}"
            )
    return dg.AssetCheckResult(
        asset_key=_RESULTS,
        check_name="guardrails",
        passed=not harmed,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"harmed": harmed, "by_metric": dg.MetadataValue.md("\n".join(lines))},
    )
