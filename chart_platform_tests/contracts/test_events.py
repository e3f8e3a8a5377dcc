"""The event contract has one meaning: what the fast way accepts the schema accepts, and every message is accounted for."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chart_platform.contracts import events
from chart_platform.contracts.events import Accepted
from chart_platform.settings import Settings
from chart_platform.transform.bronze import Decoder
from chart_platform_tests.transform.fixtures import examples
from chart_platform_tests.transform.homes import DAY, Messages, at, event, uuid

NOON = at(DAY, "12:00:00")
VALID = [
    event(1, at(DAY, "10:00:00"), session="s", visitor="u", ctx={"page_url": "https://x.example/"}, seq=3),
    event(
        2, at(DAY, "10:00:00"), "chart_interaction", chart={"action": "sort", "product_ids": ["a"], "control_value": 1}
    ),
    event(
        3,
        at(DAY, "10:00:00"),
        "affiliate_click",
        user={"consent": {"analytics": True}},
        ingest_ts=5,
        schema_version="1.1.0",
    ),
]
PATHS = [("event_type",), ("event_id",), ("ts",), ("sent_at",), ("user",), ("user", "user_id_hash"), ("user", "consent"),
         ("user", "consent", "analytics"), ("session",), ("session", "utm"), ("session", "utm", "source"), ("ctx",),
         ("ctx", "page_url"), ("chart",), ("chart", "product_ids"), ("chart", "action"), ("chart", "control_value"),
         ("affiliate",), ("affiliate", "payout_cents"), ("seq",), ("ingest_ts",), ("schema_version",), ("privacy", "ads"),
         ("unknown",), ("ctx", "unknown"), ("user", "consent", "unknown"), ("metadata", "experiment_keys")]  # fmt: skip
TEXTS = ["", "page_view", "sort", "1.0.0", "1.٣.0", "1.0.0\n", "1", "\x00", "\ud800", "２", uuid(1), uuid(1).upper(),
         uuid(1) + "\n", "{" + uuid(1) + "}", uuid(1).replace("-", "")]  # fmt: skip
TIMES = ["2026-11-02T10:00:00Z", "2026-11-02T10:00:00z", "2026-11-02t10:00:00Z", "2026-11-02 10:00:00Z", "2026-02-30T10:00:00Z",
         "2025-02-29T10:00:00Z", "2024-02-29T10:00:00Z", "2026-11-02T24:00:00Z", "2026-11-02T23:59:60Z", "2026-06-30T23:59:60Z",
         "2026-11-02T10:00:00", "2026-11-02T10:00:00+23:59", "2026-11-02T10:00:00+24:00", "2026-11-02T10:00:00.123456789Z",
         "2026-11-02T10:00:00.1234567890Z", "2026-11-02T10:00:00Z\n", "２026-11-02T10:00:00Z", "9999-12-31T23:59:59-23:59",
         "2026-11-02T10:00:00.Z", "2026-00-10T10:00:00Z", "2026-11-02T10:00:00−01:00"]  # fmt: skip
values = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [0, -1, 1, 2**53 - 1, 2**53, 2**63, 2**64, 10**30, 0.0, -0.0, 1.0, 1e3, 1.5, 9007199254740991.0, 1e300]
    ),
    st.sampled_from(TEXTS + TIMES),
    st.text(max_size=5),
    st.sampled_from([[], {}, [None], ["a"], [1], {"analytics": None}, {"analytics": 1}, {"analytics": True, "x": [1]}]),
)


@st.composite
def mutated(draw: st.DrawFn, bases: Sequence[Any] = VALID, paths: Sequence[tuple[str, ...]] = PATHS) -> bytes:
    """One of ``bases`` with up to three members, at ``paths``, changed or taken out."""
    made = deepcopy(draw(st.sampled_from(bases)))
    for path in draw(st.lists(st.sampled_from(paths), max_size=3)):
        place: Any = made
        for name in path[:-1]:
            if not isinstance(place.get(name), dict):
                place[name] = {}
            place = place[name]
        if draw(st.integers(0, 4)) == 0:
            place.pop(path[-1], None)
        else:
            place[path[-1]] = deepcopy(draw(values))
    if draw(st.booleans()):
        made[draw(st.sampled_from(["ts", "sent_at"]))] = draw(st.sampled_from(TIMES))
    return json.dumps(made, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


noise = st.one_of(
    st.none(),
    st.binary(max_size=30),
    st.sampled_from(
        [b"", b" ", b"null", b"[]", b"{}", b"NaN", b'"x"', b"[" * 400 + b"]" * 400, b"\xef\xbb\xbf{}", b"{" * 5]
    ),
    st.builds(lambda value, cut: value[:cut], mutated(), st.integers(0, 200)),
    st.builds(lambda value: b" " + value + b"\n", mutated()),
)


@cache
def decoder() -> Decoder:
    home = Path(tempfile.mkdtemp(prefix="chart-decoder-"))
    return Decoder(Settings(home=home), "t", DAY)


def decode(*sent: bytes | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    chunk = Messages(list(sent), [0] * len(sent), list(range(len(sent))), [NOON] * len(sent))
    found = decoder().decode(chunk)
    return found.events.to_pylist(), found.dead_letters.to_pylist()


def accepted_fast(value: bytes) -> bool:
    try:
        events.fast_decoder().decode(value)
    except Exception:
        return False
    return True


@settings(max_examples=examples(300, 50_000))
@given(value=mutated())
def test_the_fast_decoder_accepts_only_what_the_schema_accepts(value: bytes) -> None:
    if not accepted_fast(value):
        return
    found = orjson.loads(value)
    # What the fast decoder leaves to the columns: the conditions on the event type, patterns and real calendar dates.
    conditions, texts = {"required", "type"}, {"format", "pattern"}
    for error in events.validator().iter_errors(found):
        keyword = error.schema_path[-1]
        left = "allOf" in error.schema_path and keyword in conditions
        assert left or (keyword in texts and error.instance_path[0] in events.patterns()), error.message


@settings(max_examples=examples(50, 5_000))
@given(batch=st.lists(st.one_of(mutated(), noise), min_size=1, max_size=12))
def test_every_message_becomes_one_event_or_one_dead_letter_as_the_schema_says(batch: list[bytes | None]) -> None:
    kept, refused = decode(*batch)
    assert sorted(row["kafka_offset"] for row in kept + refused) == list(range(len(batch)))
    for letter in refused:
        assert letter["raw"] == batch[letter["kafka_offset"]] and letter["reasons"]
    later = {"ts_in_future", "ts_too_old", "undecodable"}
    for letter in refused:
        if not later & {reason["code"] for reason in letter["reasons"]}:
            assert not isinstance(events.explain(letter["raw"]), Accepted)
    for row in kept:
        assert isinstance(events.explain(batch[row["kafka_offset"]]), Accepted)


@settings(max_examples=examples(50, 5_000))
@given(value=mutated())
def test_what_is_kept_is_what_was_sent(value: bytes) -> None:
    kept, _ = decode(value)
    if not kept:
        return
    (row,), sent = kept, events.parse(value)
    for name in ("event_id", "event_type", "seq", "page_view_id", "schema_version"):
        assert row[name] == sent.get(name)
    for member, name in [
        ("user", "user_id_hash"),
        ("session", "session_id"),
        ("ctx", "page_url"),
        ("affiliate", "payout_cents"),
    ]:
        assert (row[member] or {}).get(name) == (sent.get(member) or {}).get(name)


def test_every_declared_condition_is_enforced_on_the_fast_way() -> None:
    assert events.conditions() == {"chart_interaction": "chart", "affiliate_click": "affiliate"}
    for kind, member in events.conditions().items():
        for given_ in ({member: None}, {}):
            sent = event(1, at(DAY, "10:00:00"), kind)
            del sent[member]
            kept, (letter,) = decode(json.dumps(sent | given_).encode())
            assert not kept and letter["reasons"][0]["code"].startswith("schema_")


def test_an_event_too_far_ahead_or_before_the_first_day_is_a_dead_letter_with_its_time() -> None:
    sent = [
        event(n, ts) for n, ts in enumerate([NOON + 24 * 3_600_000 - 1, NOON + 24 * 3_600_000, at(DAY, "00:00:00")])
    ]
    sent.append(event(9, 0, ts="2019-12-31T23:59:59.999Z"))
    kept, refused = decode(*(json.dumps(e).encode() for e in sent))
    assert [row["event_id"] for row in kept] == [uuid(0), uuid(2)]
    assert [letter["reasons"][0]["code"] for letter in refused] == ["ts_in_future", "ts_too_old"]


def test_a_time_in_the_year_zero_is_a_dead_letter_and_no_crash() -> None:
    kept, refused = decode(json.dumps(event(1, 0, ts="0000-01-01T00:00:00Z")).encode())
    assert not kept and len(refused) == 1


def test_a_sent_at_in_the_year_zero_leaves_a_readable_row() -> None:
    kept, refused = decode(json.dumps(event(1, at(DAY, "10:00:00"), sent_at="0000-01-01T00:00:00Z")).encode())
    assert len(kept) + len(refused) == 1


@pytest.mark.parametrize("twice", ['"seq": 1, "seq": 2', '"affiliate": {"payout_cents": 1, "payout_cents": 2}'])
def test_the_first_of_two_members_of_one_name_counts(twice: str) -> None:
    value = (json.dumps(event(1, at(DAY, "10:00:00")))[:-1] + f", {twice}}}").encode()
    (row,), _ = decode(value)
    assert row["seq"] in (None, 1)
    assert (row["affiliate"] or {}).get("payout_cents") in (None, 1)
    assert (row["seq"], row["affiliate"]) != (None, None)


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 400])
def test_a_number_that_no_double_holds_is_refused_also_beside_a_lone_surrogate(number: str) -> None:
    for title in ("plain", "\\ud83d"):
        verdict = events.explain(f'{{"title":"{title}","size":{number}}}'.encode())
        assert isinstance(verdict, list) and [reason.code for reason in verdict] == ["invalid_json"]


@pytest.mark.parametrize(
    "number",
    [
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775808",
        "-9223372036854775809",
        "9" * 30,
        "-0",
        "0",
    ],
)
def test_integers_are_read_alike_with_and_without_a_lone_surrogate(number: str) -> None:
    plain, odd = (events.parse(f'["{title}",{number}]'.encode())[1] for title in ("plain", "\\ud83d"))
    assert plain == odd and type(plain) is type(odd)


@pytest.mark.parametrize("depth", [100, 250, 251, 252, 253, 254, 255, 256, 1_000, 100_000])
def test_no_depth_of_a_member_that_is_not_looked_into_stops_the_ingest(depth: int) -> None:
    value = json.dumps(event(1, NOON, ctx={"x": "@"})).encode().replace(b'"@"', b"[" * depth + b"]" * depth)
    kept, refused = decode(value)
    assert len(kept) + len(refused) == 1
    assert depth > 250 or json.loads(kept[0]["extra"])
