"""Bronze to gold: what the platform's own steps cost, and one hand-written query over the same files.

Belongs here: the functions that ``measure`` calls for it. Does not belong here: how the bronze table came to be.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import sqlglot

from bench.contenders.common import Job
from bench.contenders.ours import settings_of
from chart_platform.contracts.tables import BRONZE_EVENTS, FACT_FUNNEL, SILVER_EVENTS, SILVER_SESSIONS, Table
from chart_platform.experiments import gold as experiments
from chart_platform.experiments.registry import load_experiments
from chart_platform.lakehouse.duck import connect, local_path, relation
from chart_platform.lakehouse.lake import Lake
from chart_platform.quality.schemas import audit
from chart_platform.transform import attribution, marts, model, silver
from chart_platform.transform.dbt import invoke, manifest_json

_HERE = Path(__file__).parent
_EVENTS, _VISITS = ((_HERE / f"{name}.sql").read_text() for name in ("by_hand_events", "by_hand"))
_FLAT = (Path(silver.__file__).parent / "silver.sql").read_text()
_OF_FUNNEL = (
    "visit_key, visit_number, session_start_ts, user_id_hash, saw_comparison, interacted_chart, clicked_affiliate, affiliate_target, "
    "payout_cents, ab_variant, geo_country, device, comparison_ts, interaction_ts, click_ts, event_dt"
)
_MOMENTS = ("comparison_ts", "interaction_ts", "click_ts")
_COPY = "(format parquet, compression zstd, compression_level 1)"


def update_silver(argument: dict[str, Any]) -> dict[str, int]:
    """bronze.events to silver.events."""
    done = silver.update(Lake(settings_of(Job.of(argument))), audit)
    return {"messages": done.messages, "inserted": done.inserted, "duplicates": done.duplicates}


def run_model(argument: dict[str, Any]) -> dict[str, int]:
    """silver.events to sessions, segments and facts, dbt included."""
    done = model.run(Lake(settings_of(Job.of(argument))), audit)
    return {name: result.rows for name, result in done.items()}


def parse(argument: dict[str, Any]) -> int:
    """dbt's project parsed and kept, as the first run of an installation does."""
    return len(manifest_json(settings_of(Job.of(argument))))


def run_visits(argument: dict[str, Any]) -> dict[str, int]:
    """silver.events to sessions and funnel alone, with their segments; the catalog is put back as it was after it."""
    lake = Lake(settings_of(Job.of(argument)))
    run = model.ModelRun(lake, None, audit)
    catalog = lake.settings.root / "catalog.db"
    kept = catalog.with_suffix(".kept")
    shutil.copyfile(catalog, kept)
    invoke(lake.settings, ["run", "--select", "+sessions", "+fact_funnel"], run)
    kept.replace(catalog)
    return {name: result.rows for name, result in run.results.items()}


def run_marts(argument: dict[str, Any]) -> dict[str, int]:
    """Sessions and facts to the marts of dbt."""
    done = marts.run(Lake(settings_of(Job.of(argument))), audit)
    return {name: result.rows for name, result in done.items()}


def run_attribution(argument: dict[str, Any]) -> dict[str, int]:
    """Visits, clicks and conversions to their attribution."""
    done = attribution.run(Lake(settings_of(Job.of(argument))), audit)
    return {name: result.rows for name, result in done.items()}


def run_experiments(argument: dict[str, Any]) -> dict[str, int]:
    """Page views and visits to the experiments' results."""
    lake = Lake(settings_of(Job.of(argument)))
    done = experiments.update(lake, audit, load_experiments(lake.settings.experiments))
    return {name: made.rows for name, made in done.items()}


def update_all(argument: dict[str, Any]) -> dict[str, int]:
    """What an incremental run does after ingestion."""
    return update_silver(argument) | run_model(argument)


def by_hand_visits(argument: dict[str, Any]) -> dict[str, int]:
    """The query of :func:`by_hand` over silver.events, written to the two files of sessions and funnel."""
    lake = Lake(settings_of(Job.of(argument)))
    connection = connect(lake.settings)
    silver_events = lake.load(SILVER_EVENTS)
    events = relation(silver_events, SILVER_EVENTS, lake.files(silver_events))
    connection.execute(f"create temp table visits as {_VISITS.format(events=events)}")
    _write_visits(argument, connection)
    return _sums(connection, "visits")


def by_hand(argument: dict[str, Any]) -> dict[str, int]:
    """Deduplication, visits and funnel in one query over bronze's files, written to one plain Parquet file."""
    lake = Lake(settings_of(Job.of(argument)))
    connection = connect(lake.settings)
    target = _target(argument, "by_hand")
    query = _VISITS.format(events=f"({_EVENTS.format(bronze=_bronze(lake))})")
    connection.execute(f"copy ({query}) to '{target}' {_COPY}")
    return _sums(connection, f"'{target}'")


def by_hand_all(argument: dict[str, Any]) -> dict[str, int]:
    """All that the platform writes of a first day, by hand: events with all columns, sessions, funnel and clicks.

    Four plain Parquet files, unsorted and unpartitioned; no segments, as a first day has none.
    """
    lake = Lake(settings_of(Job.of(argument)))
    connection = connect(lake.settings)
    events = _target(argument, "events")
    first = "row_number() over (partition by event_id, event_dt order by ingest_ts, ts) = 1"
    flat = _FLAT.format(bronze=_bronze(lake))
    connection.execute(f"copy (select * from ({flat}) qualify {first}) to '{events}' {_COPY}")
    query = _VISITS.format(events=f"'{events}'")
    connection.execute(f"create temp table visits as {query}")
    _write_visits(argument, connection)
    clicks = f"select * from '{events}' where event_type = 'affiliate_click'"
    connection.execute(f"copy ({clicks}) to '{_target(argument, 'clicks')}' {_COPY}")
    return _sums(connection, "visits")


def _write_visits(argument: dict[str, Any], connection: duckdb.DuckDBPyConnection) -> None:
    for name, columns in (("sessions", f"* exclude ({', '.join(_MOMENTS)})"), ("funnel", _OF_FUNNEL)):
        connection.execute(f"copy (select {columns} from visits) to '{_target(argument, name)}' {_COPY}")


def spark(argument: dict[str, Any]) -> dict[str, Any]:
    """The query of :func:`by_hand` in PySpark local[2], by an interpreter that has it: CPU and memory of it and its JVM."""
    lake = Lake(settings_of(Job.of(argument)))
    query = _VISITS.format(events=f"({_EVENTS.format(bronze='source')})")
    target = str(_target(argument, "spark"))
    return _in_spark(argument, lake, BRONZE_EVENTS, query, {target: ["*"]}, target)


def spark_visits(argument: dict[str, Any]) -> dict[str, Any]:
    """The query of :func:`by_hand_visits` in PySpark: silver.events to the files of sessions and funnel."""
    lake = Lake(settings_of(Job.of(argument)))
    columns = (
        connect(lake.settings).sql(_VISITS.format(events=relation(lake.load(SILVER_EVENTS), SILVER_EVENTS, []))).columns
    )
    sessions = [name for name in columns if name not in _MOMENTS]
    funnel = str(_target(argument, "spark-funnel"))
    targets = {str(_target(argument, "spark-sessions")): sessions, funnel: _OF_FUNNEL.split(", ")}
    return _in_spark(argument, lake, SILVER_EVENTS, _VISITS.format(events="source"), targets, funnel)


def _in_spark(
    argument: dict[str, Any], lake: Lake, source: Table, query: str, targets: dict[str, list[str]], summed: str
) -> dict[str, Any]:
    job = {
        "files": [local_path(f.file_path) for f in lake.files(lake.load(source))],
        "query": sqlglot.transpile(query, read="duckdb", write="spark")[0],
        "targets": targets,
        "scratch": argument["folder"],
    }
    # -P: our folder has a `profile`, which would hide Python's own.
    script = [argument["spark_python"], "-P", str(_HERE / "spark_job.py")]
    done = subprocess.run(script, input=json.dumps(job), capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"answer": _sums(connect(lake.settings), f"'{summed}/*.parquet'")}


def _bronze(lake: Lake) -> str:
    bronze = lake.load(BRONZE_EVENTS)
    return relation(bronze, BRONZE_EVENTS, lake.files(bronze))


def _target(argument: dict[str, Any], name: str) -> Path:
    return Path(argument["folder"]) / f"{name}-by-hand.parquet"


def funnel_sums(argument: dict[str, Any]) -> dict[str, int]:
    """The same sums as :func:`by_hand` gives, of gold.fact_funnel."""
    lake = Lake(settings_of(Job.of(argument)))
    table = lake.load(FACT_FUNNEL)
    return _sums(connect(lake.settings), relation(table, FACT_FUNNEL, lake.files(table)))


def _sums(connection: duckdb.DuckDBPyConnection, source: str) -> dict[str, int]:
    (found,) = connection.sql(
        f"""
        select count(*), sum(saw_comparison::int), sum(interacted_chart::int), sum(clicked_affiliate::int),
            sum(payout_cents) from {source}
        """
    ).fetchall()
    return dict(zip(("visits", "compared", "interacted", "clicked", "payout_cents"), map(int, found), strict=True))


def table_rows(argument: dict[str, Any]) -> dict[str, int]:
    """Rows of the tables, by Iceberg's own count."""
    lake = Lake(settings_of(Job.of(argument)))
    return {
        declared.full_name: sum(f.record_count for f in lake.files(lake.load(declared)))
        for declared in (BRONZE_EVENTS, SILVER_EVENTS, SILVER_SESSIONS, FACT_FUNNEL)
    }
