"""bronze.events to silver.events: flatten, deduplicate, merge. Incremental runs and rebuilds give the same rows.

An event is identified by event_id within its event day (``ts`` is immutable, so a retry has the same day). Of several
messages the first received wins: the smallest ``ingest_ts``, then ``ts``, then the row's content. That order is total
and knows nothing of arrival, so any order and batching of the same messages ends in the same table.

Belongs here: which rows silver.events holds. Does not belong here: sessions (dbt), Dagster.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
from pyiceberg.expressions import And, EqualTo, GreaterThanOrEqual, In, LessThan
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table as IcebergTable

from chart_platform.contracts.tables import BRONZE_EVENTS, SILVER_EVENTS
from chart_platform.lakehouse.duck import connect, relation, rows
from chart_platform.lakehouse.lake import Change, Lake, paths
from chart_platform.lakehouse.progress import progress_of
from chart_platform.lakehouse.rewrite import in_order, replace_rows
from chart_platform.transform.ingest import Audit

_SQL = (Path(__file__).parent / "silver.sql").read_text()
DISPLACED_KEY = "chart.displaced-sessions"


@dataclass(frozen=True)
class SilverResult:
    """What a run did to silver.events: messages read, events that are new, rows replaced, duplicates dropped, and by day."""

    messages: int = 0
    inserted: int = 0
    replaced: int = 0
    duplicates: int = 0
    days: Mapping[date, int] = field(default_factory=dict)
    snapshot_id: int | None = None


def _order(alias: str) -> str:
    """First received first. The tail makes the order total on content."""
    tail = [c.name for c in SILVER_EVENTS.columns if c.name not in ("ingest_ts", "ts")]
    return ", ".join(f'{alias}."{name}" nulls last' for name in ["ingest_ts", "ts", *tail])


def _unseen(offsets: Mapping[int, int], until: Mapping[int, int]) -> str:
    clauses = [
        f"(kafka_partition = {p} and kafka_offset >= {offsets.get(p, 0)} and kafka_offset < {end})"
        for p, end in sorted(until.items())
        if end > offsets.get(p, 0)
    ]
    return " or ".join(clauses) or "false"


def update(lake: Lake, audit: Audit) -> SilverResult:
    """Take in every bronze row that silver.events has not seen, in one commit. Costs what the new rows cost."""
    outcome = SilverResult()
    connection = connect(lake.settings)

    def decide(silver: IcebergTable) -> Change | None:
        nonlocal outcome
        bronze = lake.load(BRONZE_EVENTS)
        target, seen = progress_of(bronze), progress_of(silver)
        outcome = SilverResult()
        if target is None or (seen is not None and seen.offsets == target.offsets):
            return None
        offsets = seen.offsets if seen is not None else {}
        floor = min((offsets.get(p, 0) for p, end in target.offsets.items() if end > offsets.get(p, 0)), default=0)
        new_rows = GreaterThanOrEqual("kafka_offset", floor)
        if seen is not None:
            new_rows = And(new_rows, GreaterThanOrEqual("ingest_dt", seen.oldest_day_until(target.offsets)))
        files = lake.files(bronze, new_rows)
        _stage(connection, relation(bronze, BRONZE_EVENTS, files), _unseen(offsets, target.offsets))
        change, outcome = _merge(connection, lake, silver, audit)
        return Change(change.add, change.remove, target, change.summary)

    committed = lake.commit(SILVER_EVENTS, decide)
    connection.close()
    return replace(outcome, snapshot_id=committed.snapshot_id if committed else None)


def _stage(connection: duckdb.DuckDBPyConnection, bronze: str, scope: str) -> None:
    """Make table ``incoming`` of the distinct events in scope, and ``staged`` its count of messages."""
    connection.execute(f"create or replace temp table messages as {_SQL.format(bronze=bronze, scope=scope)}")
    connection.execute(
        f"""
        create or replace temp table incoming as
        with repeated as (
            select event_id, event_dt from messages group by all having count(*) > 1
        )
        select m.* from messages as m anti join repeated using (event_id, event_dt)
        union all
        (
            select m.* from messages as m semi join repeated using (event_id, event_dt)
            qualify row_number() over (partition by m.event_id, m.event_dt order by {_order("m")}) = 1
        )
        """
    )


def _merge(
    connection: duckdb.DuckDBPyConnection, lake: Lake, silver: IcebergTable, audit: Audit
) -> tuple[Change, SilverResult]:
    """The change that merges ``incoming`` into the table, first received first."""
    days = [day for (day,) in connection.sql("select distinct event_dt from incoming order by 1").fetchall()]
    candidates = _candidates(connection, silver, lake.files(silver, In("event_dt", days))) if days else []
    known = relation(silver, SILVER_EVENTS, candidates)
    connection.execute(
        f"create or replace temp table existing as select s.* from {known} as s semi join incoming using (event_id, event_dt)"
    )
    connection.execute(
        f"""
        create or replace temp table winners as
        select * exclude (is_new) from (
            select true as is_new, i.* from incoming as i semi join existing using (event_id, event_dt)
            union all by name
            select false as is_new, e.* from existing as e
        ) as u
        qualify row_number() over (partition by u.event_id, u.event_dt order by {_order("u")}, is_new) = 1 and is_new
        """
    )
    displaced = _displaced(connection, "existing", "winners")
    added = rows(
        connection,
        "select * from incoming anti join existing using (event_id, event_dt) union all by name select * from winners",
        SILVER_EVENTS,
    )
    audit(SILVER_EVENTS, added)
    change = replace_rows(
        connection,
        lake,
        silver,
        SILVER_EVENTS,
        candidates if _count(connection, "winners") else [],
        "(t.event_id, t.event_dt) in (select (event_id, event_dt) from winners)",
        added,
        summary=displaced,
    )
    messages, replaced = _count(connection, "messages"), _count(connection, "winners")
    inserted = added.num_rows - replaced
    by_day = connection.sql("select event_dt, count(*) from incoming group by 1 order by 1").fetchall()
    return change, SilverResult(messages, inserted, replaced, messages - inserted - replaced, dict(by_day))


def _displaced(connection: duckdb.DuckDBPyConnection, before: str, after: str) -> dict[str, str]:
    """Summary that names the places which events of ``before`` leave, for the visits there to be computed again."""
    left = connection.sql(
        f"""
        select distinct b.session_id, b.user_id_hash, epoch_ms(b.ts) as ts
        from {before} as b join {after} as a using (event_id, event_dt)
        where (b.session_id, b.user_id_hash, b.ts) is distinct from (a.session_id, a.user_id_hash, a.ts)
        """
    ).fetchall()
    return {DISPLACED_KEY: json.dumps(left)} if left else {}


def _candidates(connection: duckdb.DuckDBPyConnection, silver: IcebergTable, files: list[DataFile]) -> list[DataFile]:
    """Files whose event_id bounds hold an incoming id. UUIDv7 ids are ordered by time, so few files of a day do."""
    connection.execute("create or replace temp table bounds (n integer, low varchar, high varchar)")
    field = silver.schema().find_field("event_id").field_id
    bounds = [
        (n, f.lower_bounds[field].decode(), f.upper_bounds[field].decode())
        for n, f in enumerate(files)
        if f.lower_bounds and field in f.lower_bounds and field in f.upper_bounds
    ]
    if len(bounds) < len(files):
        return files
    if not bounds:
        return []
    connection.executemany("insert into bounds values (?, ?, ?)", bounds)
    hit = connection.sql(
        # Bounds are cut to 16 characters, the upper one rounded up.
        "select distinct n from bounds join incoming on event_id between low and high || '~'"
    ).fetchall()
    return [files[n] for (n,) in sorted(hit)]


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    return int(connection.sql(f"select count(*) from {table}").fetchall()[0][0])


def rebuild(lake: Lake, day: date, audit: Audit) -> SilverResult:
    """Replace event day ``day`` by what bronze says of it. The progress stays: later rows are still merged in."""
    outcome = SilverResult()
    connection = connect(lake.settings)
    done: dict[frozenset[str], Change] = {}

    def decide(silver: IcebergTable) -> Change | None:
        nonlocal outcome
        bronze = lake.load(BRONZE_EVENTS)
        old = lake.files(silver, EqualTo("event_dt", day))
        # Another writer's commit elsewhere in the table doesn't spoil the work: only this day's files matter.
        if (key := paths(old)) in done:
            return done[key]
        start = datetime.combine(day, datetime.min.time())
        earliest_ingest = day - timedelta(hours=lake.settings.max_future_hours) - timedelta(days=1)
        in_day = And(
            GreaterThanOrEqual("ts", start.isoformat()), LessThan("ts", (start + timedelta(days=1)).isoformat())
        )
        files = lake.files(bronze, And(in_day, GreaterThanOrEqual("ingest_dt", earliest_ingest)))
        scope = f"ts >= timestamp '{start}' and ts < timestamp '{start + timedelta(days=1)}'"
        _stage(connection, relation(bronze, BRONZE_EVENTS, files), scope)
        added = in_order(rows(connection, "select * from incoming", SILVER_EVENTS), SILVER_EVENTS)
        audit(SILVER_EVENTS, added)
        messages = _count(connection, "messages")
        outcome = SilverResult(messages, added.num_rows, 0, messages - added.num_rows, {day: added.num_rows})
        if not old and not added.num_rows:
            return None
        # Bronze may be ahead of the last update: what is displaced here will be no news to the next one.
        displaced = _displaced(connection, relation(silver, SILVER_EVENTS, old), "incoming")
        done[key] = Change(add=lake.write(silver, added), remove=old, summary=displaced)
        return done[key]

    committed = lake.commit(SILVER_EVENTS, decide)
    connection.close()
    return replace(outcome, snapshot_id=committed.snapshot_id if committed else None)
