"""A lake whose visits, clicks and conversions are put there as rows, and what the attribution makes of them.

Belongs here: rows with defaults, putting and taking them, and comparison with the oracle.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from chart_platform.contracts.tables import (
    ATTRIBUTION_DAILY,
    ATTRIBUTION_JOURNEYS,
    ATTRIBUTION_WEIGHTS,
    FACT_AFFILIATE_CLICKS,
    FACT_ATTRIBUTION,
    FACT_CONVERSIONS,
    SILVER_SESSIONS,
    Table,
)
from chart_platform.lakehouse.duck import connect
from chart_platform.lakehouse.rewrite import replace_rows
from chart_platform.quality.schemas import audit
from chart_platform.transform import attribution
from chart_platform_tests.attribution.attribution_oracle import Oracle, Row
from chart_platform_tests.transform.homes import Home, multiset

START = datetime(2026, 11, 2)
_NOTHING: Mapping[Any, Any] = {pa.int32(): 0, pa.int64(): 0, pa.bool_(): False}


def _row(table: Table, **given: Any) -> Row:
    return {c.name: _NOTHING.get(c.type) if c.required else None for c in table.columns} | given


def visit(session: str, start: datetime, visitor: str | None = "ann", channel: str = "Direct", **others: Any) -> Row:
    """A visit of ten minutes."""
    given = {
        "session_id": session,
        "user_id_hash": visitor,
        "session_start_ts": start,
        "session_end_ts": start + timedelta(minutes=10),
        "channel": channel,
        "event_dt": start.date(),
    }
    return _row(SILVER_SESSIONS, **given | others)


def click(identity: str, moment: datetime, session: str | None, cents: int | None = 100, **others: Any) -> Row:
    given = {"event_id": identity, "ts": moment, "session_id": session, "payout_cents": cents}
    return _row(FACT_AFFILIATE_CLICKS, **given | {"event_dt": moment.date()} | others)


def report(identity: str, of: Row | None, cents: int, days_later: int = 3, **others: Any) -> Row:
    """A conversion that a network reports, matched to a click or, without one, unmatched."""
    moment = (of["ts"] if of else START) + timedelta(days=days_later)
    given = {
        "network": "impact",
        "transaction_id": identity,
        "status": "approved",
        "event_ts": moment,
        "currency": "EUR",
        "commission_cents": cents,
        "due_cents": cents,
        "match": "matched" if of else "unknown_click",
        "click_event_id": of["event_id"] if of else None,
        "click_dt": of["event_dt"] if of else None,
        "click_ts": of["ts"] if of else None,
        "first_seen_at": moment,
        "last_seen_at": moment,
        "reports": 1,
        "history": [],
        "event_dt": moment.date(),
    }
    return _row(FACT_CONVERSIONS, **given | others)


Rows = dict[Table, list[Row]]


class World:
    """Rows of the sources, put into the tables of ``home`` and followed."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def put(self, table: Table, rows: Iterable[Row]) -> None:
        """Let rows come, in place of those with the same key."""
        self._replace(table, list(rows), keep=True)

    def take(self, table: Table, rows: Iterable[Row]) -> None:
        """Let rows go."""
        self._replace(table, list(rows), keep=False)

    def _replace(self, table: Table, rows: list[Row], keep: bool) -> None:
        if not rows:
            return
        fresh = pa.Table.from_pylist(rows, schema=table.arrow)
        lake, connection = self.home.lake, connect(self.home.settings)
        connection.register("keys", fresh.select(list(table.key)))
        key = ", ".join(table.key)
        doomed = f"({', '.join(f't.{name}' for name in table.key)}) in (select ({key}) from keys)"

        def decide(current: Any) -> Any:
            kept = fresh if keep else fresh.slice(0, 0)
            return replace_rows(connection, current, table, lake.files(current), doomed, kept)

        lake.commit(table, decide)
        connection.close()

    def follow(self) -> dict[str, Any]:
        return attribution.run(self.home.lake, audit)

    def oracle(self) -> Oracle:
        sources = (SILVER_SESSIONS, FACT_AFFILIATE_CLICKS, FACT_CONVERSIONS)
        return Oracle(self.home.settings, *(self.home.rows(table) for table in sources))

    def made(self) -> dict[str, Counter[str]]:
        tables = (ATTRIBUTION_JOURNEYS, ATTRIBUTION_WEIGHTS, FACT_ATTRIBUTION, ATTRIBUTION_DAILY)
        return {table.name: self.home.multiset(table) for table in tables}

    def assert_as_defined(self) -> None:
        """Every table holds what the oracle makes of the sources."""
        oracle = self.oracle()
        assert self.home.multiset(ATTRIBUTION_JOURNEYS) == multiset(oracle.journey_rows())
        assert self.home.multiset(ATTRIBUTION_WEIGHTS) == multiset(oracle.weight_rows())
        expected = oracle.fact_rows()
        names = set(expected[0]) if expected else set()
        facts = [{name: row[name] for name in row if name in names} for row in self.home.rows(FACT_ATTRIBUTION)]
        assert multiset(_sorted(facts)) == multiset(_sorted(expected))
        daily: Counter[tuple[Any, ...]] = Counter()
        cents: Counter[tuple[Any, ...]] = Counter()
        for row in self.home.rows(ATTRIBUTION_DAILY):
            key = tuple(row[name] for name in ("event_dt", "kind", "model", "channel", "currency"))
            daily[key] += row["conversions_millionths"]
            cents[key] += row["amount_cents"]
        assert sorted((*key, daily[key], cents[key]) for key in daily) == sorted(oracle.daily_rows())


def _sorted(rows: Iterable[Row]) -> Iterator[Row]:
    return (dict(sorted(row.items())) for row in rows)


CHANNELS = ("Direct", "Organic Search", "Paid Search", "Email")


def random_rows(seed: int, visitors: int = 6, days: int = 9) -> Rows:
    """Visits of some visitors over some days, some of them with clicks, some of these reported."""
    chance = random.Random(seed)
    visits: list[Row] = []
    clicks: list[Row] = []
    reports: list[Row] = []
    for number in range(visitors * 4):
        start = START + timedelta(minutes=chance.randrange(days * 24 * 60))
        visitor = chance.choice([*(f"u{n}" for n in range(visitors)), None])
        visits.append(visit(f"s{number:03d}", start, visitor, chance.choice(CHANNELS)))
    for number, of in enumerate(chance.sample(visits, len(visits) // 2)):
        moment = of["session_start_ts"] + timedelta(minutes=chance.randrange(11))
        session = of["session_id"] if chance.random() < 0.9 else None
        cents = chance.choice([None, 0, 1, 99, 12_345])
        clicks.append(click(f"c{number:03d}", moment, session, cents))
        if chance.random() < 0.4:
            of_click = clicks[-1] if chance.random() < 0.8 else None
            reports.append(report(f"t{number:03d}", of_click, chance.choice([0, 7, 250, -33]), chance.randrange(20)))
    reports.append(report("gone", click("gone", START + timedelta(days=1, hours=5), None), 40))
    return {SILVER_SESSIONS: visits, FACT_AFFILIATE_CLICKS: clicks, FACT_CONVERSIONS: reports}
