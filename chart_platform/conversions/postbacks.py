"""The door for conversions that a network reports one by one over HTTP.

What a call's parameters say becomes a line of an NDJSON file in the network's drop folder, and goes the way of all
files from there: so a call that was answered is as durable as its line, and is judged by the same rules. A route calls
:func:`judge`, answers 400 with the reasons if there are any, else appends :func:`line` to a file named by
:func:`file_name`, and answers 200 once that is on disk (fsync); files that are done are renamed from ``….part``.

Belongs here: that translation. Does not belong here: HTTP, secrets of the networks, writing files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import PurePath

from chart_platform.conversions.networks import Network
from chart_platform.conversions.records import records
from chart_platform.conversions.reports import Bounds, Reason, read

RECEIVED_AT = "received_at"
"""The parameter that we add: when the call came, ISO 8601 in UTC. A mapping may name it as the event time."""
_PREFIX = "postbacks-"


def file_name(network: Network, batch: str) -> str:
    """Where lines of one writer go, below the drop folder. ``batch`` tells files apart, e.g. a UUID."""
    return f"{network.name}/{_PREFIX}{batch}.ndjson"


def mapping_for(network: Network, file: str) -> Network:
    """The mapping that a file of the network is read by: that for postbacks if its name says so."""
    return network.of_postbacks if PurePath(file).name.startswith(_PREFIX) else network


def line(parameters: Mapping[str, str], received_at: datetime) -> bytes:
    """One call as a line. ``received_at`` is naive UTC."""
    stamp = received_at.isoformat(timespec="milliseconds") + "Z"
    return json.dumps({**parameters, RECEIVED_AT: stamp}).encode() + b"\n"


def judge(network: Network, parameters: Mapping[str, str], received_at: datetime, bounds: Bounds) -> list[Reason]:
    """Every reason why the call would be refused; none if it makes a report."""
    mapping = network.of_postbacks
    (record,) = records(line(parameters, received_at), ".ndjson", mapping)
    return read(record, mapping, bounds)[1]
