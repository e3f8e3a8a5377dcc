"""How far the events of one visit have come: bronze, silver, gold, each with the moment it got there.

Belongs here: asking the tables, cheaply enough for a page that asks every two seconds. Does not belong here: HTTP
(``app``), or what the browser knows by itself.

A row of bronze has its Kafka offset, and every snapshot of every table the offsets that it includes: so the first
snapshot past the offset is the moment the event was in that table. Nothing is instrumented, and nothing guessed.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from pyiceberg.expressions import And, BooleanExpression, EqualTo, GreaterThan, GreaterThanOrEqual, Or
from pyiceberg.table import Table as IcebergTable

from chart_platform.contracts.tables import BRONZE_EVENTS, FACT_FUNNEL, SILVER_EVENTS, Table
from chart_platform.lakehouse.duck import connect, relation
from chart_platform.lakehouse.lake import Lake
from chart_platform.lakehouse.progress import KEY, Progress
from chart_platform.settings import Settings

MOST_EVENTS: Final = 100
LOOKS_BACK: Final = timedelta(hours=24)
"""A visit is no longer than this."""

_SESSION: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REMEMBERED: Final = 256

_BRONZE: Final = """
select
    event_id,
    event_type,
    strftime(ts, '%Y-%m-%dT%H:%M:%S.%gZ') as ts,
    kafka_partition,
    kafka_offset,
    epoch_ms(kafka_ts) as kafka_at,
    ctx.page_url as page_url,
    chart.action as action,
    chart.control_id as control_id,
    chart.control_value as control_value,
    affiliate.link_id as link_id,
    affiliate.payout_cents as payout_cents
from {source}
where session.session_id = $session_id or list_contains($event_ids, event_id)
qualify row_number() over (partition by event_id order by kafka_ts, kafka_partition, kafka_offset) = 1
"""
_SILVER: Final = """
select event_id from {source}
where session_id = $session_id or list_contains($event_ids, event_id)
"""
_GOLD: Final = """
select session_id, saw_comparison, interacted_chart, clicked_affiliate, affiliate_target, payout_cents, ab_variant
from {source}
where session_id = $session_id
order by session_start_ts desc
limit 1
"""


class BadQuestion(ValueError):
    """What was asked for is no event id or no session id."""


@dataclass(frozen=True)
class Question:
    """A visit, and events of it that may not name it."""

    session_id: str | None
    event_ids: tuple[str, ...]

    @classmethod
    def parse(cls, session_id: str, event_ids: str) -> Question:
        """From the text of a query; ids comma-separated.

        Raises:
            BadQuestion: naming what is wrong.
        """
        ids = [one for one in event_ids.split(",") if one]
        if len(ids) > MOST_EVENTS:
            raise BadQuestion(f"event_ids: {len(ids)} of them, and at most {MOST_EVENTS} are looked up at once")
        if session_id and not _SESSION.fullmatch(session_id):
            raise BadQuestion("session_id: is none that a tracer makes")
        try:
            parsed = sorted(str(UUID(one)) for one in ids if len(one) == 36)
        except ValueError:
            parsed = []
        if len(parsed) != len(ids):
            raise BadQuestion("event_ids: one of them is no UUID")
        return cls(session_id or None, tuple(parsed))


class Journeys:
    """Answers from the tables of one home. To be used by one thread."""

    def __init__(self, settings: Settings) -> None:
        self._lake = Lake(settings)
        self._connection = connect(settings)
        self._known: OrderedDict[tuple[str, int, Question], list[dict[str, Any]]] = OrderedDict()

    def look(self, question: Question, now: datetime | None = None) -> dict[str, Any]:
        """``{"events": {id: {event, where, at}}, "visit": row of gold.fact_funnel or None}``; times are epoch ms."""
        since = (now or datetime.now(UTC)).replace(tzinfo=None) - LOOKS_BACK
        bronze, arrived = self._ask(BRONZE_EVENTS, _BRONZE, question, _ingested(since))
        silver, kept = self._ask(SILVER_EVENTS, _SILVER, question, _happened(since))
        gold, visits = self._ask(
            FACT_FUNNEL,
            _GOLD,
            question,
            GreaterThanOrEqual("event_dt", (since - timedelta(hours=1)).date().isoformat()),
        )
        in_silver = {row["event_id"] for row in kept}
        visit = visits[0] if visits else None
        commits = {"bronze": _commits(bronze), "silver": _commits(silver), "gold": _commits(gold)}
        events = {}
        for row in arrived:
            reached = {"bronze": True, "silver": row["event_id"] in in_silver}
            reached["gold"] = reached["silver"] and visit is not None
            where = row["kafka_partition"], row["kafka_offset"]
            at = {stage: _first_past(commits[stage], *where) if there else None for stage, there in reached.items()}
            events[row["event_id"]] = {
                "event": _as_sent(row),
                "where": {"partition": where[0], "offset": where[1]},
                "at": {"kafka": row["kafka_at"], **at},
            }
        return {"events": events, "visit": visit}

    def _ask(
        self, declared: Table, sql: str, question: Question, recent: BooleanExpression
    ) -> tuple[IcebergTable, list[dict[str, Any]]]:
        """The rows that answer; from memory as long as the table has not changed."""
        table = self._lake.load(declared)
        snapshot = table.current_snapshot()
        key = (declared.full_name, snapshot.snapshot_id if snapshot is not None else 0, question)
        if key not in self._known:
            source = relation(table, declared, self._lake.files(table, recent))
            given = {"session_id": question.session_id, "event_ids": list(question.event_ids)}
            asked = {name: value for name, value in given.items() if f"${name}" in sql}
            answer = self._connection.execute(sql.format(source=source), asked)
            names = [column[0] for column in answer.description]
            self._known[key] = [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return table, self._known[key]


def _ingested(since: datetime) -> BooleanExpression:
    """Files of bronze from that hour on: an event is never ingested before it happens."""
    day = since.date().isoformat()
    same_day = And(EqualTo("ingest_dt", day), GreaterThanOrEqual("hour", f"{since:%H}"))
    return Or(GreaterThan("ingest_dt", day), same_day)


def _happened(since: datetime) -> BooleanExpression:
    day = since.date().isoformat()
    return Or(
        GreaterThan("event_dt", day), And(EqualTo("event_dt", day), GreaterThanOrEqual("event_hour", f"{since:%H}"))
    )


def _commits(table: IcebergTable) -> Sequence[tuple[int, Progress]]:
    """When the table took in what, newest first: epoch ms and the offsets from then on."""
    found = []
    for snapshot in table.snapshots():
        text = snapshot.summary.additional_properties.get(KEY) if snapshot.summary is not None else None
        if text:
            found.append((snapshot.timestamp_ms, text))
    return _Commits(sorted(found, reverse=True))


def _first_past(commits: Sequence[tuple[int, Progress]], partition: int, offset: int) -> int | None:
    """The oldest of the newest commits that include the offset."""
    first = None
    for at, progress in commits:
        if progress.offsets.get(partition, 0) <= offset:
            break
        first = at
    return first


class _Commits(Sequence[tuple[int, Progress]]):
    """Parsed when looked at: of a day's commits, only the last few are."""

    def __init__(self, texts: list[tuple[int, str]]) -> None:
        self._texts = texts
        self._parsed: dict[int, Progress] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, index: Any) -> Any:
        at, text = self._texts[index]
        if index not in self._parsed:
            self._parsed[index] = Progress.from_json(text)
        return at, self._parsed[index]


def _as_sent(row: dict[str, Any]) -> dict[str, Any]:
    """The event as the page knows its own, as far as it is shown."""
    event: dict[str, Any] = {name: row[name] for name in ("event_id", "event_type", "ts")}
    event["ctx"] = {"page_url": row["page_url"]}
    if row["action"] is not None:
        event["chart"] = {name: row[name] for name in ("action", "control_id", "control_value")}
    if row["link_id"] is not None:
        event["affiliate"] = {name: row[name] for name in ("link_id", "payout_cents")}
    return event
