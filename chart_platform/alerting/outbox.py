"""What has been told and what is still to be delivered, in one small SQLite file.

Belongs here: admission of alerts in one transaction, so that two sensors never tell one thing twice, and the queue of
messages that Slack did not take yet. Does not belong here: the decision itself (``routing``), and sending (``slack``).

Delivery is at least once: a process that dies between Slack's answer and :meth:`Outbox.settle` leaves a message that
is sent again once its claim ends.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from chart_platform.alerting.messages import Alert, Message, compose
from chart_platform.alerting.routing import REMEMBER_FOR, Send, Silence, Told, decide
from chart_platform.alerting.slack import Outcome, Unavailable

# Longer than any evaluation of a sensor, so that nobody else sends what is being sent.
CLAIM = timedelta(minutes=2)
FIRST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(hours=1)
# An alert older than this is history; its text is in the log since its first failure.
GIVE_UP_AFTER = timedelta(days=1)

_SCHEMA = """
create table if not exists told (
    key text not null, kind text not null, run_id text not null, root_run_id text not null,
    at text not null, held_back integer not null
);
create table if not exists message (
    id integer primary key, channel text not null, text text not null, blocks text not null,
    created_at text not null, attempts integer not null default 0, not_before text not null
);
"""


@dataclass(frozen=True, slots=True)
class Pending:
    """A claimed message. ``attempts`` counts the one that its claim is for."""

    id: int
    channel: str
    message: Message
    created_at: datetime
    attempts: int


class Outbox:
    def __init__(self, path: Path) -> None:
        self._path = path

    def admit(self, alert: Alert, channel: str, now: datetime) -> Send | Silence:
        """Decide on the alert, remember the decision, and queue its message if it is to be told."""
        with self._transaction() as db:
            db.execute("delete from told where at < ?", (_text(now - REMEMBER_FOR),))
            rows = db.execute("select key, kind, run_id, root_run_id, at, held_back from told").fetchall()
            history = [
                Told(key, kind, run_id, root_run_id, datetime.fromisoformat(at), bool(held_back))
                for key, kind, run_id, root_run_id, at, held_back in rows
            ]
            decision = decide(alert, history, now)
            silenced_news = isinstance(decision, Silence) and decision.held_back
            if isinstance(decision, Send) or silenced_news:
                db.executemany(
                    "insert into told values (?, ?, ?, ?, ?, ?)",
                    [
                        (f.key, f.kind, alert.run_id, alert.root_run_id, _text(now), silenced_news)
                        for f in alert.failures
                    ],
                )
            if isinstance(decision, Send):
                message = compose(alert, decision.note)
                db.execute(
                    "insert into message (channel, text, blocks, created_at, not_before) values (?, ?, ?, ?, ?)",
                    (channel, message.text, json.dumps(message.blocks), _text(now), _text(now)),
                )
        return decision

    def claim(self, now: datetime) -> Pending | None:
        """The oldest message that may be tried now. A channel that a try failed on rests as a whole, to keep the order."""
        with self._transaction() as db:
            row = db.execute(
                """
                select id, channel, text, blocks, created_at, attempts from message
                where not_before <= :now
                and channel not in (select channel from message where attempts > 0 and not_before > :now)
                order by id limit 1
                """,
                {"now": _text(now)},
            ).fetchone()
            if row is None:
                return None
            db.execute(
                "update message set attempts = attempts + 1, not_before = ? where id = ?", (_text(now + CLAIM), row[0])
            )
        message = Message(row[2], json.loads(row[3]))
        return Pending(row[0], row[1], message, datetime.fromisoformat(row[4]), row[5] + 1)

    def settle(self, pending: Pending, outcome: Outcome, now: datetime) -> bool:
        """Forget the message, or put it off; whether it will be tried again."""
        again = isinstance(outcome, Unavailable) and now - pending.created_at < GIVE_UP_AFTER
        with self._transaction() as db:
            if isinstance(outcome, Unavailable) and again:
                wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(pending.attempts - 1, 10))
                not_before = now + max(wait, timedelta(seconds=outcome.retry_after))
                db.execute("update message set not_before = ? where id = ?", (_text(not_before), pending.id))
            else:
                db.execute("delete from message where id = ?", (pending.id,))
        return again

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=10, isolation_level=None)) as db:
            db.executescript(_SCHEMA)
            # Taken before reading: what is decided from the history must still be true when it is written.
            db.execute("begin immediate")
            with db:
                yield db


def _text(moment: datetime) -> str:
    """ISO 8601 of one width, so that text compares as time does."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
