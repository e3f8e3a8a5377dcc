"""gold.visitors and gold.retention_daily: following silver.sessions at the cost of the visits that changed.

A visitor's row is a sum over all visits, of which a run reads only those that came or went since the snapshot that the
table says it was made from; that word and the rows are one commit, so no visit counts twice. Only where a first or last
visit went and nothing took its place are a visitor's other visits read again. Retention is made by day: the days on which
a visit came, went or changed, or on which somebody was whose first visit is another now.

Belongs here: which rows are computed again, and committing them. Does not belong here: new visitors by campaign and the
other marts by day (``marts``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
from pyiceberg.expressions import GreaterThanOrEqual, In
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table as IcebergTable

from chart_platform.contracts.tables import RETENTION_DAILY, SILVER_SESSIONS, VISITORS, Table
from chart_platform.lakehouse.changes import Changed, Made, changed_between, heads, made_from, record
from chart_platform.lakehouse.days import in_parts, rows_by_day
from chart_platform.lakehouse.duck import audited, connect, local_path, relation
from chart_platform.lakehouse.lake import Change, Lake
from chart_platform.lakehouse.rewrite import replace_rows
from chart_platform.transform.ingest import Audit
from chart_platform.transform.staged import counted_by_day

_VISITORS_SQL = (Path(__file__).parent / "visitors.sql").read_text()
_RETENTION_SQL = (Path(__file__).parent / "retention_daily.sql").read_text()
_VISIT = (
    "user_id_hash, session_id, session_start_ts, session_end_ts, event_dt, channel, utm_source, utm_medium, utm_campaign, "
    "referrer, first_page_url, geo_country, device, ab_variant, engaged, pageviews, comparison_views, chart_interactions, "
    "affiliate_clicks, payout_cents"
)
_VISITS_AT_ONCE = 3_000_000
_SESSIONS = SILVER_SESSIONS.full_name
_STAGED = "staged"
Sources = Mapping[str, int | str | None]
"""What a table says that it was made from, as :func:`made_from` reads it."""


def update_visitors(lake: Lake, audit: Audit, days: Sequence[date] | None = None) -> Made:
    """Bring gold.visitors up to date with the visits; with ``days``, then sum up again all who were there on them, or were
    there first by their row.

    Raises:
        ContractBreach: the rows break the table's contract. Nothing was committed.
    """
    made = _commit(lake, audit, VISITORS, lambda run: _follow_visits(run))
    return made + _commit(lake, audit, VISITORS, lambda run: _sum_up_again(run, days)) if days else made


def update_retention(lake: Lake, audit: Audit, days: Sequence[date] | None = None) -> Made:
    """Bring gold.retention_daily up to date with gold.visitors; with ``days``, compute these again.

    Raises:
        ContractBreach: the rows break the table's contract. Nothing was committed.
    """
    return _commit(lake, audit, RETENTION_DAILY, lambda run: _retain(run, days))


def up_to_date(lake: Lake) -> bool:
    """True if both tables were made from the visits as they are."""
    visits, visitors = heads({_SESSIONS: lake.load(SILVER_SESSIONS)}), lake.load(VISITORS)
    both = {**visits, **heads({VISITORS.full_name: visitors})}
    return made_from(visitors) == visits and made_from(lake.load(RETENTION_DAILY)) == both


@dataclass
class _Run:
    """One attempt at a commit: the table, and the visits, as they are."""

    lake: Lake
    connection: duckdb.DuckDBPyConnection
    current: IcebergTable
    sessions: IcebergTable

    def visits(self, files: Sequence[DataFile]) -> str:
        return relation(self.sessions, SILVER_SESSIONS, files)

    def visits_as_of(self, snapshot_id: int | None, where: In | GreaterThanOrEqual | None = None) -> str:
        files = [] if snapshot_id is None else self.lake.files(self.sessions, where, snapshot_id)
        return self.visits(files)


@dataclass(frozen=True)
class _Rows:
    """What has been staged comes in place of the rows of ``candidates`` for which ``doomed`` holds."""

    candidates: Sequence[DataFile]
    doomed: str
    sources: Sources


def _commit(lake: Lake, audit: Audit, declared: Table, compute: Callable[[_Run], _Rows | None]) -> Made:
    """Commit what ``compute`` says and has staged in the run's connection; None is nothing to do."""
    made = Made()

    def decide(current: IcebergTable) -> Change | None:
        nonlocal made
        with closing(connect(lake.settings)) as connection:
            found = compute(_Run(lake, connection, current, lake.load(SILVER_SESSIONS)))
            if found is None:
                return None
            for part in audited(connection, _STAGED, declared):
                audit(declared, part)
            change = replace_rows(
                connection, current, declared, found.candidates, found.doomed, _STAGED, summary=record(found.sources)
            )
            rows, by_day = counted_by_day(connection, _STAGED, declared)
            made = Made(by_day, change.rows_removed - (change.rows_added - rows))
            return change

    lake.commit(declared, decide)
    return made


def _follow_visits(run: _Run) -> _Rows | None:
    seen, sources = made_from(run.current), heads({_SESSIONS: run.sessions})
    if seen == sources:
        return None
    files = run.lake.files(run.current)
    changed = _between(SILVER_SESSIONS, run.sessions, seen, sources)
    if changed is None:
        _stage_visitors(run, run.visits(run.lake.files(run.sessions)), run.visits([]), [])
        return _Rows(files, "true", sources)
    came, went = _differing(run, changed)
    run.connection.execute(
        f"create temp table touched as select user_id_hash from {came} union select user_id_hash from {went}"
    )
    hit = _holding(run, files)
    _stage_visitors(run, came, went, hit)
    return _Rows(hit, "t.user_id_hash in (select user_id_hash from touched)", sources)


def _sum_up_again(run: _Run, days: Sequence[date]) -> _Rows | None:
    seen = made_from(run.current)
    if seen is None:
        return None
    as_of = _snapshot(seen)
    there = run.visits_as_of(as_of, In("event_dt", list(days)))
    visitors = relation(run.current, VISITORS, run.lake.files(run.current, In("cohort_dt", list(days))))
    run.connection.execute(
        f"create temp table touched as select user_id_hash from {there} where user_id_hash is not null "
        f"union select user_id_hash from {visitors}"
    )
    everything = f"(from {run.visits_as_of(as_of)} where user_id_hash in (select user_id_hash from touched))"
    _stage_visitors(run, everything, run.visits([]), [])
    hit = _holding(run, run.lake.files(run.current))
    return _Rows(hit, "t.user_id_hash in (select user_id_hash from touched)", seen)


def _differing(run: _Run, changed: Changed) -> tuple[str, str]:
    """Temporary tables of the visits that came and of those that went. Copy-on-write moves many that stay the same."""
    added, removed = (
        f"(select {_VISIT} from {run.visits(files)} where user_id_hash is not null)"
        for files in (changed.added, changed.removed)
    )
    marked = "select *, hash(v) as mark, hash('v', v) as second from {} as v"
    for name, own, others in (("came", added, removed), ("went", removed, added)):
        run.connection.execute(
            f"""
            create temp table {name} as
            with own as ({marked.format(own)}), others as ({marked.format(others)})
            select * exclude (mark, second) from own where (mark, second) not in (select (mark, second) from others)
            """
        )
    return "came", "went"


def _holding(run: _Run, files: Sequence[DataFile]) -> list[DataFile]:
    """The files of gold.visitors that hold a touched visitor: one column of all is read to find them."""
    source = relation(run.current, VISITORS, files, filename=True)
    found = run.connection.sql(
        f"select distinct filename from {source} where user_id_hash in (select user_id_hash from touched)"
    ).fetchall()
    names = {name for (name,) in found}
    return [file for file in files if local_path(file.file_path) in names]


def _stage_visitors(run: _Run, came: str, went: str, old: Sequence[DataFile]) -> None:
    """Make ``staged``: the rows of all visitors of ``came`` and ``went``, on top of their rows in ``old``."""
    connection = run.connection
    known = "user_id_hash in (select user_id_hash from touched)" if old else "false"
    connection.execute(f"create temp table before as from {relation(run.current, VISITORS, old)} where {known}")
    connection.execute(
        f"""
        create temp table visits as
        select {_VISIT}, 1 as sign from {came} where user_id_hash is not null
        union all
        select {_VISIT}, -1 as sign from {went} where user_id_hash is not null
        """
    )
    _read_again(run)
    connection.execute(f"create temp table staged as {_VISITORS_SQL}")


def _read_again(run: _Run) -> None:
    """Put all visits of those in place of changes and old row whose first or last visit went without a replacement."""
    connection = run.connection
    connection.execute(
        """
        create temp table unsure as
        with changes as (
            select
                user_id_hash,
                min(row(session_start_ts, session_id)) filter (where sign = 1) as came_first,
                min(row(session_start_ts, session_id)) filter (where sign = -1) as went_first,
                max(session_end_ts) filter (where sign = 1) as came_last,
                max(session_end_ts) filter (where sign = -1) as went_last
            from visits group by user_id_hash
        )

        select before.user_id_hash, before.cohort_dt
        from before
        join changes on before.user_id_hash = changes.user_id_hash
        where
            went_first = row(before.first_seen_ts, before.first_session_id) and not coalesce(came_first <= went_first, false)
            or went_last = before.last_seen_ts and not coalesce(came_last >= went_last, false)
        """
    )
    ((first,),) = connection.sql(
        "select least((select min(cohort_dt) from unsure), (select min(event_dt) from visits where sign = 1)) "
        "where exists (from unsure)"
    ).fetchall() or [(None,)]
    if first is None:
        return
    whole = run.visits(run.lake.files(run.sessions, GreaterThanOrEqual("event_dt", first)))
    connection.execute(
        f"""
        delete from visits where user_id_hash in (select user_id_hash from unsure);
        delete from before where user_id_hash in (select user_id_hash from unsure);
        insert into visits
        select {_VISIT}, 1 as sign from {whole} where user_id_hash in (select user_id_hash from unsure)
        """
    )


def _retain(run: _Run, days: Sequence[date] | None) -> _Rows | None:
    visitors = run.lake.load(VISITORS)
    state, seen = made_from(visitors), made_from(run.current)
    as_of = _snapshot(state) if state is not None else None
    if state is None or (as_of is not None and run.sessions.snapshot_by_id(as_of) is None):
        # The next run of the visitors gives them a state that can be read.
        return None
    sources = {**state, **heads({VISITORS.full_name: visitors})}
    if days is None:
        if seen == sources:
            return None
        touched = _days_to_retain(run, visitors, seen, sources)
    else:
        touched = sorted(days)
    _list_days(run.connection, "touched", touched)
    run.connection.execute(f"create temp table staged as from {relation(run.current, RETENTION_DAILY, [])}")
    everybody = relation(visitors, VISITORS, run.lake.files(visitors))
    for part in _in_parts(run, as_of, touched):
        visits = run.visits_as_of(as_of, In("event_dt", part))
        run.connection.execute(f"insert into staged by name {_RETENTION_SQL.format(visits=visits, visitors=everybody)}")
    candidates = run.lake.files(run.current, In("event_dt", touched))
    told = sources if days is None else seen or {}
    return _Rows(candidates, "t.event_dt in (select event_dt from touched)", told)


def _days_to_retain(
    run: _Run,
    visitors: IcebergTable,
    seen: Sources | None,
    sources: Sources,
) -> list[date]:
    visits = _between(SILVER_SESSIONS, run.sessions, seen, sources)
    people = _between(VISITORS, visitors, seen, sources)
    as_of = _snapshot(sources)
    if visits is None or people is None:
        visited = run.lake.files(run.sessions, snapshot_id=as_of) if as_of is not None else []
        made = run.lake.files(run.current)
        return sorted(rows_by_day(SILVER_SESSIONS, visited) | rows_by_day(RETENTION_DAILY, made))
    came, went = _differing(run, visits)
    before, now = (
        f"(select user_id_hash, cohort_dt from {relation(visitors, VISITORS, files)})"
        for files in (people.removed, people.added)
    )
    run.connection.execute(f"create temp table moved as from {before} except from {now}")
    days = _dates(run, f"select event_dt from {came} union select event_dt from {went}")
    # A new visitor's visits are all among those that came. Of one whose first day has moved the others count anew.
    ((first,),) = run.connection.sql("select min(cohort_dt) from moved").fetchall()
    if first is not None:
        since = run.visits_as_of(as_of, GreaterThanOrEqual("event_dt", first))
        days |= _dates(run, f"select event_dt from {since} where user_id_hash in (select user_id_hash from moved)")
    return sorted(days)


def _dates(run: _Run, sql: str) -> set[date]:
    return {day for (day,) in run.connection.sql(f"select distinct event_dt from ({sql})").fetchall()}


def _list_days(connection: duckdb.DuckDBPyConnection, name: str, days: Iterable[date]) -> None:
    connection.execute(f"create temp table {name} as select unnest(?::date[]) as event_dt", [list(days)])


def _in_parts(run: _Run, as_of: int | None, days: Sequence[date]) -> Iterator[list[date]]:
    of_days = run.lake.files(run.sessions, In("event_dt", days), as_of) if as_of is not None else []
    return in_parts(days, rows_by_day(SILVER_SESSIONS, of_days), _VISITS_AT_ONCE)


def _snapshot(sources: Sources) -> int | None:
    """The snapshot of the visits that a record names."""
    found = sources.get(_SESSIONS)
    return int(found) if found is not None else None


def _between(declared: Table, current: IcebergTable, seen: Sources | None, sources: Sources) -> Changed | None:
    """Files that differ between the snapshots that two records name of a table; None if that can't be told."""
    if seen is None or declared.full_name not in seen:
        return None
    before, now = (int(found) if (found := s[declared.full_name]) is not None else None for s in (seen, sources))
    return changed_between(current, before, now)
