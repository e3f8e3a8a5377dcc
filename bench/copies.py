"""A larger day from a smaller one: the messages in bronze once more as other visitors', as often as asked.

Sending ten million messages and taking them in costs more than all that is measured on them. Ids of events, visits,
visitors and page views are others in each copy, times and all else are the same.
Belongs here: that. Does not belong here: measuring.
"""

from __future__ import annotations

from typing import Any

import duckdb

from bench.contenders.common import Job
from bench.contenders.ours import settings_of
from chart_platform.contracts.tables import BRONZE_EVENTS
from chart_platform.lakehouse.duck import connect, relation
from chart_platform.lakehouse.lake import Change, Lake
from chart_platform.lakehouse.progress import Progress, progress_of
from chart_platform.lakehouse.unload import unload

_MARKS = "ghijklmnopqrstuvwxyz"
"""Last letters of copied ids: no hexadecimal digits, so that they are nobody else's."""


def add(argument: dict[str, Any]) -> int:
    """Make every row of bronze.events one of ``argument["copies"]``; returns how many there are then."""
    lake = Lake(settings_of(Job.of(argument)))
    connection = connect(lake.settings)
    bronze = lake.load(BRONZE_EVENTS)
    progress = progress_of(bronze)
    assert progress is not None
    messages = relation(bronze, BRONZE_EVENTS, lake.files(bronze))
    end = max(progress.offsets.values())
    for number in range(1, argument["copies"]):
        changed = _changed(connection, messages, _MARKS[number - 1])
        connection.execute(
            f"create or replace temp view copied as select * replace ({changed}, kafka_offset + {number * end} as kafka_offset) "
            f"from {messages}"
        )
        files = unload(connection, bronze, BRONZE_EVENTS, "copied")
        offsets = {p: number * end + offset for p, offset in progress.offsets.items()}
        change = Change(add=files, progress=Progress(progress.topic, progress.topic_id, offsets, progress.days))
        lake.commit(BRONZE_EVENTS, lambda _current, change=change: change)  # type: ignore[misc]
    return sum(f.record_count for f in lake.files(lake.load(BRONZE_EVENTS)))


def _changed(connection: duckdb.DuckDBPyConnection, messages: str, mark: str) -> str:
    columns = connection.sql(f"select * from {messages} limit 0")
    types = dict(zip(columns.columns, columns.types, strict=True))
    found = [f"{_id(name, mark)} as {name}" for name in ("event_id", "page_view_id")]
    for struct, member in (("session", "session_id"), ("user", "user_id_hash")):
        members = ", ".join(
            f'"{name}" := {_id(value, mark) if name == member else value}'
            for name, _ in types[struct].children
            for value in [f'"{struct}"."{name}"']
        )
        found.append(f'case when "{struct}" is not null then struct_pack({members}) end as "{struct}"')
    return ", ".join(found)


def _id(value: str, mark: str) -> str:
    return f"nullif({value}, '')[:-2] || '{mark}'"
