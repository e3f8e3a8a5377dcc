"""The state of tables before a rebuild, kept on disk, and what the rebuild made of it.

A rebuild that only repeats what incremental runs did changes nothing: any other row is a finding. But a pipeline that
runs takes in events meanwhile, or had some that the tables lacked: a table's day that they can have reached is told
apart, as news and not as a finding.

Belongs here: the state as a value, and the verdicts. Does not belong here: reading tables (``quality.digests``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal

from chart_platform.contracts.tables import BRONZE_EVENTS, SILVER_EVENTS, SILVER_USER_SEGMENTS, TABLES, Table, table
from chart_platform.lakehouse.changes import changed_since, heads, made_from
from chart_platform.lakehouse.duck import connect, relation
from chart_platform.lakehouse.lake import Lake
from chart_platform.lakehouse.progress import Progress, progress_of
from chart_platform.quality.digests import Content, Day, contents, differences
from chart_platform.rebuild.plan import Plan, ancestors
from chart_platform.transform.silver import unseen

Verdict = Literal["same", "different", "news"]
_MIDNIGHT = timedelta(days=1)
"""A visit over midnight belongs to the day before."""


@dataclass(frozen=True)
class State:
    """The tables of a plan at a moment: snapshots, contents, and how far they had followed their sources.

    ``progress`` is what all of them had taken in of bronze.events, ``sources`` the rows of the other bronze tables,
    ``made_from`` the snapshots of others that a table had followed, None for one that records none.
    """

    snapshots: Mapping[str, int | None]
    contents: Mapping[str, Mapping[Day, Content]]
    progress: Progress | None
    sources: Mapping[str, int]
    made_from: Mapping[str, Mapping[str, int | str | None] | None]

    def to_json(self) -> dict[str, Any]:
        return {
            "snapshots": dict(self.snapshots),
            "contents": {
                name: {str(day or ""): [c.rows, c.digest] for day, c in by_day.items()}
                for name, by_day in self.contents.items()
            },
            "progress": self.progress.to_json() if self.progress else None,
            "sources": dict(self.sources),
            "made_from": dict(self.made_from),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> State:
        return cls(
            raw["snapshots"],
            {
                name: {date.fromisoformat(day) if day else None: Content(*c) for day, c in by_day.items()}
                for name, by_day in raw["contents"].items()
            },
            Progress.from_json(raw["progress"]) if raw["progress"] else None,
            raw["sources"],
            raw["made_from"],
        )


@dataclass(frozen=True)
class Compared:
    """One day of one table (None: all of it) before and after. ``different`` is None if it can't be counted any more."""

    table: str
    day: Day
    before: Content
    after: Content
    verdict: Verdict
    different: int | None = 0
    why: str = ""


def look(lake: Lake, plan: Plan, advance: Callable[[int], None] | None = None) -> State:
    """The state of the plan's tables now. ``advance`` is told how many tables are read."""
    snapshots, found, followed = dict[str, int | None](), {}, {}
    for number, declared in enumerate(plan.tables, 1):
        current = lake.load(declared)
        snapshots |= heads({declared.full_name: current})
        found[declared.full_name] = contents(lake, declared, plan.days)
        followed[declared.full_name] = made_from(current)
        if advance is not None:
            advance(number)
    above = {name for declared in plan.tables for name in (declared.full_name, *ancestors(declared))}
    known = [p for one in TABLES if one.full_name in above and (p := progress_of(lake.load(one))) is not None]
    return State(snapshots, found, _least(known), _rows_of_sources(lake, above), followed)


def _least(known: Sequence[Progress]) -> Progress | None:
    """What all have taken in."""
    if not known:
        return None
    partitions = set().union(*(progress.offsets for progress in known))
    offsets = {p: min(progress.offsets.get(p, 0) for progress in known) for p in partitions}
    days = {p: min(progress.days.get(p, date.min) for progress in known) for p in partitions}
    return Progress(known[0].topic, known[0].topic_id, offsets, days)


def _rows_of_sources(lake: Lake, names: set[str]) -> dict[str, int]:
    bronze = [one for one in TABLES if one.namespace == "bronze" and one != BRONZE_EVENTS and one.full_name in names]
    return {one.full_name: sum(file.record_count for file in lake.files(lake.load(one))) for one in bronze}


def compare(lake: Lake, plan: Plan, before: State, advance: Callable[[int], None] | None = None) -> list[Compared]:
    """Every table and day of the plan against ``before``, in the plan's order."""
    news = _News(lake, before)
    found: list[Compared] = []
    for number, declared in enumerate(plan.tables, 1):
        then, now = before.contents[declared.full_name], contents(lake, declared, plan.days)
        changed = [day for day in {*then, *now} if then.get(day) != now.get(day)]
        counted = None
        if changed:
            days = [day for day in changed if day is not None]
            counted = differences(lake, declared, days, before.snapshots[declared.full_name])
        for day in sorted({*then, *now}, key=lambda day: day or date.min):
            pair = then.get(day, Content()), now.get(day, Content())
            if day not in changed:
                found.append(Compared(declared.full_name, day, *pair, "same"))
                continue
            why = news.of(declared, day)
            rows = counted[day].rows if counted is not None and day in counted else None
            found.append(Compared(declared.full_name, day, *pair, "news" if why else "different", rows, why))
        if advance is not None:
            advance(number)
    return found


class _News:
    """What the tables could not know before."""

    def __init__(self, lake: Lake, before: State) -> None:
        self._lake, self._before = lake, before
        self._moves: dict[tuple[str, int | None], bool] = {}
        self._days = _days_of_news(lake, before.progress)
        sources = _rows_of_sources(lake, set(before.sources))
        self._grown = {name for name, rows in sources.items() if rows != before.sources[name]}

    def of(self, declared: Table, day: Day) -> str:
        """Why this day of the table may be another than before; empty if there is no reason."""
        above = ancestors(declared)
        if grown := sorted(self._grown & above):
            return f"{', '.join(grown)} has new rows"
        if not self._had_followed(declared):
            return "it had not followed its sources yet"
        if self._days and BRONZE_EVENTS.full_name in above and self._reaches(declared, above, day):
            return "new events"
        return ""

    def _had_followed(self, declared: Table) -> bool:
        """Whether the table was made from its sources as they are now. Of those without a record progress tells."""
        recorded = self._before.made_from[declared.full_name]
        if recorded is None:
            return progress_of(self._lake.load(declared)) is not None
        sources = [one for one in TABLES if one.full_name in recorded]
        return not any(self._has_moved(one, recorded[one.full_name]) for one in sources)

    def _has_moved(self, source: Table, snapshot: int | str | None) -> bool:
        """Whether its rows are others than those of a snapshot, or nobody can tell any more."""
        since = int(snapshot) if snapshot is not None else None
        if (source.full_name, since) not in self._moves:
            self._moves[source.full_name, since] = self._find_moves(source, since)
        return self._moves[source.full_name, since]

    def _find_moves(self, source: Table, since: int | None) -> bool:
        current = self._lake.load(source)
        changed = changed_since(current, since)
        if changed is None:
            return True
        added, removed = (relation(current, source, files) for files in (changed.added, changed.removed))
        connection = connect(self._lake.settings)
        ((moved,),) = connection.sql(
            f"select exists (from {added} except all from {removed}) or exists (from {removed} except all from {added})"
        ).fetchall()
        connection.close()
        return bool(moved)

    def _reaches(self, declared: Table, above: frozenset[str], day: Day) -> bool:
        if day is None:
            return True
        if declared == SILVER_EVENTS:
            return day in self._days
        if SILVER_USER_SEGMENTS.full_name in above or any(table(name).namespace == "gold" for name in above & _NAMES):
            # Segments and marts look back over many days.
            return day >= min(self._days) - _MIDNIGHT
        return any(abs(day - other) <= _MIDNIGHT for other in self._days)


_NAMES = {one.full_name for one in TABLES}


def _days_of_news(lake: Lake, since: Progress | None) -> set[date]:
    """Event days of the messages that bronze has beyond ``since``."""
    bronze = lake.load(BRONZE_EVENTS)
    until = progress_of(bronze)
    if until is None or (since is not None and since.offsets == until.offsets):
        return set()
    connection = connect(lake.settings)
    messages = unseen(lake, bronze, since, until)
    found = connection.sql(f"select distinct cast(ts as date) from {messages.relation}").fetchall()
    connection.close()
    return {day for (day,) in found}
