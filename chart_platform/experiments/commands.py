"""``chart-platform experiment …``: what experiments say, and how many visitors one needs.

Belongs here: arguments and what is printed. Does not belong here: the figures (``results``, ``statistics``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chart_platform.experiments.metrics import metric
from chart_platform.settings import get_settings

# Every command starts by importing this module: tables and statistics are imported by those that need them.
if TYPE_CHECKING:
    from chart_platform.experiments.registry import Registry
    from chart_platform.experiments.results import Conclusion, Judged

experiment = typer.Typer(help="What experiments say, and how many visitors one needs.", no_args_is_help=True)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
_Key = Annotated[str, typer.Argument(help="Key of the experiment.", metavar="KEY")]


def _latest() -> tuple[Registry, dict[str, Conclusion]]:
    from chart_platform.experiments.gold import conclusions
    from chart_platform.experiments.registry import load_experiments
    from chart_platform.lakehouse.lake import Lake

    settings = get_settings()
    registry = load_experiments(settings.experiments)
    return registry, {c.design.key: c for c in conclusions(Lake(settings), registry)}


def _found(key: str) -> tuple[Registry, Conclusion]:
    registry, latest = _latest()
    if key not in latest:
        known = ", ".join(sorted(latest)) or "none yet"
        raise ValueError(f"No experiment {key!r} has had visitors; those that have: {known}.")
    return registry, latest[key]


@experiment.command("list")
def list_(as_json: _Json = False) -> None:
    """Every experiment that is registered or has had visitors."""
    registry, latest = _latest()
    rows = []
    for key in sorted({*registry.experiments, *latest}):
        c = latest.get(key)
        rows.append(
            {
                "experiment": key,
                "registered": key in registry.experiments,
                "last_day": str(c.day) if c else None,
                "visitors": sum(c.sample_ratio.visitors.values()) if c else 0,
                "crossovers": sum(c.totals.crossovers.values()) if c else 0,
                "sample_ratio_p_value": c.sample_ratio.sequential_p_value if c else None,
            }
        )
    if as_json:
        print(json.dumps(rows))
        return
    _print(rows)


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    view = Table(*(name.replace("_", " ") for name in rows[0]) if rows else (), box=SIMPLE_HEAD)
    for row in rows:
        view.add_row(*(_text(value) for value in row.values()))
    Console().print(view)


def _text(value: Any) -> Text:
    match value:
        case None:
            return Text("–")
        case bool():
            return Text("yes" if value else "no")
        case int():
            return Text(f"{value:,}")
        case float():
            return Text(f"{value:.3g}")
    return Text(str(value))


@experiment.command()
def show(key: _Key, as_json: _Json = False) -> None:
    """What an experiment says as of its last day: every metric of each treatment beside the control."""
    from chart_platform.experiments.results import rows_of

    _, found = _found(key)
    if as_json:
        print(json.dumps(rows_of(found), default=str))
        return
    console, design, ratio = Console(), found.design, found.sample_ratio
    console.print(
        Text(f"{key}, as of the end of {found.day}" + ("" if design.registered else " (not registered)"), "bold")
    )
    visitors = ", ".join(f"{v} {n:,} (expected {ratio.expected[v]:,.0f})" for v, n in ratio.visitors.items())
    console.print(f"visitors: {visitors}; crossovers left out: {sum(found.totals.crossovers.values()):,}")
    console.print(f"sample ratio: p = {ratio.sequential_p_value:.3g} at all looks, {ratio.p_value:.3g} at this one")
    for variant in sorted(set(design.shares) - {design.control}):
        console.print(_beside(found, variant))
    for j in found.harmed():
        console.print(
            Text(f"guardrail: {j.metric.name} of {j.variant} has lost more than {design.guardrail_margin:.0%}", "red")
        )


def _beside(found: Conclusion, variant: str) -> Table:
    """The metrics of one treatment beside the control, by their role."""
    from chart_platform.contracts.tables import EXPERIMENT_ROLES

    design = found.design
    level = f"{1 - design.alpha:.0%}"
    heads = ["metric", design.control, variant, "change", f"{level} at one look", f"{level} at all looks", "p adjusted"]
    view = Table(*heads, "by CUPED", box=SIMPLE_HEAD, caption="* p adjusted for many comparisons is at most alpha")
    mine = sorted((j for j in found.judged if j.variant == variant), key=lambda j: EXPERIMENT_ROLES.index(j.role))
    for j, after in zip_longest(mine, mine[1:]):
        view.add_row(*map(Text, _cells(j, design.alpha)), end_section=after is not None and after.role != j.role)
    return view


def _cells(j: Judged, alpha: float) -> list[str]:
    from chart_platform.experiments.results import variance_reduction

    name = f"{j.role}: {j.metric.name}"
    if j.plain is None:
        return [name, *["–"] * 7]
    p, less, adjusted = j.plain, variance_reduction(j), j.p_value_adjusted
    return [
        name,
        f"{p.control:.4g}",
        f"{p.treatment:.4g}",
        _percent(p.relative) + (" *" if adjusted is not None and adjusted <= alpha else ""),
        f"{_percent(p.relative_low)} {_percent(p.relative_high)}",
        f"{_percent(p.sequential_relative_low)} {_percent(p.sequential_relative_high)}",
        f"{adjusted:.3g}" if adjusted is not None else "–",
        f"{_percent(j.cuped.relative)}, variance -{less:.0%}" if j.cuped and less is not None else "–",
    ]


def _percent(value: float | None) -> str:
    return f"{value:+.1%}" if value is not None else "–"


@experiment.command()
def power(
    key: _Key,
    metric_name: Annotated[
        str | None, typer.Option("--metric", help="Metric to plan for. [default: the experiment's primary one]")
    ] = None,
    effect: Annotated[
        float | None, typer.Option(min=1e-6, help="Relative effect to find. [default: the registered minimum, or 0.05]")
    ] = None,
    power: Annotated[float | None, typer.Option(min=0.01, max=0.999, help="Chance to find it. [default: 0.8]")] = None,
    as_json: _Json = False,
) -> None:
    """How many visitors a metric needs to show an effect, going by what was measured so far."""
    from chart_platform.experiments.statistics import detectable_effect, total, visitors_needed

    registry, found = _found(key)
    planned = registry.experiments.get(key)
    chosen = metric(metric_name or found.design.primary)
    wanted = effect or (planned.minimum_detectable_effect if planned else 0.05)
    chance = power or (planned.power if planned else 0.8)
    design, ratio = found.design, chosen.denominator is not None
    so_far = total(list(found.totals.sums[chosen.name].values()))
    rows = []
    for variant in sorted(set(design.shares) - {design.control}):
        pair = design.shares[variant] + design.shares[design.control]
        plan = {"alpha": design.alpha, "power": chance, "share": design.shares[variant] / pair}
        needed = visitors_needed(so_far, ratio=ratio, relative_effect=wanted, **plan)
        have = sum(found.sample_ratio.visitors.get(v, 0) for v in (variant, design.control))
        rows.append(
            {
                "metric": chosen.name,
                "variant": variant,
                "effect": wanted,
                "power": chance,
                "visitors_needed": needed,
                "visitors_so_far": have,
                "effect_detectable_so_far": detectable_effect(so_far, ratio=ratio, visitors=have, **plan)
                if have > 3
                else None,
            }
        )
    if as_json:
        print(json.dumps(rows))
        return
    _print(rows)
