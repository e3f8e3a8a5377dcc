"""What dbt and MetricFlow do with the published file: metrics that say what plain SQL says, docs, source freshness."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.cli.main import dbtRunner, dbtRunnerResult
from metricflow.engine.metricflow_engine import MetricFlowEngine, MetricFlowQueryRequest
from metricflow.protocols.sql_client import SqlEngine
from metricflow.sql.render.duckdb_renderer import DuckDbSqlPlanRenderer
from metricflow_semantics.model.dbt_manifest_parser import parse_manifest_from_dbt_generated_manifest
from metricflow_semantics.model.semantic_manifest_lookup import SemanticManifestLookup

from chart_platform.contracts.tables import TABLES
from chart_platform.serving.publish import publish
from chart_platform.transform.dbt import PROJECT
from chart_platform_tests.transform.fixtures import dbt_cache
from chart_platform_tests.transform.homes import DAY, HOUR_MS, Home, at, event

__all__ = ["dbt_cache"]

pytestmark = pytest.mark.slow

# Metric, what it is grouped by, and the same in plain SQL.
VISITS, CLICKS = "silver.sessions", "gold.fact_affiliate_clicks"
SAID: list[tuple[str, str, str]] = [
    ("visits", "visit__geo_country", f"select geo_country, count(*) from {VISITS} group by all"),
    ("visits", "metric_time__day", f"select event_dt, count(*) from {VISITS} group by all"),
    ("visitors", "visit__geo_country", f"select geo_country, count(distinct user_id_hash) from {VISITS} group by all"),
    ("bounce_rate", "visit__channel", f"select channel, avg(1 - engaged::int) from {VISITS} group by all"),
    ("engagement_rate", "visit__device", f"select device, avg(engaged::int) from {VISITS} group by all"),
    (
        "interaction_rate",
        "metric_time__week",
        "select date_trunc('week', event_dt), count(*) filter (chart_interactions > 0) / count(*) filter (comparison_views > 0)"
        f" from {VISITS} group by all",
    ),
    (
        "ctr",
        "visit__geo_country",
        "select geo_country, sum(affiliate_clicks) / nullif(count(*) filter (comparison_views > 0), 0)"
        f" from {VISITS} group by all",
    ),
    (
        "conversion_rate",
        "visit__ab_variant",
        f"select ab_variant, avg((affiliate_clicks > 0)::int) from {VISITS} group by all",
    ),
    (
        "payout_per_visit_cents",
        "visit__geo_country",
        f"select geo_country, avg(payout_cents) from {VISITS} group by all",
    ),
    ("clicks", "click__affiliate_target", f"select affiliate_target, count(*) from {CLICKS} group by all"),
    (
        "payout_cents",
        "metric_time__month",
        f"select date_trunc('month', event_dt), sum(payout_cents) from {CLICKS} group by all",
    ),
    ("epc_cents", "click__affiliate_target", f"select affiliate_target, avg(payout_cents) from {CLICKS} group by all"),
    (
        "funnel_conversion_rate",
        "journey__geo_country",
        "select geo_country, count(*) filter (saw_comparison and interacted_chart and clicked_affiliate)"
        " / nullif(count(*) filter (saw_comparison), 0) from gold.fact_funnel group by all",
    ),
    ("page_views", "page_view__is_comparison", "select is_comparison, count(*) from gold.fact_page_views group by all"),
    (
        "dwell_per_page_view_ms",
        "page_view__page_url",
        "select page_url, avg(dwell_ms) from gold.fact_page_views group by all",
    ),
    (
        "chart_interactions",
        "interaction__chart_action",
        "select chart_action, count(*) from gold.fact_chart_interactions group by all",
    ),
]


@dataclass(frozen=True)
class OnlyRenders:
    """What MetricFlow must know of a database to write SQL for it."""

    sql_engine_type = SqlEngine.DUCKDB
    sql_plan_renderer = DuckDbSqlPlanRenderer()


@dataclass(frozen=True)
class Analyst:
    """The published file, MetricFlow over it, and the folder of dbt's docs of it."""

    home: Home
    file: Path
    engine: MetricFlowEngine
    docs: Path

    def metric(self, name: str, *by: str) -> list[tuple[Any, ...]]:
        request = MetricFlowQueryRequest.create(metric_names=[name], group_by_names=by)
        return self.rows(self.engine.explain(request).sql_statement.sql)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        # Within one process a file is open in one way only, and dbt's is another.
        with duckdb.connect(str(self.file), read_only=True) as connection:
            return connection.sql(sql).fetchall()


def traffic() -> list[dict[str, Any]]:
    """Twelve visits of five visitors in seven days, of every depth."""
    sent = []
    for number in range(12):
        day = DAY - timedelta(days=number * 2 % 8)
        begun, visit = at(day, "10:00:00") + number * 60_000, {"session": f"s{number}", "visitor": f"u{number % 5}"}
        user = {"user_id_hash": f"u{number % 5}", "geo_country": ("DE", "US", "FR")[number % 3]}
        seen = {"page_url": f"https://x.example/{'compare' if number % 3 else 'blog'}/{number % 2}"}
        ctx = seen | {"ab_variant": "AB"[number % 2], "device": ("mobile", "desktop", "tablet")[number % 3]}
        ctx |= {"referrer": "https://www.google.com/"} if number % 4 else {}
        kinds = ["page_view", "chart_interaction", "affiliate_click", "affiliate_click"][: 1 + number % 4]
        for place, kind in enumerate(kinds):
            made = event(number * 10 + place, begun + place * 4_000, kind, **visit, user=user, ctx=ctx)
            if kind == "chart_interaction":
                made["chart"] = {"action": ("sort", "filter")[number % 2]}
            if kind == "affiliate_click":
                made["affiliate"] = {"target": f"https://shop{place}.example", "payout_cents": 50 + 10 * number}
            sent.append(made)
    return sent


@pytest.fixture(scope="module")
def analyst(tmp_path_factory: pytest.TempPathFactory, dbt_cache: Path) -> Analyst:
    root = tmp_path_factory.mktemp("metrics")
    home = Home(root / "home", dbt_cache)
    home.send(DAY, traffic())
    home.advance()
    file = publish(home.lake)
    docs = root / "target"
    done = on_the_file(home, "docs", "generate", "--static", "--target-path", str(docs))
    assert done.success, done.exception
    manifest = parse_manifest_from_dbt_generated_manifest((docs / "semantic_manifest.json").read_text())
    engine = MetricFlowEngine(SemanticManifestLookup(manifest), OnlyRenders())  # type: ignore[arg-type]
    return Analyst(home, file, engine, docs)


def on_the_file(home: Home, *command: str) -> dbtRunnerResult:
    """Do one dbt command as an analyst does."""
    where = ["--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT), "--target", "published", "--quiet"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHART_HOME", str(home.settings.root))
        try:
            return dbtRunner().invoke([*command, *where, "--log-path", str(home.settings.root)])
        finally:
            # dbt keeps its connection for the life of the process.
            DuckDBConnectionManager.close_all_connections()


@pytest.mark.parametrize(("name", "by", "plain"), SAID, ids=[f"{name} by {by}" for name, by, _ in SAID])
def test_a_metric_says_what_plain_sql_says(analyst: Analyst, name: str, by: str, plain: str) -> None:
    expected = dict(analyst.rows(plain))
    found = dict(analyst.metric(name, by))
    assert len(expected) > 1 or "week" in by or "month" in by, "the traffic tells this metric's groups apart"
    assert {_named(key): value for key, value in found.items()} == {
        _named(key): pytest.approx(value) if value is not None else None for key, value in expected.items()
    }


def _named(key: Any) -> str:
    """MetricFlow gives days as moments."""
    return str(key).removesuffix(" 00:00:00")


def test_a_comparison_converts_if_its_visitor_clicks_within_seven_days(analyst: Analyst) -> None:
    ((rate,),) = analyst.rows(
        """
        with base as (select user_id_hash, event_dt from gold.fact_funnel where saw_comparison)
        select count(distinct clicks.user_id_hash) / (select count(distinct user_id_hash) from base)
        from gold.fact_affiliate_clicks as clicks
        inner join base
            on clicks.user_id_hash = base.user_id_hash and clicks.event_dt between base.event_dt and base.event_dt + 6
        """
    )
    ((found,),) = analyst.metric("comparison_to_click_rate_7d")
    assert 0 < found < 1
    assert found == pytest.approx(rate)


def test_every_metric_has_words_and_is_asked_for_here(analyst: Analyst) -> None:
    metrics = {metric.name: metric for metric in analyst.engine.list_metrics()}
    assert all(metric.description and metric.label for metric in metrics.values())
    ratios = {name for name, metric in metrics.items() if str(metric.type.value) == "ratio"}
    assert ratios <= {name for name, _, _ in SAID}


def test_docs_have_every_table_with_its_columns_and_their_meaning(analyst: Analyst) -> None:
    assert (analyst.docs / "static_index.html").stat().st_size > 100_000
    manifest, catalog = (json.loads((analyst.docs / f"{name}.json").read_text()) for name in ("manifest", "catalog"))
    nodes = {**manifest["nodes"], **manifest["sources"]}
    described = {f"{n['schema']}.{n['name']}": n for n in nodes.values() if n["resource_type"] in ("model", "source")}
    seen = {
        f"{n['metadata']['schema']}.{n['metadata']['name']}"
        for n in [*catalog["nodes"].values(), *catalog["sources"].values()]
    }
    for declared in TABLES:
        columns = described[declared.full_name]["columns"]
        assert [(c.name, c.description) for c in declared.columns] == [
            (column["name"], column["description"]) for column in columns.values()
        ]
    assert {declared.full_name for declared in TABLES} <= seen
    assert [name for name, node in described.items() if not node["description"]] == []


def test_events_that_came_an_hour_ago_are_late_and_after_a_day_an_error(analyst: Analyst) -> None:
    def status() -> str:
        done = on_the_file(analyst.home, "source", "freshness", "--target-path", str(analyst.docs))
        (found,) = done.result.results
        return str(found.status)

    assert status() == "error", "the traffic is of a day long ago"
    now = int(time.time() * 1000)
    for number, age_ms, expected in ((1, 2 * HOUR_MS, "warn"), (2, 60_000, "pass")):
        message = event(900 + number, now - age_ms, session="late")
        analyst.home.append(1, message, now - age_ms)
        analyst.home.take(date.fromtimestamp(now / 1000), {1: (number - 1, number)})
        analyst.home.advance()
        publish(analyst.home.lake)
        assert status() == expected
