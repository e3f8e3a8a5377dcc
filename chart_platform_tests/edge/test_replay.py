"""Dead letters that are replayed after a fix: the rows they give, and what is sent, counted and left alone."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import jsonpatch
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chart_platform.contracts.tables import SILVER_EVENTS
from chart_platform.edge.admission import Accepted, Admission, Rejected
from chart_platform.edge.links import Links
from chart_platform.edge.replay import Bench, Letter, ReplayError, _numbers_kept, _text, read_patch
from chart_platform.quality.schemas import audit
from chart_platform.settings import Settings
from chart_platform.transform.silver import update
from chart_platform_tests.edge.letters import NUMBERS, PLAIN_NUMBERS, SPOILED, Spoiled, client, client_events
from chart_platform_tests.transform.fixtures import NewHome, dbt_cache, examples, new_home
from chart_platform_tests.transform.homes import DAY, Home, at, event, multiset

pytestmark = pytest.mark.slow

__all__ = ["dbt_cache", "new_home"]


def letter(raw: bytes | None, offset: int = 0, **members: Any) -> Letter:
    headers = {"context": msgspec.json.encode(client(offset)).decode(), "attempt": "1"}
    known: dict[str, Any] = {"source": "edge", "topic": "events.dlq", "partition": 0, "codes": ("x",),
                             "appended_ms": at(DAY, "10:00:09") + offset, "headers": headers}  # fmt: skip
    return Letter(offset=offset, raw=raw, **known | members)


def spoilt(raw: bytes, way: Spoiled) -> bytes:
    return bytes(_text(jsonpatch.apply_patch(_numbers_kept(raw.decode()), way.spoil))) if way.spoil else raw


def silver(home: Home, payloads: list[tuple[bytes, int]]) -> Any:
    """Rows of silver.events of payloads with the times that the broker appended them."""
    for payload, appended_ms in payloads:
        home.append(0, payload, appended_ms)
    home.take(DAY, {0: (0, len(payloads))})
    update(home.lake, audit)
    return multiset({k: v for k, v in row.items() if k != "replayed_from"} for row in home.rows(SILVER_EVENTS))


@settings(max_examples=examples(3, 100))
@given(st.data())
@pytest.mark.parametrize("source", ["edge", "stream"])
def test_a_repaired_and_replayed_event_gives_the_silver_row_that_the_original_would_have_given(
    new_home: NewHome, source: str, data: st.DataObject
) -> None:
    then, now = new_home(), new_home()
    admission = Admission(then.settings, Links.load())
    originals: list[tuple[bytes, int]] = []
    replayed: list[tuple[bytes, int]] = []
    for way in SPOILED:
        letters = []
        for number in range(len(originals), len(originals) + data.draw(st.integers(1, 6))):
            raw = data.draw(client_events(number, NUMBERS if source == "edge" else PLAIN_NUMBERS))
            appended_ms = at(DAY, "10:00:09") + number
            if source == "edge":
                accepted = admission.admit(raw, client(number))
                assert isinstance(accepted, Accepted)
                originals.append((accepted.record.value, appended_ms))
            else:
                originals.append((raw, appended_ms))
            letters.append(letter(spoilt(raw, way), number, source=source))
        if way.spoil:
            assert all(v.refused for v in Bench(now.settings).judge(letters)), "it was no dead letter"
        for verdict in Bench(now.settings, way.mend).judge(letters):
            assert verdict.record is not None, verdict
            replayed.append((verdict.record.value, at(DAY, "23:00:00") + len(replayed)))
    assert silver(now, replayed) == silver(then, originals)


def one(home: Settings, sent: Letter, *patch: dict[str, Any]) -> Any:
    (verdict,) = Bench(home, patch).judge([sent])
    return verdict


VALID = event(1, at(DAY, "10:00:00"), user={"consent": {"analytics": True}}, session="s1")
RAW = json.dumps(VALID).encode()


@pytest.mark.parametrize("source", ["edge", "stream"])
def test_what_is_replayed_names_its_dead_letter_and_keeps_its_key(tmp_path: Path, source: str) -> None:
    verdict = one(Settings(home=tmp_path), letter(RAW, 41, source=source))
    assert json.loads(verdict.record.value)["metadata"]["replayed_from"] == "events.dlq/0/41"
    assert verdict.record.topic == "chart.events" and verdict.record.key == b"s1"


def test_what_ingestion_refused_keeps_the_time_it_was_received_at(tmp_path: Path) -> None:
    home = Settings(home=tmp_path)
    unstamped = one(home, letter(RAW, 5, source="stream"))
    assert json.loads(unstamped.record.value)["ingest_ts"] == at(DAY, "10:00:09") + 5
    stamped = one(home, letter(json.dumps(VALID | {"ingest_ts": 7}).encode(), source="stream"))
    assert json.loads(stamped.record.value)["ingest_ts"] == 7


@pytest.mark.parametrize(
    ("raw", "members", "reason"),
    [
        (None, {}, "empty"),
        (None, {"source": "stream"}, "empty"),
        (b"{", {}, "invalid_json"),
        (b"{", {"source": "stream"}, "invalid_json"),
        (b"\xff", {"source": "stream"}, "invalid_utf8"),
        (b"[" * 100_000, {"source": "stream"}, "invalid_json"),
        (b"7", {"source": "stream"}, "schema_type"),
        (b'{"metadata": 7}', {"source": "stream"}, "schema_type"),
        (b"{}", {}, "schema_required"),
        (RAW, {"headers": {}}, "no_context"),
        (RAW, {"headers": {"context": "{"}}, "no_context"),
        (RAW, {"headers": {"context": ["{}", "{}"]}}, "no_context"),
        (RAW, {"headers": {"context": None}}, "no_context"),
    ],
)
def test_what_is_no_event_or_has_no_known_sender_stays_refused_with_its_reason(
    tmp_path: Path, raw: bytes | None, members: dict[str, Any], reason: str
) -> None:
    verdict = one(Settings(home=tmp_path), letter(raw, **members))
    assert verdict.record is None and reason in verdict.refused


def test_a_visitor_who_wants_nothing_kept_is_not_replayed(tmp_path: Path) -> None:
    denied = json.dumps(VALID | {"user": {"consent": {"analytics": False}}}).encode()
    assert one(Settings(home=tmp_path), letter(denied)).discarded == "consent_denied"


def test_a_patch_whose_test_fails_changes_nothing_and_nothing_half(tmp_path: Path) -> None:
    remove, fails = {"op": "remove", "path": "/user"}, {"op": "test", "path": "/event_type", "value": "other"}
    verdict = one(Settings(home=tmp_path), letter(RAW), remove, fails)
    assert verdict.record is not None and not verdict.patched


def test_a_patch_adds_the_same_to_every_letter_whatever_later_operations_do_to_it(tmp_path: Path) -> None:
    patch = [{"op": "add", "path": "/chart", "value": {"action": "sort"}},
             {"op": "move", "from": "/event_type", "path": "/chart/control_id"},
             {"op": "add", "path": "/event_type", "value": "chart_interaction"}]  # fmt: skip
    letters = [letter(json.dumps(VALID | {"event_type": kind}).encode(), n) for n, kind in enumerate("ab")]
    found = [
        json.loads(v.record.value)["chart"] for v in Bench(Settings(home=tmp_path), patch).judge(letters) if v.record
    ]
    assert found == [{"action": "sort", "control_id": "a"}, {"action": "sort", "control_id": "b"}]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_is_written_as_it_was_read_and_equals_what_a_test_says(number: str) -> None:
    text = f'{{"n":{number}}}'
    assert _text(_numbers_kept(text)) == text.encode()
    patch = _numbers_kept(f'[{{"op":"test","path":"/n","value":{number}}},{{"op":"copy","from":"/n","path":"/m"}}]')
    assert _text(jsonpatch.apply_patch(_numbers_kept(text), patch)) == f'{{"n":{number},"m":{number}}}'.encode()


@pytest.mark.parametrize(
    "text", ["", "{", "7", "[7]", '[{"op": "jump", "path": "/a"}]', '[{"op": "add", "path": "/a"}]',
             '[{"op": "add", "path": "a", "value": 1}]', '[{"op": "remove"}]', '"x"', "{}"]
)  # fmt: skip
def test_a_file_that_is_no_patch_is_refused_before_anything_is_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "fix.json").write_text(text)
    with pytest.raises(ReplayError, match=r"fix\.json is no JSON Patch"):
        read_patch(tmp_path / "fix.json")
    with pytest.raises(ReplayError, match=r"missing\.json"):
        read_patch(tmp_path / "missing.json")


json_values = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=3),
                           lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
                           max_leaves=6)  # fmt: skip


@settings(max_examples=examples(40, 1000))
@given(
    st.binary(max_size=30) | json_values.map(lambda value: json.dumps(value).encode()) | st.just(RAW),
    st.lists(st.fixed_dictionaries({
        "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]),
        "path": st.sampled_from(["", "/", "/a", "/0", "/-", "/user/consent", "/user", "/event_id/x", "/a/b/c"]),
        "from": st.sampled_from(["", "/a", "/user", "/0", "/user/consent"]), "value": json_values}), max_size=4),
    st.sampled_from(["edge", "stream"]),
)  # fmt: skip
def test_no_bytes_and_no_patch_stop_a_replay(raw: bytes, patch: list[dict[str, Any]], source: str) -> None:
    (verdict,) = Bench(Settings(home=_home()), patch).judge([letter(raw, source=source)])
    assert (verdict.record is not None) + bool(verdict.refused) + (verdict.discarded is not None) == 1


@cache
def _home() -> Path:
    """A folder that all examples share."""
    return Path(tempfile.mkdtemp())


def test_the_first_attempt_was_a_dead_letter_with_all_that_a_replay_needs(tmp_path: Path) -> None:
    rejected = Admission(Settings(home=tmp_path), Links.load()).admit(b'{"event_id": 7}', client(3))
    assert isinstance(rejected, Rejected)
    headers = {name: value.decode() for name, value in rejected.record.headers}
    assert msgspec.json.decode(headers["context"]) == msgspec.to_builtins(client(3))
    assert rejected.record.value == b'{"event_id": 7}' and int(headers["attempt"]) == 1
