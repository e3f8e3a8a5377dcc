"""Files as records: CSV, JSON and NDJSON, whatever their encoding, each record with its place and its very text.

Belongs here: finding the records of a file, also of a damaged one. Does not belong here: what their values mean.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

from chart_platform.conversions.networks import Network
from chart_platform.conversions.values import Refused

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_BLANKS = " \t\r\n"


class Unreadable(ValueError):
    """A file none of whose records can be taken."""

    def __init__(self, code: str, message: str, column: str | None = None) -> None:
        super().__init__(message)
        self.code, self.column = code, column


@dataclass(frozen=True)
class Record:
    """A record: its number and first line in the file (from 1), its text, and its values or why there are none.

    ``doubled`` names the members that occur twice, of which nobody can tell which one is meant.
    """

    number: int
    line: int
    raw: str
    values: Mapping[str, Any] | None
    problem: Refused | None = None
    doubled: frozenset[str] = field(default=frozenset())


def records(data: bytes, suffix: str, network: Network) -> Iterator[Record]:
    """The records of a file whose name ends in ``suffix``. An empty file has none.

    Raises:
        Unreadable: before the first record: unknown format, wrong encoding, a header without a mapped column.
    """
    readers = {".csv": _csv, ".tsv": _csv, ".txt": _csv, ".json": _document, ".ndjson": _lines, ".jsonl": _lines}
    if suffix not in readers:
        raise Unreadable("unknown_format", f"a file must end in {', '.join(readers)}, not {suffix or 'nothing'!r}")
    content = _decode(data, network)
    if not content.strip():
        return iter(())
    return readers[suffix](content, network)


def _decode(data: bytes, network: Network) -> str:
    """Text of the bytes, a byte order mark before the mapping. A stray byte spoils its record only, not the file."""
    encoding = next((name for mark, name in _BOMS if data.startswith(mark)), network.encoding)
    try:
        return data.decode(encoding, "surrogateescape").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise Unreadable("encoding", f"the bytes are not {encoding}: {error.reason} at {error.start}") from None


def shown(raw: str) -> str:
    """Text as it can be stored: stray bytes as ``\\xff``."""
    return raw.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _name(column: str) -> str:
    return column.strip().casefold()


def _csv(content: str, network: Network) -> Iterator[Record]:
    found = _csv_records(_physical_lines(content), network.delimiter)
    header = next(found, None)
    if header is None:
        return iter(())
    if header.values is None:
        raise Unreadable("header", f"the header can't be read: {header.problem}")
    names = [_name(column) for column in header.values["fields"]]
    for ours, theirs in network.columns.named.items():
        wanted = _name(theirs)
        if wanted not in names:
            there = ", ".join(header.values["fields"])
            raise Unreadable("missing_column", f"no column {theirs!r} for {ours}; there are {there}", theirs)
        if names.count(wanted) > 1:
            raise Unreadable("duplicate_column", f"{theirs!r} is there {names.count(wanted)} times", theirs)
    return (_named(record, names) for record in found)


def _named(record: Record, names: list[str]) -> Record:
    if record.values is None:
        return Record(record.number - 1, record.line, record.raw, None, record.problem)
    fields = record.values["fields"]
    if len(fields) != len(names):
        problem = Refused("width", f"has {len(fields)} fields, the header {len(names)}")
        return Record(record.number - 1, record.line, record.raw, None, problem)
    return Record(record.number - 1, record.line, record.raw, dict(zip(names, fields, strict=True)))


def _physical_lines(content: str) -> list[str]:
    """Lines with their ends: only CR, LF and CRLF end one, not the many others that ``splitlines`` knows."""
    lines = content.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _csv_records(lines: list[str], delimiter: str) -> Iterator[Record]:
    """Records of fields. A quote that never closes spoils the record that it is in: reading goes on behind its line."""
    at = number = 0
    while at < len(lines):
        taken = 0

        def following(start: int = at) -> Iterator[str]:
            nonlocal taken
            for index in range(start, len(lines)):
                taken += 1
                yield lines[index]

        reader = csv.reader(following(), delimiter=delimiter, strict=True)
        begin = at
        try:
            for fields in reader:
                raw = "".join(lines[begin : at + taken]).rstrip("\n")
                if fields and any(value.strip() for value in fields):
                    number += 1
                    yield Record(number, begin + 1, raw, {"fields": fields})
                begin = at + taken
            at = len(lines)
        except csv.Error as error:
            number += 1
            problem = Refused("not_csv", str(error))
            yield Record(number, begin + 1, lines[begin].rstrip("\n"), None, problem)
            at = begin + 1


class _Twice(dict[str, Any]):
    """A JSON object that remembers which members it had twice."""

    doubled: frozenset[str] = frozenset()


def _object(pairs: list[tuple[str, Any]]) -> _Twice:
    made = _Twice(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        made.doubled = frozenset(name for name in names if names.count(name) > 1)
    return made


def _no_number(literal: str) -> Any:
    raise ValueError(f"{literal} is no number")


_JSON = json.JSONDecoder(object_pairs_hook=_object, parse_float=Decimal, parse_constant=_no_number)


def _lines(content: str, _network: Network) -> Iterator[Record]:
    number = 0
    for line, raw in enumerate(content.split("\n"), 1):
        if not raw.strip():
            continue
        number += 1
        try:
            yield _json_record(number, line, raw.strip(_BLANKS), _JSON.decode(raw))
        except (ValueError, RecursionError) as error:
            yield Record(number, line, raw.strip(_BLANKS), None, Refused("not_json", str(error)))


def _json_record(number: int, line: int, raw: str, found: Any) -> Record:
    if not isinstance(found, _Twice):
        return Record(number, line, raw, None, Refused("not_an_object", "expected a JSON object"))
    values, doubled = dict[str, Any](), set[str]()
    _flatten(found, "", values, doubled)
    return Record(number, line, raw, values, doubled=frozenset(doubled))


def _flatten(found: _Twice, prefix: str, values: dict[str, Any], doubled: set[str]) -> None:
    """Members by dotted path, names without regard to case as in CSV."""
    doubled.update(_name(prefix + name) for name in found.doubled)
    for name, value in found.items():
        path = _name(prefix + name)
        if isinstance(value, _Twice):
            _flatten(value, f"{prefix}{name}.", values, doubled)
        else:
            if path in values:
                doubled.add(path)
            values[path] = value


def _document(content: str, network: Network) -> Iterator[Record]:
    """Records of the list at the mapping's path. What is damaged ends the reading; the rest of the text is one record."""
    try:
        at = _skip(content, 0)
        for part in network.records.split(".") if network.records else ():
            at = _member(content, at, part)
    except (ValueError, RecursionError) as error:
        raise Unreadable("not_json", f"no list at {network.records or 'the top'}: {error}") from None
    if content[at : at + 1] != "[":
        raise Unreadable("not_json", f"no list at {network.records or 'the top'}")
    return _elements(content, at + 1)


def _elements(content: str, at: int) -> Iterator[Record]:
    number, line, counted = 0, 1, 0
    at = _skip(content, at)
    while content[at : at + 1] != "]":
        line, counted = line + content.count("\n", counted, at), at
        number += 1
        try:
            found, end = _JSON.raw_decode(content, at)
            behind = _skip(content, end)
            if content[behind : behind + 1] not in (",", "]"):
                raise ValueError("expected , or ] behind a record")
        except (ValueError, RecursionError) as error:
            yield Record(number, line, content[at:], None, Refused("not_json", str(error)))
            return
        yield _json_record(number, line, content[at:end], found)
        at = _skip(content, behind + 1) if content[behind] == "," else behind


def _member(content: str, at: int, wanted: str) -> int:
    """Where the value of member ``wanted`` of the object at ``at`` begins."""
    if content[at : at + 1] != "{":
        raise ValueError(f"expected an object with {wanted!r}")
    at = _skip(content, at + 1)
    while content[at : at + 1] == '"':
        name, at = scanstring(content, at + 1, True)
        at = _skip(content, at)
        if content[at : at + 1] != ":":
            raise ValueError("expected a colon")
        at = _skip(content, at + 1)
        if name == wanted:
            return at
        _, at = _JSON.raw_decode(content, at)
        at = _skip(content, at)
        if content[at : at + 1] == ",":
            at = _skip(content, at + 1)
    raise ValueError(f"no member {wanted!r}")


def _skip(content: str, at: int) -> int:
    while at < len(content) and content[at] in _BLANKS:
        at += 1
    return at
