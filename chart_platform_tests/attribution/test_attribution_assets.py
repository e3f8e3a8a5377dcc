"""The attribution as assets: what the runs of the marts say of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg
import pytest

from chart_platform.contracts.tables import FACT_AFFILIATE_CLICKS, FACT_ATTRIBUTION, SILVER_SESSIONS
from chart_platform.defs.attribution import attribution
from chart_platform.defs.modes import INCREMENTAL, MODE_TAG
from chart_platform.defs.resources import Platform
from chart_platform.settings import get_settings
from chart_platform_tests.attribution.attribution_world import START, World, click, visit
from chart_platform_tests.transform.fixtures import NewHome

pytestmark = pytest.mark.slow


@pytest.fixture
def world(new_home: NewHome, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A home that assets take for theirs."""
    home = new_home()
    monkeypatch.setenv("CHART_HOME", str(home.settings.root))
    get_settings.cache_clear()
    yield World(home)
    get_settings.cache_clear()


def run(**tags: str) -> dict[str, dg.AssetCheckEvaluation]:
    """Checks of one run, by table and name."""
    result = dg.materialize(
        [attribution],
        resources={"platform": Platform()},
        partition_key=START.date().isoformat(),
        tags=tags,
    )
    assert result.success
    return {f"{c.asset_key.path[-1]}.{c.check_name}": c for c in result.get_asset_check_evaluations()}


def test_a_run_tells_what_it_divided_and_that_no_cent_is_lost(world: World) -> None:
    world.put(SILVER_SESSIONS, [visit("a", START, "ann", "Email"), visit("b", START + timedelta(days=1), "ann")])
    later = START + timedelta(days=1, minutes=1)
    world.put(FACT_AFFILIATE_CLICKS, [click("x", START, "a", 101), click("y", later, "b", 33)])
    found = run(**{MODE_TAG: INCREMENTAL})
    assert {name for name, check in found.items() if check.passed} == {
        "attribution_journeys.contract",
        "attribution_weights.contract",
        "fact_attribution.contract",
        "attribution_daily.contract",
        "fact_attribution.credits",
    }
    figures = {name: value.value for name, value in found["fact_attribution.credits"].metadata.items()}
    assert figures == {
        "days": 2,
        "conversions": 2,
        "divided": 2,
        "amount_cents": 134,
        "divided_cents": 134,
        "uneven_conversions": 0,
        "different_days": "none",
    }


def test_the_check_names_the_day_on_which_money_was_lost(world: World) -> None:
    world.put(SILVER_SESSIONS, [visit("a", START, "ann", "Email")])
    world.put(FACT_AFFILIATE_CLICKS, [click("x", START, "a", 101)])
    world.follow()
    world.take(FACT_ATTRIBUTION, world.home.rows(FACT_ATTRIBUTION))
    credits = run(**{MODE_TAG: INCREMENTAL})["fact_attribution.credits"]
    assert not credits.passed
    assert credits.metadata["different_days"].value == START.date().isoformat()
    assert run()["fact_attribution.credits"].passed, "a run for the day makes it again"
