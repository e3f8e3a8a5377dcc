"""What a rebuild is about: which tables in which order, which days, and how many rows they hold now.

Belongs here: answering that, and refusing what can't be rebuilt. Does not belong here: doing it (``backfill``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import dagster as dg
from pyiceberg.expressions import And, GreaterThanOrEqual, LessThanOrEqual

from chart_platform.contracts.tables import BRONZE_EVENTS, CONVERSION_REPORTS, TABLES, Table
from chart_platform.definitions import defs
from chart_platform.defs.partitions import daily
from chart_platform.lakehouse.days import rows_by_day
from chart_platform.lakehouse.duck import connect, relation
from chart_platform.lakehouse.lake import Lake
from chart_platform.quality.digests import Day
from chart_platform.settings import Settings

_TIMES = {BRONZE_EVENTS: "ts", CONVERSION_REPORTS: "event_ts"}
"""When the event of a bronze row happened."""
_DERIVED = ("silver", "gold")


class CannotRebuild(ValueError):
    """What was asked for can't be rebuilt; says why and what can."""


@dataclass(frozen=True)
class Plan:
    """``tables`` in dependency order, ``days`` without gaps; ``rows`` are there now, by table and day."""

    tables: tuple[Table, ...]
    days: tuple[date, ...]
    rows: Mapping[tuple[Table, Day], int] = field(default_factory=dict)

    @property
    def keys(self) -> list[dg.AssetKey]:
        return [dg.AssetKey([one.namespace, one.name]) for one in self.tables]


def derived() -> tuple[Table, ...]:
    """The tables that are computed from others day by day, each after those it is made from.

    Not bronze, which is the source, nor what the same step takes in from outside.
    """
    graph = defs.resolve_asset_graph()
    declared = {dg.AssetKey([one.namespace, one.name]): one for one in TABLES}

    def is_derived(key: dg.AssetKey) -> bool:
        together = graph.get(key).execution_set_asset_keys | graph.get(key).assets_def.keys
        partitioned = graph.get(key).partitions_def == daily
        return key in declared and partitioned and all(other.path[0] in _DERIVED for other in together)

    return tuple(declared[key] for key in graph.toposorted_asset_keys if is_derived(key))


def ancestors(declared: Table) -> frozenset[str]:
    """Names of all tables that this one is made from, over any number of steps."""
    graph = defs.resolve_asset_graph()
    found: set[dg.AssetKey] = set()
    wanted = [dg.AssetKey([declared.namespace, declared.name])]
    while wanted:
        parents = graph.get(wanted.pop()).parent_keys - found
        found |= parents
        wanted += parents
    return frozenset(".".join(key.path) for key in found)


def chosen(names: Sequence[str]) -> tuple[Table, ...]:
    """The derived tables with these names, or all of them.

    Raises:
        CannotRebuild: a name is that of no derived table.
    """
    tables = derived()
    known = {one.full_name for one in tables}
    if unknown := sorted(set(names) - known):
        raise CannotRebuild(f"{', '.join(unknown)}: no derived table. There are {', '.join(sorted(known))}.")
    return tuple(one for one in tables if not names or one.full_name in names)


def instance_of(settings: Settings) -> Lake:
    """The lake of this instance.

    Raises:
        CannotRebuild: nothing has ever been put there.
    """
    if settings.catalog_type == "sql" and settings.catalog_uri is None and not (settings.root / "catalog.db").exists():
        raise CannotRebuild(f"There is no instance in {settings.root}: set CHART_HOME to the folder of one.")
    return Lake(settings)


def check_range(settings: Settings, first: date, last: date) -> None:
    """See that these can be days of this instance.

    Raises:
        CannotRebuild: the range ends before it starts, or lies beyond what the instance can have.
    """
    today = datetime.now(UTC).date()
    if first > last:
        raise CannotRebuild(f"{last} is before {first}: the range is the other way round.")
    if last > today:
        raise CannotRebuild(f"{last} is in the future: today is {today} (UTC).")
    if first < settings.first_day:
        raise CannotRebuild(
            f"{first} is before {settings.first_day}, the first day of this instance (CHART_FIRST_DAY)."
        )


def plan(lake: Lake, first: date, last: date, tables: tuple[Table, ...]) -> Plan:
    """The days between ``first`` and ``last`` from the first to the last that has rows in a table or in bronze.

    Raises:
        CannotRebuild: no day of it has anything.
    """
    rows = {(one, day): count for one in tables for day, count in _rows(lake, one, first, last)}
    sources = [source for source in _TIMES if any(source.full_name in ancestors(one) for one in tables)]
    days = {day for _, day in rows if day is not None}
    days |= {day for source in sources for day in _bronze_days(lake, source, first, last)}
    if not days:
        raise CannotRebuild(f"Nothing happened from {first} to {last}: {_extent(lake, sources)}.")
    oldest, newest = min(days), max(days)
    every = tuple(oldest + timedelta(days=number) for number in range((newest - oldest).days + 1))
    return Plan(tables, every, rows)


def _rows(lake: Lake, declared: Table, first: date, last: date) -> Iterator[tuple[Day, int]]:
    """Rows by day, from the metadata of files."""
    current = lake.load(declared)
    if declared.day_column is None:
        yield None, sum(file.record_count for file in lake.files(current))
        return
    where = And(GreaterThanOrEqual(declared.day_column, first), LessThanOrEqual(declared.day_column, last))
    yield from rows_by_day(declared, lake.files(current, where)).items()


def _bronze_days(lake: Lake, source: Table, first: date, last: date) -> Collection[date]:
    current, time = lake.load(source), _TIMES[source]
    span = And(GreaterThanOrEqual(time, f"{first}T00:00:00"), LessThanOrEqual(time, f"{last}T23:59:59.999999"))
    connection = connect(lake.settings)
    found = connection.sql(
        f"select distinct cast({time} as date) as day from {relation(current, source, lake.files(current, span))} "
        f"where cast({time} as date) between date '{first}' and date '{last}'"
    ).fetchall()
    connection.close()
    return {day for (day,) in found}


def _extent(lake: Lake, sources: Sequence[Table]) -> str:
    said = []
    for source in sources:
        current, time = lake.load(source), _TIMES[source]
        connection = connect(lake.settings)
        sql = f"select cast(min({time}) as date), cast(max({time}) as date) from {relation(current, source, lake.files(current))}"
        ((oldest, newest),) = connection.sql(sql).fetchall()
        connection.close()
        said.append(f"{source.full_name} has {f'{oldest} to {newest}' if oldest else 'nothing'}")
    return ", ".join(said)
