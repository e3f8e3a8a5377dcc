"""Whether a new version of a JSON Schema may replace an old one, and whether the released files are as released.

Belongs here: the proof that a newer schema takes every event of an older one and keeps its columns, and the lock on
released schema files. Does not belong here: validating events (see ``events``) or deriving tables (see ``tables``).

What is promised. An event that is valid under the old version, and uses only the properties it declares, is valid
under the new one; and whoever reads the old version's columns finds each of them, of the same type. Optional
properties may come and a column may become nullable. The limit "only declared properties" is there because nested
objects are open: any name an event could have smuggled into ``user`` would otherwise never be free for a declaration.

How it is judged. :func:`_rejections` proves that whatever satisfies all of the *old* facts satisfies a *new* schema. It
proves or reports: what it cannot prove is a violation, and so is a keyword that it does not know.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import jsonschema_rs

LOCK_FILE = "schemas.lock"
DIALECT = "https://json-schema.org/draft/2020-12/schema"

_FILE_NAME = re.compile(r"chart_event-(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)\.json")
_LOCK_LINE = re.compile(r"(?P<sha>[0-9a-f]{64})  (?P<name>\S+)")

_ANNOTATIONS = frozenset(
    {"$comment", "$id", "$schema", "default", "deprecated", "description", "examples", "readOnly", "title", "writeOnly"}
)
_BRANCHES = ("if", "then", "else")
# Judged by equality: whether one pattern, format or divisor implies another is not ours to decide.
_SAME_OR_ABSENT = {"pattern": "string", "format": "string", "multipleOf": "number"}
# Keyword -> the JSON type it bears on, and whether a larger value is the stricter one.
_BOUNDS = {
    "minimum": ("number", True),
    "exclusiveMinimum": ("number", True),
    "minLength": ("string", True),
    "minItems": ("array", True),
    "maximum": ("number", False),
    "exclusiveMaximum": ("number", False),
    "maxLength": ("string", False),
    "maxItems": ("array", False),
}
_JUDGED = (
    _ANNOTATIONS
    | _SAME_OR_ABSENT.keys()
    | _BOUNDS.keys()
    | {"type", "enum", "const", "properties", "required", "items", "allOf", "unevaluatedProperties", *_BRANCHES}
)
# `number` is split so that "integer is a number" and "1.0 is an integer" follow from set inclusion.
_TYPES = {
    "null": {"null"},
    "boolean": {"boolean"},
    "object": {"object"},
    "array": {"array"},
    "string": {"string"},
    "integer": {"integer"},
    "number": {"integer", "fraction"},
}
_ANY_TYPE = frozenset(chain.from_iterable(_TYPES.values()))

Schema = Mapping[str, Any]
Facts = tuple[Schema, ...]
"""Schemas that an instance is known to satisfy, all of them."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One reason against a release: where (a JSON pointer into the new schema), which rule, and why, for people."""

    pointer: str
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.pointer or '/'}: {self.message} [{self.rule}]"


def check_backward_compatible(old: dict[str, Any], new: dict[str, Any]) -> list[Violation]:
    """Why ``new`` may not follow ``old``; empty when it may."""
    unjudged = [
        *(replace(v, message=f"in the old schema: {v.message}") for v in _unjudgeable(old, (old,), "")),
        *_unjudgeable(new, (new,), ""),
    ]
    # A proof from facts we misread would be none, so nothing is compared until everything is understood.
    return unjudged or [*_rejections((old,), new, ""), *_lost_columns((old,), (new,), "")]


# -- What can be judged ------------------------------------------------------------------------------------------------


def _unjudgeable(schema: Any, siblings: Facts, pointer: str, *, applied: bool = False) -> Iterator[Violation]:
    """What in ``schema`` the proof would not understand.

    ``siblings`` are all schemas that bear on the same place; ``applied`` is set beneath allOf, if, then and else.
    """
    if not isinstance(schema, dict):
        yield Violation(pointer, "cannot-judge", f"cannot judge {json.dumps(schema)} as a schema")
        return
    for keyword in schema.keys() - _JUDGED:
        yield Violation(f"{pointer}/{_escape(keyword)}", "cannot-judge", f"cannot judge the keyword {keyword!r}")
    if "unevaluatedProperties" in schema:
        place = f"{pointer}/unevaluatedProperties"
        if schema["unevaluatedProperties"] is not False:
            yield Violation(place, "cannot-judge", "cannot judge unevaluatedProperties other than false")
        if applied:
            # There it sees only what its own branch evaluates, not the object as declared.
            yield Violation(place, "cannot-judge", "cannot judge unevaluatedProperties beneath allOf, if, then or else")
    columns = _columns(siblings)
    for name, child in schema.get("properties", {}).items():
        place = f"{pointer}/properties/{_escape(name)}"
        if name in columns:
            yield from _unjudgeable(child, columns[name], place, applied=applied)
        else:
            message = f"cannot judge {name!r}: a branch may refine properties that stand outside of it, not declare any"
            yield Violation(place, "cannot-judge", message)
    if "items" in schema:
        yield from _unjudgeable(schema["items"], _items(siblings), f"{pointer}/items", applied=applied)
    for index, member in enumerate(schema.get("allOf", ())):
        yield from _unjudgeable(member, siblings, f"{pointer}/allOf/{index}", applied=True)
    for branch in _BRANCHES:
        if branch in schema:
            # What a branch says about an item or a property is checked beside what the place itself says.
            yield from _unjudgeable(schema[branch], siblings, f"{pointer}/{branch}", applied=True)


# -- Reading facts -----------------------------------------------------------------------------------------------------


def _flat(facts: Facts) -> Iterator[Schema]:
    """The facts and the members of their allOf; conditionals stay unresolved."""
    for schema in facts:
        yield schema
        yield from _flat(tuple(member for member in schema.get("allOf", ()) if isinstance(member, dict)))


def _columns(facts: Facts) -> dict[str, Facts]:
    """The properties declared outside of conditionals, each with all that is said about it."""
    columns: dict[str, Facts] = {}
    for schema in _flat(facts):
        for name, child in schema.get("properties", {}).items():
            columns[name] = (*columns.get(name, ()), *([child] if isinstance(child, dict) else []))
    return columns


def _items(facts: Facts) -> Facts:
    return tuple(schema["items"] for schema in _flat(facts) if isinstance(schema.get("items"), dict))


def _required(facts: Facts) -> set[str]:
    return set(chain.from_iterable(schema.get("required", ()) for schema in _flat(facts)))


def _types(facts: Facts) -> frozenset[str]:
    types = _ANY_TYPE
    for schema in _flat(facts):
        if "type" in schema:
            named = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
            types &= set(chain.from_iterable(_TYPES[name] for name in named))
        if "enum" in schema:
            types &= {_type_of(value) for value in schema["enum"]}
        if "const" in schema:
            types &= {_type_of(schema["const"])}
    return types


def _type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else "fraction"
        case list():
            return "array"
        case _:
            return "object"


def _values(facts: Facts) -> list[Any] | None:
    """All values that satisfy the facts, where they are few enough to be listed; else None."""
    candidates: Iterable[Any] | None = None
    for schema in _flat(facts):
        if "const" in schema:
            candidates = [schema["const"]]
        elif "enum" in schema and candidates is None:
            candidates = schema["enum"]
    if candidates is None and _types(facts) <= {"null", "boolean"}:
        candidates = [None, True, False]
    if candidates is None:
        return None
    return [value for value in candidates if all(_validator(fact).is_valid(value) for fact in facts)]


def _validator(schema: Schema) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(dict(schema), validate_formats=True)


def _impossible(facts: Facts) -> bool:
    """Whether surely nothing satisfies the facts: "the event type is A and is B" makes any demand on it harmless."""
    types = _types(facts)
    if not types or _values(facts) == []:
        return True
    columns = _columns(facts)
    return types == {"object"} and any(_impossible(columns[name]) for name in _required(facts) & columns.keys())


def _with_consequences(facts: Facts) -> Facts:
    """The facts and the branches of their own conditionals that must apply."""
    consequences = []
    for schema in _flat(facts):
        if "if" in schema and "then" in schema and not any(_rejections(facts, schema["if"], "", known=facts)):
            consequences.append(schema["then"])
    return (*facts, *consequences)


# -- The proof ---------------------------------------------------------------------------------------------------------


def _rejections(old: Facts, new: Schema, pointer: str, *, known: Facts | None = None) -> Iterator[Violation]:
    """Why something that satisfies ``old`` might not satisfy ``new``. ``known`` is ``old`` with its consequences drawn."""
    if _impossible(old):
        return
    values = _values(old)
    if values is not None:
        for value in values:
            for error in _validator(new).iter_errors(value):
                rule = str(error.schema_path[-1])
                yield Violation(f"{pointer}/{rule}", rule, f"{json.dumps(value)} was accepted: {error.message}")
        return
    known = _with_consequences(old) if known is None else known
    types = _types(known)
    yield from _type_rejections(types, new, pointer)
    yield from _scalar_rejections(known, types, new, pointer)
    if "object" in types:
        yield from _object_rejections(known, new, pointer)
    if "array" in types and "items" in new:
        yield from _rejections(_items(known), new["items"], f"{pointer}/items")
    for index, member in enumerate(new.get("allOf", ())):
        yield from _rejections(old, member, f"{pointer}/allOf/{index}", known=known)
    yield from _conditional_rejections(old, new, pointer)


def _type_rejections(types: frozenset[str], new: Schema, pointer: str) -> Iterator[Violation]:
    if "type" in new and (lost := types - _types(({"type": new["type"]},))):
        yield Violation(f"{pointer}/type", "type", f"{_type_names(lost)} was accepted and is no longer")
    for keyword in ("enum", "const"):
        if keyword in new:
            message = f"only {json.dumps(new[keyword])} is accepted, where before the values were not limited to a list"
            yield Violation(f"{pointer}/{keyword}", keyword, message)


def _scalar_rejections(known: Facts, types: frozenset[str], new: Schema, pointer: str) -> Iterator[Violation]:
    flat = list(_flat(known))
    for keyword, kind in _SAME_OR_ABSENT.items():
        before = [schema[keyword] for schema in flat if keyword in schema]
        if keyword in new and types & _TYPES[kind] and new[keyword] not in before:
            was = f"{', '.join(map(repr, before))} before" if before else "before there was none"
            yield Violation(f"{pointer}/{keyword}", keyword, f"{keyword} is {new[keyword]!r}, {was}")
    for keyword, (kind, larger_is_stricter) in _BOUNDS.items():
        if keyword not in new or not types & _TYPES[kind]:
            continue
        before = [schema[keyword] for schema in flat if keyword in schema]
        strictest = (max if larger_is_stricter else min)(before, default=None)
        if strictest is None:
            yield Violation(f"{pointer}/{keyword}", keyword, f"{keyword} is {new[keyword]}, before there was none")
        elif (new[keyword] > strictest) if larger_is_stricter else (new[keyword] < strictest):
            yield Violation(f"{pointer}/{keyword}", keyword, f"{keyword} is {new[keyword]}, before {strictest}")


def _object_rejections(known: Facts, new: Schema, pointer: str) -> Iterator[Violation]:
    required, columns = _required(known), _columns(known)
    for name in new.get("required", ()):
        if name not in required:
            yield Violation(f"{pointer}/required", "required", f"{name!r} is required and was not")
    for name, child in new.get("properties", {}).items():
        # Declared for the first time: no event of declared properties has it, unless it had to.
        if name in columns or name in required:
            yield from _rejections(columns.get(name, ()), child, f"{pointer}/properties/{_escape(name)}")
    if "unevaluatedProperties" in new:
        place = f"{pointer}/unevaluatedProperties"
        if not any("unevaluatedProperties" in schema for schema in known):
            yield Violation(place, "unevaluatedProperties", "undeclared properties were accepted and are no longer")
        elif gone := sorted(columns.keys() - _columns((new,)).keys()):
            message = f"{', '.join(gone)} would count as undeclared and be rejected"
            yield Violation(place, "unevaluatedProperties", message)


def _conditional_rejections(old: Facts, new: Schema, pointer: str) -> Iterator[Violation]:
    if "if" not in new:
        return
    condition = new["if"]
    if "then" in new:
        yield from _rejections((*old, condition), new["then"], f"{pointer}/then")
    if "else" in new:
        # Where the new condition fails an old one fails too, if the old one implies the new one.
        failed = tuple(
            schema["else"]
            for schema in _flat(old)
            if "if" in schema and "else" in schema and not any(_rejections((*old, schema["if"]), condition, ""))
        )
        yield from _rejections((*old, *failed), new["else"], f"{pointer}/else")


# -- Readers of columns ------------------------------------------------------------------------------------------------


def _lost_columns(old: Facts, new: Facts, pointer: str) -> Iterator[Violation]:
    """What a reader of the old version's columns would miss: a column gone, or of another type."""
    # Null is no type of its own to a reader: every column of every table is nullable.
    was, now = _types(old) - {"null"}, _types(new) - {"null"}
    if was != now:
        yield Violation(pointer, "retyped", f"was {_type_names(was)}, is {_type_names(now)}: readers cannot follow")
    formats = [{schema["format"] for schema in _flat(facts) if "format" in schema} for facts in (old, new)]
    if lost := sorted(formats[0] - formats[1]):
        yield Violation(pointer, "retyped", f"is no longer a {', '.join(lost)}: readers cannot follow")
    columns = _columns(new)
    for name, facts in _columns(old).items():
        place = f"{pointer}/properties/{_escape(name)}"
        if name in columns:
            yield from _lost_columns(facts, columns[name], place)
        else:
            yield Violation(place, "property-removed", f"{name!r} is gone: readers of it break. Keep it, deprecated")
    if _items(old):
        yield from _lost_columns(_items(old), _items(new), f"{pointer}/items")


def _type_names(types: Iterable[str]) -> str:
    types = set(types)
    if "fraction" in types:
        types = (types - {"fraction", "integer"}) | {"number"}
    return "any type" if len(types) == len(_TYPES) - 1 else " or ".join(sorted(types)) or "nothing"


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


# -- Files -------------------------------------------------------------------------------------------------------------


def check_schema_files(folder: Path) -> list[Violation]:
    """All that is wrong with a folder of schema versions; pointers start with the file's name."""
    violations: list[Violation] = []
    schemas: dict[tuple[int, ...], dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):
        name = _FILE_NAME.fullmatch(path.name)
        if name is None:
            violations.append(Violation(path.name, "file-name", "is not named chart_event-X.Y.Z.json"))
            continue
        problems, schema = _load(path)
        violations += problems
        if schema is not None:
            schemas[tuple(map(int, name.groups()))] = schema
    violations += _check_lock(folder)
    for version, schema in sorted(schemas.items()):
        for earlier in sorted(v for v in schemas if v < version and v[0] == version[0]):
            violations += [
                Violation(f"{_file_name(version)}#{v.pointer}", v.rule, f"against {_dotted(earlier)}: {v.message}")
                for v in check_backward_compatible(schemas[earlier], schema)
            ]
    return violations


def lock_schema_files(folder: Path) -> list[str]:
    """Enter the versions that ``schemas.lock`` does not list yet, and return their names.

    Raises:
        ValueError: a file that is listed has changed; it was released and stays as it is.
    """
    locked, present = _read_lock(folder), _hashes(folder)
    if changed := sorted(name for name in locked.keys() & present.keys() if locked[name] != present[name]):
        raise ValueError(
            f"Released schema files have changed: {', '.join(changed)}. Restore them and release the change as a new "
            f"version; or, if a version was never released, remove its line from {folder / LOCK_FILE} and lock again."
        )
    entries = sorted((locked | present).items(), key=lambda entry: _version(entry[0]))
    (folder / LOCK_FILE).write_text("".join(f"{sha}  {name}\n" for name, sha in entries), encoding="ascii")
    return sorted(present.keys() - locked.keys(), key=_version)


def _load(path: Path) -> tuple[list[Violation], dict[str, Any] | None]:
    try:
        schema = json.loads(path.read_bytes())
    except ValueError as error:
        return [Violation(path.name, "not-json", f"is no JSON: {error}")], None
    if not isinstance(schema, dict):
        return [Violation(path.name, "metaschema", "is no JSON object")], None
    problems = []
    if schema.get("$schema") != DIALECT:
        problems.append(Violation(f"{path.name}#/$schema", "dialect", f"must be {DIALECT}"))
    if str(schema.get("$id", "")).rsplit("/", 1)[-1] != path.name:
        message = f"{schema.get('$id')!r} must end in the file's name, /{path.name}"
        problems.append(Violation(f"{path.name}#/$id", "id", message))
    try:
        _validator(schema)
    except ValueError as error:
        return [*problems, Violation(f"{path.name}#", "metaschema", f"is no valid schema: {error}")], None
    return problems, schema


def _check_lock(folder: Path) -> Iterator[Violation]:
    locked, present = _read_lock(folder), _hashes(folder)
    for name in sorted(locked.keys() | present.keys(), key=_version):
        if name not in locked:
            yield Violation(name, "not-locked", f"is not in {LOCK_FILE}: lock it to release it")
        elif name not in present:
            yield Violation(name, "released-file-missing", f"is in {LOCK_FILE} but gone: restore it")
        elif locked[name] != present[name]:
            yield Violation(name, "released-file-changed", "was released and has changed: make it a new version")


def _read_lock(folder: Path) -> dict[str, str]:
    path = folder / LOCK_FILE
    if not path.exists():
        return {}
    entries = {}
    for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), start=1):
        entry = _LOCK_LINE.fullmatch(line)
        if entry is None or not _FILE_NAME.fullmatch(entry["name"]):
            raise ValueError(f"{path}, line {number} is no '<sha256>  chart_event-X.Y.Z.json': {line!r}. Restore it.")
        entries[entry["name"]] = entry["sha"]
    return entries


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.glob("*.json")
        if _FILE_NAME.fullmatch(path.name)
    }


def _version(file_name: str) -> tuple[int, ...]:
    match = _FILE_NAME.fullmatch(file_name)
    assert match is not None, file_name
    return tuple(map(int, match.groups()))


def _file_name(version: tuple[int, ...]) -> str:
    return f"chart_event-{_dotted(version)}.json"


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
