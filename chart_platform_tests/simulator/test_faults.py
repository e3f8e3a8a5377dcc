"""Every label is true: the message has the fault that its label tells, and no other."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from chart_platform.contracts.events import Accepted, explain
from chart_platform.simulator import FAULTS, Message
from chart_platform.simulator.faults import BAD_BYTES, BROKEN, INVALID_KINDS, SURROGATES
from chart_platform_tests.simulator.conftest import History, scrub, strict_json


def _by_id(history: History) -> dict[str, Message]:
    return {
        m.label.event_id: m for m in history.messages if m.label and m.label.expected == "accepted" and m.label.event_id
    }


def test_all_faults_happen(heavy: History, posted: History) -> None:
    assert {m.label.fault for m in posted.messages if m.label} == set(FAULTS)
    assert {m.label.fault for m in heavy.messages if m.label} == set(FAULTS) - {"denied_consent"}


def test_the_contract_judges_every_message_as_its_label_expects(heavy: History) -> None:
    for message in heavy.messages:
        assert message.label
        accepted = isinstance(explain(message.value), Accepted)
        assert accepted == (message.label.expected != "dead_letter"), message


@pytest.mark.parametrize("fault", ["clean", "exact_duplicate", "retry", "late", "out_of_order", "missing_session"])
def test_messages_that_are_not_malformed_are_valid(heavy: History, is_valid: Callable[[Any], bool], fault: str) -> None:
    messages = [m for m in heavy.of(fault) if m.label and m.label.expected != "dead_letter"]
    assert messages
    assert all(is_valid(strict_json(message.value)) for message in messages)


def test_an_exact_duplicate_is_the_same_bytes_again_and_later(heavy: History) -> None:
    first: dict[bytes, Message] = {}
    for message in heavy.messages:
        assert message.label
        if message.label.fault == "exact_duplicate":
            original = first[message.value]
            assert original.key == message.key
            assert original.arrival_ms < message.arrival_ms
            assert original.label and original.label.event_id == message.label.event_id
        first.setdefault(message.value, message)
    assert {m.label.expected for m in heavy.of("exact_duplicate") if m.label} == {"duplicate", "dead_letter"}


def test_a_duplicate_of_a_malformed_message_is_a_dead_letter_too(heavy: History) -> None:
    twice = [m for m in heavy.of("exact_duplicate") if m.label and m.label.expected == "dead_letter"]
    assert twice
    assert all(not isinstance(explain(message.value), Accepted) for message in twice)


def test_a_retry_differs_from_its_original_by_sent_at_and_ingest_ts_alone(heavy: History) -> None:
    originals = _by_id(heavy)
    retries = heavy.of("retry")
    assert retries
    for message in retries:
        assert message.label and message.label.event_id
        again, once = strict_json(message.value), strict_json(originals[message.label.event_id].value)
        assert again["sent_at"] > once["sent_at"]
        assert again["ingest_ts"] > once["ingest_ts"]
        assert again.keys() == once.keys()
        assert {key for key in again if again[key] != once[key]} == {"sent_at", "ingest_ts"}


def test_some_retries_arrive_in_another_hour_than_their_original(heavy: History) -> None:
    originals = _by_id(heavy)
    hours = [
        (m.arrival_ms // 3_600_000, originals[m.label.event_id].arrival_ms // 3_600_000)
        for m in heavy.of("retry")
        if m.label and m.label.event_id
    ]
    assert any(again > once for again, once in hours)


def test_a_late_event_arrives_minutes_to_days_after_it_happened(heavy: History) -> None:
    delays = [m.arrival_ms - m.ts_ms for m in heavy.of("late")]
    faults = heavy.config.faults
    assert min(delays) >= faults.late_min.total_seconds() * 1000
    assert max(delays) <= faults.late_max.total_seconds() * 1000 + 3_000
    assert max(delays) > 86_400_000, "none a day late"
    others = [m.arrival_ms - m.ts_ms for m in heavy.of("clean")]
    assert max(others) < 3_000


def test_an_event_out_of_order_arrives_after_a_later_one_of_its_visit(heavy: History) -> None:
    arrivals: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for event_id, message in _by_id(heavy).items():
        event = strict_json(message.value)
        assert event["event_id"] == event_id
        if event["session"].get("session_id"):
            arrivals[event["session"]["session_id"]].append((event["seq"], message.arrival_ms))
    overtaken = heavy.of("out_of_order")
    assert overtaken
    for message in overtaken:
        event = strict_json(message.value)
        later = [arrival for seq, arrival in arrivals[event["session"]["session_id"]] if seq > event["seq"]]
        assert min(later) < message.arrival_ms


def test_missing_sessions_have_a_visitor_and_come_absent_null_and_empty(heavy: History) -> None:
    shapes: Counter[object] = Counter()
    for message in heavy.of("missing_session"):
        event = strict_json(message.value)
        assert event["user"]["user_id_hash"].startswith("sha256:")
        shapes[event["session"].get("session_id", "absent")] += 1
        assert not event["session"].get("session_id")
    assert set(shapes) == {"absent", None, ""}


def test_missing_session_sticks_to_the_visitor(heavy: History) -> None:
    stored: dict[str, set[bool]] = defaultdict(set)
    for message in _by_id(heavy).values():
        event = strict_json(message.value)
        stored[event["user"]["user_id_hash"]].add(bool(event["session"].get("session_id")))
    assert all(len(seen) == 1 for seen in stored.values())


def test_invalid_schema_is_sound_json_that_breaks_the_contract_in_every_way(
    heavy: History, is_valid: Callable[[Any], bool]
) -> None:
    messages = heavy.of("invalid_schema")
    assert {m.label.kind for m in messages if m.label} == set(INVALID_KINDS)
    assert not any(is_valid(strict_json(message.value)) for message in messages)


def test_broken_json_is_utf8_but_no_json_in_every_way(heavy: History) -> None:
    messages = heavy.of("broken_json")
    assert {m.label.kind for m in messages if m.label} == set(BROKEN)
    for message in messages:
        message.value.decode("utf-8")
        with pytest.raises(ValueError):
            strict_json(message.value)


def test_bad_utf8_is_sound_but_for_its_bytes(heavy: History, is_valid: Callable[[Any], bool]) -> None:
    messages = heavy.of("bad_utf8")
    assert {m.label.kind for m in messages if m.label} == set(BAD_BYTES)
    for message in messages:
        with pytest.raises(UnicodeDecodeError):
            message.value.decode("utf-8")
        assert is_valid(strict_json(message.value.decode("utf-8", "replace").encode()))


def test_a_lone_surrogate_is_escaped_and_valid_once_scrubbed(heavy: History, is_valid: Callable[[Any], bool]) -> None:
    messages = heavy.of("lone_surrogate")
    kinds = {f"{kind}_in_{member}" for kind in SURROGATES for member in ("page_url", "referrer")}
    assert {m.label.kind for m in messages if m.label} == kinds
    for message in messages:
        assert message.label and message.label.expected == "accepted"
        event = strict_json(message.value)
        with pytest.raises(UnicodeEncodeError):
            (event["ctx"]["page_url"] + event["ctx"]["referrer"]).encode()
        scrubbed = scrub(event)
        assert scrubbed != event and is_valid(scrubbed)


def test_malformed_messages_reuse_no_identity_of_an_accepted_event(heavy: History) -> None:
    accepted = set(_by_id(heavy))
    dead = [m.label.event_id for m in heavy.messages if m.label and m.label.expected == "dead_letter"]
    assert not accepted & set(dead)


def test_rates_come_out_as_asked(heavy: History) -> None:
    rates, events = heavy.config.faults, heavy.config.events
    counts = Counter(m.label.fault for m in heavy.messages if m.label)
    for fault in ("retry", "invalid_schema", "broken_json", "bad_utf8"):
        assert counts[fault] == pytest.approx(getattr(rates, fault) * events, rel=0.2)
