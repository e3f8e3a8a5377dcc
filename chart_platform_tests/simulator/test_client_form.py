"""Events as clients send them: without what only the edge may say, and otherwise the same traffic."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from importlib.resources import files
from typing import Any

import pytest

from chart_platform.contracts.events import Accepted, explain
from chart_platform.simulator import GroundTruth, Message, SimulationConfig, generate, live
from chart_platform_tests.simulator.conftest import HEAVY, History, scrub, strict_json
from chart_platform_tests.simulator.test_live import FakeClock

BY_THE_EDGE_OR_BELIEVED = {"/user/geo_country"}
"""readOnly members that a key of kind ``server`` may set."""


def _read_only(schema: dict[str, Any], pointer: str = "") -> Iterator[str]:
    for name, sub in schema.get("properties", {}).items():
        if sub.get("readOnly"):
            yield f"{pointer}/{name}"
        else:
            yield from _read_only(sub, f"{pointer}/{name}")


def _pointers(value: Any, pointer: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield f"{pointer}/{name}"
            yield from _pointers(item, f"{pointer}/{name}")


def _valid(history: History) -> list[Message]:
    return [m for m in history.messages if m.label and m.label.expected in ("accepted", "duplicate")]


def test_clients_send_no_member_that_is_the_edges_and_always_their_consent(posted: History) -> None:
    schema = json.loads(
        files("chart_platform.contracts").joinpath("schemas", "chart_event-1.2.0.json").read_text(encoding="utf-8")
    )
    reserved = set(_read_only(schema)) - BY_THE_EDGE_OR_BELIEVED
    assert {"/ingest_ts", "/privacy", "/source", "/metadata/schema_hash"} <= reserved
    for message in _valid(posted):
        event = scrub(strict_json(message.value))
        assert not reserved & set(_pointers(event))
        assert event["user"]["consent"]["analytics"] is True


def test_it_is_the_same_traffic_in_both_forms(heavy: History, posted: History) -> None:
    """So what is known of one entrance can be compared with the other."""

    def accepted(history: History) -> list[tuple[str | None, ...]]:
        labels = [m.label for m in history.messages if m.label and m.label.expected == "accepted"]
        return sorted((label.event_id, label.event_type, label.session_id) for label in labels)  # type: ignore[type-var]

    assert accepted(heavy) == accepted(posted)


def test_the_contract_judges_clients_messages_as_their_labels_expect(posted: History) -> None:
    for message in posted.messages:
        assert message.label
        dead = not isinstance(explain(message.value), Accepted)
        # What is readOnly and of the wrong value is refused either way.
        assert dead == (message.label.expected == "dead_letter"), message


def test_a_clients_retry_differs_by_sent_at_alone(posted: History) -> None:
    originals = {m.label.event_id: m for m in posted.messages if m.label and m.label.expected == "accepted"}
    retries = posted.of("retry")
    assert retries
    for message in retries:
        assert message.label
        again, once = strict_json(message.value), strict_json(originals[message.label.event_id].value)
        assert {key for key in again if again[key] != once[key]} == {"sent_at"}


def test_who_denies_consent_is_nobody_else(posted: History) -> None:
    """Nothing of them may be kept: so no accepted event may share an id with theirs."""
    denied = [strict_json(m.value) for m in posted.of("denied_consent")]
    assert denied and all(event["user"]["consent"]["analytics"] is False for event in denied)
    kept = [scrub(strict_json(m.value)) for m in _valid(posted)]
    for name, of in (
        ("event_id", lambda event: event["event_id"]),
        ("user", lambda event: event["user"]["user_id_hash"]),
        ("session", lambda event: event["session"]["session_id"]),
    ):
        theirs = {of(event) for event in denied}
        assert len(theirs) == len(denied), name
        assert not theirs & {of(event) for event in kept if name != "session" or event["session"].get("session_id")}
    summary = GroundTruth.of(posted.messages).summary()
    assert summary["discarded"] == len(denied)
    assert summary["accepted"] == posted.config.events


def test_live_clicks_without_a_fault_go_through_the_redirect(is_valid: Callable[[Any], bool]) -> None:
    config = SimulationConfig(seed=1, faults=HEAVY, form="client")
    messages = list(live(config, 40.0, FakeClock(), duration=timedelta(minutes=20)))
    redirected = [m for m in messages if m.redirected]
    assert len(redirected) > 100
    for message in redirected:
        assert message.label and (message.label.kind, message.label.event_id) == ("redirected", None)
        event = strict_json(message.value)
        assert event["event_type"] == "affiliate_click" and is_valid(event)
        assert message.label.payout_cents == event["affiliate"]["payout_cents"]
        # Whichever clock stamps it, the day is that of the label.
        assert message.ts_ms % 86_400_000 < 86_400_000 - 60_000
    clicks = [m for m in messages if m.label and m.label.event_type == "affiliate_click"]
    assert len(clicks) > len(redirected)


@pytest.mark.parametrize("form", ["topic", "client"])
def test_a_history_has_no_redirected_clicks_as_the_redirect_stamps_the_time_itself(form: Any) -> None:
    config = SimulationConfig(seed=1, events=2_000, end=date(2026, 10, 20), form=form)
    assert not any(m.redirected for m in generate(config))
