"""Who was in which segment from when to when: any order of batches, profiles and rebuilds gives the oracle's history.

The stories here go over months, with few visits each, so that windows end, tiers change while nobody visits, rules change,
and visitors come back.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from chart_platform.contracts.tables import (
    DIM_USER,
    FACT_FUNNEL,
    PROFILE_CHANGES,
    SILVER_EVENTS,
    SILVER_SESSIONS,
    SILVER_USER_SEGMENTS,
    Table,
)
from chart_platform.lakehouse.duck import connect, create_views
from chart_platform.lakehouse.lake import Change, paths
from chart_platform.lakehouse.rewrite import replace_rows
from chart_platform.profiles import history
from chart_platform.profiles.snapshots import SCHEMA, snapshot
from chart_platform.quality.schemas import audit
from chart_platform.transform import model, scope
from chart_platform.transform.segments import FEATURES
from chart_platform_tests.profiles.profile_world import profile
from chart_platform_tests.transform.fixtures import NewHome, examples
from chart_platform_tests.transform.homes import DAY, Home, at, event, multiset
from chart_platform_tests.transform.oracle import Profile, Rule, expected

pytestmark = pytest.mark.slow


def on(number: int) -> date:
    """So many days after the first."""
    return DAY + timedelta(days=number)


RULES = (
    Rule("clicked", "affiliate_clicks_7d >= 1", lambda f: f["affiliate_clicks_7d"] >= 1),
    Rule("returning", "days_active_30d >= 2", lambda f: f["days_active_30d"] >= 2),
    Rule("silent", "days_since_last_visit > 6", lambda f: f["days_since_last_visit"] > 6),
    Rule(
        "loyal",
        "affiliate_clicks_30d >= 2 and shops_clicked_30d = 1",
        lambda f: f["affiliate_clicks_30d"] >= 2 and f["shops_clicked_30d"] == 1,
    ),
    Rule("fresh", "sessions_1d >= 1", lambda f: f["sessions_1d"] >= 1, on(0)),
    Rule("fresh", "sessions_1d >= 1 and engaged_sessions_7d >= 1", lambda f: f["sessions_1d"] >= 1 <= f["engaged_sessions_7d"], on(9)),
    Rule("fresh", "false", lambda _: False, on(40)),
    Rule("gold", "crm_tier = 'gold'", lambda f: f["crm_tier"] == "gold", on(2), True),
    Rule("gold", "crm_tier in ('gold', 'black')", lambda f: f["crm_tier"] in ("gold", "black"), on(17), True),
    Rule("idle", "has_profile and sessions_7d = 0", lambda f: f["has_profile"] and not f["sessions_7d"], of_profiles=True),
)  # fmt: skip


@pytest.fixture(scope="module")
def rules_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rules(tmp_path_factory.mktemp("rules") / "rules.yml", RULES)


def write_rules(path: Path, rules: tuple[Rule, ...]) -> Path:
    entries = [
        {"name": r.name, "owner": "o", "description": "d", "valid_from": str(r.valid_from), "predicate": r.predicate}
        for r in rules
    ]
    path.write_text(yaml.safe_dump(entries))
    return path


def look(home: Home, moment: datetime, tiers: Mapping[str, str | None]) -> None:
    """The company's profiles at a moment. Nobody of them but `z` is gone when it is not named."""
    given = [profile(user, crm_tier=tier) for user, tier in {"z": "gold", **tiers}.items()]
    history.take_in(home.lake, audit, snapshot("crm", moment, pa.Table.from_pylist(given, schema=SCHEMA)))
    history.update_dimension(home.lake, audit)


def known_profiles(home: Home) -> list[Profile]:
    return [
        Profile(row["user_id_hash"], row["crm_tier"], row["valid_from"], row["valid_to"]) for row in home.rows(DIM_USER)
    ]


def drop(home: Home, table: Table, doomed: str) -> None:
    """Take rows out of a table, as an erasure does."""
    connection = connect(home.settings)

    def decide(current: Any) -> Change:
        nothing = table.arrow.empty_table()
        return replace_rows(connection, current, table, home.lake.files(current), doomed, nothing)

    home.lake.commit(table, decide)
    connection.close()


def spans(home: Home, user: str, segment: str) -> list[tuple[int, int | None]]:
    """Memberships as days after the first: from, and to (exclusive), None while it lasts."""
    return sorted(
        ((row["valid_from"].date() - DAY).days, row["valid_to"] and (row["valid_to"].date() - DAY).days)
        for row in home.rows(SILVER_USER_SEGMENTS)
        if (row["user_id_hash"], row["segment_key"]) == (user, segment)
    )


@dataclass(frozen=True)
class Step:
    """Days that pass, events as (user, days back, kind, shop), profiles as (hour, tiers), and what runs then."""

    days_on: int
    events: list[tuple[str, int, str, str]]
    profiles: tuple[int, dict[str, str | None]] | None
    then: str


USERS = ["u", "v", "w"]
STEPS = st.builds(
    Step,
    st.sampled_from([0, 1, 1, 4, 7, 13, 31]),
    st.lists(
        st.tuples(
            st.sampled_from(USERS),
            st.sampled_from([0, 0, 1, 2, 6, 7, 8, 14, 29, 30, 31]),
            st.sampled_from(["page_view", "affiliate_click"]),
            st.sampled_from(["https://a.example/1", "https://a.example/2", "https://b.example"]),
        ),
        min_size=1,
        max_size=4,
    ),
    st.one_of(
        st.none(),
        st.tuples(
            st.sampled_from([0, 10]),
            st.dictionaries(st.sampled_from([*USERS, "z"]), st.sampled_from([None, "gold", "black", "basic"])),
        ),
    ),
    st.sampled_from(["nothing", "gold", "gold", "gold", "rebuild"]),
)


Sent = list[tuple[dict[str, Any], int]]


def play(home: Home, story: list[Step]) -> tuple[Sent, date]:
    """Let a story happen; what was sent, with its append times, and the last day."""
    day, sent = on(0), Sent()
    for step in story:
        day += timedelta(days=step.days_on)
        if step.profiles:
            look(home, datetime.combine(day, datetime.min.time()) + timedelta(hours=step.profiles[0]), step.profiles[1])
        made = []
        for user, back, kind, shop in step.events:
            number = len(sent) + len(made)
            click = {"affiliate": {"target": shop, "payout_cents": 100}} if kind == "affiliate_click" else {}
            ts = at(day - timedelta(days=back), "09:00:00") + 60_000 * number
            made.append(event(number, ts, kind, session=f"s{number}", visitor=user, **click))
        home.send(day, made)
        sent += [(message, at(day, "12:00:00")) for message in made]
        if step.then == "gold":
            home.advance()
        elif step.then == "rebuild":
            home.advance([day - timedelta(days=step.events[0][1])])
    home.advance()
    return sent, day


def wrong(home: Home, sent: Sent, horizon: date) -> str:
    """What the tables hold and should not, and the other way round."""
    wanted, found = expected(sent, RULES, horizon, profiles=known_profiles(home)), {}
    for table, rows in ((SILVER_USER_SEGMENTS, wanted.segments), (FACT_FUNNEL, wanted.funnel)):
        have, want = home.multiset(table), multiset(rows)
        if have != want:
            found[table.full_name] = {"wrong": dict(have - want), "lacking": dict(want - have)}
    return json.dumps(found, indent=1) if found else ""


@settings(max_examples=examples(3, 200))
@given(story=st.lists(STEPS, min_size=2, max_size=6), data=st.data())
def test_any_story_of_visits_profiles_and_rules_gives_the_memberships_of_the_oracle_and_a_rebuild_changes_nothing(
    story: list[Step], data: st.DataObject, new_home: NewHome, rules_file: Path
) -> None:
    home = new_home(segment_rules=rules_file)
    sent, horizon = play(home, story)
    assert not (said := wrong(home, sent, horizon)), said
    assert_apart(home)
    before = home.multiset(SILVER_USER_SEGMENTS)
    for number in data.draw(st.lists(st.integers(-31, (horizon - DAY).days), min_size=2, max_size=3)):
        model.run(home.lake, audit, on(number))
        assert home.multiset(SILVER_USER_SEGMENTS) == before, f"the rebuild of {on(number)} changed something"
    # What changes of profiles alone reaches the segments without another message.
    look(home, datetime.combine(horizon, datetime.min.time()), {"u": "black", "v": "gold"})
    model.run(home.lake, audit)
    assert not (said := wrong(home, sent, horizon)), said


def assert_apart(home: Home) -> None:
    """Rows of a visitor and segment neither overlap nor touch, and an open one is the last."""
    rows = defaultdict(list)
    for row in home.rows(SILVER_USER_SEGMENTS):
        rows[row["user_id_hash"], row["segment_key"]].append((row["valid_from"], row["valid_to"]))
    for found in rows.values():
        found.sort()
        for (start, end), (following, _) in pairwise(found):
            assert end is not None and start < end < following


def visit(number: int, day: date, user: str, kind: str = "page_view") -> dict[str, Any]:
    return event(number, at(day, "09:00:00"), kind, session=f"s{number}", visitor=user)


def segments_of_visits(home: Home) -> dict[str, list[str]]:
    return {row["session_id"]: row["segments"] for row in home.rows(FACT_FUNNEL)}


def test_who_was_active_and_is_silent_is_at_risk_until_coming_back_and_again_after(new_home: NewHome) -> None:
    home = new_home()
    for number, day in enumerate([0, 1, 2, 20, 60]):
        home.send(on(day), [visit(number, on(day), "u" if day < 60 else "other")])
        home.advance()
    # From the 15th day of silence on, until the visit counts; then as long as three days are in the window of 30.
    assert spans(home, "u", "churn_risk") == [(17, 21)]
    home.send(on(60), [visit(10, on(21), "u"), visit(11, on(22), "u")])
    home.advance()
    assert spans(home, "u", "churn_risk") == [(17, 21), (37, 51)]


def test_a_tier_holds_from_the_next_midnight_on_for_who_does_not_visit_too(new_home: NewHome, rules_file: Path) -> None:
    home = new_home(segment_rules=rules_file)
    home.send(on(3), [visit(1, on(3), "other")])
    home.advance()
    look(home, datetime.combine(on(3), datetime.min.time()) + timedelta(hours=10), {"u": "gold"})
    model.run(home.lake, audit)
    assert spans(home, "u", "gold") == []
    home.send(on(5), [visit(2, on(5), "u"), visit(3, on(3), "u")])
    home.advance()
    assert spans(home, "u", "gold") == spans(home, "z", "gold") == [(4, None)]
    assert segments_of_visits(home)["s2"] == ["gold"]


def test_a_profile_that_goes_and_returns_leaves_a_gap(new_home: NewHome, rules_file: Path) -> None:
    home = new_home(segment_rules=rules_file)
    for day, tiers in ((3, {"u": "gold"}), (5, {}), (8, {"u": "gold"}), (10, {"u": "basic"})):
        look(home, datetime.combine(on(day), datetime.min.time()), tiers)
    home.send(on(12), [visit(1, on(12), "u")])
    home.advance()
    assert spans(home, "u", "gold") == [(3, 5), (8, 10)]
    # `idle` needs a profile only.
    assert spans(home, "u", "idle") == [(3, 5), (8, None)]


def test_rows_taken_out_of_the_dimension_are_gone_from_segments_and_visits_with_the_next_run(
    new_home: NewHome, rules_file: Path
) -> None:
    home = new_home(segment_rules=rules_file)
    look(home, datetime.combine(on(0), datetime.min.time()), {"u": "gold"})
    home.send(on(6), [visit(1, on(6), "u")])
    home.advance()
    assert segments_of_visits(home) == {"s1": ["gold", "idle"]}
    for table in (PROFILE_CHANGES, DIM_USER):
        drop(home, table, "t.user_id_hash = 'u'")
    model.run(home.lake, audit)
    assert spans(home, "u", "gold") == spans(home, "u", "idle") == []
    assert spans(home, "z", "gold") == [(2, None)]
    assert segments_of_visits(home) == {"s1": []}


def test_a_visitor_taken_out_of_the_events_is_gone_from_the_segments_when_the_days_are_rebuilt(
    new_home: NewHome, rules_file: Path
) -> None:
    home = new_home(segment_rules=rules_file)
    home.send(on(0), [visit(1, on(0), "u", "affiliate_click"), visit(2, on(0), "v", "affiliate_click")])
    home.send(on(9), [visit(3, on(9), "v")])
    home.advance()
    left = spans(home, "v", "clicked")
    assert spans(home, "u", "clicked") == left == [(1, 8)]
    for table in (SILVER_EVENTS, SILVER_SESSIONS, FACT_FUNNEL):
        drop(home, table, "t.user_id_hash = 'u'")
    for number in range(1, 10):
        model.run(home.lake, audit, on(number))
    assert {row["user_id_hash"] for row in home.rows(SILVER_USER_SEGMENTS)} == {"v"}
    assert spans(home, "v", "clicked") == left


def test_who_is_known_to_the_crm_only_costs_nothing_as_days_pass(new_home: NewHome, rules_file: Path) -> None:
    home = new_home(segment_rules=rules_file)
    look(home, datetime.combine(on(3), datetime.min.time()), {})
    home.send(on(4), [visit(1, on(4), "u", "affiliate_click")])
    home.advance()

    def files() -> set[str]:
        return {p for p in paths(home.lake.files(home.lake.load(SILVER_USER_SEGMENTS))) if "segment_key=idle" in p}

    before = files()
    for number in (5, 6):
        home.send(on(number), [visit(number, on(number), "u")])
        home.advance()
    assert files() == before != set()
    assert spans(home, "z", "idle") == spans(home, "z", "gold") == [(3, None)]
    assert len(spans(home, "u", "returning")) == 1


def test_a_version_of_a_rule_begins_on_its_day_for_who_does_not_visit_too(new_home: NewHome, rules_file: Path) -> None:
    home = new_home(segment_rules=rules_file)
    look(home, datetime.combine(on(3), datetime.min.time()), {"u": "black"})
    for number in (16, 19):
        home.send(on(number), [visit(number, on(number), "other")])
        home.advance()
    assert spans(home, "u", "gold") == [(17, None)]


def test_a_rule_that_is_gone_ends_for_everyone_when_the_next_day_begins(new_home: NewHome, tmp_path: Path) -> None:
    home = new_home(segment_rules=write_rules(tmp_path / "rules.yml", RULES))
    look(home, datetime.combine(on(3), datetime.min.time()), {})
    home.send(on(4), [visit(1, on(3), "u", "affiliate_click")])
    home.advance()
    kept = tuple(rule for rule in RULES if rule.name not in ("gold", "clicked"))
    write_rules(tmp_path / "rules.yml", kept)
    home.send(on(5), [visit(2, on(5), "other")])
    home.advance()
    assert spans(home, "z", "gold") == [(3, 5)] and spans(home, "u", "clicked") == [(4, 5)]
    assert spans(home, "z", "idle") == [(3, None)]


def test_profiles_copied_to_other_files_change_no_row(new_home: NewHome, rules_file: Path) -> None:
    home = new_home(segment_rules=rules_file)
    look(home, datetime.combine(on(0), datetime.min.time()), {"u": "gold"})
    home.send(on(4), [visit(1, on(4), "u")])
    home.advance()
    before = home.multiset(SILVER_USER_SEGMENTS)
    history.update_dimension(home.lake, audit, anew=True)
    assert not model.up_to_date(home.lake)
    result = model.run(home.lake, audit)[SILVER_USER_SEGMENTS.full_name]
    assert (result.rows, result.replaced) == (0, 0) and model.up_to_date(home.lake)
    assert home.multiset(SILVER_USER_SEGMENTS) == before


def test_when_the_state_that_segments_were_made_from_has_expired_all_profiles_are_judged_again(
    new_home: NewHome, rules_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = new_home(segment_rules=rules_file)
    look(home, datetime.combine(on(3), datetime.min.time()), {"u": "gold", "v": "gold"})
    home.send(on(9), [visit(1, on(4), "v")])
    home.advance()
    look(home, datetime.combine(on(7), datetime.min.time()), {"v": "gold", "w": "gold"})
    drop(home, DIM_USER, "t.user_id_hash = 'u'")
    monkeypatch.setattr(scope, "changed_since", lambda *_: None)
    model.run(home.lake, audit)
    assert [spans(home, user, "gold") for user in "uvwz"] == [[], [(3, None)], [(7, None)], [(3, None)]]


def test_the_queries_of_the_documentation_run_and_say_what_the_funnel_says(new_home: NewHome, rules_file: Path) -> None:
    home = new_home(segment_rules=rules_file)
    home.send(on(0), [visit(n, on(0), "u", "affiliate_click") for n in (1, 2)])
    home.send(on(3), [visit(3, on(3), "u", "affiliate_click"), visit(4, on(3), "v", "affiliate_click")])
    home.advance()
    connection = connect(home.settings)
    create_views(connection, home.lake)
    text = (Path(__file__).parents[2] / "docs" / "segments.md").read_text()
    as_of, daily = (part.split("```")[0] for part in text.split("```sql")[1:])
    (found,) = connection.sql(as_of).fetchall()
    assert found[1] == ["clicked", "loyal"] == segments_of_visits(home)["s3"]
    members = {(day.date(), name): count for day, name, count in connection.sql(daily).fetchall()}
    connection.close()
    assert members[on(1), "fresh"] == 1 and members[on(3), "loyal"] == 1 and (on(2), "fresh") not in members


def test_the_model_has_exactly_the_features_that_rules_may_name_and_computes_those_that_they_name(
    new_home: NewHome, rules_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    plans: list[str] = []
    store = model.ModelRun.store

    def watched(self: model.ModelRun, full_name: str, *given: Any) -> None:
        if full_name == SILVER_USER_SEGMENTS.full_name:
            features = "intermediate.int_segment_features"
            seen.extend(row[0] for row in self._connection.sql(f"describe {features}").fetchall())
            members = f"explain (format json) from segment_members('{features}')"
            plans.append(self._connection.sql(members).fetchall()[0][1])
        store(self, full_name, *given)

    monkeypatch.setattr(model.ModelRun, "store", watched)
    home = new_home(segment_rules=rules_file)
    home.send(on(0), [visit(1, on(0), "u")])
    home.advance()
    assert sorted(seen) == sorted([*FEATURES, "user_id_hash", "evaluated_on"])
    assert "affiliate_clicks" in plans[0] and "payout_cents" not in plans[0]
