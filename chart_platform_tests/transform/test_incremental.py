"""Incremental runs end where one run over everything ends, whatever the order, the batches, the crashes and the repairs.

The truth is an oracle in plain Python. What is generated: few visitors, visits and event ids, with times at and around
the timeout, the cap and midnight; duplicates, displaced events, events of nobody.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from chart_platform.contracts.tables import (
    FACT_AFFILIATE_CLICKS,
    FACT_CHART_INTERACTIONS,
    FACT_FUNNEL,
    FACT_PAGE_VIEWS,
    SILVER_EVENTS,
    SILVER_SESSIONS,
    SILVER_USER_SEGMENTS,
    Table,
)
from chart_platform.lakehouse.lake import Lake
from chart_platform.quality.schemas import audit
from chart_platform.transform import model, scope, silver
from chart_platform_tests.transform.fixtures import NewHome, examples, some
from chart_platform_tests.transform.homes import DAY, DAY_MS, HOUR_MS, Home, at, event, ms, multiset
from chart_platform_tests.transform.oracle import Expected, Rule, expected

RULES = (
    Rule("browsing", "pageviews_1d >= 2", lambda f: f["pageviews_1d"] >= 2),
    Rule("buying", "affiliate_clicks_7d >= 1", lambda f: f["affiliate_clicks_7d"] >= 1),
    Rule(
        "passive",
        "days_active_7d >= 2 and chart_interactions_30d = 0",
        lambda f: f["days_active_7d"] >= 2 and f["chart_interactions_30d"] == 0,
    ),
    Rule("silent", "days_since_last_visit > 5", lambda f: f["days_since_last_visit"] > 5),
)
MODELLED = (SILVER_EVENTS, *model.DERIVED)
MINUTE_MS = 60_000
# Every boundary of the model from both sides: timeout, hour, cap, and enough to leave a segment's window.
STEPS = [
    0, 1, 5 * MINUTE_MS, 30 * MINUTE_MS - 1, 30 * MINUTE_MS, 30 * MINUTE_MS + 1, 20 * HOUR_MS,
    DAY_MS - 1, DAY_MS, DAY_MS + 1, 2 * DAY_MS,
]  # fmt: skip
STARTS = [
    at(DAY - timedelta(days=29), "10:00:00"), at(DAY - timedelta(days=6), "23:59:59"), at(DAY, "10:00:00"), at(DAY, "23:45:00"), at(DAY, "23:59:59.999"), at(DAY + timedelta(days=1), "00:00:00"),
]  # fmt: skip
VISITORS = [None, "", "u1", "u2", "u#2", "#"]
SESSIONS = [None, None, None, "", "s1", "s2", "s1#2", "#:u1", "#"]
KINDS = ["page_view", "page_view", "chart_interaction", "affiliate_click"]
PAGES = [
    None,
    {"page_url": "https://x.example/a"},
    {"page_url": "https://x.example/compare/b?c", "ab_variant": "B"},
    {"page_url": "", "device": "mobile", "browser": "Firefox", "os": "Linux"},
]
CAMPAIGNS = [
    None,
    None,
    {"source": "google", "medium": "cpc", "campaign": "x"},
    {"source": "weekly", "medium": "email"},
]
CHART_USES = [
    {"action": "sort", "control_id": "Price", "control_value": "asc", "product_ids": ["a", ""]},
    {"action": "filter", "control_id": "offers", "control_value": "Free Trial"},
    {"action": "compare_expand"},
    {"action": "toggle", "control_id": "deal"},
]
FIRST_INGESTION_DAY = DAY + timedelta(days=1)


@dataclass(frozen=True)
class Step:
    """One batch: its messages by partition, its ingestion day (days after the first), and what runs after it."""

    messages: list[dict[str, Any]]
    partitions: list[int]
    days_on: int
    then: str


@dataclass(frozen=True)
class Story:
    """Batches one after the other; ``in_slices``: every run takes them for large and goes hour by hour."""

    steps: list[Step] = field(default_factory=list)
    in_slices: bool = False

    def sent(self) -> list[tuple[dict[str, Any], int]]:
        """Every message with its append time."""
        day, found = FIRST_INGESTION_DAY, []
        for step in self.steps:
            day += timedelta(days=step.days_on)
            found += [(message, ms(day) + 12 * HOUR_MS) for message in step.messages]
        return found

    @property
    def last_day(self) -> Any:
        """The ingestion day of the last batch that has messages."""
        day = last = FIRST_INGESTION_DAY
        for step in self.steps:
            day += timedelta(days=step.days_on)
            last = day if step.messages else last
        return last


AFTER = [
    "nothing",
    "silver",
    "gold",
    "gold",
    "gold",
    "crash:0",
    "crash:1",
    "crash:2",
    "crash:3",
    "rebuild:0",
    "rebuild:1",
]


BY_THE_EDGE: list[dict[str, Any]] = [
    {},
    {"seq": 0, "page_view_id": "pv-1", "privacy": {"analytics": True, "ads": None}, "metadata": {"key_id": "key_1"}},
    {
        "click_id": "c1",
        "affiliate": {"target": "https://shop.example", "payout_cents": 100, "position": 2, "context": "signed"},
        "metadata": {"experiment_keys": ["layout:b", ""], "replayed_from": ""},
    },
]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    messages: list[dict[str, Any]] = []
    number = 0
    for _ in range(draw(st.integers(2, 5))):
        visitor, session = draw(st.sampled_from(VISITORS)), draw(st.sampled_from(SESSIONS))
        ts = draw(st.sampled_from(STARTS))
        for step in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=6)):
            ts += step
            if draw(st.integers(0, 9)) == 0:
                visitor = draw(st.sampled_from(VISITORS))
            extra: dict[str, Any] = {"ingest_ts": ts + draw(st.integers(0, 3))} if draw(st.booleans()) else {}
            if page := draw(st.sampled_from(PAGES)):
                extra["ctx"] = page
            kind = draw(st.sampled_from(KINDS))
            made = event(number, ts, kind, session=session, visitor=visitor, **extra)
            if kind == "chart_interaction":
                made["chart"] = draw(st.sampled_from(CHART_USES))
            if utm := draw(st.sampled_from(CAMPAIGNS)):
                made["session"] = made.get("session", {}) | {"utm": utm}
            messages.append(made | draw(st.sampled_from(BY_THE_EDGE)))
            number += 1
    for original in draw(st.lists(st.integers(0, number - 1), max_size=5)):
        messages.append(draw(_repeated(messages[original])))
    random.Random(draw(st.integers(0, 1000))).shuffle(messages)
    cuts = sorted(draw(st.lists(st.integers(0, len(messages)), min_size=1, max_size=4)))
    steps = []
    for start, end in zip([0, *cuts], [*cuts, len(messages)], strict=True):
        part = messages[start:end]
        partitions = [draw(st.integers(0, 2)) for _ in part]
        steps.append(Step(part, partitions, draw(st.sampled_from([0, 0, 1, 2, 6, 24])), draw(st.sampled_from(AFTER))))
    return Story(steps, draw(st.booleans()))


@st.composite
def _repeated(draw: st.DrawFn, original: dict[str, Any]) -> dict[str, Any]:
    """The same event id again: the same bytes, a retry, or another event under the id (which displaces or is dropped)."""
    how = draw(st.sampled_from(["same", "retry", "displaced", "displaced", "moved", "other_day"]))
    if how == "same":
        return original
    ts = ms(_time_of(original))
    ingest_ts = original.get("ingest_ts", ts) + draw(st.sampled_from([-1, 0, 1, 60_000]))
    if how == "retry":
        return original | {"ingest_ts": ingest_ts}
    shift = {"displaced": 0, "moved": 31 * MINUTE_MS, "other_day": DAY_MS}[how]
    number = int(original["event_id"][-12:])
    kind, session = draw(st.sampled_from(KINDS)), draw(st.sampled_from(SESSIONS))
    return event(
        number, ts + shift, kind, session=session, visitor=draw(st.sampled_from(VISITORS)), ingest_ts=ingest_ts
    )


def _time_of(message: dict[str, Any]) -> Any:
    from datetime import datetime

    return datetime.fromisoformat(message["ts"].removesuffix("Z"))


class Killed(RuntimeError):
    """A run ends before its next commit."""


def play(
    home: Home, story: Story, monkeypatch: pytest.MonkeyPatch, after_step: Callable[[], object] = lambda: None
) -> None:
    """Ingest the batches, run what the story says after each, and bring all up to date at the end."""
    if story.in_slices:
        monkeypatch.setattr(scope, "_MANY_CHAINS", 0)
        monkeypatch.setattr(scope, "_SLICE_EVENTS", 1)
    day = FIRST_INGESTION_DAY
    for step in story.steps:
        day += timedelta(days=step.days_on)
        start = {p: len(home.log.get(p, [])) for p in range(3)}
        for partition, message in zip(step.partitions, step.messages, strict=True):
            home.append(partition, message, ms(day) + 12 * HOUR_MS)
        home.take(day, {p: (at_, len(home.log.get(p, []))) for p, at_ in start.items()})
        what, _, number = step.then.partition(":")
        if what == "silver":
            silver.update(home.lake, audit)
        elif what == "gold":
            home.advance()
        elif what == "crash":
            silver.update(home.lake, audit)
            crash_after(home, int(number), monkeypatch)
        elif what == "rebuild":
            home.advance([DAY + timedelta(days=int(number))])
        after_step()
    home.advance()


def crash_after(home: Home, commits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model run that dies after so many commits."""
    left = commits
    publish = Lake._publish

    def limited(self: Lake, *args: Any) -> Any:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        return publish(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Lake, "_publish", limited)
        try:
            model.run(home.lake, audit)
        except RuntimeError as error:
            if Killed.__name__ not in repr(error) and "failed" not in str(error):
                raise


def truth(story: Story) -> Expected:
    # What lies 24 h or more ahead of its append time is a dead letter.
    valid = [(m, k) for m, k in story.sent() if ms(_time_of(m)) < k + DAY_MS]
    return expected(valid, RULES, story.last_day)


def difference(home: Home, wanted: Expected) -> dict[str, Any]:
    """By table, rows that are there and should not be, and rows that should be there and are not."""
    tables: list[tuple[Table, list[dict[str, Any]]]] = [
        (SILVER_EVENTS, wanted.events),
        (SILVER_SESSIONS, wanted.sessions),
        (SILVER_USER_SEGMENTS, wanted.segments),
        (FACT_FUNNEL, wanted.funnel),
        (FACT_AFFILIATE_CLICKS, wanted.clicks),
        (FACT_CHART_INTERACTIONS, wanted.interactions),
        (FACT_PAGE_VIEWS, wanted.page_views),
    ]
    found = {}
    for table, rows in tables:
        have, want = home.multiset(table), multiset(rows)
        if have != want:
            found[table.full_name] = {"wrong": dict(have - want), "lacking": dict(want - have)}
    return found


def contents(home: Home) -> dict[str, Counter[str]]:
    return {table.full_name: home.multiset(table) for table in MODELLED}


@pytest.fixture(scope="module")
def rules_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rules") / "rules.yml"
    rules = [
        {"name": r.name, "owner": "o", "description": "d", "valid_from": r.valid_from, "predicate": r.predicate}
        for r in RULES
    ]
    path.write_text(yaml.safe_dump(rules))
    return path


@pytest.mark.slow
@settings(max_examples=examples(6, 300))
@given(story=stories())
def test_any_order_and_batching_gives_the_tables_of_the_oracle_and_a_rebuild_changes_nothing(
    story: Story, new_home: NewHome, rules_file: Path
) -> None:
    home = new_home(segment_rules=rules_file)
    with pytest.MonkeyPatch.context() as monkeypatch:
        play(home, story, monkeypatch)
    wrong = difference(home, truth(story))
    assert not wrong, json.dumps(wrong, indent=1)
    before = contents(home)
    for day in some(sorted({row["event_dt"] for row in home.rows(SILVER_EVENTS)})):
        home.advance([day])
        assert contents(home) == before, f"the rebuild of {day} changed something"
