"""Every model and data test compiles for Athena, without AWS, and what comes out has no word that only DuckDB knows."""

from __future__ import annotations

from pathlib import Path

import pytest
from dbt.cli.main import dbtRunner

from chart_platform.contracts.tables import TABLES
from chart_platform.transform import dbt
from chart_platform_tests.dbt.athena_sql import objections
from chart_platform_tests.transform.fixtures import NewHome, dbt_cache, new_home

__all__ = ["dbt_cache", "new_home"]

ONLY_DUCKDB = [
    ("select list_contains(a, 1) from t", "function list_contains"),
    ("select epoch_ms(ts) from t", "function epoch_ms"),
    ("select * exclude (a) from t", "columns left out of *"),
    ("select a::integer from t", "::"),
    ("select t.a from t semi join u on t.a = u.a", "semi join"),
    ("select t.a from t anti join u on t.a = u.a", "anti join"),
    ("select t.a from t asof inner join u on t.ts >= u.ts", "asof join"),
    ("select * from t union all by name select * from u", "union by name"),
    ("select a, count(*) from t group by all", "group by all"),
    ("select a from t qualify row_number() over (order by a) = 1", "qualify"),
    ("select {'a': 1} as s", "a struct in braces"),
    ("select [1, 2] as l", "a list in brackets"),
    ("select count(*) filter (a > 1) from t", "a filter without where"),
    ("select ts + interval 1 day from t", "an interval without quotes"),
    ("select a // 2 from t", "//"),
    ("select a from (select 1", "syntax"),
]


@pytest.mark.parametrize(("sql", "reason"), ONLY_DUCKDB, ids=[reason for _, reason in ONLY_DUCKDB])
def test_what_only_duckdb_understands_is_objected_to(sql: str, reason: str) -> None:
    assert any(objection.startswith(reason) for objection in objections(sql)), objections(sql)


def test_what_trino_understands_is_not_objected_to() -> None:
    assert not objections(
        "select u.\"a::b\", 'x // y' as text, array[1] as list, reduce(u.l, 0, (s, x) -> s + x, s -> s) as summed,"
        " count(*) filter (where u.a > 1) as n, max(u.ts + interval '1' day) as ts -- epoch_ms(ts)\n"
        "from u cross join unnest(u.l) with ordinality as members (member, place) group by 1, 2, 3, 4"
    )


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """SQL by dbt's id of model or test. Neither credentials nor catalog are asked for."""
    scratch = str(tmp_path_factory.mktemp("athena"))
    where = ["--project-dir", str(dbt.PROJECT), "--profiles-dir", str(dbt.PROJECT), "--target-path", scratch]
    offline = ["--target", "athena", "--no-introspect", "--no-populate-cache", "--log-path", scratch, "--quiet"]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "none")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        done = dbtRunner().invoke(["compile", *where, *offline])
    assert done.success, done.exception
    return {found.node.unique_id: found.node.compiled_code for found in done.result.results}


@pytest.mark.slow
def test_every_model_and_test_has_sql_for_athena(compiled: dict[str, str]) -> None:
    found = {name: objections(sql) for name, sql in compiled.items()}
    assert {name: objected for name, objected in found.items() if objected} == {}


@pytest.mark.slow
def test_athena_has_the_models_of_duckdb_but_for_what_judges_rules(compiled: dict[str, str], new_home: NewHome) -> None:
    ours = {name for name in dbt.manifest_json(new_home().settings)["nodes"] if name.startswith("model.")}
    theirs = {name for name in compiled if name.startswith("model.")}
    assert {name.split(".")[-1] for name in ours - theirs} == {"int_segment_features"}
    assert {name.split(".")[-1] for name in theirs - ours} == {
        p.stem for p in (Path(dbt.PROJECT) / "models/athena").glob("*.sql")
    }


@pytest.mark.slow
def test_what_athena_makes_stands_beside_what_the_platform_makes(compiled: dict[str, str]) -> None:
    funnel = compiled["model.chart_platform.fact_funnel"]
    assert '"rebuilt_intermediate"."int_visits"' in funnel
    names = {t.full_name.replace(".", '"."') for t in TABLES}
    assert '"silver"."events"' in compiled["model.chart_platform.athena_events"]
    assert not [name for name in names if f'"{name}"' in compiled["model.chart_platform.sessions"]]
