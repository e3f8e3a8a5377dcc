"""bronze.events to silver.events: flatten, deduplicate, merge. Incremental runs and rebuilds give the same rows.

An event is identified by event_id within its event day (``ts`` is immutable, so a retry has the same day). Of several
messages the first received wins: the smallest ``ingest_ts``, then ``ts``, then the row's content. That order is total
and knows nothing of arrival, so any order and batching of the same messages ends in the same table.

Nearly every id comes once. One narrow look at all ids finds the others, which are *contested* and decided on their whole
rows; the rest goes from bronze's files to silver's in chunks, so that memory is bounded by a chunk and not by a day.

Belongs here: which rows silver.events holds. Does not belong here: sessions (dbt), Dagster.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
from pyiceberg.expressions import And, EqualTo, GreaterThanOrEqual, In, LessThanOrEqual
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table as IcebergTable

from chart_platform.contracts.tables import BRONZE_EVENTS, SILVER_EVENTS
from chart_platform.lakehouse.duck import audited, connect, relation
from chart_platform.lakehouse.lake import Change, Lake, paths
from chart_platform.lakehouse.progress import Progress, progress_of
from chart_platform.lakehouse.rewrite import replace_rows
from chart_platform.lakehouse.unload import unload
from chart_platform.transform.ingest import Audit

_SQL = (Path(__file__).parent / "silver.sql").read_text()
DISPLACED_KEY = "chart.displaced-sessions"
_CHUNK_ROWS = 500_000
_FILE_ROWS = 20_000
"""Fewer rows of a partition than these wait for the next chunk, as late events do for those of their own hour."""
_ID = "hash(event_id, event_dt)"
_PARTITION = ", ".join(SILVER_EVENTS.partition_by)


@dataclass(frozen=True)
class SilverResult:
    """What a run did to silver.events: messages read, events that are new, rows replaced, duplicates dropped, and by day."""

    messages: int = 0
    inserted: int = 0
    replaced: int = 0
    duplicates: int = 0
    days: Mapping[date, int] = field(default_factory=dict)
    snapshot_id: int | None = None

    def __add__(self, after: SilverResult) -> SilverResult:
        """Both, one after the other, which were about different days."""
        return SilverResult(
            self.messages + after.messages,
            self.inserted + after.inserted,
            self.replaced + after.replaced,
            self.duplicates + after.duplicates,
            {**self.days, **after.days},
            after.snapshot_id,
        )


@dataclass(frozen=True)
class Messages:
    """Rows of bronze.events: those of ``files`` for which the SQL predicate ``scope`` holds."""

    table: IcebergTable
    files: Sequence[DataFile]
    scope: str

    @property
    def relation(self) -> str:
        return f"(select * from {relation(self.table, BRONZE_EVENTS, self.files)} where {self.scope})"

    def chunks(self) -> Iterator[Messages]:
        """The same rows in parts of some files each, those of one partition together."""
        chunk: list[DataFile] = []
        for file in sorted(self.files, key=lambda f: (*map(str, f.partition), f.file_path)):
            if chunk and sum(f.record_count for f in chunk) + file.record_count > _CHUNK_ROWS:
                yield replace(self, files=chunk)
                chunk = []
            chunk.append(file)
        if chunk:
            yield replace(self, files=chunk)


def unseen(lake: Lake, bronze: IcebergTable, since: Progress | None, until: Progress) -> Messages:
    """The messages in ``[since, until)``; without ``since`` all before ``until``."""
    offsets = since.offsets if since is not None else {}
    ranges = [(p, offsets.get(p, 0), end) for p, end in sorted(until.offsets.items()) if end > offsets.get(p, 0)]
    clauses = [
        f"(kafka_partition = {p} and kafka_offset >= {start} and kafka_offset < {end})" for p, start, end in ranges
    ]
    wanted = GreaterThanOrEqual("kafka_offset", min((start for _, start, _ in ranges), default=0))
    if since is not None:
        wanted = And(wanted, GreaterThanOrEqual("ingest_dt", since.oldest_day_until(until.offsets)))
    return Messages(bronze, lake.files(bronze, wanted), f"({' or '.join(clauses) or 'false'})")


def _of_day(lake: Lake, bronze: IcebergTable, day: date) -> Messages:
    start, end = datetime.combine(day, datetime.min.time()), datetime.combine(day, datetime.max.time())
    earliest_ingest = day - timedelta(hours=lake.settings.max_future_hours) - timedelta(days=1)
    in_day = And(GreaterThanOrEqual("ts", start.isoformat()), LessThanOrEqual("ts", end.isoformat()))
    files = lake.files(bronze, And(in_day, GreaterThanOrEqual("ingest_dt", earliest_ingest)))
    return Messages(bronze, files, f"cast(ts as date) = date '{day}'")


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
        change, outcome = _Merge(connection, lake, silver, audit).run(unseen(lake, bronze, seen, target))
        return replace(change, progress=target)

    committed = lake.commit(SILVER_EVENTS, decide)
    connection.close()
    return replace(outcome, snapshot_id=committed.snapshot_id if committed else None)


def rebuild(lake: Lake, day: date, audit: Audit) -> SilverResult:
    """Replace event day ``day`` by what bronze says of it. The progress stays: later rows are still merged in."""
    outcome = SilverResult()
    connection = connect(lake.settings)
    done: dict[frozenset[str], Change] = {}

    def decide(silver: IcebergTable) -> Change | None:
        nonlocal outcome
        old = lake.files(silver, EqualTo("event_dt", day))
        # Another writer's commit elsewhere in the table doesn't spoil the work: only this day's files matter.
        if (key := paths(old)) not in done:
            messages = _of_day(lake, lake.load(BRONZE_EVENTS), day)
            change, outcome = _Merge(connection, lake, silver, audit, anew=True).run(messages)
            # Bronze may be ahead of the last update: what is displaced here will be no news to the next one.
            displaced = _displaced(
                connection,
                relation(silver, SILVER_EVENTS, old),
                relation(silver, SILVER_EVENTS, change.add),
            )
            done[key] = Change(add=change.add, remove=old, summary=displaced)
        return done[key] if done[key].add or old else None

    committed = lake.commit(SILVER_EVENTS, decide)
    connection.close()
    return replace(outcome, snapshot_id=committed.snapshot_id if committed else None)


class _Merge:
    """Merges messages into a state of the table, first received first; ``anew`` regardless of what it holds."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, lake: Lake, silver: IcebergTable, audit: Audit, anew: bool = False
    ) -> None:
        self._connection = connection
        self._lake = lake
        self._silver = silver
        self._audit = audit
        self._anew = anew

    def run(self, messages: Messages) -> tuple[Change, SilverResult]:
        """The change, and what it does."""
        read = self._find_contested(messages)
        nothing = relation(self._silver, SILVER_EVENTS, [])
        self._connection.execute(
            f"""
            create or replace temp table pending as select * from {nothing};
            create or replace temp table contested as select * from {nothing};
            """
        )
        files: list[DataFile] = []
        for chunk in messages.chunks():
            files += self._write(_FILE_ROWS)
            self._take(chunk)
        replaced = self._decide_contested()
        files += self._write(1)
        change = replace_rows(
            self._connection,
            self._silver,
            SILVER_EVENTS,
            self._known if replaced else [],
            "(t.event_id, t.event_dt) in (select (event_id, event_dt) from decided where is_new)",
            nothing,
            files,
            summary=_displaced(self._connection, "existing", "decided"),
        )
        inserted = sum(f.record_count for f in files) - replaced
        days = self._connection.sql("select event_dt, count(*) from arrivals group by 1 order by 1").fetchall()
        return change, SilverResult(read, inserted, replaced, read - inserted - replaced, dict(days))

    def _find_contested(self, messages: Messages) -> int:
        """Make ``contested_ids``: hashes of ids that come twice or are in the table. Returns the number of messages.

        Ids that only share a hash are contested in vain, which costs their time and nothing else.
        """
        connection = self._connection
        connection.execute(
            f"""
            create or replace temp table arrivals as
            select {_ID} as id, count(*) as messages, min(event_dt) as event_dt
            from (select event_id, cast(ts as date) as event_dt from {messages.relation}) group by id
            """
        )
        self._known = [] if self._anew else self._candidates(messages)
        connection.execute(
            f"""
            create or replace temp table contested_ids as
            select id from arrivals where messages > 1
            union
            select id from (select {_ID} as id from {relation(self._silver, SILVER_EVENTS, self._known)}) semi join arrivals using (id)
            """
        )
        ((read,),) = connection.sql("select coalesce(sum(messages), 0)::bigint from arrivals").fetchall()
        return int(read)

    def _candidates(self, messages: Messages) -> list[DataFile]:
        """Files whose event_id bounds hold an incoming id. UUIDv7 ids are ordered by time, so few files of a day do."""
        connection = self._connection
        days = [day for (day,) in connection.sql("select distinct event_dt from arrivals").fetchall()]
        files = self._lake.files(self._silver, In("event_dt", days)) if days else []
        field = self._silver.schema().find_field("event_id").field_id
        bounds = [
            (n, f.lower_bounds[field].decode(), f.upper_bounds[field].decode())
            for n, f in enumerate(files)
            if f.lower_bounds and field in f.lower_bounds and field in f.upper_bounds
        ]
        if len(bounds) < len(files) or not bounds:
            return files
        connection.execute("create or replace temp table bounds (n integer, low varchar, high varchar)")
        connection.executemany("insert into bounds values (?, ?, ?)", bounds)
        hit = connection.sql(
            # Bounds are cut to 16 characters, the upper one rounded up.
            f"select distinct n from bounds join {messages.relation} on event_id between low and high || '~'"
        ).fetchall()
        return [files[n] for (n,) in sorted(hit)]

    def _take(self, messages: Messages) -> None:
        """Read messages into ``pending``, and those whose id is contested into ``contested``."""
        rows = _SQL.format(bronze=messages.relation)
        self._connection.execute(
            f"""
            insert into pending select * from ({rows});
            insert into contested select * from pending where {_ID} in (select id from contested_ids);
            delete from pending where {_ID} in (select id from contested_ids);
            """
        )

    def _write(self, least_rows: int) -> list[DataFile]:
        """Move the partitions of ``pending`` that have so many rows to files."""
        connection = self._connection
        for part in audited(connection, "pending", SILVER_EVENTS):
            self._audit(SILVER_EVENTS, part)
        files = unload(connection, self._silver, SILVER_EVENTS, "pending", least_rows)
        if files and least_rows > 1:
            connection.execute(
                f"""
                create or replace temp table pending as select * from pending semi join (
                    select {_PARTITION} from pending group by {_PARTITION} having count(*) < {least_rows}
                ) using ({_PARTITION})
                """
            )
        return files

    def _decide_contested(self) -> int:
        """Add to ``pending`` the new winners of the contested rows. Returns how many of them replace a row."""
        connection = self._connection
        known = relation(self._silver, SILVER_EVENTS, self._known)
        connection.execute(
            f"""
            create or replace temp table existing as select * from {known} where {_ID} in (select id from contested_ids);
            create or replace temp table decided as
            select * from (
                select true as is_new, * from contested
                union all by name
                select false as is_new, * from existing
            ) as u
            qualify row_number() over (partition by u.event_id, u.event_dt order by {_order("u")}, is_new) = 1;
            insert into pending by name select * exclude (is_new) from decided where is_new;
            """
        )
        ((replaced,),) = connection.sql(
            "select count(*) from decided semi join existing using (event_id, event_dt) where is_new"
        ).fetchall()
        return int(replaced)


def _displaced(connection: duckdb.DuckDBPyConnection, before: str, after: str) -> dict[str, str]:
    """Summary that names the places which events of ``before`` leave, for the visits there to be computed again."""
    place = "event_id, event_dt, session_id, user_id_hash, ts"
    left = connection.sql(
        f"""
        select distinct session_id, user_id_hash, epoch_ms(ts) as ts
        from (select {place} from {before} except select {place} from {after})
        """
    ).fetchall()
    return {DISPLACED_KEY: json.dumps(left)} if left else {}


def _order(alias: str) -> str:
    """First received first. The tail makes the order total on content."""
    tail = [c.name for c in SILVER_EVENTS.columns if c.name not in ("ingest_ts", "ts")]
    return ", ".join(f'{alias}."{name}" nulls last' for name in ["ingest_ts", "ts", *tail])
