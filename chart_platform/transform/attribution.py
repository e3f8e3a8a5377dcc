"""One run of the attribution: which days are made again, in what order, and how that is committed.

gold.attribution_journeys, gold.attribution_weights, gold.fact_attribution and gold.attribution_daily follow visits, clicks
and matched conversions. A run compares these with the snapshots that the tables were made from, row by row. A visit that
came, went or changed changes the journeys of its visitor from its day to the end of the lookback; these days change the
weights of every training window that holds them; and new weights divide the conversions of their day again. Every day is
a function of the rows of its sources, so order and batching don't matter.

Belongs here: that life cycle. Does not belong here: SQL (dbt_project/models/attribution), the models that are Python
(``chart_platform.attribution``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from math import ceil
from typing import Any

import duckdb
from duckdb.sqltypes import BIGINT, VARCHAR
from pyiceberg.expressions import AlwaysFalse, BooleanExpression, In
from pyiceberg.table import Table as IcebergTable

from chart_platform.attribution.weights import Weight, markov_weights, shapley_weights
from chart_platform.contracts.tables import (
    ATTRIBUTION_DAILY,
    ATTRIBUTION_JOURNEYS,
    ATTRIBUTION_WEIGHTS,
    FACT_AFFILIATE_CLICKS,
    FACT_ATTRIBUTION,
    FACT_CONVERSIONS,
    SILVER_SESSIONS,
    Table,
    table,
)
from chart_platform.lakehouse.changes import Changed, changed_since, heads, made_from, record
from chart_platform.lakehouse.days import in_parts, rows_by_day
from chart_platform.lakehouse.duck import audited, configure, relation
from chart_platform.lakehouse.lake import Lake
from chart_platform.settings import Settings
from chart_platform.transform.dbt import invoke
from chart_platform.transform.ingest import Audit
from chart_platform.transform.marts import different_rows
from chart_platform.transform.staged import Replacement, TableResult, commit, counted_by_day, unless_stale

SOURCES: tuple[Table, ...] = (SILVER_SESSIONS, FACT_AFFILIATE_CLICKS, FACT_CONVERSIONS)
MADE: tuple[Table, ...] = (ATTRIBUTION_JOURNEYS, ATTRIBUTION_WEIGHTS, FACT_ATTRIBUTION, ATTRIBUTION_DAILY)
_RULES = "rules"
_VISITS_AT_ONCE = 3_000_000
"""A first run may have years of days before it, and takes them in parts."""
_DAYS_OF = {
    ATTRIBUTION_JOURNEYS.full_name: "attribution_scope.journey_days",
    ATTRIBUTION_WEIGHTS.full_name: "attribution_scope.weight_days",
    FACT_ATTRIBUTION.full_name: "intermediate.int_attribution_days",
    ATTRIBUTION_DAILY.full_name: "intermediate.int_attribution_days",
}
"""The days that a model returns rows of, in place of all that were there."""
_WEIGHTS_TYPE = "struct(channel varchar, weight_ppb bigint, effect_ppb bigint)[]"


@dataclass(frozen=True)
class Days:
    """The days that a run makes: of journeys, of weights, and those whose conversions are divided whatever the weights."""

    journeys: frozenset[date] = frozenset()
    weights: frozenset[date] = frozenset()
    facts: frozenset[date] = frozenset()

    @property
    def all(self) -> list[date]:
        return sorted(self.journeys | self.weights | self.facts)

    def among(self, some: Iterable[date]) -> Days:
        kept = frozenset(some)
        return Days(self.journeys & kept, self.weights & kept, self.facts & kept)


def _rules(settings: Settings) -> str:
    """A mark of the settings that the rows depend on."""
    said = [
        settings.attribution_lookback_days,
        settings.session_cap_hours,
        settings.attribution_collapse,
        settings.attribution_half_life_days,
        settings.attribution_training_days,
        settings.payout_currency,
    ]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _lookback(settings: Settings) -> timedelta:
    """At least the longest visit, so that the visit of a click always is among its touchpoints."""
    return max(
        timedelta(days=settings.attribution_lookback_days),
        timedelta(hours=settings.session_cap_hours),
    )


def pinned_now(lake: Lake) -> dict[str, IcebergTable]:
    """One state of every source, by full name."""
    return {declared.full_name: lake.load(declared) for declared in SOURCES}


def up_to_date(lake: Lake) -> bool:
    """True if every table was made from its sources as they are, by the settings as they are."""
    present = _sources(lake, pinned_now(lake))
    return all(made_from(lake.load(declared)) == present for declared in MADE)


def _sources(lake: Lake, pinned: Mapping[str, IcebergTable]) -> dict[str, int | str | None]:
    return {**heads(pinned), _RULES: _rules(lake.settings)}


def run(
    lake: Lake,
    audit: Audit,
    days: Sequence[date] | None = None,
    attempts: int = 6,
) -> dict[str, TableResult]:
    """Make the days again that changes of the sources can have changed; or, as a whole, the ``days`` given.

    Returns what each table got.

    Raises:
        DbtFailed: a model failed; or other runs kept changing the same days, ``attempts`` times.
    """
    if days is None and up_to_date(lake):
        return {}
    return unless_stale(lambda: _run(lake, audit, days), attempts)


def _run(lake: Lake, audit: Audit, days: Sequence[date] | None) -> dict[str, TableResult]:
    pinned = pinned_now(lake)
    asked = frozenset(days) if days is not None else None
    todo = Days(asked, asked, asked) if asked is not None else _changed_days(lake, pinned)
    results: dict[str, TableResult] = {}
    parts = list(_in_parts(lake, pinned, todo.all)) or [[]]
    for part in parts:
        # Only the last part says that the tables are level: a run cut short begins again.
        told = record(_sources(lake, pinned)) if days is None and part is parts[-1] else {}
        work = AttributionRun(lake, audit, pinned, todo.among(part), told)
        invoke(lake.settings, ["run", "--select", "path:models/attribution"], work)
        results = {name: results[name] + got if name in results else got for name, got in work.results.items()}
    return results


def _in_parts(lake: Lake, pinned: Mapping[str, IcebergTable], days: Sequence[date]) -> Iterator[list[date]]:
    of_days = lake.files(pinned[SILVER_SESSIONS.full_name], In("event_dt", days))
    return in_parts(days, rows_by_day(SILVER_SESSIONS, of_days), _VISITS_AT_ONCE)


def _changed_days(lake: Lake, pinned: Mapping[str, IcebergTable]) -> Days:
    """What the sources' changes since the tables were made have reached; every day when that can't be told."""
    changes = _changes(lake, pinned)
    made = {declared.full_name: frozenset(rows_by_day(declared, lake.files(lake.load(declared)))) for declared in MADE}
    connection = duckdb.connect()
    configure(connection, lake.settings)
    if changes is None:
        reports = pinned[FACT_CONVERSIONS.full_name]
        everything = frozenset(
            _days_of(connection, "click_dt", [relation(reports, FACT_CONVERSIONS, lake.files(reports))])
        ).union(
            *made.values(),
            *(
                rows_by_day(declared, lake.files(pinned[declared.full_name]))
                for declared in (SILVER_SESSIONS, FACT_AFFILIATE_CLICKS)
            ),
        )
        connection.close()
        return Days(everything, everything, everything)
    journeys = _journey_days(lake, pinned, changes, connection)
    clicks = _days_of(connection, "event_dt", changes[FACT_AFFILIATE_CLICKS.full_name])
    reported = _days_of(connection, "click_dt", changes[FACT_CONVERSIONS.full_name])
    connection.close()
    journeys |= clicks
    # Weights are those of days that have journeys.
    window = range(lake.settings.attribution_training_days)
    trained = {day + timedelta(days=later) for day in journeys for later in window}
    weights = trained & (made[ATTRIBUTION_JOURNEYS.full_name] | journeys)
    return Days(frozenset(journeys), frozenset(weights), frozenset(journeys | reported))


def _changes(lake: Lake, pinned: Mapping[str, IcebergTable]) -> dict[str, list[str]] | None:
    """SQL of the rows of each source that differ from what a table was made from; None if that can't be told."""
    found: dict[str, list[str]] = {declared.full_name: [] for declared in SOURCES}
    seen = {json.dumps(made_from(lake.load(declared)), sort_keys=True) for declared in MADE}
    for text in seen:
        before = json.loads(text)
        if before is None or before.get(_RULES) != _rules(lake.settings):
            return None
        for declared in SOURCES:
            current, snapshot = pinned[declared.full_name], before.get(declared.full_name)
            changed: Changed | None = changed_since(current, int(snapshot) if snapshot is not None else None)
            if changed is None:
                return None
            found[declared.full_name].append(different_rows(current, declared, changed))
    return found


def _days_of(connection: duckdb.DuckDBPyConnection, day: str, sources: Sequence[str]) -> set[date]:
    selects = " union ".join(f"select {day} from ({source}) as s" for source in sources)
    return {found for (found,) in connection.sql(selects).fetchall() if found is not None}


def _journey_days(
    lake: Lake,
    pinned: Mapping[str, IcebergTable],
    changes: Mapping[str, list[str]],
    connection: duckdb.DuckDBPyConnection,
) -> set[date]:
    """Days on which a visitor of a changed visit has a journey that the visit can be a part of."""
    visitor = "coalesce('u' || user_id_hash, 's' || session_id)"
    selects = " union all ".join(f"({source})" for source in changes[SILVER_SESSIONS.full_name])
    connection.execute(
        f"""
        create table changed as
        select {visitor} as visitor, event_dt, max(session_end_ts::date) as last_dt from ({selects}) group by all
        """
    )
    ((first, last),) = connection.sql("select min(event_dt), max(event_dt) from changed").fetchall()
    if first is None:
        return set()
    reach = ceil(_lookback(lake.settings) / timedelta(days=1))
    span = [first + timedelta(days=n) for n in range(-reach, (last - first).days + reach + 1)]
    sessions = pinned[SILVER_SESSIONS.full_name]
    found = connection.sql(
        f"""
        with visits as (
            select {visitor} as visitor, event_dt, session_end_ts::date as last_dt
            from {relation(sessions, SILVER_SESSIONS, lake.files(sessions, In("event_dt", span)))}
        ),

        spans as (
            select event_dt, last_dt from changed
            union
            select greatest(v.event_dt, c.event_dt), least(v.last_dt, c.event_dt + {reach})
            from visits as v
            join changed as c on v.visitor = c.visitor and v.last_dt >= c.event_dt and v.event_dt <= c.event_dt + {reach}
        )

        select distinct unnest(generate_series(event_dt, last_dt, interval 1 day))::date from spans
        """
    )
    return {day for (day,) in found.fetchall()}


@dataclass
class AttributionRun:
    """One dbt command for some days. The models read, each as far as the days need it,

    * ``ref('sessions')``, ``ref('fact_affiliate_clicks')`` and ``source('gold', 'fact_conversions')``, pinned,
    * their own tables as they are,
    * ``source('attribution_scope', …)``, and the functions `markov_weights` and `shapley_weights`.
    """

    lake: Lake
    audit: Audit
    pinned: Mapping[str, IcebergTable]
    days: Days
    told: Mapping[str, str]
    results: dict[str, TableResult] = field(default_factory=dict)

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        configure(connection, self.lake.settings)
        for schema in ("staged", "attribution_scope", "silver", "gold"):
            connection.execute(f"create schema if not exists {schema}")
        for name in ("journeys", "weights", "facts"):
            days = ", ".join(f"(date '{day}')" for day in sorted(getattr(self.days, name))) or "(cast(null as date))"
            connection.execute(
                f"create table attribution_scope.{name.removesuffix('s')}_days as "
                f"select * from (values {days}) as t (event_dt) where event_dt is not null"
            )
        settings = self.lake.settings
        connection.execute(
            "create table attribution_scope.settings as select to_microseconds($lookback::bigint) as lookback, "
            "$collapse as collapse, $half_life::double as half_life_ms, $training as training_days, $currency as currency",
            {
                "lookback": _lookback(settings) // timedelta(microseconds=1),
                "collapse": settings.attribution_collapse,
                "half_life": settings.attribution_half_life_days * 86_400_000,
                "training": settings.attribution_training_days,
                "currency": settings.payout_currency,
            },
        )
        _register(connection)
        self._heads = {declared.full_name: self.lake.load(declared) for declared in MADE}
        for declared in (*SOURCES, *MADE):
            self._view(declared, {**self.pinned, **self._heads}[declared.full_name])
        weights = self._heads[ATTRIBUTION_WEIGHTS.full_name]
        old = self.lake.files(weights, _among(self.days.weights))
        connection.execute(
            f"create table attribution_scope.old_weights as select * from {relation(weights, ATTRIBUTION_WEIGHTS, old)}"
        )

    def _reads(self) -> dict[str, frozenset[date]]:
        lookback = ceil(_lookback(self.lake.settings) / timedelta(days=1))
        paths, windows = _before(self.days.all, lookback), _before(self.days.weights, self._training - 1)
        every = frozenset(self.days.all)
        return {
            SILVER_SESSIONS.full_name: paths,
            FACT_AFFILIATE_CLICKS.full_name: every,
            ATTRIBUTION_JOURNEYS.full_name: windows | self.days.journeys,
            ATTRIBUTION_WEIGHTS.full_name: every,
            FACT_ATTRIBUTION.full_name: every,
            ATTRIBUTION_DAILY.full_name: every,
        }

    @property
    def _training(self) -> int:
        return self.lake.settings.attribution_training_days

    def _view(self, declared: Table, current: IcebergTable) -> None:
        # A conversion is there on its own day, which may be long after that of its click.
        where = _among(self._reads()[declared.full_name]) if declared is not FACT_CONVERSIONS else None
        source = relation(current, declared, self.lake.files(current, where))
        self._connection.execute(
            f'create or replace view "{declared.namespace}"."{declared.name}" as select * from {source}'
        )

    def store(self, full_name: str, staged: str, config: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Commit one table's rows in place of those of the days made.

        Raises:
            StaleModel: another run changed these files meanwhile.
            ContractBreach: the rows break the table's contract.
        """
        declared = table(full_name)
        connection = self._connection.cursor()
        relation_of_days = _DAYS_OF[full_name]
        days = connection.sql(f"select event_dt from {relation_of_days}").fetchall()
        doomed = f"t.event_dt in (select event_dt from {relation_of_days})"
        for part in audited(connection, staged, declared):
            self.audit(declared, part)
        rows, by_day = counted_by_day(connection, staged, declared)
        asked = Replacement(
            staged, by_day, rows, _among(day for (day,) in days), doomed, None, lambda _current: self.told
        )
        self.results[full_name] = commit(self.lake, connection, declared, self._heads[full_name], asked)
        self._heads[full_name] = self.lake.load(declared)
        self._view(declared, self._heads[full_name])


def _before(days: Iterable[date], reach: int) -> frozenset[date]:
    """``days`` and so many days before each."""
    return frozenset(day - timedelta(days=back) for day in days for back in range(reach + 1))


def _among(days: Iterable[date]) -> BooleanExpression:
    some = sorted(days)
    return In("event_dt", some) if some else AlwaysFalse()


def _register(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the models that are Python functions of SQL, over columns gathered in lists."""

    def listed(weights: Mapping[str, Weight]) -> list[dict[str, Any]]:
        return [
            {"channel": channel, "weight_ppb": weight.weight_ppb, "effect_ppb": weight.effect_ppb}
            for channel, weight in weights.items()
        ]

    def markov(origins: list[str], targets: list[str], journeys: list[int]) -> list[dict[str, Any]]:
        return listed(markov_weights(dict(zip(zip(origins, targets, strict=True), journeys, strict=True))))

    def shapley(sets: list[str], journeys: list[int], converted: list[int]) -> list[dict[str, Any]]:
        together = [frozenset(channels.split(" > ")) for channels in sets]
        return listed(shapley_weights(dict(zip(together, zip(journeys, converted, strict=True), strict=True))))

    texts, counts = duckdb.list_type(VARCHAR), duckdb.list_type(BIGINT)
    functions: list[tuple[str, Callable[..., Any], list[Any]]] = [
        ("markov_weights", markov, [texts, texts, counts]),
        ("shapley_weights", shapley, [texts, counts, counts]),
    ]
    for name, function, given in functions:
        connection.create_function(name, function, given, duckdb.type(_WEIGHTS_TYPE))
