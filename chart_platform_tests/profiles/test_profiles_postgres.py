"""Company profiles from a real PostgreSQL through the Dagster assets to gold.dim_user, and what goes wrong on the way."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from chart_platform.contracts.tables import DIM_USER, PROFILE_SNAPSHOTS
from chart_platform.definitions import defs
from chart_platform.defs.profiles import JOB_NAME, profiles_schedule
from chart_platform.defs.resources import Platform
from chart_platform.profiles.history import state
from chart_platform.settings import get_settings
from chart_platform_tests.profiles.postgres import NoPostgres, postgres
from chart_platform_tests.profiles.profile_world import Company

pytestmark = pytest.mark.slow

CREATE = """
create table crm.profiles (
    user_id_hash varchar(64), crm_tier text, country char(4), signup_date date, marketing_email boolean,
    marketing_ads boolean, updated_at timestamptz, email text
)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    try:
        with postgres(tmp_path_factory.mktemp("postgres")) as dsn:
            yield dsn
    except NoPostgres as missing:
        pytest.skip(f"No PostgreSQL: {missing}")


@pytest.fixture
def crm(server: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a fresh table of profiles with two users."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("drop schema if exists crm cascade")
        connection.execute("create schema crm")
        connection.execute(CREATE)
        for user, tier in (("a", "gold"), ("b", "basic")):
            connection.execute(
                "insert into crm.profiles values (%s, %s, 'DE', '2025-01-02', true, null, '2026-11-01 09:00+09', 'x@example.com')",
                (user, tier),
            )
        yield connection


@pytest.fixture
def company(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Company]:
    monkeypatch.setenv("CHART_HOME", str(tmp_path))
    monkeypatch.setenv("CHART_PROFILES_DSN", server)
    monkeypatch.setenv("CHART_PROFILES_TABLE", "crm.profiles")
    get_settings.cache_clear()
    yield Company(tmp_path)
    get_settings.cache_clear()


def _run() -> tuple[dg.ExecuteInProcessResult, dict[str, dg.AssetCheckEvaluation]]:
    get_settings.cache_clear()
    result = defs.resolve_job_def(JOB_NAME).execute_in_process(
        partition_key=datetime.now(UTC).date().isoformat(), tags={"chart/mode": "incremental"}
    )
    return result, {check.check_name: check for check in result.get_asset_check_evaluations()}


def test_profiles_of_a_database_become_a_dimension_with_history(crm: psycopg.Connection[Any], company: Company) -> None:
    result, checks = _run()
    assert result.success and all(check.passed for check in checks.values())
    first = company.rows(DIM_USER)
    assert [(row["user_id_hash"], row["crm_tier"], row["country"]) for row in first] == [
        ("a", "gold", "DE"),
        ("b", "basic", "DE"),
    ]
    assert first[0]["signup_date"] == date(2025, 1, 2) and first[0]["updated_at"] == datetime(2026, 11, 1)
    crm.execute("update crm.profiles set crm_tier = 'platinum' where user_id_hash = 'a'")
    crm.execute("delete from crm.profiles where user_id_hash = 'b'")
    assert _run()[0].success
    rows = company.rows(DIM_USER)
    assert [(row["user_id_hash"], row["crm_tier"], row["is_current"]) for row in rows] == [
        ("a", "gold", False),
        ("a", "platinum", True),
        ("b", "basic", False),
    ]
    assert rows[0]["valid_to"] == rows[1]["valid_from"] == rows[2]["valid_to"] > rows[0]["valid_from"]
    assert _run()[0].success
    assert company.rows(DIM_USER) == rows
    assert [row["outcome"] for row in company.rows(PROFILE_SNAPSHOTS)] == ["changed", "changed", "same"]
    assert "ignored columns: email" in company.rows(PROFILE_SNAPSHOTS)[0]["detail"]


def test_a_source_with_other_columns_turns_its_check_red_and_the_last_good_state_stays(
    crm: psycopg.Connection[Any], company: Company
) -> None:
    _run()
    before = company.rows(DIM_USER)
    crm.execute("alter table crm.profiles rename crm_tier to tier")
    crm.execute("alter table crm.profiles alter marketing_email type int using 1")
    result, checks = _run()
    assert result.success
    assert not checks["schema"].passed and checks["schema"].severity == dg.AssetCheckSeverity.ERROR
    assert checks["schema"].description is not None
    for problem in ("crm_tier is missing (renamed to tier?)", "marketing_email: is int4, expected boolean"):
        assert problem in checks["schema"].description
    assert company.rows(DIM_USER) == before


def test_a_table_that_is_not_there_is_refused_by_its_name(
    crm: psycopg.Connection[Any], company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHART_PROFILES_TABLE", "crm.customers")
    checks = _run()[1]
    assert 'relation "crm.customers" does not exist' in (checks["schema"].description or "")
    assert crm.execute("select count(*) from crm.profiles").fetchone() == (2,)
    assert company.rows(DIM_USER) == []


def test_a_query_may_shape_what_the_source_has(
    crm: psycopg.Connection[Any], company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    crm.execute("alter table crm.profiles rename crm_tier to tier")
    monkeypatch.setenv(
        "CHART_PROFILES_QUERY", "select p.*, p.tier as crm_tier from crm.profiles as p where p.tier <> 'basic'"
    )
    assert all(check.passed for check in _run()[1].values())
    assert [row["user_id_hash"] for row in company.rows(DIM_USER)] == ["a"]


def test_a_database_that_is_down_stops_nothing_and_only_warns_once_the_profiles_are_old(
    crm: psycopg.Connection[Any], company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run()
    before = company.rows(DIM_USER)
    monkeypatch.setenv("CHART_PROFILES_DSN", "postgresql://chart:hunter2@127.0.0.1:1/postgres")
    result, checks = _run()
    assert result.success and checks["schema"].passed and checks["freshness"].passed
    assert company.rows(DIM_USER) == before
    told = company.rows(PROFILE_SNAPSHOTS)[-1]
    assert told["outcome"] == "unreachable" and "127.0.0.1" in told["detail"] and "hunter2" not in str(told)
    assert state(company.lake, datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=49)).name == "stale"
    monkeypatch.setenv("CHART_PROFILES_STALE_HOURS", "0.0001")
    freshness = _run()[1]["freshness"]
    assert not freshness.passed and freshness.severity == dg.AssetCheckSeverity.WARN
    assert freshness.metadata["state"].value == "stale"
    assert crm.execute("select 1").fetchone() == (1,)


def test_the_schedule_waits_for_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    monkeypatch.setenv("CHART_HOME", str(tmp_path))
    get_settings.cache_clear()
    with (
        dg.DagsterInstance.local_temp(str(tmp_path)) as instance,
        dg.build_schedule_context(
            instance=instance, resources={"platform": Platform()}, repository_def=defs.get_repository_def()
        ) as context,
    ):

        def tick() -> Any:
            get_settings.cache_clear()
            return profiles_schedule.evaluate_tick(context)

        assert tick().run_requests == [] and "CHART_PROFILES_DSN" in tick().skip_message
        monkeypatch.setenv("CHART_PROFILES_DSN", server)
        assert len(tick().run_requests) == 1
    get_settings.cache_clear()
