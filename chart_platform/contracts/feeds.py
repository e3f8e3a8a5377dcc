"""The feeds of the lake: which topic fills which table.

Belongs here: that pairing, and whose rows are whose. Does not belong here: how messages become rows or how a batch of
a feed is committed (``transform``).
"""

from __future__ import annotations

from dataclasses import dataclass

from chart_platform.contracts.tables import BRONZE_DEAD_LETTERS, BRONZE_EVENTS, Table
from chart_platform.settings import Settings


@dataclass(frozen=True)
class Feed:
    """A topic, and the table whose snapshots hold how far it was taken in.

    ``chunk_messages`` bounds memory: a refused body may have a megabyte, where an event has less than one kilobyte.
    """

    name: str
    topic: str
    table: Table
    chunk_messages: int

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables that hold its messages. What is refused goes to bronze.dead_letters, which all feeds share."""
        return (self.table, BRONZE_DEAD_LETTERS) if self.may_refuse else (self.table,)

    @property
    def may_refuse(self) -> bool:
        """Whether messages can end elsewhere than in its table: what was refused once isn't judged again."""
        return self.table is not BRONZE_DEAD_LETTERS

    def own(self, table: Table) -> str:
        """SQL that holds for the rows ``t`` of ``table`` that came by this feed."""
        return f"t.topic = '{self.topic}'" if table is BRONZE_DEAD_LETTERS else "true"


def events_feed(settings: Settings) -> Feed:
    """What clients sent, to bronze.events."""
    return Feed("events", settings.kafka_topic, BRONZE_EVENTS, 50_000)


def letters_feed(settings: Settings) -> Feed:
    """What the edge refused, to bronze.dead_letters."""
    return Feed("dead_letters", settings.kafka_dlq_topic, BRONZE_DEAD_LETTERS, 500)


def feeds(settings: Settings) -> tuple[Feed, ...]:
    """All feeds, the one that money hangs on first."""
    return events_feed(settings), letters_feed(settings)
