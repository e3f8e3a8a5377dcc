"""Where profiles come from: a table of a PostgreSQL database, or files in a drop folder.

Belongs here: reading a source as it is. Does not belong here: whether that will do (``snapshots``).
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import csv, parquet

from chart_platform.lakehouse.drop import Drop, Dropped
from chart_platform.profiles.snapshots import COLUMNS, ProfilesRefused, Snapshot, snapshot
from chart_platform.settings import Settings

_CONNECT_SECONDS = 10
_STATEMENT_MS = 300_000
_ROWS_AT_ONCE = 50_000
_STAMP = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[T_](\d{2})[-:]?(\d{2})(?:[-:]?(\d{2}))?)?")
# Type ids are fixed in PostgreSQL's catalog: text, varchar, char(n), name, uuid; bool; date; timestamp with zone, without.
_TEXTS = {25, 1043, 1042, 19, 2950}
_TYPES: dict[int, pa.DataType] = {
    **dict.fromkeys(_TEXTS, pa.string()),
    16: pa.bool_(),
    1082: pa.date32(),
    1184: pa.timestamp("us", "UTC"),
    1114: pa.timestamp("us"),
}


class Unreachable(RuntimeError):
    """The source can't be asked now. The message holds no credentials."""


def configured(settings: Settings) -> str:
    """The source by a name that may be shown."""
    if settings.profiles_dsn is not None:
        return "postgresql: " + ("query" if settings.profiles_query else settings.profiles_table)
    return settings.profiles_drop_url


@dataclass(frozen=True)
class Offer:
    """A snapshot that can be read: from where, and how.

    ``read`` raises :class:`Unreachable` if the source can't be asked, ``ProfilesRefused`` if what it has can't be used.
    """

    source: str
    read: Callable[[], Snapshot]


def offers(settings: Settings, since: datetime | None) -> Iterator[Offer]:
    """What the source has, oldest first: the database as it is now, or every file that speaks of a time after ``since``."""
    if settings.profiles_dsn is not None:
        yield Offer(configured(settings), lambda: _from_postgres(settings))
        return
    drop = Drop(settings, settings.profiles_drop_url)
    for as_of, _, file in sorted((_as_of(file), file.name, file) for file in drop.files()):
        if since is None or as_of > since:
            yield Offer(f"{drop.url}/{file.name}", partial(_from_file, drop, file, as_of))


def _from_postgres(settings: Settings) -> Snapshot:
    import psycopg
    from psycopg import sql

    source = configured(settings)
    assert settings.profiles_dsn is not None
    parts = [sql.Identifier(part) for part in settings.profiles_table.split(".")]
    query: Any = sql.SQL("select * from {}").format(sql.SQL(".").join(parts))
    if settings.profiles_query:
        query = sql.SQL("select * from ({}) as profiles").format(sql.SQL(settings.profiles_query))
    try:
        with (
            psycopg.connect(
                settings.profiles_dsn.get_secret_value(),
                connect_timeout=_CONNECT_SECONDS,
                application_name="chart-platform",
                options=f"-c default_transaction_read_only=on -c statement_timeout={_STATEMENT_MS} -c timezone=UTC",
            ) as connection,
            # A named cursor streams: the client never holds more than a part of the table beside its own columns.
            connection.cursor("profiles") as cursor,
        ):
            # One statement sees one moment of the database, and that is its transaction's time.
            as_of = connection.execute("select date_trunc('milliseconds', now() at time zone 'UTC')").fetchall()[0][0]
            cursor.itersize = _ROWS_AT_ONCE
            cursor.execute(query)
            table, foreign = _arrow(cursor)
    except psycopg.OperationalError as error:
        raise Unreachable(f"{source}: {_first_line(error)}") from None
    except psycopg.Error as error:
        raise ProfilesRefused(f"{source}: {_first_line(error)}") from None
    return snapshot(source, as_of, table, foreign=foreign)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _arrow(cursor: Any) -> tuple[pa.Table, dict[str, str]]:
    """The rows, of our columns only, as what nobody declared is not copied; and our columns of types we have no place for.

    Columns that are left out are there as nulls, so that they can be told of.
    """
    names = [column.name for column in cursor.description]
    kinds = [_TYPES.get(column.type_code) for column in cursor.description]
    ours = [name.strip().lower() in COLUMNS for name in names]
    foreign = {
        column.name: column.type_display
        for column, kind, mine in zip(cursor.description, kinds, ours, strict=True)
        if mine and kind is None
    }
    read = [kind if mine else None for kind, mine in zip(kinds, ours, strict=True)]
    parts = [_part(names, read, [])]
    while rows := cursor.fetchmany(_ROWS_AT_ONCE):
        parts.append(_part(names, read, rows))
    return pa.concat_tables(parts), foreign


def _part(names: list[str], kinds: list[pa.DataType | None], rows: list[tuple[Any, ...]]) -> pa.Table:
    arrays = []
    for i, kind in enumerate(kinds):
        if kind is None:
            arrays.append(pa.nulls(len(rows)))
        elif kind == pa.string():
            # A uuid comes as an object.
            arrays.append(pa.array([None if row[i] is None else str(row[i]) for row in rows], kind))
        else:
            arrays.append(pa.array([row[i] for row in rows], kind))
    return pa.Table.from_arrays(arrays, names)


def _as_of(file: Dropped) -> datetime:
    """The moment that a file speaks of: the date (and time, UTC) in its name, else when it was written."""
    if match := _STAMP.search(PurePosixPath(file.name).name):
        day, hour, minute, second = match.groups()
        try:
            return datetime.fromisoformat(f"{day}T{hour or '00'}:{minute or '00'}:{second or '00'}")
        except ValueError:
            pass
    return file.modified.replace(microsecond=file.modified.microsecond // 1000 * 1000)


def _from_file(drop: Drop, file: Dropped, as_of: datetime) -> Snapshot:
    source = f"{drop.url}/{file.name}"
    suffix = PurePosixPath(file.name).suffix.lower()
    data = drop.read(file)
    try:
        if suffix == ".parquet":
            return snapshot(source, as_of, parquet.read_table(io.BytesIO(data)))
        if suffix == ".csv":
            return snapshot(source, as_of, _read_csv(data), as_text=True)
    except pa.ArrowInvalid as error:
        raise ProfilesRefused(f"{source}: can't be read: {_first_line(error)}") from None
    raise ProfilesRefused(f"{source}: a file of profiles must end in .parquet or .csv.")


def _read_csv(data: bytes) -> pa.Table:
    header = csv.open_csv(io.BytesIO(data), parse_options=csv.ParseOptions(newlines_in_values=True)).schema.names
    return csv.read_csv(
        io.BytesIO(data),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=True),
    )


def now() -> datetime:
    """This moment, naive UTC, milliseconds."""
    moment = datetime.now(UTC).replace(tzinfo=None)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
