"""A table that follows others: made again where their rows changed, or as a whole, and committed with what it was made of.

Belongs here: comparing, staging, auditing and committing. Does not belong here: which rows a change affects (``gold``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import pyarrow as pa
from pyiceberg.expressions import AlwaysFalse, AlwaysTrue, And, BooleanExpression, GreaterThanOrEqual, LessThanOrEqual
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table as IcebergTable

from chart_platform.contracts.tables import Table
from chart_platform.lakehouse.changes import Changed, Made, changed_since, heads, made_from, record
from chart_platform.lakehouse.duck import audited, connect, relation
from chart_platform.lakehouse.lake import Change, Lake
from chart_platform.lakehouse.rewrite import replace_rows

Audit = Callable[[Table, pa.Table], None]


@dataclass(frozen=True)
class Fresh:
    """Rows of relation ``staged`` take the place of those for which ``doomed`` holds, looked for where ``within`` says."""

    staged: str
    doomed: str
    within: BooleanExpression = field(default_factory=AlwaysTrue)


class Follower:
    """One run of one table. ``rules`` are digests of what its rows depend on besides ``sources``, by the part of the table
    that each concerns; '' concerns all of it."""

    def __init__(
        self, lake: Lake, audit: Audit, table: Table, sources: Sequence[Table], rules: Mapping[str, str]
    ) -> None:
        self.lake, self.audit, self.table, self.sources = lake, audit, table, sources
        self.rules = {f"rule:{part}": digest for part, digest in rules.items()}
        self.connection = connect(lake.settings)
        self.now: dict[str, IcebergTable] = {}
        self._changed: dict[str, Changed] | None = None
        self.changed_parts: set[str] = set()
        self.rebuilds = False

    @property
    def whole(self) -> bool:
        """Whether everything is to be made, as nothing is known of what the table was made from."""
        return self._changed is None

    def run(self, compute: Callable[[Follower], Fresh], rebuild: bool) -> Made:
        """Commit what ``compute`` makes. With ``rebuild`` it is asked even if no source changed, and what the table says
        it has seen stays.

        Raises:
            ContractBreach: the rows break the table's contract. Nothing was committed.
        """
        made, self.rebuilds = Made(), rebuild

        def decide(current: IcebergTable) -> Change | None:
            nonlocal made
            self.now = {declared.full_name: self.lake.load(declared) for declared in (*self.sources, self.table)}
            seen, sources = made_from(current), self._sources()
            if not rebuild and seen == sources:
                return None
            self._compare(seen)
            fresh = compute(self)
            for part in audited(self.connection, fresh.staged, self.table):
                self.audit(self.table, part)
            told = seen if rebuild else sources
            change = replace_rows(
                self.connection,
                current,
                self.table,
                self.lake.files(current, fresh.within),
                fresh.doomed,
                fresh.staged,
                summary=record(told) if told is not None else {},
            )
            counted = self.connection.sql(f"select event_dt, count(*) from {fresh.staged} group by 1").fetchall()
            made = Made(dict(counted), change.rows_removed - (change.rows_added - sum(n for _, n in counted)))
            return change if change.add or change.remove or not rebuild else None

        self.lake.commit(self.table, decide)
        self.connection.close()
        return made

    def _sources(self) -> dict[str, int | str | None]:
        return {**heads({t.full_name: self.now[t.full_name] for t in self.sources}), **self.rules}

    def _compare(self, seen: Mapping[str, int | str | None] | None) -> None:
        self._changed, self.changed_parts = None, set()
        if seen is None or seen.get("rule:") != self.rules.get("rule:"):
            return
        found = {}
        for declared in self.sources:
            before = seen.get(declared.full_name)
            snapshot = int(before) if before is not None else None
            changed = changed_since(self.now[declared.full_name], snapshot)
            if changed is None:
                return
            found[declared.full_name] = changed
        self._changed = found
        named = {name for name in (*seen, *self.rules) if name.startswith("rule:")}
        self.changed_parts = {n.removeprefix("rule:") for n in named if seen.get(n) != self.rules.get(n)}

    def rows(self, declared: Table, within: BooleanExpression | None = None) -> str:
        """Relation of a source's rows as they are, of the files that may hold what ``within`` asks for."""
        current = self.now[declared.full_name]
        return relation(current, declared, self.lake.files(current, within))

    def new(self, declared: Table, columns: str) -> str:
        """Relation of what came: ``columns`` of rows that no row before had."""
        changed = self._of(declared)
        return self._less(declared, columns, changed.added, changed.removed)

    def gone(self, declared: Table, columns: str) -> str:
        """Relation of what went: ``columns`` of rows that no row has any more."""
        changed = self._of(declared)
        return self._less(declared, columns, changed.removed, changed.added)

    def different(self, declared: Table, columns: str) -> str:
        """Relation of what came or went. Copy-on-write moves many rows that stay the same: they are not in it."""
        return f"({self.new(declared, columns)} union all {self.gone(declared, columns)})"

    def _of(self, declared: Table) -> Changed:
        return self._changed[declared.full_name] if self._changed is not None else Changed([], [])

    def _less(self, declared: Table, columns: str, some: Sequence[DataFile], others: Sequence[DataFile]) -> str:
        current = self.now[declared.full_name]
        rows = f"select {columns} from {relation(current, declared, some)}"
        # Files that were only appended, or are the first, need no comparison.
        return (
            f"({rows} except all select {columns} from {relation(current, declared, others)})"
            if others
            else f"({rows})"
        )


def between(first: date | None, last: date | None) -> BooleanExpression:
    """Of the partitions those of these days, both included; none without a first day."""
    if first is None or last is None:
        return AlwaysFalse()
    return And(GreaterThanOrEqual("event_dt", first), LessThanOrEqual("event_dt", last))
