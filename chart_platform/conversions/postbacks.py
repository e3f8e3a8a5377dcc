"""The door for conversions that a network reports one by one over HTTP.

What a call's parameters say becomes a line of an NDJSON file in the network's drop folder, and goes the way of all
files from there: so a call that was answered is as durable as its line, and is judged by the same rules. Of the
parameters only those are kept that the mapping names: networks send what they know of the buyer as well.

Belongs here: that translation. Does not belong here: HTTP, secrets of the networks, writing files (``edge.postbacks``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import PurePath
from typing import Any

from chart_platform.conversions.networks import Network
from chart_platform.conversions.records import records
from chart_platform.conversions.reports import Bounds, Reason, read

RECEIVED_AT = "received_at"
"""The parameter that we add: when the call came, ISO 8601 in UTC. A mapping may name it as the event time."""
_PREFIX = "postbacks-"

Parameters = Sequence[tuple[str, Any]]
"""Names and values as they were sent, so that one that is there twice can be told. Values are those of :func:`of_json`."""


class _Number(str):
    """A number as it is written: as a float it would be another."""


class _Object(list[tuple[str, Any]]):
    """A JSON object, with members that are there twice."""


def _no_number(literal: str) -> Any:
    raise ValueError(f"{literal} is no number")


_JSON = json.JSONDecoder(
    object_pairs_hook=_Object, parse_float=_Number, parse_int=_Number, parse_constant=_no_number, strict=False
)


def of_json(text: str) -> Parameters:
    """The members of a JSON object.

    Raises:
        ValueError: it is none.
    """
    try:
        found = _JSON.decode(text)
    except RecursionError:
        raise ValueError("it nests too deep") from None
    if not isinstance(found, _Object):
        raise ValueError("it is no object")
    return found


def mapped(network: Network, parameters: Parameters) -> Parameters:
    """Only what the network's mapping for postbacks names."""
    wanted = {_name(column) for column in network.of_postbacks.columns.named.values()}
    return _mapped(parameters, "", wanted)


def _mapped(parameters: Parameters, prefix: str, wanted: set[str]) -> _Object:
    kept = _Object()
    for name, value in parameters:
        path = _name(prefix + name)
        if isinstance(value, _Object):
            if inner := _mapped(value, f"{path}.", wanted):
                kept.append((name, inner))
        elif path in wanted:
            kept.append((name, value))
    return kept


def _name(column: str) -> str:
    return column.strip().casefold()


def file_name(network: str, batch: str) -> str:
    """Where lines of one writer go, below the drop folder. ``batch`` tells files apart, e.g. a UUID."""
    return f"{network}/{_PREFIX}{batch}.ndjson"


def mapping_for(network: Network, file: str) -> Network:
    """The mapping that a file of the network is read by: that for postbacks if its name says so."""
    return network.of_postbacks if PurePath(file).name.startswith(_PREFIX) else network


def line(parameters: Parameters, received_at: datetime) -> bytes:
    """One call as a line. ``received_at`` is naive UTC."""
    stamp = received_at.isoformat(timespec="milliseconds") + "Z"
    sent = _Object(pair for pair in parameters if _name(pair[0]) != RECEIVED_AT)
    return _text(_Object([*sent, (RECEIVED_AT, stamp)])).encode() + b"\n"


def _text(value: Any) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, _Object):
        return "{" + ", ".join(f"{json.dumps(name)}: {_text(member)}" for name, member in value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return json.dumps(value)


def judge(network: Network, line: bytes, bounds: Bounds) -> list[Reason]:
    """Every reason why the line will be a reject; none if it makes a report."""
    mapping = network.of_postbacks
    (record,) = records(line, ".ndjson", mapping)
    return read(record, mapping, bounds)[1]
