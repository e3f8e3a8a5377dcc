"""The history of the profiles: what each snapshot changed, and the SCD2 dimension that is the fold of these changes.

bronze.profile_changes and the moment of its last snapshot are one Iceberg transaction, so a snapshot is taken in once,
and one that is older than the last changes nothing. gold.dim_user is computed from the changes alone.

Belongs here: changes, the dimension, the ledger of looks. Does not belong here: reading sources, Dagster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

import pyarrow as pa
from pyiceberg.table import Table as IcebergTable

from chart_platform.contracts.tables import DIM_USER, PROFILE_CHANGES, PROFILE_SNAPSHOTS, Table
from chart_platform.lakehouse.changes import changed_since, heads, made_from, record
from chart_platform.lakehouse.duck import connect, duckdb_type, relation, rows
from chart_platform.lakehouse.lake import Change, Lake
from chart_platform.lakehouse.rewrite import in_order, replace_rows
from chart_platform.profiles import sources
from chart_platform.profiles.snapshots import ATTRIBUTES, COLUMNS, KEY, ProfilesRefused, Snapshot

Audit = Callable[[Table, pa.Table], None]
Outcome = Literal["changed", "same", "outdated", "refused", "unreachable"]

_AS_OF = "as_of"
_DIGEST = "digest"


@dataclass(frozen=True)
class Look:
    """What came of one snapshot, or of a source that gave none."""

    outcome: Outcome
    source: str
    as_of: datetime | None = None
    digest: str | None = None
    profiles: int = 0
    upserted: int = 0
    deleted: int = 0
    detail: str | None = None


def look(lake: Lake, audit: Audit) -> list[Look]:
    """Take in what the source has that is new, oldest first, and write down what came of it.

    A source that can't be reached or used changes nothing: that is a result, not an error. A file that is refused
    doesn't keep back a later one.
    """
    looks: list[Look] = []
    for offer in sources.offers(lake.settings, _last(lake, lake.load(PROFILE_CHANGES))[0]):
        try:
            looks.append(take_in(lake, audit, offer.read()))
        except sources.Unreachable as error:
            looks.append(Look("unreachable", offer.source, detail=str(error)))
        except ProfilesRefused as error:
            looks.append(Look("refused", offer.source, detail=str(error)))
    if looks:
        _write_down(lake, audit, looks)
    return looks


def _last(lake: Lake, changes: IcebergTable) -> tuple[datetime | None, str | None]:
    """Moment and digest of the last snapshot; when its record has expired, the moment of the last change."""
    seen = made_from(changes)
    if seen is not None:
        return datetime.fromisoformat(str(seen[_AS_OF])), str(seen[_DIGEST])
    connection = connect(lake.settings)
    known = relation(changes, PROFILE_CHANGES, lake.files(changes))
    ((newest,),) = connection.sql(f"select max(as_of) from {known}").fetchall()
    connection.close()
    return newest, None


def take_in(lake: Lake, audit: Audit, snapshot: Snapshot) -> Look:
    """Append to bronze.profile_changes what ``snapshot`` changes against the last one. Once, and only forward in time."""
    connection = connect(lake.settings)
    connection.register("given", snapshot.rows)
    told = Look("same", snapshot.source, snapshot.as_of, snapshot.digest, snapshot.rows.num_rows)
    if snapshot.ignored:
        told = replace(told, detail=f"ignored columns: {', '.join(snapshot.ignored)}")
    result = told

    def decide(current: IcebergTable) -> Change | None:
        nonlocal result
        last, digest = _last(lake, current)
        if last is not None and snapshot.as_of <= last:
            result = replace(told, outcome="same" if digest == told.digest else "outdated")
            return None
        known = relation(current, PROFILE_CHANGES, lake.files(current))
        added = rows(connection, _changes_sql(known, snapshot.as_of), PROFILE_CHANGES)
        if not told.profiles and added.num_rows:
            raise ProfilesRefused(
                f"{snapshot.source}: has no profiles at all, where {added.num_rows} stand. A source that is being filled "
                "looks so; nobody was closed."
            )
        audit(PROFILE_CHANGES, added)
        deleted = added["change"].to_pylist().count("delete")
        changes = added.num_rows - deleted
        result = replace(told, outcome="changed" if added.num_rows else "same", upserted=changes, deleted=deleted)
        summary = record({_AS_OF: snapshot.as_of.isoformat(), _DIGEST: told.digest})
        return Change(add=lake.write(current, in_order(added, PROFILE_CHANGES)), summary=summary)

    lake.commit(PROFILE_CHANGES, decide)
    connection.close()
    return result


def _changes_sql(known: str, as_of: datetime) -> str:
    nothing = ", ".join(f"cast(null as {kind}) as {name}" for name, kind in _kinds().items())
    return f"""
        with last as (
            select * from {known} qualify row_number() over (partition by {KEY} order by as_of desc) = 1
        ),
        standing as (select * from last where change = 'upsert')
        select g.{", g.".join(COLUMNS)}, 'upsert' as change, timestamp '{as_of}' as as_of, date '{as_of.date()}' as as_of_dt
        from given as g
        left join standing as s using ({KEY})
        where s.{KEY} is null or ({", ".join(f"g.{name}" for name in ATTRIBUTES)})
            is distinct from ({", ".join(f"s.{name}" for name in ATTRIBUTES)})
        union all by name
        select {KEY}, {nothing}, 'delete' as change, timestamp '{as_of}' as as_of, date '{as_of.date()}' as as_of_dt
        from standing where {KEY} not in (select {KEY} from given)
    """


def _kinds() -> dict[str, str]:
    return {name: duckdb_type(PROFILE_CHANGES.column(name).type) for name in COLUMNS if name != KEY}


def _write_down(lake: Lake, audit: Audit, looks: list[Look]) -> None:
    looked_at = sources.now()
    lines = [
        {
            "looked_at": looked_at,
            "looked_dt": looked_at.date(),
            "snapshot_hash": look.digest,
            **{name: value for name, value in asdict(look).items() if name != _DIGEST},
        }
        for look in looks
    ]
    ledger = pa.Table.from_pylist(lines, schema=PROFILE_SNAPSHOTS.arrow)
    audit(PROFILE_SNAPSHOTS, ledger)
    lake.commit(PROFILE_SNAPSHOTS, lambda current: Change(add=lake.write(current, ledger)))


def update_dimension(lake: Lake, audit: Audit, anew: bool = False) -> int:
    """Bring gold.dim_user up to date with the changes, or compute all of it ``anew``; the number of rows written."""
    connection = connect(lake.settings)
    written = 0

    def decide(current: IcebergTable) -> Change | None:
        nonlocal written
        changes = lake.load(PROFILE_CHANGES)
        seen, now = made_from(current), heads({PROFILE_CHANGES.full_name: changes})
        if seen == now and not anew:
            return None
        changed = None
        if seen is not None and not anew:
            before = seen[PROFILE_CHANGES.full_name]
            changed = changed_since(changes, int(before) if before is not None else None)
        files = lake.files(changes)
        touched = relation(changes, PROFILE_CHANGES, files if changed is None else changed.files)
        connection.execute(f"create or replace temp table touched as select distinct {KEY} from {touched}")
        fresh = rows(connection, _dimension_sql(relation(changes, PROFILE_CHANGES, files)), DIM_USER)
        audit(DIM_USER, fresh)
        written = fresh.num_rows
        doomed = "true" if changed is None else f"t.{KEY} in (select {KEY} from touched)"
        return replace_rows(connection, current, DIM_USER, lake.files(current), doomed, fresh, summary=record(now))

    lake.commit(DIM_USER, decide)
    connection.close()
    return written


def _dimension_sql(changes: str) -> str:
    return f"""
        with ordered as (
            select c.*, lead(c.as_of) over (partition by c.{KEY} order by c.as_of) as next_at
            from {changes} as c semi join touched using ({KEY})
        )
        select {", ".join(COLUMNS)}, as_of as valid_from, next_at as valid_to, next_at is null as is_current
        from ordered where change = 'upsert'
    """


@dataclass(frozen=True)
class State:
    """How far the profiles can be relied on. ``as_of`` is the moment that they speak of, naive UTC."""

    name: Literal["fresh", "stale", "absent"]
    as_of: datetime | None
    profiles: int

    @property
    def advice(self) -> str:
        return {
            "fresh": "The profiles are as new as they should be.",
            "stale": "The profiles are older than CHART_PROFILES_STALE_HOURS; the last good state is in use.",
            "absent": "No profiles have ever been taken in; set CHART_PROFILES_DSN or fill CHART_PROFILES_DROP.",
        }[self.name]


def state(lake: Lake, now: datetime | None = None) -> State:
    """Fresh, stale or absent, by the newest snapshot that was good."""
    current = lake.load(PROFILE_SNAPSHOTS)
    connection = connect(lake.settings)
    found = connection.sql(
        f"select as_of, profiles from {relation(current, PROFILE_SNAPSHOTS, lake.files(current))} "
        "where outcome in ('changed', 'same') order by as_of desc, looked_at desc limit 1"
    ).fetchall()
    connection.close()
    if not found:
        return State("absent", None, 0)
    as_of, profiles = found[0]
    old = (now or sources.now()) - as_of > timedelta(hours=lake.settings.profiles_stale_hours)
    return State("stale" if old else "fresh", as_of, profiles)
