"""Bronze to gold: what the platform's own steps cost, and one hand-written query over the same files.

Belongs here: the functions that ``measure`` calls for it. Does not belong here: how the bronze table came to be.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import sqlglot

from bench.contenders.common import Job
from bench.contenders.ours import settings_of
from chart_platform.contracts.tables import BRONZE_EVENTS, FACT_FUNNEL, SILVER_EVENTS, SILVER_SESSIONS
from chart_platform.lakehouse.duck import connect, local_path, relation
from chart_platform.lakehouse.lake import Lake
from chart_platform.quality.schemas import audit
from chart_platform.transform import model, silver

_HERE = Path(__file__).parent
_EVENTS, _VISITS = ((_HERE / f"{name}.sql").read_text() for name in ("by_hand_events", "by_hand"))
_FLAT = (Path(silver.__file__).parent / "silver.sql").read_text()
_COPY = "(format parquet, compression zstd, compression_level 1)"


def update_silver(argument: dict[str, Any]) -> dict[str, int]:
    """bronze.events to silver.events."""
    done = silver.update(Lake(settings_of(Job.of(argument))), audit)
    return {"messages": done.messages, "inserted": done.inserted, "duplicates": done.duplicates}


def run_model(argument: dict[str, Any]) -> dict[str, int]:
    """silver.events to sessions, segments and facts, dbt included."""
    done = model.run(Lake(settings_of(Job.of(argument))), audit)
    return {name: result.rows for name, result in done.items()}


def update_all(argument: dict[str, Any]) -> dict[str, int]:
    """What an incremental run does after ingestion."""
    return update_silver(argument) | run_model(argument)


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
    for name, columns in (
        ("sessions", "* exclude (saw_comparison, payout_cents)"),
        ("funnel", "* exclude (pageviews)"),
    ):
        connection.execute(f"copy (select {columns} from visits) to '{_target(argument, name)}' {_COPY}")
    clicks = f"select * from '{events}' where event_type = 'affiliate_click'"
    connection.execute(f"copy ({clicks}) to '{_target(argument, 'clicks')}' {_COPY}")
    return _sums(connection, "visits")


def spark(argument: dict[str, Any]) -> dict[str, Any]:
    """The query of :func:`by_hand` in PySpark local[2], by an interpreter that has it: CPU and memory of it and its JVM."""
    lake = Lake(settings_of(Job.of(argument)))
    files = [local_path(f.file_path) for f in lake.files(lake.load(BRONZE_EVENTS))]
    query = _VISITS.format(events=f"({_EVENTS.format(bronze='bronze')})")
    job = {
        "files": files,
        "query": sqlglot.transpile(query, read="duckdb", write="spark")[0],
        "target": str(_target(argument, "spark")),
    }
    # -P: our folder has a `profile`, which would hide Python's own.
    script = [argument["spark_python"], "-P", str(_HERE / "spark_job.py")]
    done = subprocess.run(script, input=json.dumps(job), capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"answer": _sums(connect(lake.settings), f"'{job['target']}/*.parquet'")}


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
