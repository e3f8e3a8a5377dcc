"""What a dbt run works on: the events of every visit that new messages touch, whole, and nothing else.

Sessions are recomputed from all of their events, so a run must know how far each touched visit reaches. A *chain* is a
run of events of one session key with no silence over :sql:`session_gap`; visits never cross chains, so complete chains
give the same visits however little else is read. Incremental runs find the chains' ends in silver.sessions, rebuilds in
silver.events.

Belongs here: the ``scope`` schema that the dbt models read. Does not belong here: the models (dbt_project), commits
(``model``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import groupby
from pathlib import Path

import duckdb
from pyiceberg.expressions import (
    AlwaysFalse,
    AlwaysTrue,
    And,
    BooleanExpression,
    EqualTo,
    GreaterThanOrEqual,
    In,
    Or,
)
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table as IcebergTable

from chart_platform.contracts.tables import (
    BRONZE_EVENTS,
    DIM_USER,
    FACT_FUNNEL,
    SILVER_EVENTS,
    SILVER_SESSIONS,
    SILVER_USER_SEGMENTS,
    Table,
)
from chart_platform.lakehouse.changes import changed_since, made_from
from chart_platform.lakehouse.duck import local_path, relation
from chart_platform.lakehouse.lake import Lake
from chart_platform.lakehouse.progress import Progress, progress_of
from chart_platform.transform.segments import LONGEST, SegmentRule
from chart_platform.transform.silver import DISPLACED_KEY, unseen

_MACROS = (Path(__file__).parent / "session_macros.sql").read_text()
SILVER_SNAPSHOT_KEY = "chart.silver-events-snapshot"
_EVENT_COLUMNS = (
    "event_id, event_type, ts, user_id_hash, geo_country, page_url, referrer, ab_variant, experiment_keys, "
    "device, browser, os, utm_source, utm_medium, utm_campaign, utm_term, utm_content, page_view_id, "
    "chart_action, chart_control_id, chart_control_value, product_ids, "
    "affiliate_link_id, affiliate_target, payout_cents, click_id, affiliate_network, affiliate_position, "
    "affiliate_context, event_dt"
)
_KEY = "session_key(session_id, user_id_hash) as session_key"
_KEYED_EVENT = f"{_KEY}, {_EVENT_COLUMNS}"
_MANY_CHAINS = 250_000
"""Above so many the events are read again where they are needed: a copy of them all would not fit in memory."""
_SLICE_EVENTS = 1_000_000
"""Then visits are put together in slices of whole hours with about so many events, as their groups would not fit either:
of 10 million events, visits cost 66 CPU-seconds in one piece."""
_FOR_GOOD = "date '9999-01-01'"
_ONE_DAY, _ONE_HOUR = timedelta(days=1), timedelta(hours=1)

Heads = Mapping[str, IcebergTable]


class Scope:
    """Builds the ``scope`` schema in a DuckDB connection from pinned table states (``heads`` by full name)."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, lake: Lake, heads: Heads, rules: Sequence[SegmentRule]
    ) -> None:
        self._connection = connection
        self._lake = lake
        self._heads = heads
        self._of_profiles = [rule for rule in rules if rule.of_profiles]
        settings = lake.settings
        gaps = {
            "timeout": f"interval {settings.session_timeout_minutes} minute",
            "cap": f"interval {settings.session_cap_hours} hour",
        }
        connection.execute("create schema if not exists scope")
        connection.execute(_MACROS.format(**gaps))
        connection.execute(
            f"create or replace table scope.settings as select {gaps['timeout']} as session_timeout, "
            f"{gaps['cap']} as session_cap, $segment as comparison_path_segment",
            {"segment": settings.comparison_path_segment},
        )

    def incremental(self, since: Progress | None, until: Progress, silver_snapshots: Iterable[int]) -> None:
        """Scope of the messages in ``[since, until)`` of bronze, and of rows that silver.events replaced meanwhile."""
        messages = unseen(self._lake, self._heads[BRONZE_EVENTS.full_name], since, until)
        self._touch(
            "select session_key(nullif(session.session_id, ''), nullif(\"user\".user_id_hash, '')) as session_key, ts, event_id "
            f"from {messages.relation}"
        )
        self._touch_displaced(silver_snapshots)
        self._find_ends(from_events=False)
        self._fetch_events()
        days = ", ".join(f"(date '{day}')" for day in self._event_days()) or "(null)"
        self._connection.execute(f"create or replace table scope.days as select * from (values {days}) as t (event_dt)")
        self._doom(
            "exists (select 1 from scope.extents as x where x.session_key = session_key_of(t.session_id) "
            "and t.session_start_ts between x.low and x.high)",
            "(t.event_id, t.event_dt) in (select (event_id, event_dt) from scope.events)",
        )
        self._evaluations(since.day if since is not None else self._judged_until(), until.day)

    def rebuild(self, day: date) -> None:
        """Scope of a whole event day: every visit that has an event in it."""
        self._connection.execute(f"create or replace table scope.days as select date '{day}' as event_dt")
        events = self._read_events(EqualTo("event_dt", day))
        self._touch(f"select session_key(session_id, user_id_hash) as session_key, ts, event_id from {events}")
        self._find_ends(from_events=True)
        self._fetch_events()
        in_days = "t.event_dt in (select event_dt from scope.days)"
        self._doom(in_days, in_days)
        self._evaluations_of_day(day, self._judged_until())

    def _touch(self, places: str) -> None:
        """Make ``scope.touched``: key, time and id of what happened. A view, as it has a row a message."""
        self._connection.execute(
            f"""
            create or replace table scope.displaced (session_key varchar, ts timestamp, event_id varchar);
            create or replace view scope.touched as {places} union all select * from scope.displaced
            """
        )

    def _touch_displaced(self, silver_snapshots: Iterable[int]) -> None:
        """The places that events have left since."""
        silver = self._heads[SILVER_EVENTS.full_name]
        for snapshot_id in silver_snapshots:
            snapshot = silver.snapshot_by_id(snapshot_id)
            assert snapshot is not None and snapshot.summary is not None
            if displaced := snapshot.summary.additional_properties.get(DISPLACED_KEY):
                self._connection.executemany(
                    "insert into scope.displaced select session_key($1, $2), epoch_ms($3::bigint), null",
                    json.loads(displaced),
                )

    def _find_ends(self, from_events: bool) -> None:
        """Make ``scope.extents``: per touched chain its key, first and last time (over-inclusive, never short)."""
        connection = self._connection
        connection.execute(
            """
            create or replace table scope.extents as
            with spans as (
                select session_key, min(ts) as low, max(ts) as high
                from scope.touched where session_key is not null group by session_key
            ),

            -- Nearly every key is one chain as a whole; only the others need their moments in order.
            moments as (
                select distinct session_key, ts from scope.touched
                semi join (from spans where high - low > session_gap(session_key)) using (session_key)
            ),

            gaps as (
                select
                    session_key,
                    ts,
                    coalesce(ts - lag(ts) over w > session_gap(session_key), false)::int as starts_chain
                from moments
                window w as (partition by session_key order by ts)
            ),

            chains as (
                select session_key, ts, sum(starts_chain) over (partition by session_key order by ts) as chain from gaps
            )

            select * from spans where high - low <= session_gap(session_key)
            union all
            select session_key, min(ts) as low, max(ts) as high from chains group by session_key, chain
            """
        )
        connection.execute("create or replace table scope.known (session_key varchar, low timestamp, high timestamp)")
        reach = "interval 0 hour" if from_events else "(select session_cap from scope.settings)"
        scanned: set[date] = set()
        while True:
            near = self._steps(
                f"low - session_gap(session_key) - {reach}", "high + session_gap(session_key)", "scope.extents", "day"
            )
            wanted = sorted({moment.date() for moment in near} - scanned)
            if not wanted:
                return
            scanned |= set(wanted)
            self._scan_known(wanted, from_events)
            while self._grow():
                pass

    def _steps(self, low: str, high: str, source: str, unit: str) -> set[datetime]:
        """Every day or hour that a row of ``source`` reaches into."""
        step = {"day": _ONE_DAY, "hour": _ONE_HOUR}[unit]
        found: set[datetime] = set()
        spans = f"select distinct date_trunc('{unit}', {low}), date_trunc('{unit}', {high}) from {source}"
        for moment, last in self._connection.sql(spans).fetchall():
            while moment <= last:
                found.add(moment)
                moment += step
        return found

    def _event_days(self) -> list[date]:
        """Every day that an event of the scope can have."""
        days = self._steps("low", "high", "scope.extents", "day") | self._steps("ts", "ts", "scope.anonymous", "day")
        return sorted(day.date() for day in days)

    def _scan_known(self, days: Sequence[date], from_events: bool) -> None:
        if from_events:
            source = self._read_events(In("event_dt", list(days)))
            columns = "session_key(k.session_id, k.user_id_hash) as session_key, k.ts as low, k.ts as high"
        else:
            source = self._read(SILVER_SESSIONS, In("event_dt", list(days)))
            columns = "session_key_of(k.session_id) as session_key, k.session_start_ts as low, k.session_end_ts as high"
        self._connection.execute(
            f"""
            insert into scope.known
            select session_key, min(low), max(high) from (select {columns} from {source} as k)
            where session_key in (select session_key from scope.extents)
            group by session_key, {"date_trunc('hour', low)" if from_events else "low"}
            """
        )

    def _grow(self) -> bool:
        """Let every extent take in what lies within its key's gap. True if any grew."""
        grown = self._connection.execute(
            """
            create or replace temp table grown as
            select x.session_key, x.low, x.high, min(k.low) as new_low, max(k.high) as new_high
            from scope.extents as x
            join scope.known as k
                on k.session_key = x.session_key
                and k.high >= x.low - session_gap(x.session_key)
                and k.low <= x.high + session_gap(x.session_key)
            group by all
            having min(k.low) < x.low or max(k.high) > x.high;
            select count(*) from grown
            """
        ).fetchall()[0][0]
        self._connection.execute(
            """
            update scope.extents as x
            set low = least(x.low, g.new_low), high = greatest(x.high, g.new_high)
            from grown as g
            where x.session_key = g.session_key and x.low = g.low and x.high = g.high
            """
        )
        return bool(grown)

    def _fetch_events(self) -> None:
        """Make ``scope.events``: all events of the chains, and the touched ones that have neither visit nor visitor."""
        self._connection.execute(
            """
            create or replace table scope.anonymous as
            select event_id, ts from scope.touched where session_key is null and event_id is not null
            """
        )
        hours = self._steps("low", "high", "scope.extents", "hour") | self._steps("ts", "ts", "scope.anonymous", "hour")
        of_day: dict[date, list[str]] = {}
        for hour in sorted(hours):
            of_day.setdefault(hour.date(), []).append(f"{hour.hour:02d}")
        alike: dict[tuple[str, ...], list[date]] = {}
        for day, found in of_day.items():
            alike.setdefault(tuple(found), []).append(day)
        clauses = [And(In("event_dt", days), In("event_hour", found)) for found, days in alike.items()]
        files = self._lake.files(self._heads[SILVER_EVENTS.full_name], _any(clauses)) if clauses else []
        ((chains,),) = self._connection.sql("select count(*) from scope.extents").fetchall()
        slices = _slices(files) if chains > _MANY_CHAINS else [files]
        starts = ", ".join(f"({n}, {_starts_at(slice)})" for n, slice in enumerate(slices))
        self._connection.execute(
            f"create or replace table scope.slices as select * from (values {starts}) as t (slice, starts_at)"
        )
        if chains <= _MANY_CHAINS:
            self._connection.execute(
                f"create or replace table scope.events as select *, 0 as slice from {self._in_scope(files)}"
            )
            return
        whole = self._whole(files)
        parts = [
            f"select *, {n} as slice from {part}"
            for n, slice in enumerate(slices)
            for part in (
                f"(select {_KEYED_EVENT} from {self._relation(SILVER_EVENTS, [file for file in slice if file in whole])})",
                self._in_scope([file for file in slice if file not in whole]),
            )
        ]
        self._connection.execute(f"create or replace view scope.events as {' union all '.join(parts)}")

    def _in_scope(self, files: Sequence[DataFile], columns: str = _KEYED_EVENT, filename: bool = False) -> str:
        source = relation(self._heads[SILVER_EVENTS.full_name], SILVER_EVENTS, files, filename)
        return f"""
            (
                with keyed as not materialized (select {columns} from {source})

                select k.* from keyed as k
                semi join scope.extents as x on x.session_key = k.session_key and k.ts between x.low and x.high
                union all
                select k.* from keyed as k
                where k.session_key is null and k.event_id in (select event_id from scope.anonymous)
            )
        """

    def _whole(self, files: Sequence[DataFile]) -> set[DataFile]:
        """Those of which every event is in scope: each model that reads them is spared the look for its chain."""
        columns = f"{_KEY}, ts, event_id, filename"
        found = self._connection.sql(
            f"select filename, count(*) from {self._in_scope(files, columns, filename=True)} group by filename"
        ).fetchall()
        rows = dict(found)
        return {file for file in files if rows.get(local_path(file.file_path)) == file.record_count}

    def _relation(self, declared: Table, files: Sequence[DataFile]) -> str:
        return relation(self._heads[declared.full_name], declared, files)

    def _read(self, declared: Table, row_filter: BooleanExpression | None = None) -> str:
        return self._relation(declared, self._lake.files(self._heads[declared.full_name], row_filter))

    def _read_events(self, row_filter: BooleanExpression) -> str:
        return self._read(SILVER_EVENTS, row_filter)

    def _doom(self, sessions: str, events: str) -> None:
        """Say which existing rows the run's results replace."""
        self.doomed = {
            **dict.fromkeys(
                ("gold.fact_page_views", "gold.fact_chart_interactions", "gold.fact_affiliate_clicks"), events
            ),
            "silver.sessions": sessions,
            "gold.fact_funnel": f"({sessions}) or (t.session_id, t.session_start_ts) in (select (session_id, session_start_ts) from intermediate.int_resegmented_visits)",
            "silver.user_segments": "t.user_id_hash in (select user_id_hash from scope.judged)",
        }

    def _judged_until(self) -> date | None:
        judged = progress_of(self._heads[SILVER_USER_SEGMENTS.full_name])
        return judged.day if judged is not None else None

    def _evaluations(self, evaluated_until: date | None, horizon: date) -> None:
        """Make ``scope.judged``: visitors, and the days on which their segment membership must be judged (again).

        A visit of day d counts for the days d+1 .. d+30. When the horizon (the newest ingestion day) moves, everyone
        whose features can differ from one day to the next is judged for the new days: who visited in the window, and of
        the others whose profile changes or whose rule begins on one of them. Besides, who has another profile than the
        segments were made from is judged for the days that this concerns.
        """
        judged = [
            f"""
            -- A visit counts for the day it began on, which may be before the day of the event that names its visitor.
            select user_id_hash, first_day + 1 as first_on, least(last_day + {LONGEST.days}, date '{horizon}') as last_on
            from (
                select e.user_id_hash, cast(x.low as date) as first_day, e.event_dt as last_day
                from scope.events as e
                join (from scope.extents where low < date '{horizon}') as x
                    on x.session_key = e.session_key and e.ts between x.low and x.high
                union all
                select user_id_hash, event_dt as first_day, event_dt as last_day from {self._doomed_visits(horizon)}
            )
            """
        ]
        if self._of_profiles:
            judged.append(self._other_profiles(horizon))
        if evaluated_until is not None and evaluated_until < horizon:
            judged.append(self._moved(evaluated_until + _ONE_DAY, horizon))
        self._judge(judged, horizon)

    def _evaluations_of_day(self, day: date, horizon: date | None) -> None:
        """Every visitor of the window before the day, those with a profile on it, and those who were in a segment on it."""
        judged = []
        if horizon is not None and day <= horizon:
            on_day = f"date '{day}' as first_on, date '{day}' as last_on"
            judged = [
                f"select user_id_hash, {on_day} from {self._recent_sessions(day - LONGEST, day)}",
                f"select user_id_hash, {on_day} from {self._read(SILVER_USER_SEGMENTS)} as r "
                f"where valid_from <= timestamp '{day}' and (valid_to is null or valid_to > timestamp '{day}')",
            ]
            if self._of_profiles:
                profiles = self._profiles(self._lake.files(self._heads[DIM_USER.full_name]))
                judged.append(
                    f"select user_id_hash, {on_day} from {profiles} where date '{day}' between first_on and last_on"
                )
        self._judge(judged, horizon or day)

    def _moved(self, first: date, horizon: date) -> str:
        """Who is to be judged for the new days from ``first`` on."""
        names = ", ".join(f"'{name}'" for name in sorted({rule.name for rule in self._of_profiles})) or "''"
        users = [
            f"select user_id_hash from {self._recent_sessions(first - _ONE_DAY - LONGEST)}",
            # A membership that neither visits nor a profile bear out any more, as of a rule that is gone, ends.
            f"select user_id_hash from {self._read(SILVER_USER_SEGMENTS)} as r "
            f"where valid_to is null and segment_key not in ({names})",
        ]
        if self._of_profiles:
            profiles = self._profiles(self._lake.files(self._heads[DIM_USER.full_name]))
            new_days = f"between date '{first}' and date '{horizon}'"
            begins = any(first <= rule.valid_from <= horizon for rule in self._of_profiles)
            users.append(
                f"select user_id_hash from {profiles} where first_on <= date '{horizon}' and last_on >= date '{first}'"
                if begins
                else f"select user_id_hash from {profiles} where first_on {new_days} or last_on + 1 {new_days}"
            )
        return f"select user_id_hash, date '{first}' as first_on, date '{horizon}' as last_on from ({' union '.join(users)})"

    def _profiles(self, files: Sequence[DataFile]) -> str:
        """Rows of gold.dim_user as the days, first and last, that begin with them. Some states never see a midnight."""
        first_midnight = "cast({} + interval 1 day - interval 1 microsecond as date)"
        return f"""
            (
                select user_id_hash, crm_tier, {first_midnight.format("valid_from")} as first_on,
                    coalesce({first_midnight.format("valid_to")} - 1, {_FOR_GOOD}) as last_on
                from {self._relation(DIM_USER, files)}
                where coalesce({first_midnight.format("valid_to")}, {_FOR_GOOD}) > {first_midnight.format("valid_from")}
            )
        """

    def _other_profiles(self, horizon: date) -> str:
        """Users and the days on which gold.dim_user says of them other than when the segments were made."""
        dimension = self._heads[DIM_USER.full_name]
        seen = (made_from(self._heads[SILVER_USER_SEGMENTS.full_name]) or {}).get(DIM_USER.full_name)
        changed = changed_since(dimension, int(seen) if seen is not None else None)
        begin = min(rule.valid_from for rule in self._of_profiles)
        span = f"greatest(first_on, date '{begin}') as first_on, least(last_on, date '{horizon}') as last_on"
        if changed is None:
            # What the segments were made from has expired: whoever has a profile, or a segment by one, is judged anew.
            names = ", ".join(f"'{rule.name}'" for rule in self._of_profiles)
            return f"""
                select user_id_hash, {span} from {self._profiles(self._lake.files(dimension))}
                union all
                select user_id_hash, cast(valid_from as date) as first_on, date '{horizon}' as last_on
                from {self._read(SILVER_USER_SEGMENTS)} where segment_key in ({names})
            """
        self._connection.execute(
            f"""
            create or replace temp table before as from {self._profiles(changed.removed)};
            create or replace temp table after as from {self._profiles(changed.added)}
            """
        )
        return f"""
            select user_id_hash, {span}
            from (
                select user_id_hash, first_on,
                    coalesce(lead(first_on) over (partition by user_id_hash order by first_on) - 1, {_FOR_GOOD}) as last_on
                from (
                    -- What stands in both was but copied to another file.
                    select distinct user_id_hash, unnest([first_on, last_on + 1]) as first_on
                    from ((from before except from after) union all (from after except from before))
                )
            ) as s
            where (select (true, crm_tier) from before as b where b.user_id_hash = s.user_id_hash and s.first_on between b.first_on and b.last_on)
                is distinct from
                (select (true, crm_tier) from after as a where a.user_id_hash = s.user_id_hash and s.first_on between a.first_on and a.last_on)
        """

    def _doomed_visits(self, before: date) -> str:
        """Visits that the run replaces: their visitors may lose a segment even where no event of theirs is left.

        The funnel tells of visits that a run cut short has replaced in silver.sessions, but not judged.
        """
        days = [day for day in self._event_days() if day < before]
        selects = [
            f"select t.user_id_hash, t.event_dt from {self._read(declared, In('event_dt', days)) if days else self._relation(declared, [])} as t "
            f"where t.event_dt < date '{before}' and {self.doomed['silver.sessions']}"
            for declared in (SILVER_SESSIONS, FACT_FUNNEL)
        ]
        return f"({' union '.join(selects)})"

    def _judge(self, asked: Sequence[str], horizon: date) -> None:
        """Make what the models judge and compare by; ``asked`` are queries of visitors with a first and last day each."""
        everyone = " union all ".join(asked) or (
            "select cast(null as varchar) as user_id_hash, cast(null as date) as first_on, cast(null as date) as last_on"
        )
        self._connection.execute(
            f"""
            create or replace table scope.judged as
            with asked as (
                select distinct user_id_hash, first_on, last_on from ({everyone})
                where user_id_hash is not null and first_on <= last_on
            ),

            cut as (
                select
                    *,
                    coalesce(first_on > 1 + max(last_on) over (
                        partition by user_id_hash order by first_on, last_on rows between unbounded preceding and 1 preceding
                    ), true)::int as begins
                from asked
            ),

            numbered as (
                select
                    * exclude (begins),
                    sum(begins) over (
                        partition by user_id_hash order by first_on, last_on rows between unbounded preceding and current row
                    ) as span
                from cut
            )

            select user_id_hash, min(first_on) as first_on, max(last_on) as last_on from numbered group by user_id_hash, span;

            create or replace view scope.evaluations as
            select user_id_hash, first_on + unnest(range(last_on - first_on + 1))::int as evaluated_on from scope.judged;

            create or replace table scope.horizon as select date '{horizon}' as horizon;

            create or replace table scope.old_segments as
            select * from {self._read(SILVER_USER_SEGMENTS)} where user_id_hash in (select user_id_hash from scope.judged)
            """
        )
        known = self._lake.files(self._heads[DIM_USER.full_name]) if self._of_profiles else []
        self._connection.execute(
            f"""
            create or replace table scope.profiles as
            select * from {self._profiles(known)} where user_id_hash in (select user_id_hash from scope.judged)
            """
        )
        found = self._connection.sql(
            "select distinct first_on + unnest(range(last_on - first_on + 1))::int "
            "from (select distinct first_on, last_on from scope.judged) order by 1"
        ).fetchall()
        self.judged_days = [day for (day,) in found]
        self._connection.execute(
            f"""
            create or replace table scope.judged_visits as
            select t.session_id, t.session_start_ts, t.user_id_hash, t.segments, t.event_dt
            from {self._read(FACT_FUNNEL, self.reads(FACT_FUNNEL))} as t
            semi join scope.judged as j on t.user_id_hash = j.user_id_hash and t.event_dt between j.first_on and j.last_on
            -- A row that the run replaces must not come back for its segments' sake.
            where not coalesce({self.doomed["silver.sessions"]}, false)
            """
        )

    def reads(self, declared: Table) -> BooleanExpression:
        """What the models read of a table as it was: of its days only those that this run judges, or judges by."""
        if declared is SILVER_USER_SEGMENTS:
            return AlwaysTrue()
        if not self.judged_days:
            return AlwaysFalse()
        if declared is FACT_FUNNEL:
            return In("event_dt", self.judged_days)
        before = {day - timedelta(days=n) for day in self.judged_days for n in range(1, LONGEST.days + 1)}
        return In("event_dt", sorted(before))

    def _recent_sessions(self, first: date, before: date | None = None) -> str:
        source = self._read(SILVER_SESSIONS, GreaterThanOrEqual("event_dt", first))
        until = f"and event_dt < date '{before}'" if before else ""
        return f"(select * from {source} where event_dt >= date '{first}' {until})"


def _slices(files: Sequence[DataFile]) -> list[list[DataFile]]:
    """Files of silver.events in order of their hours, in parts of whole hours with about :data:`_SLICE_EVENTS` events."""
    slices: list[list[DataFile]] = [[]]
    for _, of_hour in groupby(sorted(files, key=_hour), key=_hour):
        hour = list(of_hour)
        if slices[-1] and _events(slices[-1]) + _events(hour) > _SLICE_EVENTS:
            slices.append([])
        slices[-1] += hour
    return slices


def _hour(file: DataFile) -> tuple[int, str]:
    """Event day, as days since 1970, and hour of a file of silver.events."""
    day, hour, *_ = file.partition
    return day, hour


def _events(files: Iterable[DataFile]) -> int:
    return sum(file.record_count for file in files)


def _starts_at(slice: Sequence[DataFile]) -> str:
    """SQL of the moment at which the first hour of a slice begins; null without any file."""
    if not slice:
        return "cast(null as timestamp)"
    day, hour = _hour(slice[0])
    return f"timestamp '{datetime(1970, 1, 1) + timedelta(days=day, hours=int(hour))}'"


def _any(clauses: Sequence[BooleanExpression]) -> BooleanExpression:
    """Or of the clauses as a balanced tree: PyIceberg's visitors recurse, and a month of hours would overflow a chain."""
    if len(clauses) == 1:
        return clauses[0]
    middle = len(clauses) // 2
    return Or(_any(clauses[:middle]), _any(clauses[middle:]))
