"""Whatever is sent: every event of a request ends as exactly one thing, and what is said of it is so."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import brotli
import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chart_platform.edge.http import Unreadable, cut
from chart_platform_tests.edge.collecting import Collecting, Topic, encoded, event

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

PACK: dict[str | None, Callable[[bytes], bytes]] = {
    None: bytes,
    "gzip": gzip.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = [
    *event(),
    "ctx",
    "chart",
    "affiliate",
    "metadata",
    "sent_at",
    "seq",
    "ingest_ts",
    "privacy",
    "source",
    "events",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """An event as it should be, or not quite: members missing, replaced, added, bytes changed."""
    made: dict[str, Any] = event(event_id=str(draw(st.uuids())), session={"session_id": "s"})
    for name in draw(st.lists(st.sampled_from(MEMBERS), max_size=2)):
        if draw(st.booleans()):
            made.pop(name, None)
        else:
            made[name] = draw(values)
    if draw(st.booleans()):
        made["user"] = {"consent": {"analytics": draw(st.booleans())}}
    return json.dumps(made, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    body = bytearray(draw(mutated()))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body) - 1))
        body[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(body)


events = mutated() | damaged() | st.just(rb'{"a":"\ud800"}') | values.map(lambda value: json.dumps(value).encode())
lists = st.lists(events, max_size=6).map(lambda several: b"[" + b",".join(several) + b"]")
envelopes = st.tuples(lists, values).map(
    lambda p: b'{"sent_at":' + json.dumps(p[1]).encode() + b',"events":' + p[0] + b"}"
)
bodies = st.binary(max_size=200) | events | lists | envelopes


@pytest.fixture(scope="module")
def topics(collector: Collecting) -> tuple[Topic, Topic]:
    return collector.events(), collector.dead_letters()


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=bodies, encoding=st.sampled_from(list(PACK)), break_encoding=st.integers(0, 20), gpc=st.integers(0, 15))
@example(b"[]", None, 0, 0)
@example(b'[{},{"a":"\\ud800"},1]', "gzip", 0, 0)
def test_every_event_is_accepted_rejected_discarded_or_the_whole_body_is_kept(
    collector: Collecting,
    topics: tuple[Topic, Topic],
    body: bytes,
    encoding: str | None,
    break_encoding: int,
    gpc: int,
) -> None:
    accepted, letters = topics
    accepted.new(), letters.new()
    packed = PACK[encoding](body)
    if break_encoding == 1:
        packed = packed[:-1]
    before = collector.figures()
    answer = collector.post(packed, content_encoding=encoding, sec_gpc="1" if gpc == 1 else None)
    after = collector.figures()
    on_topic, in_letters = accepted.new(), [letter.value() for letter in letters.new()]

    def grown(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    assert grown("chart_edge_internal_errors_total") == 0
    if answer.status_code == 400:
        assert on_topic == []
        damaged_packing = answer.json()["error"]["code"] == "invalid_encoding"
        assert damaged_packing <= (break_encoding == 1 and encoding is not None)
        unpacked = packed if encoding is None else body
        assert in_letters == ([] if gpc == 1 else [packed if damaged_packing else unpacked])
        return
    assert answer.status_code == 202, answer.text
    sent, _ = cut(body) if break_encoding != 1 or encoding is None else (None, None)
    if encoding is None and break_encoding == 1:
        sent, _ = cut(packed)
    assert sent is not None
    results = answer.json()["results"]
    assert [result["index"] for result in results] == list(range(len(sent)))
    counts = Counter(result["status"] for result in results)
    assert set(counts) <= {"accepted", "duplicate", "rejected", "discarded"}
    assert answer.json()["accepted"] == counts["accepted"] + counts["duplicate"] == len(on_topic)
    ids = [result["event_id"] for result in results if result["status"] in ("accepted", "duplicate")]
    assert Counter(ids) == Counter(json.loads(message.value())["event_id"] for message in on_topic)
    rejected = [sent[result["index"]] for result in results if result["status"] == "rejected"]
    assert Counter(in_letters) == Counter(rejected)
    assert all(result["reasons"] for result in results if result["status"] in ("rejected", "discarded"))
    for status, count in counts.items():
        assert grown(f'chart_edge_events_total{{result="{status}"}}') == count


@settings(max_examples=300, deadline=None)
@given(
    st.lists(mutated() | st.just(rb'{"x":"\ud83d","y":"\ud83d\ude00\\ud800"}'), max_size=6),
    st.sampled_from([b"", b" ", b"\n\t"]),
)
def test_cutting_gives_each_event_with_the_bytes_that_it_was_sent_with(several: list[bytes], space: bytes) -> None:
    joined = b"[" + space + (space + b"," + space).join(several) + space + b"]"
    assert cut(space + joined + space) == (several, None)
    envelope = b'{"x":' + joined + b',"sent_at":"\\ud800","events":' + joined + b"}"
    found, sent_at = cut(envelope)
    assert found == several and isinstance(sent_at, str)


@settings(max_examples=500, deadline=None)
@given(bodies)
def test_cutting_either_gives_events_or_says_why_there_are_none(body: bytes) -> None:
    try:
        found, _ = cut(body)
    except Unreadable as unreadable:
        assert unreadable.reason.code in {"empty", "invalid_utf8", "invalid_json", "not_events"}
    else:
        assert all(part in body for part in found)


def test_a_body_of_all_kinds_is_accounted_for(collector: Collecting) -> None:
    """The strategies must reach each of the ends, or the invariant above says little."""
    sent = [encoded(event()), b"{}", encoded(event(user={"consent": {"analytics": False}}))]
    answer = collector.post(b"[" + b",".join(sent) + b"]")
    assert [result["status"] for result in answer.json()["results"]] == ["accepted", "rejected", "discarded"]
