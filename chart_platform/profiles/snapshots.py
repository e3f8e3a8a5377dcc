"""A snapshot of the user profiles as it comes from the source, and the check at the door.

Belongs here: what a source must give, and every problem of one that doesn't. Does not belong here: connecting to it
(``sources``), what changed (``history``).
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

import pyarrow as pa
import pyarrow.compute as pc

from chart_platform.contracts.tables import PROFILE_CHANGES

KEY = "user_id_hash"
ATTRIBUTES: tuple[str, ...] = ("crm_tier", "country", "signup_date", "marketing_email", "marketing_ads")
"""What a profile says. A change of one of them is a new state of the profile; ``updated_at`` alone is none."""
COLUMNS: tuple[str, ...] = (KEY, *ATTRIBUTES, "updated_at")
SCHEMA = pa.schema([PROFILE_CHANGES.arrow.field(name) for name in COLUMNS])
_NAMES = {pa.string(): "text", pa.date32(): "date", pa.bool_(): "boolean", pa.timestamp("us"): "timestamp"}


class ProfilesRefused(ValueError):
    """A snapshot with wrong columns or keys. The message names every problem; the last good state stays."""


@dataclass(frozen=True)
class Snapshot:
    """All profiles that ``source`` had at ``as_of`` (naive UTC), in the columns of ``SCHEMA``, one a user, by user.

    ``ignored`` names the columns that the source has beyond these: what nobody declared is not copied.
    """

    source: str
    as_of: datetime
    rows: pa.Table
    ignored: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """sha256 of what the profiles say. The same profiles give the same, in whatever order and whenever read."""
        lines = (
            json.dumps(list(row.values()), default=str) for row in self.rows.select([KEY, *ATTRIBUTES]).to_pylist()
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def snapshot(
    source: str,
    as_of: datetime,
    given: pa.Table,
    as_text: bool = False,
    foreign: Mapping[str, str] = MappingProxyType({}),
) -> Snapshot:
    """Check what a source gave. With ``as_text`` (CSV) values are read from text, else types must be right.

    ``foreign`` names the columns, with their type, that the source has in a type that has no place here.

    Raises:
        ProfilesRefused: naming every column that is missing or of another type, and keys that are null or doubled.
    """
    names = {name.strip().lower(): name for name in given.column_names}
    problems = [f"{name} is there {n} times" for name, n in _counted(given.column_names).items() if n > 1]
    if problems:
        raise ProfilesRefused(f"{source}: {'; '.join(problems)}.")
    ignored = tuple(sorted(set(names) - set(COLUMNS)))
    columns: list[pa.ChunkedArray] = []
    for field in SCHEMA:
        if field.name not in names:
            near = difflib.get_close_matches(field.name, ignored, n=1, cutoff=0.5)
            problems.append(f"column {field.name} is missing" + (f" (renamed to {near[0]}?)" if near else ""))
            continue
        column = given.column(names[field.name])
        if names[field.name] in foreign:
            problems.append(f"column {field.name}: is {foreign[names[field.name]]}, expected {_NAMES[field.type]}")
            continue
        try:
            columns.append(_read(column, field.type) if as_text else _typed(column, field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
            problems.append(f"column {field.name}: {error}")
    if problems:
        there = ", ".join(given.column_names) or "none"
        raise ProfilesRefused(f"{source}: {'; '.join(problems)}. Columns there: {there}.")
    rows = pa.table(columns, schema=pa.schema([pa.field(f.name, f.type) for f in SCHEMA]))
    if nulls := rows[KEY].null_count:
        raise ProfilesRefused(f"{source}: {nulls} profiles have no {KEY}.")
    if doubled := rows.num_rows - pc.count_distinct(rows[KEY]).as_py():
        raise ProfilesRefused(f"{source}: {doubled} profiles have a {KEY} that another one has too.")
    return Snapshot(source, as_of, rows.cast(SCHEMA).sort_by(KEY), ignored)


def _counted(names: Sequence[str]) -> Mapping[str, int]:
    lowered = [name.strip().lower() for name in names]
    return {name: lowered.count(name) for name in lowered}


def _typed(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    """The column in the wanted type, if that is what it is; empty texts are null."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_null(kind):
        return column.cast(wanted)
    if pa.types.is_timestamp(wanted) and pa.types.is_timestamp(kind):
        # A time with a zone is an instant; one without is UTC, as all times here. Finer parts are cut.
        return pc.floor_temporal(column.cast(pa.timestamp(kind.unit)), unit="millisecond").cast(wanted)
    texts = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if pa.types.is_string(wanted) and texts:
        return _empty_to_null(column.cast(wanted))
    if kind == wanted:
        return column
    raise ValueError(f"is {kind}, expected {_NAMES[wanted]}")


def _read(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    texts = _empty_to_null(column.cast(pa.string()))
    if pa.types.is_timestamp(wanted):
        read = [_moment(value) for value in texts.to_pylist()]
        return pa.chunked_array([pa.array(read, wanted)])
    return texts.cast(wanted)


def _moment(value: str | None) -> datetime | None:
    if value is None:
        return None
    found = datetime.fromisoformat(value)
    utc = found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo is not None else found
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


def _empty_to_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    trimmed = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)
