"""The tables of experiments, each following those before it at the cost of what changed, or made again.

exposures (who saw which variant first) → visitor_days (what they did) → sums (what a day adds over visitors) → results.
Each step records the snapshots it was made from and compares rows, so late events, corrected visits and an edited registry
reach exactly what they touch; all numbers on the way are whole, so a rebuild gives the same rows to the last bit.

Belongs here: which rows are made again, and committing them. Does not belong here: the rows (the ``.sql`` files and
``results``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
from pyiceberg.expressions import In

from chart_platform.contracts.tables import (
    EXPERIMENT_EXPOSURES,
    EXPERIMENT_RESULTS,
    EXPERIMENT_SUMS,
    EXPERIMENT_VISITOR_DAYS,
    FACT_AFFILIATE_CLICKS,
    FACT_CHART_INTERACTIONS,
    FACT_FUNNEL,
    SILVER_EVENTS,
    SILVER_SESSIONS,
    Table,
)
from chart_platform.experiments.follow import Audit, Follower, Fresh, between
from chart_platform.experiments.metrics import COUNTS, METRICS, Metric
from chart_platform.experiments.registry import PAGE, Registry
from chart_platform.experiments.results import Conclusion, conclude, rows_of, totals_by_day
from chart_platform.experiments.statistics import PRODUCTS
from chart_platform.lakehouse.changes import Made
from chart_platform.lakehouse.duck import connect, quote, relation
from chart_platform.lakehouse.lake import Lake

_HERE = Path(__file__).parent
_SEEN, _EXPOSURES, _VISITOR_DAYS, _SUMS = (
    (_HERE / f"{name}.sql").read_text() for name in ("seen", "exposures", "visitor_days", "sums")
)
_ALL_COUNTS = (*COUNTS, *(f"pre_{name}" for name in COUNTS))
_ONE_DAY, _FOREVER = timedelta(days=1), date(9999, 12, 31)

TABLES: tuple[Table, ...] = (EXPERIMENT_EXPOSURES, EXPERIMENT_VISITOR_DAYS, EXPERIMENT_SUMS, EXPERIMENT_RESULTS)


def update(lake: Lake, audit: Audit, registry: Registry, days: Sequence[date] | None = None) -> dict[str, Made]:
    """Bring all four tables up to date; with ``days`` (UTC), make them again for these, and what follows from them.

    Returns what was written, by full table name.

    Raises:
        ContractBreach: the rows break a table's contract. Of that table and those after it nothing was committed.
    """
    steps = (update_exposures, update_visitor_days, update_sums, update_results)
    return {table.full_name: step(lake, audit, registry, days) for table, step in zip(TABLES, steps, strict=True)}


def conclusions(lake: Lake, registry: Registry) -> list[Conclusion]:
    """What each experiment says as of the end of its last day, from gold.experiment_sums as it is, by key."""
    current = lake.load(EXPERIMENT_SUMS)
    connection = connect(lake.settings)
    found = connection.sql(
        f"from {relation(current, EXPERIMENT_SUMS, lake.files(current))} order by {_BY_DAY}"
    ).to_arrow_table()
    connection.close()
    every = (list(conclude(registry, key, by_day)) for key, by_day in totals_by_day(found).items())
    return [of_experiment[-1] for of_experiment in every if of_experiment]


_BY_DAY = "experiment_key, event_dt, metric, variant"


def _windows(registry: Registry) -> dict[str, str]:
    return {key: experiment.window_digest for key, experiment in registry.experiments.items()}


def _make_windows(follower: Follower, registry: Registry) -> None:
    follower.connection.execute(
        "create or replace temp table windows (experiment_key varchar, start_ts timestamp, end_ts timestamp)"
    )
    if registry.experiments:
        rows = [(key, *experiment.window) for key, experiment in registry.experiments.items()]
        follower.connection.executemany("insert into windows values (?, ?, ?)", rows)


_TOLD = "user_id_hash, ts, ab_variant, experiment_keys"
_AT_EXPOSURE = "user_id_hash, session_id, session_start_ts, session_end_ts, device, geo_country, channel"


def update_exposures(lake: Lake, audit: Audit, registry: Registry, days: Sequence[date] | None = None) -> Made:
    """Bring gold.experiment_exposures up to date; with ``days``, decide again who was exposed first on these."""
    follower = Follower(lake, audit, EXPERIMENT_EXPOSURES, (SILVER_EVENTS, SILVER_SESSIONS), _windows(registry))
    execute = follower.connection.execute

    def compute(run: Follower) -> Fresh:
        _make_windows(run, registry)
        before = run.rows(EXPERIMENT_EXPOSURES)
        _find_anew(run, before, days or ())
        _see(run)
        visited = run.different(SILVER_SESSIONS, _AT_EXPOSURE)
        execute(
            f"""
            create or replace temp table touched as
            select user_id_hash from fresh union select user_id_hash from {visited} where user_id_hash is not null;
            create or replace temp table old as
            select o.*, {run.whole} or o.experiment_key in (from anew_keys) or o.user_id_hash in (from anew_users) as is_anew
            from {before} as o
            where is_anew or o.user_id_hash in (from touched)
            """
        )
        ((first, last),) = execute(
            "select cast(min(ts) as date), cast(max(ts) as date) from (select first_ts as ts from fresh "
            "union all select first_exposure_ts from old where not is_anew)"
        ).fetchall()
        names = ", ".join(EXPERIMENT_EXPOSURES.arrow.names)
        # The visit of an exposure may have begun the day before.
        sql = _EXPOSURES.format(sessions=run.rows(SILVER_SESSIONS, between(first and first - _ONE_DAY, last)))
        # Most visitors who come again are as they were: their rows, in the files of other days, stay.
        execute(
            f"""
            create or replace temp table decided as {sql};
            create or replace temp table staged as select {names} from decided except select {names} from old;
            create or replace temp table replaced as select {names} from old except select {names} from decided
            """
        )
        found = execute("select distinct event_dt from replaced").fetchall()
        doomed = "(t.experiment_key, t.user_id_hash) in (select (experiment_key, user_id_hash) from replaced)"
        return Fresh("staged", doomed, In("event_dt", [day for (day,) in found]))

    return follower.run(compute, days is not None)


def _find_anew(run: Follower, before: str, days: Sequence[date]) -> None:
    """Make `anew_keys` and `anew_users`: experiments and visitors of whom the exposures known so far count no more."""
    _listed(run, "again", days)
    run.connection.execute(
        "create or replace temp table anew_keys as select unnest($parts) as experiment_key",
        {"parts": sorted(run.changed_parts)},
    )
    run.connection.execute(
        f"""
        create or replace temp table anew_users as
        -- What decided an exposure and is there no more: only all of the visitor's events tell what decides it now.
        select o.user_id_hash
        from {before} as o
        inner join {run.gone(SILVER_EVENTS, _TOLD)} as g
            on o.user_id_hash = g.user_id_hash and (o.first_exposure_ts = g.ts or o.crossover_ts = g.ts)
        union
        select user_id_hash from {before} where event_dt in (from again)
        union
        select user_id_hash from {run.rows(SILVER_EVENTS, In("event_dt", list(days)))}
        where event_dt in (from again) and user_id_hash is not null
        """
    )


def _see(run: Follower) -> None:
    """Make `fresh`: of events that came who saw what, and of what is made anew, of all events."""
    if run.whole:
        sights = [_seen(run.rows(SILVER_EVENTS))]
    else:
        sights = [_seen(run.new(SILVER_EVENTS, _TOLD))]
        if run.changed_parts:
            sights.append(f"from ({_seen(run.rows(SILVER_EVENTS))}) where experiment_key in (from anew_keys)")
        if run.connection.execute("select exists (from anew_users)").fetchall() == [(True,)]:
            sights.append(_seen(f"(from {run.rows(SILVER_EVENTS)} where user_id_hash in (from anew_users))"))
    run.connection.execute(f"create or replace temp table fresh as {' union all '.join(f'({s})' for s in sights)}")


def _seen(events: str) -> str:
    return _SEEN.format(events=events, page=PAGE)


def _listed(run: Follower, name: str, days: Sequence[date]) -> None:
    run.connection.execute(f"create or replace temp table {name} (event_dt date)")
    if days:
        run.connection.executemany(f"insert into {name} values (?)", [(day,) for day in days])


_VISITED = {
    SILVER_SESSIONS: "user_id_hash, event_dt, session_id, session_start_ts, session_end_ts, affiliate_clicks, "
    "chart_interactions, payout_cents",
    FACT_FUNNEL: "user_id_hash, event_dt, session_id, session_start_ts, comparison_ts, click_ts",
    FACT_AFFILIATE_CLICKS: "user_id_hash, event_dt, session_id, ts, payout_cents",
    FACT_CHART_INTERACTIONS: "user_id_hash, event_dt, session_id, ts",
}
"""What the counts of a visitor's day are made from."""


def _days_of_visit(table: Table) -> str:
    """SQL of the days that the visit of a row can have begun on: facts of a visit may be on the day after."""
    return "event_dt" if table in (SILVER_SESSIONS, FACT_FUNNEL) else "unnest([event_dt, event_dt - 1])"


def update_visitor_days(lake: Lake, audit: Audit, registry: Registry, days: Sequence[date] | None = None) -> Made:
    """Bring gold.experiment_visitor_days up to date; with ``days``, count these again."""
    pre_days = lake.settings.experiments_pre_days
    rules = {"": str(pre_days), **_windows(registry)}
    follower = Follower(lake, audit, EXPERIMENT_VISITOR_DAYS, (EXPERIMENT_EXPOSURES, *_VISITED), rules)
    execute = follower.connection.execute

    def compute(run: Follower) -> Fresh:
        _make_windows(run, registry)
        _listed(run, "again", days or ())
        exposures = run.rows(EXPERIMENT_EXPOSURES)
        moved = run.different(EXPERIMENT_EXPOSURES, "experiment_key, user_id_hash, first_exposure_ts, event_dt")
        visits = " union all ".join(
            f"select user_id_hash, {_days_of_visit(table)} as event_dt from {run.different(table, columns)}"
            for table, columns in _VISITED.items()
        )
        execute(
            f"""
            create or replace temp table touched as
            select distinct user_id_hash, event_dt from ({visits}) where user_id_hash is not null;
            create or replace temp table parts as select unnest($parts) as experiment_key
            """,
            {"parts": sorted(run.changed_parts)},
        )
        forever = f"date '{_FOREVER}'"
        everything = f"select experiment_key, user_id_hash, event_dt as low, {forever} as high from {exposures} as x"
        some = f"""
            select experiment_key, user_id_hash, min(event_dt) as low, {forever} as high from {moved} as m group by all
            union all
            {everything} where experiment_key in (select experiment_key from parts)
            union all
            select x.experiment_key, x.user_id_hash, t.event_dt as low, t.event_dt as high
            from {exposures} as x inner join touched as t on x.user_id_hash = t.user_id_hash and t.event_dt >= x.event_dt
            union all
            -- Of a visit before the exposure the day of exposure tells, also of one that reaches into it.
            select x.experiment_key, x.user_id_hash, x.event_dt as low, x.event_dt as high
            from {exposures} as x inner join touched as t
                on x.user_id_hash = t.user_id_hash and t.event_dt between x.event_dt - {max(pre_days, 1)} and x.event_dt
            """
        of_days = (
            f"select x.experiment_key, x.user_id_hash, a.event_dt as low, a.event_dt as high "
            f"from {exposures} as x inner join again as a on x.event_dt <= a.event_dt"
        )
        chosen = of_days if days is not None else everything if run.whole else some
        execute(
            f"""
            create or replace temp table wanted as select distinct * from ({chosen});
            create or replace temp table exposed as
            select x.*, windows.end_ts
            from (select experiment_key, user_id_hash, first_exposure_ts, event_dt from {exposures}) as x
            left join windows on x.experiment_key = windows.experiment_key
            semi join wanted as w on x.experiment_key = w.experiment_key and x.user_id_hash = w.user_id_hash
            """
        )
        counts = ", ".join(
            f"cast(coalesce(sum(s.{name}) filter (where {side}), 0) as bigint) as {prefix}{name}"
            for prefix, side in (("", "not s.is_before"), ("pre_", "s.is_before"))
            for name in COUNTS
        )
        ((low, last),) = execute(
            f"""
            select
                min(case when x.event_dt between w.low and w.high then x.event_dt - {max(pre_days, 1)} else w.low end),
                max(w.high)
            from wanted as w inner join exposed as x using (experiment_key, user_id_hash)
            """
        ).fetchall()
        # What is counted of a visit may be on the day after the one it began.
        span = between(low, last and (last + _ONE_DAY if last < _FOREVER else last))
        sql = _VISITOR_DAYS.format(
            sessions=run.rows(SILVER_SESSIONS, span),
            funnel=run.rows(FACT_FUNNEL, span),
            clicks=run.rows(FACT_AFFILIATE_CLICKS, span),
            interactions=run.rows(FACT_CHART_INTERACTIONS, span),
            pre_days=pre_days,
            counts=counts,
        )
        execute(f"create or replace temp table staged as {sql}")
        if days is not None:
            return Fresh("staged", "t.event_dt in (select event_dt from again)", In("event_dt", list(days)))
        if run.whole:
            return Fresh("staged", "true")
        doomed = (
            "exists (select 1 from wanted as w where w.experiment_key = t.experiment_key "
            "and w.user_id_hash = t.user_id_hash and t.event_dt between w.low and w.high)"
        )
        ((first, last),) = execute("select min(low), max(high) from wanted").fetchall()
        return Fresh("staged", doomed, between(first, last))

    return follower.run(compute, days is not None)


def _numbers(metric: Metric) -> str:
    """SQL of a metric's x, y, p and q over the counts of a visitor."""
    before = [
        re.sub(rf"\b({'|'.join(COUNTS)})\b", r"pre_\1", side or "0") for side in (metric.numerator, metric.denominator)
    ]
    return ", ".join(
        f"{sql} as {name}"
        for sql, name in zip((metric.numerator, metric.denominator or "0", *before), "xypq", strict=True)
    )


def update_sums(lake: Lake, audit: Audit, registry: Registry, days: Sequence[date] | None = None) -> Made:
    """Bring gold.experiment_sums up to date; with ``days``, add these up again."""
    del registry
    sources = (EXPERIMENT_EXPOSURES, EXPERIMENT_VISITOR_DAYS)
    # What is added up of a visitor is part of what the rows say.
    follower = Follower(lake, audit, EXPERIMENT_SUMS, sources, {"": repr(METRICS)})
    execute = follower.connection.execute

    def compute(run: Follower) -> Fresh:
        exposures, visitor_days = run.rows(EXPERIMENT_EXPOSURES), run.rows(EXPERIMENT_VISITOR_DAYS)
        judged = "experiment_key, user_id_hash, variant, event_dt"
        crossed = "experiment_key, user_id_hash, cast(crossover_ts as date) as event_dt"
        counted = ", ".join(EXPERIMENT_VISITOR_DAYS.arrow.names)
        changed = (
            run.different(EXPERIMENT_EXPOSURES, judged),
            run.different(EXPERIMENT_EXPOSURES, crossed),
            run.different(EXPERIMENT_VISITOR_DAYS, counted),
        )
        _ranges(run, days, f"select experiment_key, event_dt from {exposures}", changed)
        sql = _SUMS.format(
            visitor_days=visitor_days,
            exposures=exposures,
            counts=", ".join(f"d.{name}" for name in _ALL_COUNTS),
            zeros=", ".join(f"0 as {name}" for name in _ALL_COUNTS),
            summed=", ".join(f"sum({name}) as {name}" for name in _ALL_COUNTS),
            before=", ".join(f"sum(d.{name}) over upto - d.{name} as before_{name}" for name in _ALL_COUNTS),
            after=", ".join(f"sum(d.{name}) over upto as after_{name}" for name in _ALL_COUNTS),
            after_names=", ".join(f"after_{name} as {name}" for name in _ALL_COUNTS),
            before_names=", ".join(f"before_{name} as {name}" for name in _ALL_COUNTS),
        )
        execute(f"create or replace temp table changes as {sql}")
        added = ", ".join(f"cast(sum(sign * {' * '.join(name)}) as bigint) as {name}" for name in PRODUCTS)
        selects = (
            f"select experiment_key, variant, '{metric.name}' as metric, cast(sum(sign) as bigint) as visitors, "
            f"count(*) filter (where crosses) as crossovers, {added}, event_dt "
            f"from (select *, {_numbers(metric)} from changes) group by all"
            for metric in METRICS
        )
        execute(f"create or replace temp table staged as {' union all '.join(selects)}")
        return _of_ranges(run)

    return follower.run(compute, days is not None)


def update_results(lake: Lake, audit: Audit, registry: Registry, days: Sequence[date] | None = None) -> Made:
    """Bring gold.experiment_results up to date; with ``days``, conclude again as of the end of these."""
    rules = {key: experiment.digest for key, experiment in registry.experiments.items()}
    follower = Follower(lake, audit, EXPERIMENT_RESULTS, (EXPERIMENT_SUMS,), rules)

    def compute(run: Follower) -> Fresh:
        sums = run.rows(EXPERIMENT_SUMS)
        every = f"select experiment_key, event_dt from {sums}"
        listed = ", ".join(f"'{quote(key)}'" for key in sorted(run.changed_parts)) or "null"
        redefined = f"({every} where experiment_key in ({listed}))"
        changed = (run.different(EXPERIMENT_SUMS, ", ".join(EXPERIMENT_SUMS.arrow.names)), redefined)
        _ranges(run, days, every, changed)
        found = run.connection.sql(
            f"select s.* from {sums} as s semi join ranges as r on s.experiment_key = r.experiment_key "
            f"order by {_BY_DAY}"
        ).to_arrow_table()
        rows = []
        for key, by_day in totals_by_day(found).items():
            ranges = run.connection.execute("select low, high from ranges where experiment_key = $key", {"key": key})
            wanted = ranges.fetchall()
            for conclusion in conclude(registry, key, by_day):
                if any(low <= conclusion.day <= high for low, high in wanted):
                    rows += rows_of(conclusion)
        fresh = pa.Table.from_pylist(rows, schema=EXPERIMENT_RESULTS.arrow)
        run.connection.register("concluded", fresh)
        run.connection.execute("create or replace temp table staged as from concluded")
        return _of_ranges(run)

    return follower.run(compute, days is not None)


def _ranges(run: Follower, days: Sequence[date] | None, every: str, changed: Sequence[str]) -> None:
    """Make `ranges`: of each experiment, from when to when days are made. What a day says depends on those before it."""
    if days is not None:
        _listed(run, "again", days)
        present = f"{every} union select experiment_key, event_dt from {run.rows(run.table)}"
        sql = f"select e.experiment_key, a.event_dt as low, a.event_dt as high from ({present}) as e cross join again as a"
    else:
        touched = (
            every
            if run.whole
            else " union all ".join(f"select experiment_key, event_dt from {some}" for some in changed)
        )
        sql = (
            f"select experiment_key, min(event_dt) as low, date '{_FOREVER}' as high from ({touched}) "
            "where event_dt is not null group by experiment_key"
        )
    run.connection.execute(f"create or replace temp table ranges as select distinct * from ({sql})")


def _of_ranges(run: Follower) -> Fresh:
    if run.whole and not run.rebuilds:
        return Fresh("staged", "true")
    ((first, last),) = run.connection.execute("select min(low), max(high) from ranges").fetchall()
    doomed = "exists (select 1 from ranges as r where r.experiment_key = t.experiment_key and t.event_dt between r.low and r.high)"
    return Fresh("staged", doomed, between(first, last))
