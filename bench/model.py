"""Bronze to gold: what the platform's own steps cost, and one hand-written query over the same files.

Belongs here: the functions that ``measure`` calls for it. Does not belong here: how the bronze table came to be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from bench.contenders.common import Job
from bench.contenders.ours import settings_of
from chart_platform.contracts.tables import BRONZE_EVENTS, FACT_FUNNEL, SILVER_EVENTS, SILVER_SESSIONS
from chart_platform.lakehouse.duck import connect, relation
from chart_platform.lakehouse.lake import Lake
from chart_platform.quality.schemas import audit
from chart_platform.transform import model, silver

_SQL = (Path(__file__).parent / "by_hand.sql").read_text()


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
    """Deduplication, visits and funnel in one query over bronze's files, written to plain Parquet."""
    lake = Lake(settings_of(Job.of(argument)))
    connection = connect(lake.settings)
    bronze = lake.load(BRONZE_EVENTS)
    target = Path(argument["folder"]) / "by_hand.parquet"
    query = _SQL.format(bronze=relation(bronze, BRONZE_EVENTS, lake.files(bronze)))
    connection.execute(f"copy ({query}) to '{target}' (format parquet, compression zstd, compression_level 1)")
    return _sums(connection, f"'{target}'")


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
