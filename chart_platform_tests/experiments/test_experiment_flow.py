"""Simulated traffic through the real pipeline to results, and the job of the marts with its checks and commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from chart_platform.cli import app
from chart_platform.contracts.tables import EXPERIMENT_EXPOSURES, EXPERIMENT_RESULTS, EXPERIMENT_SUMS
from chart_platform.defs import marts
from chart_platform.defs.experiments import experiments, guardrails_check, sample_ratio_check
from chart_platform.defs.resources import Platform
from chart_platform.experiments.gold import TABLES, conclusions, update
from chart_platform.experiments.registry import Registry, load_experiments
from chart_platform.quality.experiments import account_for_visitors
from chart_platform.quality.schemas import audit
from chart_platform.settings import get_settings
from chart_platform.simulator import EXPERIMENT_KEY, TRUE_RELATIVE_LIFT, SimulationConfig, generate
from chart_platform.simulator.config import FaultRates
from chart_platform.simulator.truth import GroundTruth
from chart_platform_tests.experiments.experiment_world import DAY, Event, World, registered
from chart_platform_tests.transform.fixtures import NewHome, dbt_cache, new_home
from chart_platform_tests.transform.homes import multiset

__all__ = ["dbt_cache", "new_home"]

pytestmark = pytest.mark.slow

END = date(2026, 11, 8)
NOON = datetime(2026, 11, 2, 12)


def test_the_true_effect_of_simulated_traffic_is_recovered_through_the_real_tables(new_home: NewHome) -> None:
    faults = FaultRates(exact_duplicate=0.02, retry=0.01, late=0.02, out_of_order=0.02, missing_session=0.03)
    messages = list(generate(SimulationConfig(seed=5, events=30_000, days=4, end=END, faults=faults)))
    truth = GroundTruth.of(messages).summary()["experiment"]
    home, registry = new_home(), load_experiments()
    # In two batches, the later of which has late events: exposures move, days are counted again.
    half = len(messages) // 2
    for part in (messages[:half], messages[half:]):
        home.send(END, [message.value for message in part])
        home.advance()
        update(home.lake, audit, registry)
    rows = home.rows(EXPERIMENT_RESULTS)
    last = max(row["event_dt"] for row in rows)
    (primary,) = [r for r in rows if r["event_dt"] == last and r["metric"] == "click_through"]
    assert (primary["experiment_key"], primary["control"], primary["variant"]) == (EXPERIMENT_KEY, "A", "B")
    sums: dict[str, tuple[int, int]] = {}
    for r in home.rows(EXPERIMENT_SUMS):
        if r["metric"] == "click_through":
            x, y = sums.get(r["variant"], (0, 0))
            sums[r["variant"]] = (x + r["x"], y + r["y"])
    assert sums == {v: (figures["converted"], figures["sessions"]) for v, figures in truth.items()}
    assert primary["mean"] == pytest.approx(truth["B"]["converted"] / truth["B"]["sessions"], rel=1e-12)
    for low, high in (("relative_low", "relative_high"), ("sequential_relative_low", "sequential_relative_high")):
        assert primary[low] < TRUE_RELATIVE_LIFT < primary[high]
    assert all(row["geo_country"] and row["channel"] for row in home.rows(EXPERIMENT_EXPOSURES))
    followed = {table.full_name: home.multiset(table) for table in TABLES}
    update(home.lake, audit, registry, [END - timedelta(days=n) for n in range(1, 5)])
    assert {table.full_name: home.multiset(table) for table in TABLES} == followed
    assert all(a.ok for a in account_for_visitors(home.lake))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("CHART_HOME", str(tmp_path))
    get_settings.cache_clear()
    yield World(tmp_path)
    get_settings.cache_clear()


def crowd(shares: dict[str, int], key: str, clicking: dict[str, int], at: datetime = NOON) -> list[Event]:
    """Visitors by variant, of which so many click."""
    made = []
    for variant, visitors in shares.items():
        for n in range(visitors):
            who = f"{key}-{variant}-{n}"
            kind = "click" if n < clicking.get(variant, 0) else "page"
            made.append(Event(len(made), at, who, f"s-{who}", kind, variant, (key,)))
    return made


def run(**tags: str) -> tuple[dg.ExecuteInProcessResult, dict[str, dg.AssetCheckEvaluation]]:
    job = dg.define_asset_job("only_experiments", selection=dg.AssetSelection.assets(experiments))
    definitions = dg.Definitions(assets=[experiments], jobs=[job], resources={"platform": Platform()})
    result = definitions.resolve_job_def("only_experiments").execute_in_process(
        partition_key=DAY.isoformat(), tags=tags, raise_on_error=False
    )
    return result, {f"{c.asset_key.path[-1]}:{c.check_name}": c for c in result.get_asset_check_evaluations()}


def test_the_assets_make_the_tables_and_say_whether_they_can_be_believed(world: World) -> None:
    world.hold(crowd({"A": 60, "B": 55}, EXPERIMENT_KEY, {"A": 20, "B": 25}))
    result, checks = run(**{"chart/mode": "incremental"})
    assert result.success and {name for name, c in checks.items() if not c.passed} == set()
    assert len(checks) == len(TABLES) + 3
    assert checks["experiment_sums:accounted"].metadata["visitors"].value == 115
    assert {spec.group_name for spec in experiments.specs} == {marts.GROUP}, "not in the job of the marts"
    made = {e.asset_key.path[-1] for e in result.get_asset_materialization_events() if e.asset_key}
    assert made == {table.name for table in TABLES}
    held = {table.full_name: multiset(world.rows(table)) for table in TABLES}
    assert run()[0].success
    assert {table.full_name: multiset(world.rows(table)) for table in TABLES} == held


@pytest.mark.usefixtures("world")
def test_a_registry_that_can_not_be_used_fails_the_run_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.yml").write_text("experiments:\n  - key: x\n")
    monkeypatch.setenv("CHART_EXPERIMENTS", str(tmp_path / "mine.yml"))
    get_settings.cache_clear()
    result, _ = run()
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "mine.yml, line 2: experiments.0.owner" in str(failure.step_failure_data.error)


def test_a_ratio_that_is_off_is_an_error_for_registered_experiments_and_a_warning_for_others(world: World) -> None:
    uneven = {"A": 2500, "B": 1900}
    world.hold(crowd(uneven, "exp", {}))
    world.follow()
    (unregistered,) = conclusions(world.lake, Registry())
    (known,) = conclusions(world.lake, Registry([registered()]))
    (as_planned,) = conclusions(world.lake, Registry([registered(variants={"A": 0.568, "B": 0.432})]))
    severities = {}
    for name, conclusion in (("unregistered", unregistered), ("known", known), ("planned", as_planned)):
        check = sample_ratio_check([conclusion])
        severities[name] = (check.passed, check.severity)
    assert severities["unregistered"] == (False, dg.AssetCheckSeverity.WARN)
    assert severities["known"] == (False, dg.AssetCheckSeverity.ERROR)
    assert severities["planned"][0]


def test_visitors_of_a_variant_that_should_not_be_are_an_error(world: World) -> None:
    world.hold(crowd({"A": 20, "B": 20, "C": 1}, "exp", {}))
    world.follow()
    check = sample_ratio_check(conclusions(world.lake, Registry([registered()])))
    assert not check.passed and check.metadata["unknown_variants"].value == "exp C"


@pytest.mark.parametrize(("margin", "passed"), [(0.0, False), (0.9, True)])
def test_a_guardrail_that_has_lost_more_than_its_margin_is_told(world: World, margin: float, passed: bool) -> None:
    world.hold(crowd({"A": 400, "B": 400}, "exp", {"A": 250, "B": 120}))
    world.follow()
    registry = Registry(
        [registered(primary="sessions", secondary=(), guardrails=("conversion",), guardrail_margin=margin)]
    )
    check = guardrails_check(conclusions(world.lake, registry))
    assert check.passed is passed and check.severity is dg.AssetCheckSeverity.WARN


def test_the_command_line_tells_what_an_experiment_says_and_needs(world: World) -> None:
    world.hold(crowd({"A": 300, "B": 300}, EXPERIMENT_KEY, {"A": 60, "B": 110}))
    world.registry = load_experiments()
    world.follow()

    def told(*arguments: str) -> Any:
        outcome = CliRunner().invoke(app, ["experiment", *arguments])
        if outcome.exception is not None:
            raise outcome.exception
        return outcome.output

    (listed,) = json.loads(told("list", "--json"))
    assert (listed["experiment"], listed["visitors"], listed["registered"]) == (EXPERIMENT_KEY, 600, True)
    rows = json.loads(told("show", EXPERIMENT_KEY, "--json"))
    shown = {json.dumps(r, sort_keys=True) for r in rows}
    assert shown == {json.dumps(r, sort_keys=True, default=str) for r in world.rows(EXPERIMENT_RESULTS)}
    page = told("show", EXPERIMENT_KEY)
    assert "A 300 (expected 300)" in page and "+83.3% *" in page
    (plan,) = json.loads(told("power", EXPERIMENT_KEY, "--metric", "conversion", "--effect", "0.5", "--json"))
    assert plan["visitors_so_far"] == 600 and plan["effect_detectable_so_far"] < 0.5 < plan["power"]
    assert plan["visitors_needed"] < 600
    with pytest.raises(ValueError, match=f"No experiment 'nobody'.*{EXPERIMENT_KEY}"):
        told("show", "nobody")
