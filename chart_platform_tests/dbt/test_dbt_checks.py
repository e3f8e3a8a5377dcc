"""dbt's data tests are asset checks of the job that makes the marts, and no part of the one that carries events."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from chart_platform.contracts.tables import FACT_FUNNEL
from chart_platform.definitions import defs
from chart_platform.defs.dbt_specs import test_specs as specs_of_tests
from chart_platform.defs.dbt_tests import dbt_tests
from chart_platform.defs.resources import Platform
from chart_platform.settings import get_settings
from chart_platform_tests.dbt.spoil import spoil
from chart_platform_tests.transform.fixtures import NewHome, dbt_cache, new_home
from chart_platform_tests.transform.homes import DAY, Home, at, event

__all__ = ["dbt_cache", "new_home"]

FUNNEL = dg.AssetKey(["gold", "fact_funnel"])


@pytest.fixture
def home(new_home: NewHome, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    made = new_home()
    monkeypatch.setenv("CHART_HOME", str(made.settings.root))
    get_settings.cache_clear()
    yield made
    get_settings.cache_clear()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def funnel_checks(instance: dg.DagsterInstance) -> dict[str, dg.AssetCheckEvaluation]:
    """What a run of a day tells of the funnel."""
    result = dg.materialize(
        [dbt_tests],
        selection=dg.AssetSelection.checks(*(s.key for s in specs_of_tests() if s.asset_key == FUNNEL)),
        instance=instance,
        resources={"platform": Platform()},
        tags={"dagster/partition": DAY.isoformat()},
        run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}},
    )
    return {check.check_name: check for check in result.get_asset_check_evaluations()}


def test_the_events_job_has_none_of_them_and_the_marts_job_has_all() -> None:
    ours = {spec.key for spec in specs_of_tests()}
    checks = {name: defs.resolve_job_def(name).asset_layer.asset_graph for name in ("events_to_gold", "gold_to_marts")}
    assert not ours & set(checks["events_to_gold"].asset_check_keys)
    assert ours and ours <= set(checks["gold_to_marts"].asset_check_keys)


@pytest.mark.slow
def test_a_broken_key_fails_its_check_until_it_is_mended(home: Home, instance: dg.DagsterInstance) -> None:
    home.send(DAY, [event(1, at(DAY, "10:00:00"), session="s", visitor="u")])
    home.advance()
    first = funnel_checks(instance)
    assert {name: check.passed for name, check in first.items()} == {"key_is_unique": True, "values_are_declared": True}
    assert first["key_is_unique"].metadata["days"].value == str(DAY)

    (row,) = home.rows(FACT_FUNNEL)
    spoil(home, FACT_FUNNEL, [row])
    for _ in range(2):
        again = funnel_checks(instance)
        assert {name: check.passed for name, check in again.items()} == {
            "key_is_unique": False,
            "values_are_declared": True,
        }
        assert "doubled" in str(again["key_is_unique"].metadata["examples"].value)

    home.advance([DAY])
    mended = funnel_checks(instance)
    assert all(check.passed for check in mended.values())
    assert all(check.description == "Nothing new." for check in funnel_checks(instance).values())
