"""Reports of four networks through the Dagster assets to gold: what they say is what was, to the cent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from chart_platform.contracts.tables import CONVERSION_RECONCILIATION, CONVERSION_REJECTS, FACT_CONVERSIONS
from chart_platform.definitions import defs
from chart_platform.defs.conversions import JOB_NAME, conversions_schedule, conversions_sensor
from chart_platform.defs.resources import Platform
from chart_platform.edge.links import Links
from chart_platform.settings import get_settings
from chart_platform.simulator.networks import Click, Habits, Reports, simulate
from chart_platform_tests.conversions.conversion_world import World

pytestmark = pytest.mark.slow

START = datetime(2026, 9, 1, 8)
UNTIL = datetime(2026, 10, 20).date()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("CHART_HOME", str(tmp_path))
    get_settings.cache_clear()
    yield World(tmp_path, networks=None)
    get_settings.cache_clear()


def _clicks() -> list[dict[str, Any]]:
    """Clicks of every link, every seventeen minutes."""
    links = [link for link in Links.load() if link.payout_cents]
    return [
        {
            "click_id": f"k{number:06d}",
            "event_id": f"event-{number:06d}",
            "ts": START + timedelta(minutes=17 * number),
            "affiliate_network": link.network,
            "affiliate_link_id": link.link_id,
            "payout_cents": link.payout_cents,
        }
        for number, link in enumerate(links * 10)
    ]


def _reports(clicks: list[dict[str, Any]]) -> Reports:
    seen = [Click(c["click_id"], c["affiliate_network"], c["ts"], c["payout_cents"]) for c in clicks]
    return simulate(seen, UNTIL, Habits(conversion=0.4), seed=7)


def _run(**tags: str) -> dict[str, dg.AssetCheckEvaluation]:
    result = defs.resolve_job_def(JOB_NAME).execute_in_process(
        partition_key=datetime.now(UTC).date().isoformat(), tags=tags or {"chart/mode": "incremental"}
    )
    assert result.success
    return {f"{c.asset_key.path[-1]}:{c.check_name}": c for c in result.get_asset_check_evaluations()}


def test_what_networks_report_over_weeks_ends_as_their_last_word_with_the_click_it_came_from(world: World) -> None:
    clicks = _clicks()
    reports = _reports(clicks)
    half = len(reports.files) // 2
    world.clicks(clicks[: len(clicks) // 2])
    for file in reports.files[:half]:
        world.drop(file.name, file.content)
    first = _run()
    assert not first["fact_conversions:matched"].passed, "half of the clicks have not come yet"
    for file in reports.files[half:]:
        world.drop(file.name, file.content)
    world.clicks(clicks[len(clicks) // 2 :])
    checks = _run()
    assert {name for name, check in checks.items() if not check.passed} == set()
    assert world.rows(CONVERSION_REJECTS) == []
    found = {(row["network"], row["transaction_id"]): row for row in world.rows(FACT_CONVERSIONS)}
    assert found.keys() == reports.truth.keys() and len(found) > 100
    by_click = {click["click_id"]: click for click in clicks}
    for key, state in reports.truth.items():
        row = found[key]
        assert (row["status"], row["commission_cents"], row["sale_amount_cents"], row["click_id"]) == (
            state.status, state.commission_cents, state.sale_cents, state.click_id)  # fmt: skip
        click = by_click.get(state.click_id or "")
        expected = (
            ("matched", click["event_id"]) if click else (("unknown_click" if state.click_id else "no_click_id"), None)
        )
        assert (row["match"], row["click_event_id"]) == expected
    assert {row["match"] for row in found.values()} == {"matched", "unknown_click", "no_click_id"}
    mart = world.rows(CONVERSION_RECONCILIATION)
    assert sum(row["clicks"] for row in mart) == len(clicks)
    assert sum(row["paid_cents"] for row in mart) == sum(
        state.commission_cents for state in reports.truth.values() if state.status == "paid"
    )
    explained = Counter(row["explanation"] for row in mart)
    assert explained.keys() >= {"agrees", "amount_differs", "reversed", "not_reported", "unknown_click", "no_click_id"}


def test_the_same_arguments_give_the_same_reports(world: World) -> None:
    assert _reports(_clicks()) == _reports(_clicks())
    assert len({file.content for file in _reports(_clicks()).files}) < len(_reports(_clicks()).files), (
        "none was re-sent"
    )
    assert world.rows(FACT_CONVERSIONS) == []


def test_a_run_without_files_or_clicks_is_green_and_empty_and_a_day_can_be_computed_again(world: World) -> None:
    assert all(check.passed for check in _run().values())
    world.clicks(
        [{"click_id": "k1", "ts": datetime.now(UTC).replace(tzinfo=None, microsecond=0), "affiliate_network": None}]
    )
    assert all(check.passed for check in _run(reason="somebody asked in the UI").values())
    assert [row["explanation"] for row in world.rows(CONVERSION_RECONCILIATION)] == ["not_reported"]


def test_rejects_warn_and_mappings_that_cannot_be_used_fail_the_run(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world.drop("harborlink/a.csv", "Action ID\n1\n")
    readable = _run()["conversion_rejects:readable"]
    assert not readable.passed and readable.severity == dg.AssetCheckSeverity.WARN
    assert readable.metadata["reasons"].value == {"missing_column": 1}
    monkeypatch.setenv("CHART_CONVERSIONS_NETWORKS", str(tmp_path / "none.yml"))
    get_settings.cache_clear()
    with pytest.raises(dg.Failure, match=r"none\.yml"):
        _run()


def test_the_sensor_asks_for_one_run_when_the_files_change_and_the_schedule_once_there_were_any(world: World) -> None:
    with dg.DagsterInstance.local_temp(str(world.settings.home)) as instance:
        parts: dict[str, Any] = {
            "instance": instance,
            "resources": {"platform": Platform()},
            "repository_def": defs.get_repository_def(),
        }

        def look(cursor: str | None) -> tuple[int, str | None]:
            with dg.build_sensor_context(cursor=cursor, **parts) as context:
                found = conversions_sensor.evaluate_tick(context)
            return len(found.run_requests or []), found.cursor

        def tick() -> int:
            with dg.build_schedule_context(**parts) as context:
                return len(conversions_schedule.evaluate_tick(context).run_requests or [])

        assert look(None)[0] == tick() == 0
        world.drop("harborlink/a.csv", "")
        asked, cursor = look(None)
        assert asked == 1 and look(cursor)[0] == 0
        world.drop("harborlink/b.csv", "")
        assert look(cursor)[0] == 1
        world.take()
        assert tick() == 1
