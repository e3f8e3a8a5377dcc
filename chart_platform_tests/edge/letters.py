"""Events as clients send them, what spoils them, and the JSON Patch that mends that: for the tests of replay.

Belongs here: making inputs. Does not belong here: what a replay should do with them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from chart_platform.edge.records import Client
from chart_platform_tests.transform.homes import DAY, at, event

NUMBERS = [
    "1.10",
    "1e5",
    "-0",
    "-0.0",
    "500.0",
    "0.1",
    "1E+2",
    "12345678901234567890123",
    "1e300",
    "7",
    "true",
    '"1.10"',
]
"""JSON texts that a careless reader writes back differently."""
PLAIN_NUMBERS = ["0.1", "7", "500.0", "true", '"1.10"']
"""JSON texts that every reader writes back as they are. Ingestion itself rewrites the others beside a lone surrogate."""


@dataclass(frozen=True)
class Spoiled:
    """A way to spoil events: the operations that do it, and those that mend it."""

    name: str
    spoil: list[dict[str, Any]]
    mend: list[dict[str, Any]]


NOTHING = Spoiled("nothing: the contract has changed since", [], [])
SPOILED = [
    NOTHING,
    Spoiled(
        "a renamed member",
        [{"op": "move", "from": "/event_id", "path": "/id"}],
        [{"op": "move", "from": "/id", "path": "/event_id"}],
    ),
    Spoiled(
        "a wrong value",
        [{"op": "add", "path": "/schema_version", "value": "one"}],
        [{"op": "test", "path": "/schema_version", "value": "one"}, {"op": "remove", "path": "/schema_version"}],
    ),
    Spoiled(
        "a member of the wrong type",
        [{"op": "add", "path": "/seq", "value": "1.10"}],
        [{"op": "remove", "path": "/seq"}],
    ),
    Spoiled(
        "a member wrapped in another",
        [{"op": "add", "path": "/wrap", "value": {}}, {"op": "move", "from": "/user", "path": "/wrap/user"}],
        [{"op": "move", "from": "/wrap/user", "path": "/user"}, {"op": "remove", "path": "/wrap"}],
    ),
]

_texts = st.sampled_from(
    ["de-DE", "", "ä€😀", "\ud83d alone", "<script>", "https://a.example/compare?email=a%40b.example"]
)


@st.composite
def client_events(draw: st.DrawFn, number: int, numbers: list[str] = NUMBERS) -> bytes:
    """An event as a client may send it, number and all: its bytes."""
    kind = draw(st.sampled_from(["page_view", "chart_interaction", "affiliate_click"]))
    made = event(number, at(DAY, "10:00:00") + number, kind)
    made["user"] = {"user_id_hash": draw(st.sampled_from(["v1", "v2"])),
                    "consent": {"analytics": True, "ads": draw(st.booleans())}}  # fmt: skip
    made["ctx"] = {"page_url": draw(_texts), "locale": draw(_texts)}
    if draw(st.booleans()):
        made["session"] = {"session_id": "s1", "utm": {"source": draw(_texts)}}
    if kind == "chart_interaction":
        made["chart"] = {"action": "sort", "control_id": draw(_texts), "control_value": "@number@"}
    if kind == "affiliate_click":
        made["affiliate"] = {"link_id": draw(st.sampled_from(["x", "acme"])), "target": "https://a.example"}
    if draw(st.booleans()):
        made["ctx"]["custom"] = {"title": draw(_texts), "size": "@number@"}
    return json.dumps(made).replace('"@number@"', draw(st.sampled_from(numbers))).encode()


def client(number: int, **members: Any) -> Client:
    """The sender of an event, which came some seconds after it happened."""
    known: dict[str, Any] = {"key_id": "k1", "kind": "browser", "source": "web", "country": "DE",
                             "address": "192.0.2.0/24", "device": "mobile", "browser": "Firefox", "os": "Android"}  # fmt: skip
    return Client(received_ms=at(DAY, "10:00:07") + number, **known | members)
