"""The event contract: one JSON Schema file, and the validators and parsers derived from it.

Belongs here: loading the newest ``schemas/chart_event-X.Y.Z.json``, the typed fast decoder that accepts a
subset of it, the DuckDB ``from_json`` structure, and the slow explanation of why bytes are no event.
Does not belong here: Kafka, tables, or what to do with a rejected message.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import jsonschema_rs
import msgspec
import orjson

SCHEMA_FOLDER = Path(__file__).parent / "schemas"

# RFC 3339 with the field ranges that a calendar-blind pattern can check. Narrower than `format: date-time`
# (no lower-case t/z, no leap second), as the fast path may only accept what the schema accepts.
_DATE_TIME = (
    r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    r"(\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
_UUID = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
_FORMATS = {"uuid": _UUID, "date-time": _DATE_TIME}
_SURROGATE = re.compile("[\ud800-\udfff]")
_MAX_MESSAGE_CHARS = 300


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason why bytes are no event. ``code`` is stable, ``pointer`` a JSON pointer (RFC 6901), ``message`` for people."""

    code: str
    pointer: str
    message: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """A valid event: ``text`` is its JSON as the decoder shall read it, ``extra`` the members that no column holds."""

    text: str
    extra: str | None


def schema_files() -> dict[tuple[int, int, int], Path]:
    """Every released schema file by version, oldest first."""
    found = {}
    for path in SCHEMA_FOLDER.glob("chart_event-*.json"):
        major, minor, patch = path.stem.removeprefix("chart_event-").split(".")
        found[int(major), int(minor), int(patch)] = path
    return dict(sorted(found.items()))


@cache
def event_schema() -> dict[str, Any]:
    """The newest event schema. It validates every 1.x event, as versions only ever add."""
    path = list(schema_files().values())[-1]
    return cast(dict[str, Any], json.loads(path.read_text()))


@cache
def schema_version() -> str:
    return ".".join(map(str, list(schema_files())[-1]))


@cache
def schema_hash() -> str:
    """The sha256 of the newest schema's file, as the lock on released files has it."""
    return hashlib.sha256(list(schema_files().values())[-1].read_bytes()).hexdigest()


@cache
def validator() -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(event_schema(), validate_formats=True)


def _types(schema: dict[str, Any]) -> list[str]:
    declared = schema.get("type", [])
    return [declared] if isinstance(declared, str) else list(declared)


def _fast_type(name: str, schema: dict[str, Any], ingest: bool = False) -> Any:
    """A msgspec type that accepts a subset of ``schema``. An unknown keyword is an error: silence would accept too much.

    With ``ingest``, for :func:`ingest_type`: nothing can be put into a member that is the edge's, and a member that
    may be a number stays as sent, as a double would round it (of any type: whoever reads it must judge it).
    """
    known = {
        "type",
        "enum",
        "format",
        "pattern",
        "minimum",
        "maximum",
        "items",
        "properties",
        "required",
        "default",
        "description",
        "readOnly",
    }
    if unknown := set(schema) - known:
        raise ValueError(
            f"Event schema: keyword {sorted(unknown)} at {name!r} has no fast validator; teach _fast_type."
        )
    if ingest and schema.get("readOnly"):
        return msgspec.UnsetType
    if "enum" in schema:
        return Literal[tuple(schema["enum"])]
    if ingest and "number" in _types(schema):
        return msgspec.Raw
    options: list[Any] = []
    for kind in _types(schema):
        match kind:
            case "null":
                options.append(None)
            case "boolean":
                options.append(bool)
            case "string":
                # Patterns are checked on columns (see :func:`patterns`): a call of `re` costs 0.4 µs a value.
                options.append(str)
            case "integer":
                options.append(Annotated[int, msgspec.Meta(ge=schema.get("minimum"), le=schema.get("maximum"))])
            case "number":
                options += [int, float]
            case "array":
                options.append(list[_fast_type(f"{name}_item", schema["items"], ingest)])  # type: ignore[misc]
            case "object":
                options.append(_fast_struct(name, schema, ingest))
            case _:
                raise ValueError(f"Event schema: type {kind!r} at {name!r} has no fast validator; teach _fast_type.")
    result = options[0]
    for option in options[1:]:
        result = result | option
    return result


def _fast_struct(name: str, schema: dict[str, Any], ingest: bool = False) -> type[msgspec.Struct]:
    required = schema.get("required", [])
    fields: list[Any] = []
    for field, sub in schema["properties"].items():
        kind = _fast_type(field, sub, ingest)
        fields.append((field, kind) if field in required else (field, kind | msgspec.UnsetType, msgspec.UNSET))
    fields.sort(key=len)
    # gc=False: 10 objects an event that hold no cycles, freed at once.
    return msgspec.defstruct(name, fields, forbid_unknown_fields=True, gc=False)


@cache
def fast_decoder() -> msgspec.json.Decoder[Any]:
    """Decodes bytes to a struct, or raises. What it accepts is valid but for the ``allOf`` conditions, patterns and
    real calendar dates, which the decoder checks on columns; what it refuses may still be valid (see :func:`explain`).
    """
    return msgspec.json.Decoder(_fast_struct("ChartEvent", event_schema()))


@cache
def _offered(server: bool) -> dict[str, Any]:
    """The contract as the edge asks for it: with consent, and what a server may say of its visitor no longer readOnly."""
    schema = copy.deepcopy(event_schema())
    user = schema["properties"]["user"]
    user["required"] = ["consent"]
    user["properties"]["consent"]["type"] = "object"
    if server:
        del user["properties"]["geo_country"]["readOnly"]
    return schema


@cache
def ingest_schema(server: bool = False) -> dict[str, Any]:
    """What a client may send: the contract without its readOnly members, and with ``user.consent`` required.

    ``server`` is the view for server keys, which may set ``/user/geo_country``. Nested objects stay open, so that a
    readOnly member in one is for the edge to find: see :func:`read_only`.
    """

    def view(schema: dict[str, Any]) -> dict[str, Any]:
        if "properties" not in schema:
            return schema
        kept = {name: view(sub) for name, sub in schema["properties"].items() if not sub.get("readOnly")}
        return schema | {"properties": kept}

    return view(_offered(server))


@cache
def read_only(server: bool = False) -> tuple[tuple[str, ...], ...]:
    """Paths of the members that only the edge may set."""

    def paths(schema: dict[str, Any], above: tuple[str, ...]) -> list[tuple[str, ...]]:
        found: list[tuple[str, ...]] = []
        for name, sub in schema.get("properties", {}).items():
            found += [(*above, name)] if sub.get("readOnly") else paths(sub, (*above, name))
        return found

    return tuple(paths(_offered(server), ()))


@cache
def ingest_type(server: bool = False) -> type[msgspec.Struct]:
    """What a client sent as a struct that has a place for what the edge adds. Decoding to it accepts what
    :func:`fast_decoder` does, of :func:`ingest_schema`, but for members that may be a number: these are ``msgspec.Raw``.
    """
    return _fast_struct("SentEvent", _offered(server), ingest=True)


def member_type(struct: Any, member: str) -> Any:
    """The struct type of the object ``member`` of a decoder's ``struct``."""
    options = get_args(struct.__annotations__[member]) or (struct.__annotations__[member],)
    return next(option for option in options if isinstance(option, type) and issubclass(option, msgspec.Struct))


@cache
def patterns() -> dict[str, str]:
    """What texts at the top of an event must match as a whole, as RE2 reads it: a subset of what the schema allows.

    Raises:
        ValueError: a nested member has a pattern or format, which nothing checks on the fast way.
    """
    found = {}
    for member, schema in event_schema()["properties"].items():
        if "format" in schema:
            found[member] = _FORMATS[schema["format"]]
        elif "pattern" in schema:
            found[member] = schema["pattern"]
        for nested in schema.get("properties", {}).values():
            if re.search(r'"(format|pattern)":', json.dumps(nested)):
                raise ValueError(f"Event schema: a pattern below {member!r} has no fast check; teach decode.sql.")
    return found


@cache
def conditions() -> dict[str, str]:
    """The schema's ``allOf`` as ``{event_type: member that must be an object}``."""
    found = {}
    for clause in event_schema()["allOf"]:
        (member,) = clause["then"]["required"]
        found[clause["if"]["properties"]["event_type"]["const"]] = member
    return found


def _duckdb_structure(schema: dict[str, Any]) -> Any:
    kinds = [k for k in _types(schema) if k != "null"]
    if kinds == ["object"]:
        return {name: _duckdb_structure(sub) for name, sub in schema["properties"].items()}
    if kinds == ["array"]:
        return [_duckdb_structure(schema["items"])]
    if kinds == ["integer"]:
        return "BIGINT"
    if kinds == ["boolean"]:
        return "BOOLEAN"
    return "VARCHAR"


@cache
def duckdb_structure() -> str:
    """The structure argument of DuckDB's ``from_json`` for an event (dates stay text)."""
    return json.dumps(_duckdb_structure(event_schema()))


def pointer(path: Iterable[str | int]) -> str:
    """``path`` as a JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _short(message: str) -> str:
    return message if len(message) <= _MAX_MESSAGE_CHARS else message[:_MAX_MESSAGE_CHARS] + "…"


def well_formed(value: Any) -> Any:
    """Replace lone surrogates by U+FFFD, as a browser's ``toWellFormed`` does."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [well_formed(item) for item in value]
    if isinstance(value, dict):
        return {well_formed(key): well_formed(item) for key, item in value.items()}
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is infinity when read as a double")
    return number


def _integer(text: str) -> int | float:
    """As orjson reads it: what 64 bits don't hold is a float."""
    approximate = _finite(text)
    return exact if -(2**63) <= (exact := int(text)) < 2**64 else approximate


def parse(value: bytes) -> Any:
    """Parse one JSON text strictly; a lone surrogate escape becomes U+FFFD.

    Raises:
        UnicodeDecodeError: the bytes are not UTF-8.
        ValueError: the text is not JSON, or nests too deep to be read.
    """
    text = value.decode("utf-8")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        if "\\u" not in text:
            raise
    # orjson refuses the whole text for one lone surrogate in a page title; the json module reads it.
    try:
        return well_formed(json.loads(text, parse_constant=_refuse_constant, parse_int=_integer, parse_float=_finite))
    except RecursionError:
        raise ValueError("nested too deep") from None


def normalise(schema: dict[str, Any], value: Any) -> Any:
    """Write what ``schema`` allows in the one form that the decoders read: 500.0 for an integer, a lower-case `t`.

    ``value`` is as :func:`parse` gives it; numbers may also be ``msgspec.Raw``, their text.
    """
    kinds = _types(schema)
    if isinstance(value, str) and schema.get("format") == "date-time":
        return value.upper()
    if isinstance(value, float | msgspec.Raw) and "integer" in kinds and "number" not in kinds:
        return int(float(value if isinstance(value, float) else bytes(value)))
    if isinstance(value, dict) and "properties" in schema:
        return {k: normalise(schema["properties"].get(k, {}), v) for k, v in value.items()}
    return value


def unmodelled(schema: dict[str, Any], value: Any) -> dict[str, Any]:
    """The members of nested objects that no column holds, as a sparse copy of the event."""
    found: dict[str, Any] = {}
    for key, item in value.items():
        sub = schema["properties"].get(key)
        if sub is None:
            found[key] = item
        elif isinstance(item, dict) and "properties" in sub and (deeper := unmodelled(sub, item)):
            found[key] = deeper
    return found


def explain(value: bytes | None) -> Accepted | list[Reason]:
    """Judge one message by the full contract: the event, or every reason why it is none."""
    if value is None:
        return [Reason("empty", "", "The message has no value.")]
    try:
        event = parse(value)
    except UnicodeDecodeError as error:
        return [Reason("invalid_utf8", "", f"Byte {error.start} is not UTF-8: {error.reason}.")]
    except ValueError as error:
        return [Reason("invalid_json", "", _short(str(error)))]
    try:
        reasons = [
            Reason(f"schema_{error.schema_path[-1]}", pointer(error.instance_path), _short(error.message))
            for error in validator().iter_errors(event)
        ]
    except ValueError as error:  # 255 levels: the validator's recursion limit
        return [Reason("schema_depth", "", _short(str(error)))]
    if reasons:
        return reasons
    extra = unmodelled(event_schema(), event)
    try:
        text = orjson.dumps(normalise(event_schema(), event)).decode()
        return Accepted(text, orjson.dumps(extra).decode() if extra else None)
    except orjson.JSONEncodeError as error:  # 254 levels, in members that the validator does not look into
        return [Reason("schema_depth", "", _short(str(error)))]
