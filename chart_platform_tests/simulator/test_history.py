"""Generated histories: determinism, exact counts, validity, order, realism."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chart_platform.simulator import Burst, FaultRates, SimulationConfig, generate
from chart_platform.simulator.config import epoch_ms
from chart_platform.simulator.render import day_of, event_dt, iso, uuid7
from chart_platform_tests.simulator.conftest import History, strict_json

_DIGEST = """
import hashlib
from chart_platform.simulator import FaultRates, SimulationConfig, generate
digest = hashlib.sha256()
for m in generate(SimulationConfig(seed=5, events=3000, days=3, faults=FaultRates.default())):
    digest.update(repr((m.key, m.value, tuple(m.label), m.ts_ms, m.arrival_ms)).encode())
print(digest.hexdigest())
"""


def test_the_same_config_gives_the_same_bytes_in_every_process() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", _DIGEST],
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed, zone in (("0", "UTC"), ("1", "America/New_York"), ("4242", "Asia/Kolkata"))
    }
    assert len(digests) == 1


def test_another_seed_gives_other_events() -> None:
    def ids(seed: int) -> set[str | None]:
        return {m.label.event_id for m in generate(SimulationConfig(seed=seed, events=300)) if m.label}

    assert not ids(1) & ids(2)


def test_faults_leave_the_original_events_as_they_are(pure: History, heavy: History) -> None:
    """So a faulty history can be compared with its faultless twin, event by event."""

    def originals(history: History) -> list[tuple[str | None, int, int | None]]:
        labels = [(m.label, m.ts_ms) for m in history.messages if m.label and m.label.expected == "accepted"]
        return sorted((label.event_id, ts, label.payout_cents) for label, ts in labels)  # type: ignore[type-var]

    assert originals(pure) == originals(heavy)


def test_a_pure_history_has_exactly_the_asked_valid_distinct_events(
    pure: History, is_valid: Callable[[Any], bool]
) -> None:
    events = [strict_json(message.value) for message in pure.messages]
    assert all(is_valid(event) for event in events)
    assert len(events) == len({event["event_id"] for event in events}) == pure.config.events


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**63),
    events=st.integers(0, 400),
    days=st.integers(1, 400),
    rate=st.floats(0, 0.11),
    hour=st.integers(0, 23),
)
def test_any_config_gives_exactly_n_accepted_events_in_the_order_of_arrival_within_the_span(
    seed: int, events: int, days: int, rate: float, hour: int
) -> None:
    faults = FaultRates(**{f.name: rate for f in fields(FaultRates) if not f.name.startswith("late_")})
    end = datetime(2026, 3, 1, hour, 17, tzinfo=UTC)
    config = SimulationConfig(seed=seed, events=events, days=days, end=end, faults=faults)
    messages = list(generate(config))
    accepted = [m.label.event_id for m in messages if m.label and m.label.expected == "accepted"]
    assert len(accepted) == len(set(accepted)) == events
    assert [m.arrival_ms for m in messages] == sorted(m.arrival_ms for m in messages)
    assert all(config.begin_ms <= m.ts_ms < m.arrival_ms < config.end_ms for m in messages)
    known: set[str | None] = set()
    for message in messages:
        assert message.label
        if message.label.expected == "duplicate":
            assert message.label.event_id in known
        known.add(message.label.event_id)


def test_keys_are_the_session_else_the_event(heavy: History) -> None:
    for message in heavy.messages:
        assert message.label
        if message.label.expected == "dead_letter":
            continue
        event = strict_json(message.value)
        session_id = event["session"].get("session_id") or None
        assert message.label.session_id == session_id
        assert message.key == (session_id or event["event_id"]).encode()


def test_the_event_says_what_its_label_says(heavy: History) -> None:
    for message in heavy.messages:
        label = message.label
        assert label
        if label.expected == "dead_letter":
            continue
        event = strict_json(message.value)
        assert (event["event_id"], event["event_type"]) == (label.event_id, label.event_type)
        assert event["ts"] == iso(message.ts_ms)
        assert event["ts"][:10] == label.event_dt
        assert event["ingest_ts"] <= message.arrival_ms
        assert event["ts"] <= event["sent_at"] <= iso(event["ingest_ts"])
        assert event["ctx"]["ab_variant"] == label.variant
        assert (event.get("affiliate") or {}).get("payout_cents") == label.payout_cents


def test_event_ids_are_uuid7_of_the_event_time(pure: History) -> None:
    for message in pure.messages:
        event_id = strict_json(message.value)["event_id"]
        assert event_id[14] == "7" and event_id[19] in "89ab"
        assert int(event_id[:8] + event_id[9:13], 16) == message.ts_ms


@given(ms=st.integers(0, 2**47), bits=st.integers(0, 2**74 - 1))
def test_uuid7_keeps_every_bit_it_is_given(ms: int, bits: int) -> None:
    number = int(uuid7(ms, bits).replace("-", ""), 16)
    assert number >> 80 == ms
    assert (number >> 64 & 0xFFF) << 62 | number & (1 << 62) - 1 == bits


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_times_are_written_as_the_standard_library_would(moment: datetime) -> None:
    ms = epoch_ms(moment)
    assert iso(ms) == moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert event_dt(ms) == day_of(ms // 86_400_000) == moment.date().isoformat()


def test_without_faults_a_visit_arrives_in_its_own_order(pure: History) -> None:
    by_session: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for message in pure.messages:
        event = strict_json(message.value)
        by_session[event["session"]["session_id"]].append(event)
    assert len(by_session) > 1_000
    for events in by_session.values():
        assert [event["seq"] for event in events] == list(range(len(events)))
        assert [event["ts"] for event in events] == sorted(event["ts"] for event in events)
        assert len({event["user"]["user_id_hash"] for event in events}) == 1
        assert len({event["ctx"]["ab_variant"] for event in events}) == 1
        page: dict[str, Any] = {}
        for event in events:
            if event["event_type"] == "page_view":
                page = event
            assert event["page_view_id"] == page["page_view_id"]
            assert event["ctx"]["page_url"] == page["ctx"]["page_url"]


def test_visits_of_one_visitor_are_further_apart_than_the_session_timeout(heavy: History) -> None:
    """Otherwise visits without a session id could not be told apart, and the truth's count would be wrong."""
    spans: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for message in heavy.messages:
        label = message.label
        if label and label.expected == "accepted" and label.session_number is not None:
            user = strict_json(message.value)["user"]["user_id_hash"]
            spans[user][label.session_number].append(message.ts_ms)
    for visits in spans.values():
        ordered = sorted(sorted(times) for times in visits.values())
        for times in ordered:
            assert all(b - a < 30 * 60_000 for a, b in itertools.pairwise(times))
        for before, after in itertools.pairwise(ordered):
            assert after[0] - before[-1] > 30 * 60_000


def test_the_site_has_all_that_the_contract_knows(pure: History) -> None:
    events = [strict_json(message.value) for message in pure.messages]
    charts = [event["chart"] for event in events if event["event_type"] == "chart_interaction"]
    actions = {chart["action"] for chart in charts}
    assert actions == {"toggle", "sort", "filter", "compare_expand", "compare_collapse"}
    assert {type(chart["control_value"]) for chart in charts} == {str, int, float, bool, type(None)}
    assert all(chart["product_ids"] for chart in charts)
    clicks = [event for event in events if event["event_type"] == "affiliate_click"]
    assert clicks and all(click["affiliate"]["target"].startswith("https://") for click in clicks)
    assert len({click["click_id"] for click in clicks}) == len(clicks)
    paths = {urlsplit(event["ctx"]["page_url"]).path for event in events}
    assert {"/", "/compare/website-builders", "/reviews/sitesmith"} <= paths
    assert any("compare" in path and "compare" not in path.split("/") for path in paths), "the trap is missing"
    assert len({event["user"]["geo_country"] for event in events}) >= 8
    assert len({event["ctx"]["user_agent"] for event in events}) >= 5
    campaigns = {(event["session"]["utm"] or {}).get("campaign") for event in events}
    assert None in campaigns and len(campaigns) > 5


def test_visitors_return_on_other_days_and_their_intent_moves_on() -> None:
    intents: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    shares: dict[str, Counter[str]] = defaultdict(Counter)
    for message in generate(SimulationConfig(seed=3, events=15_000, days=10)):
        label = message.label
        assert label and label.event_dt and label.intent
        user = strict_json(message.value)["user"]["user_id_hash"]
        intents[user][label.event_dt].add(label.intent)
        shares[label.event_dt][label.intent] += 1
    assert sum(len(days) > 1 for days in intents.values()) > 300
    assert all(len(seen) == 1 for days in intents.values() for seen in days.values())
    assert sum(len({i for seen in days.values() for i in seen}) > 1 for days in intents.values()) > 200


def test_traffic_follows_the_day_and_the_week() -> None:
    hours: Counter[int] = Counter()
    weekdays: Counter[int] = Counter()
    for message in generate(SimulationConfig(seed=1, events=25_000, days=14, end=date(2026, 10, 26))):
        moment = datetime.fromtimestamp(message.ts_ms / 1000, UTC)
        hours[moment.hour] += 1
        weekdays[moment.weekday()] += 1
    assert hours[20] > 4 * hours[3]
    assert weekdays[1] > 1.1 * weekdays[5]


def test_bursts_shape_the_traffic_and_are_labelled() -> None:
    noon = datetime(2026, 10, 19, 12, tzinfo=UTC)
    hour = timedelta(hours=1)
    bursts = (Burst(noon, hour, 8.0), Burst(noon + 3 * hour, hour, 0.0))
    base = SimulationConfig(seed=4, events=8_000, days=2, end=date(2026, 10, 20))
    burst = SimulationConfig(seed=4, events=8_000, days=2, end=date(2026, 10, 20), bursts=bursts)

    def begun(config: SimulationConfig, start: datetime) -> int:
        span = range(epoch_ms(start), epoch_ms(start + hour))
        return sum(m.ts_ms in span and b'"seq":0,' in m.value for m in generate(config))

    assert begun(burst, noon) > 4 * begun(base, noon)
    assert begun(burst, noon + 3 * hour) == 0 < begun(base, noon + 3 * hour)
    traffic = Counter(m.label.traffic for m in generate(burst) if m.label)
    assert traffic["spike"] > 500 and traffic["drop"] == 0
    assert sum(traffic.values()) == 8_000


def test_only_messages_under_way_are_held_in_memory() -> None:
    """Asking for ten million events answers at once: nothing is generated ahead beyond a batch."""
    stream = generate(SimulationConfig(seed=1, events=10_000_000, days=30, faults=FaultRates.default()))
    digest = hashlib.sha256(next(stream).value).hexdigest()
    assert len(digest) == 64


@pytest.mark.parametrize(
    "make",
    [
        lambda: SimulationConfig(events=-1),
        lambda: SimulationConfig(days=0),
        lambda: SimulationConfig(end=datetime(2026, 1, 1)),
        lambda: FaultRates(late=1.5),
        lambda: FaultRates(late=0.6, retry=0.6),
        lambda: FaultRates(late_min=timedelta(days=2), late_max=timedelta(days=1)),
        lambda: Burst(datetime(2026, 1, 1, tzinfo=UTC), timedelta(hours=1), -1.0),
    ],
)
def test_impossible_requests_are_refused_with_the_value_named(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"\d"):
        make()
