"""The ground truth equals a recount from the bytes, and the A/B effect is as documented."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

from chart_platform.simulator import (
    TRUE_RELATIVE_LIFT,
    GroundTruth,
    GroundTruthWriter,
    SimulationConfig,
    expected_conversion,
    generate,
    read_lines,
)
from chart_platform.simulator.behaviour import INTENTS, session_conversion
from chart_platform_tests.simulator.conftest import History, scrub, strict_json


def _recount(history: History, is_valid: Any) -> dict[str, Any]:
    """What a simple, slow, right platform would have: it sees bytes and no labels."""
    events: dict[str, dict[str, Any]] = {}
    duplicates = dead = 0
    for message in history.messages:
        try:
            event = scrub(strict_json(message.value))
        except ValueError:
            dead += 1
            continue
        if not is_valid(event):
            dead += 1
        elif event["event_id"] in events:
            duplicates += 1
        else:
            events[event["event_id"]] = event
    by_day: dict[str, Counter[str]] = defaultdict(Counter)
    payout: Counter[str] = Counter()
    sessions: set[str] = set()
    nameless: dict[str, list[int]] = defaultdict(list)
    for event in events.values():
        by_day[event["ts"][:10]][event["event_type"]] += 1
        if event["event_type"] == "affiliate_click":
            payout[event["ts"][:10]] += event["affiliate"]["payout_cents"]
        if session_id := event["session"].get("session_id"):
            sessions.add(session_id)
        else:
            nameless[event["user"]["user_id_hash"]].append(int(event["event_id"].replace("-", "")[:12], 16))
    gaps = sum(b - a > 30 * 60_000 for times in nameless.values() for a, b in pairwise(sorted(times)))
    return {
        "sent": len(history.messages),
        "accepted": len(events),
        "duplicates": duplicates,
        "dead_letters": dead,
        "sessions": len(sessions) + len(nameless) + gaps,
        "payout_cents": sum(payout.values()),
        "payout_cents_by_day": dict(payout),
        "events_by_day": {day: dict(types) for day, types in by_day.items()},
    }


def test_the_summary_equals_a_recount_from_the_bytes(heavy: History, is_valid: Any) -> None:
    summary = GroundTruth.of(heavy.messages).summary()
    recount = _recount(heavy, is_valid)
    assert {name: summary[name] for name in recount} == recount
    assert recount["accepted"] == heavy.config.events


def test_the_file_has_one_line_per_message_with_its_digest(heavy: History, tmp_path: Path) -> None:
    path = tmp_path / "truth" / "sent.ndjson"
    with GroundTruthWriter(path) as writer:
        sent = list(writer.recorded(heavy.messages))
    assert sent == heavy.messages
    lines = list(read_lines(path))
    assert [line["index"] for line in lines] == list(range(len(sent)))
    for line, message in zip(lines, sent, strict=True):
        assert message.label
        assert line["sha256"] == hashlib.sha256(message.value).hexdigest()
        assert (line["fault"], line["expected"]) == (message.label.fault, message.label.expected)
    assert GroundTruth.read(path).summary() == writer.summary() == GroundTruth.of(sent).summary()


def test_a_consumer_that_stops_early_has_all_that_it_took_on_record(heavy: History, tmp_path: Path) -> None:
    path = tmp_path / "sent.ndjson"
    with GroundTruthWriter(path) as writer:
        taken = list(islice(writer.recorded(heavy.messages), 10))
    assert len(list(read_lines(path))) == len(taken) == 10


def test_a_message_without_a_label_has_no_truth(pure: History) -> None:
    with pytest.raises(ValueError, match="without a label"):
        GroundTruth.of([pure.messages[0]._replace(label=None)])


def test_a_closed_writer_says_so(pure: History, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not open"):
        GroundTruthWriter(tmp_path / "t").write(pure.messages[0])


def test_the_lift_is_the_same_for_every_intent_and_mix() -> None:
    for intent in INTENTS:
        ratio = session_conversion(intent, "B") / session_conversion(intent, "A")
        assert ratio == pytest.approx(1 + TRUE_RELATIVE_LIFT)
    mix = {"browse": 3.0, "buy": 5.0}
    assert expected_conversion("B", mix) / expected_conversion("A", mix) == pytest.approx(1 + TRUE_RELATIVE_LIFT)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_effect_of_the_variant_is_visible_in_the_traffic() -> None:
    experiment = GroundTruth.of(generate(SimulationConfig(seed=2, events=150_000, days=5))).summary()["experiment"]
    observed = {}
    for variant, figures in experiment.items():
        sessions, expected = figures["sessions"], figures["expected_conversion"]
        observed[variant] = figures["converted"] / sessions
        assert abs(observed[variant] - expected) < 4 * (expected * (1 - expected) / sessions) ** 0.5
    assert observed["B"] / observed["A"] == pytest.approx(1 + TRUE_RELATIVE_LIFT, abs=0.07)
    assert experiment["A"]["sessions"] == pytest.approx(experiment["B"]["sessions"], rel=0.05)
