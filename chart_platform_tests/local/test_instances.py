"""Whole instances: real Kafka, real Dagster, real signals."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chart_platform.local.supervisor import status

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

# The promise is 30 s; the rest is for a machine that has other things to do.
GONE_WITHIN = 40.0
LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries {
  name loadStatus locationOrLoadError { __typename } } } } }"""
RUNS = "{ runsOrError { ... on Runs { results { runId status } } } }"


def _loaded(instance: Any) -> bool:
    entries = instance.graphql(LOCATIONS)["workspaceOrError"]["locationEntries"]
    return [(e["name"], e["locationOrLoadError"]["__typename"]) for e in entries] == [
        ("chart_platform", "RepositoryLocation")
    ]


def _gone(instance: Any, eventually: Callable[..., Any]) -> None:
    assert eventually(lambda: not instance.left(), GONE_WITHIN), instance.left()


def test_an_instance_serves_its_definitions_outlives_a_kill_and_leaves_nothing_behind_at_any_of_its_ends(
    make_instance: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    instance = make_instance()
    up = instance.start_and_wait()
    assert eventually(lambda: _loaded(instance), 60)

    found = status(instance.settings)
    assert found["running"] and found["pid"] == up.pid
    assert {p["name"]: p["state"] for p in found["processes"]} == dict.fromkeys(
        ("kafka", "code-server", "webserver", "daemon", "collector", "demo-site", "traffic", "networks", "figures"),
        "running",
    )
    assert eventually(lambda: status(instance.settings)["kafka"]["lag"] is not None, 60)

    refused = instance.second_up()
    assert refused.returncode == 1
    assert f"already runs in {instance.home} (process {up.pid})" in refused.stdout

    neighbour = instance.second_up(CHART_HOME=str(instance.home.parent / "neighbour"))
    assert neighbour.returncode == 1
    for port in (instance.kafka_port, instance.dagster_port, instance.edge_port, instance.demo_port):
        assert f"Port {port} is held by process" in neighbour.stdout
    assert f"of the instance in {instance.home}" in neighbour.stdout
    for setting in ("CHART_KAFKA_PORT", "CHART_DAGSTER_PORT", "CHART_EDGE_PORT", "CHART_DEMO_PORT"):
        assert setting in neighbour.stdout

    def run_started() -> bool:
        return any(r["status"] == "STARTED" for r in instance.graphql(RUNS)["runsOrError"]["results"])

    assert eventually(run_started, 120), instance.output
    assert any("spawn_main" in command for command in instance.left().values())
    first_truth = list((instance.home / "truth").iterdir())

    before = status(instance.settings)["gold_committed_at"]
    up.kill()
    up.wait()
    _gone(instance, eventually)

    instance.start_and_wait()
    left_over = instance.graphql(RUNS)["runsOrError"]["results"]
    assert any(run["status"] == "FAILURE" for run in left_over), left_over
    assert len(list((instance.home / "truth").iterdir())) == len(first_truth) + 1

    def gold() -> bool:
        return status(instance.settings)["gold_committed_at"] not in (None, before)

    assert eventually(gold, 180, 1.0), (Path(instance.home) / "logs" / "code-server.log").read_text()[-4000:]
    instance.up.send_signal(signal.SIGINT)
    assert instance.up.wait(GONE_WITHIN) == 0, instance.output
    _gone(instance, eventually)
    assert not status(instance.settings)["running"]
