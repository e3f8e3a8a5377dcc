"""What the attribution costs: a first run over a month of visits, and one late visit on its last and on its first day.

``python -m bench.attribution [visits] [days]``; CPU-seconds stand on a busy machine too. Visits, visitors and clicks are made
up: a quarter as many visitors as visits, some of them frequent, a click in a tenth of the visits.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import duckdb

from chart_platform.contracts.tables import FACT_AFFILIATE_CLICKS, SILVER_SESSIONS, Table
from chart_platform.lakehouse.duck import connect
from chart_platform.lakehouse.lake import Lake
from chart_platform.lakehouse.rewrite import replace_rows
from chart_platform.quality.schemas import audit
from chart_platform.settings import Settings
from chart_platform.transform import attribution

FIRST_DAY = date(2026, 10, 1)
_VISITS = {
    "session_id": "'s' || i",
    "user_id_hash": "u",
    "session_start_ts": "st",
    "session_end_ts": "st + interval 5 minute",
    "first_page_url": "'https://charts.example/compare/' || (i % 500)",
    "referrer": "case when k < 36 then 'https://www.google.com/' end",
    "utm_source": "case when k between 54 and 77 then 'google' end",
    "utm_medium": "case when k between 54 and 77 then 'cpc' end",
    "utm_campaign": "case when k between 54 and 77 then 'c' || (i % 40) end",
    "channel": "case when k < 36 then 'Organic Search' when k < 54 then 'Direct' when k < 78 then 'Paid Search' "
    "when k < 83 then 'Paid Social' when k < 88 then 'Organic Social' when k < 94 then 'Email' else 'Referral' end",
    "event_dt": "st::date",
}
_CLICKS = {
    "event_id": "'e' || i",
    "ts": "st + interval 1 minute",
    "session_id": "'s' || i",
    "payout_cents": "(i % 50) * 100",
    "event_dt": "(st + interval 1 minute)::date",
}


def _select(declared: Table, made: dict[str, str], source: str) -> str:
    """SQL of rows of a table: what is made, and nothing or 0 in every other column."""
    columns = (f"{made.get(c.name, '0' if c.required else 'null')} as {c.name}" for c in declared.columns)
    return f"select {', '.join(columns)} from {source}"


def _put(lake: Lake, connection: duckdb.DuckDBPyConnection, declared: Table, sql: str) -> None:
    rows = connection.sql(sql).to_arrow_table().cast(declared.arrow)
    lake.commit(declared, lambda current: replace_rows(connection, current, declared, [], "false", rows))


def _measure(lake: Lake, label: str) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    made = attribution.run(lake, audit)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    rows = ", ".join(
        f"{name.split('.')[1]} {result.rows:,} in {len(result.days)} days" for name, result in made.items()
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{label}: {cpu:.1f} CPU-s, {wall:.1f} s, peak {peak:,} MB; {rows}", flush=True)


def main(visits: int = 1_000_000, days: int = 30) -> None:
    with tempfile.TemporaryDirectory() as home:
        lake = Lake(Settings(home=Path(home)))
        connection = connect(lake.settings)
        connection.execute(
            f"create table base as select i, hash(i * 13) % 100 as k, "
            f"timestamp '{FIRST_DAY}' + to_milliseconds((hash(i) % {days * 86_400_000 - 3_600_000})::bigint) as st, "
            f"'v' || ((hash(i * 7 + 1) % {visits}) * (hash(i * 3) % 1000) // 3000)::bigint as u from range({visits}) t (i)"
        )
        _put(lake, connection, SILVER_SESSIONS, _select(SILVER_SESSIONS, _VISITS, "base"))
        _put(
            lake,
            connection,
            FACT_AFFILIATE_CLICKS,
            _select(FACT_AFFILIATE_CLICKS, _CLICKS, "base where hash(i * 5) % 10 = 0"),
        )
        _measure(lake, "first run")
        for name, day in (("last", FIRST_DAY + timedelta(days=days - 1)), ("first", FIRST_DAY)):
            late = _VISITS | {"session_id": f"'late-{name}'", "channel": "'Email'"}
            source = f"(select *, timestamp '{day} 09:00:00' as st from (select i, u, 90 as k from base limit 1))"
            _put(lake, connection, SILVER_SESSIONS, _select(SILVER_SESSIONS, late, source))
            _measure(lake, f"a late visit on the {name} day")
        connection.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
