"""From a run in Dagster to the message in Slack: real runs on a real instance, with the real sensors' ticks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import AssetKey

from chart_platform.alerting.dispatch import OUTBOX_FILE
from chart_platform.defs.alerts import alert_on_failed_checks, alert_on_failed_run, alert_redelivery, alert_sensors
from chart_platform.settings import get_settings
from chart_platform_tests.alerting.conftest import TOKEN, Slack

# Real processes and Dagster runs: too long for `make check`.
pytestmark = pytest.mark.slow

DAYS = dg.StaticPartitionsDefinition(["2026-11-20", "2026-11-21"])


@dg.asset(
    key=AssetKey(["bronze", "clicks"]),
    owners=["team:clicks"],
    partitions_def=DAYS,
    check_specs=[dg.AssetCheckSpec("complete", asset=["bronze", "clicks"])],
)
def leaky() -> Iterator[Any]:
    """Green, although its check fails."""
    yield dg.Output(None)
    yield dg.AssetCheckResult(
        passed=False,
        check_name="complete",
        description="Offsets are missing",
        metadata={"missing": 12_345, "topic": "t"},
    )


@dg.asset(owners=["team:broken"], deps=[leaky], partitions_def=DAYS)
def broken() -> None:
    raise dg.Failure("No more room", metadata={"free_bytes": 17}, allow_retries=False)


@dg.asset(owners=["team:sound"])
def sound() -> None: ...


@dg.asset_check(asset=sound, blocking=True)
def blocked() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.ERROR, metadata={"rows": 0})


@dg.asset_check(asset=sound)
def doubtful() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, metadata={"share": 0.5})


@dg.asset(deps=[sound])
def after_sound() -> None: ...


@dg.asset
def unwatched() -> None:
    raise ValueError("nobody's <problem>")


def job(name: str, selection: dg.AssetSelection) -> Any:
    return dg.define_asset_job(name, selection=selection, executor_def=dg.in_process_executor)


DEFINITIONS = dg.Definitions(
    assets=[leaky, broken, sound, after_sound, unwatched],
    asset_checks=[blocked, doubtful],
    jobs=[
        job("green", dg.AssetSelection.assets(leaky)),
        job("red", dg.AssetSelection.assets(leaky, broken)),
        job("all_well", dg.AssetSelection.assets(sound).without_checks()),
        job("warned", dg.AssetSelection.assets(sound).without_checks() | dg.AssetSelection.checks(doubtful)),
        job("stopped", dg.AssetSelection.assets(sound, after_sound)),
        job("orphan", dg.AssetSelection.assets(unwatched)),
    ],
    sensors=alert_sensors,
)


class Dagster:
    """An instance, and what its daemon does with the alert sensors."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.repository = DEFINITIONS.get_repository_def()
        self._cursors: dict[str, str | None] = {}
        self.tick()

    def run(
        self, job: str, tags: dict[str, str] | None = None, partition: str | None = None
    ) -> dg.ExecuteInProcessResult:
        return DEFINITIONS.resolve_job_def(job).execute_in_process(
            instance=self.instance, raise_on_error=False, tags=tags, partition_key=partition
        )

    def tick(self) -> None:
        for sensor in (alert_on_failed_run, alert_on_failed_checks):
            context = dg.build_sensor_context(
                instance=self.instance,
                cursor=self._cursors.get(sensor.name),
                repository_def=self.repository,
                sensor_name=sensor.name,
            )
            data = sensor.evaluate_tick(context)
            assert all(reaction.error is None for reaction in data.dagster_run_reactions), data
            self._cursors[sensor.name] = data.cursor


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("CHART_SLACK_TOKEN", "CHART_SLACK_WEBHOOK_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CHART_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CHART_DAGSTER_URL", "http://dagster.example")
    get_settings.cache_clear()
    yield tmp_path / "home"
    get_settings.cache_clear()


@pytest.fixture
def with_slack(home: Path, slack: Slack, monkeypatch: pytest.MonkeyPatch) -> Slack:
    monkeypatch.setenv("CHART_SLACK_TOKEN", TOKEN)
    monkeypatch.setenv("CHART_SLACK_API_URL", slack.api_url)
    get_settings.cache_clear()
    assert get_settings().root == home
    return slack


@pytest.fixture
def dagster() -> Iterator[Dagster]:
    with dg.instance_for_test() as instance:
        yield Dagster(instance)


def said(message: dict[str, Any]) -> str:
    blocks = json.loads(message["blocks"]) if isinstance(message["blocks"], str) else message["blocks"]
    return "\n".join(block["text"]["text"] for block in blocks)


def test_a_green_run_with_a_failed_check_sends_one_message(with_slack: Slack, dagster: Dagster) -> None:
    run = dagster.run("green", partition="2026-11-20")
    assert run.success
    for _ in range(3):
        dagster.tick()
    (message,) = with_slack.messages
    assert message["channel"] == "#chart-platform"
    text = said(message)
    assert "[ERROR] 1 check failed in green" in text
    assert "missing: 12,345" in text
    assert "topic: t" in text
    assert "Offsets are missing" in text
    assert "Owner: team:clicks" in text
    assert "partition 2026-11-20" in text
    assert f"http://dagster.example/runs/{run.run_id}" in text
    assert "http://dagster.example/assets/bronze/clicks?view=checks&amp;checkDetail=complete" in text


def test_a_failed_run_with_a_failed_check_sends_one_message_about_both(with_slack: Slack, dagster: Dagster) -> None:
    assert not dagster.run("red", partition="2026-11-20").success
    for _ in range(3):
        dagster.tick()
    (message,) = with_slack.messages
    text = said(message)
    assert "[ERROR] Run failed: 1 check failed, 1 step failed in red" in text
    assert "missing: 12,345" in text
    assert "Owner: team:clicks" in text
    assert "No more room" in text
    assert "free_bytes: 17" in text
    assert "Owner: team:broken" in text


def test_a_blocking_check_is_told_as_a_check_and_not_again_as_a_step(with_slack: Slack, dagster: Dagster) -> None:
    assert not dagster.run("stopped").success
    dagster.tick()
    (message,) = with_slack.messages
    text = said(message)
    assert "[ERROR] Run failed: 2 checks failed in stopped" in text
    assert "Check blocked of sound" in text
    assert "Step " not in text


def test_a_warning_says_that_it_is_one_and_a_sound_run_is_no_news(with_slack: Slack, dagster: Dagster) -> None:
    assert dagster.run("all_well").success
    assert dagster.run("warned").success
    dagster.tick()
    (message,) = with_slack.messages
    assert "[WARN] 1 check failed in warned" in said(message)


def test_a_failure_without_owner_or_partition_shows_its_error_escaped(with_slack: Slack, dagster: Dagster) -> None:
    dagster.run("orphan")
    dagster.tick()
    (message,) = with_slack.messages
    text = said(message)
    assert "Owner: unowned" in text
    assert "ValueError: nobody's &lt;problem&gt;" in text


def test_an_ad_hoc_run_of_an_asset_is_watched_too(with_slack: Slack, dagster: Dagster) -> None:
    DEFINITIONS.get_implicit_global_asset_job_def().get_subset(
        asset_selection={AssetKey("unwatched")}
    ).execute_in_process(instance=dagster.instance, raise_on_error=False)
    dagster.tick()
    (message,) = with_slack.messages
    assert "[ERROR] Run failed: 1 step failed in an ad-hoc asset run" in said(message)


def test_a_retry_that_fails_alike_is_not_told_again(with_slack: Slack, dagster: Dagster) -> None:
    first = dagster.run("red", partition="2026-11-20", tags={"dagster/will_retry": "true"})
    dagster.tick()
    dagster.run(
        "red",
        partition="2026-11-20",
        tags={"dagster/root_run_id": first.run_id, "dagster/parent_run_id": first.run_id},
    )
    dagster.tick()
    (message,) = with_slack.messages
    assert "Dagster retries this run by itself." in said(message)


def test_another_partition_is_another_failure(with_slack: Slack, dagster: Dagster) -> None:
    for day in DAYS.get_partition_keys():
        dagster.run("green", partition=day)
        dagster.run("green", partition=day)
    dagster.tick()
    assert [("2026-11-20" in said(m), "2026-11-21" in said(m)) for m in with_slack.messages] == [
        (True, False),
        (False, True),
    ]


def test_a_repeated_evaluation_of_the_same_run_sends_nothing_more(with_slack: Slack, dagster: Dagster) -> None:
    dagster.run("green", partition="2026-11-20")
    cursors = dict(dagster._cursors)
    dagster.tick()
    dagster._cursors = cursors
    dagster.tick()
    assert len(with_slack.messages) == 1


def test_slack_being_down_delays_the_message_and_fails_nothing(
    with_slack: Slack, dagster: Dagster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chart_platform.alerting.outbox.FIRST_WAIT", timedelta())
    monkeypatch.setenv("CHART_SLACK_TOKEN", "xoxb-revoked")
    get_settings.cache_clear()
    dagster.run("green", partition="2026-11-20")
    dagster.tick()
    assert with_slack.messages == []

    monkeypatch.setenv("CHART_SLACK_TOKEN", TOKEN)
    get_settings.cache_clear()
    skipped = [
        alert_redelivery.evaluate_tick(dg.build_sensor_context(instance=dagster.instance)).skip_message
        for _ in range(2)
    ]
    assert skipped == ["Alert sent to #chart-platform.", "Nothing to deliver now."]
    assert len(with_slack.messages) == 1


@pytest.mark.usefixtures("home")
def test_without_slack_the_alert_is_in_the_sensors_log(dagster: Dagster, capfd: pytest.CaptureFixture[str]) -> None:
    run = dagster.run("green", partition="2026-11-20")
    capfd.readouterr()
    dagster.tick()
    logged = capfd.readouterr().err
    assert logged.count("1 check failed in green") == 1
    for part in ("missing: 12,345", "Owner: team:clicks", f"http://dagster.example/runs/{run.run_id}"):
        assert part in logged


def test_the_sensors_run_by_default_and_touch_no_file_until_something_fails(home: Path, dagster: Dagster) -> None:
    dagster.run("all_well")
    dagster.tick()
    assert not (home / OUTBOX_FILE).exists()
    assert all(sensor.default_status == dg.DefaultSensorStatus.RUNNING for sensor in alert_sensors)
