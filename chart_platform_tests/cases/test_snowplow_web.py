"""Snowplow's own web fixtures and the sessions, page views and users that its dbt models make of them.

The mapper translates their events to our contract and applies the rules that say which events count. What is a duplicate,
which events make a session, and what it holds is left to the platform. Three of the 18 expected sessions consist of page pings
only, for which Snowplow makes up a page view; they have no counterpart here and are left out. Engaged time (distinct 10 s
steps with a ping), bots and channels of visits without a campaign (Snowplow: Unassigned) are not compared: ours have other rules.
"""

from __future__ import annotations

import csv
import json
import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from chart_platform.lakehouse.duck import connect, create_views
from chart_platform.lakehouse.lake import Lake
from chart_platform.quality.verify import Verification, verify
from chart_platform.settings import Settings
from chart_platform_tests.command_line import CommandLine, Said
from chart_platform_tests.conftest import fresh_topics

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

LATEST = timedelta(days=3)
PINGS_ONLY = {
    "0b0c7bb589ebd041177514f3e43446ca5d4343328936d2f8f12a42b41bf9140d",
    "0b0c7bb589ebd041177514f3e43446ca5d4343328936d2f8f12a42b41bf9140e",
    "0b5d421a98dc6af66d7da30840afb1072f518342ca058cef3af20a6e9b30fce8",
}
SENT_TOO_LATE = "7edb1641de77b65c48e43041507678a2ea2ab77382b62575169db6bac8f066fc"
SENT_TWICE = "320e0ef8-ed6e-4649-8ac1-d1a95c9e455e"
"""A page view with two events, two seconds apart."""
WITHOUT_PAGE_VIEW_ID = "e7971181261e72dbc9abe9eb6cdfe9eb7ae86085b2e9b39b7ed1fae2404b74e8"

Event = dict[str, Any]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _rfc3339(text: str) -> str:
    return _time(text).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def selected(events: list[Event]) -> list[Event]:
    """The events that count by Snowplow's settings for these fixtures. Duplicates among them stay."""
    first_received: dict[str, datetime] = {}
    for event in events:
        if session := event["session_key"]:
            received = _time(event["received_ts"])
            first_received[session] = min(received, first_received.get(session, received))
    candidates = [event for event in events if _counts(event, first_received)]
    # A session without any page view or ping is none to Snowplow: a cookie event is left of the one without page view id.
    sessions = {e["session_key"] for e in candidates if e["source_event_name"] in ("page_view", "page_ping")}
    return [event for event in candidates if event["session_key"] in sessions]


def _counts(event: Event, first_received: dict[str, datetime]) -> bool:
    session = event["session_key"]
    if not session or (event["event_type"] == "page_view" and not event["page_view_id"]):
        return False
    took_to_send = _time(event["device_sent_ts"]) - _time(event["device_created_ts"])
    return took_to_send <= LATEST and _time(event["received_ts"]) - first_received[session] <= LATEST


def _event_id(theirs: str) -> str:
    """Some ids of theirs are no UUIDs; equal ids must stay equal and different ones different."""
    try:
        return str(uuid.UUID(theirs)) if len(theirs) == 36 else str(uuid.uuid5(uuid.NAMESPACE_OID, theirs))
    except ValueError:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, theirs))


def mapped(event: Event) -> Event:
    """One of their events in our contract."""
    ours: Event = {
        "schema_version": "1.1.0",
        "event_type": event["event_type"],
        "event_id": _event_id(event["event_id"]),
        "ts": _rfc3339(event["event_ts"]),
        "ingest_ts": round(_time(event["received_ts"]).timestamp() * 1000),
        "sent_at": _rfc3339(event["device_sent_ts"]),
        "page_view_id": event["page_view_id"],
        "user": {"user_id_hash": event["anonymous_id"]},
        "session": {
            "session_id": event["session_key"],
            "utm": {name: event[f"utm_{name}"] for name in ("source", "medium", "campaign")},
        },
        "ctx": {name: event[name] for name in ("page_url", "referrer", "user_agent")},
    }
    if event["event_type"] == "affiliate_click":
        ours["affiliate"] = {"link_id": event["source_event_name"], "target": None, "payout_cents": None}
    elif event["event_type"] == "chart_interaction":
        ours["chart"] = {"action": None, "control_id": event["source_event_name"]}
    return ours


@dataclass
class Outcome:
    """What the commands said, and a connection with a view of every table."""

    sent: list[Event]
    loaded: Said
    ingested: Said
    recount: Verification
    sql: duckdb.DuckDBPyConnection


@pytest.fixture(scope="module")
def fixtures(cases: Path) -> Path:
    return cases / "snowplow_web"


@pytest.fixture(scope="module")
def outcome(
    fixtures: Path, kafka: Settings, command_line: CommandLine, tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    """All events that count, on their way from a file through Kafka to gold."""
    home = tmp_path_factory.mktemp("snowplow")
    # One expected session lasts 48 hours, and Snowplow knows no cap.
    settings = fresh_topics(kafka, home, session_cap_hours=96)
    events = [json.loads(line) for line in (fixtures / "snowplow_web.events.jsonl").read_text().splitlines()]
    sent = selected(events)
    file = home / "events.jsonl"
    file.write_text("".join(json.dumps(mapped(event)) + "\n" for event in sent))
    loaded = command_line.run(settings, "load", "--json", str(file))
    ingested = command_line.run(settings, "ingest", "--json")
    lake = Lake(settings)
    connection = connect(settings)
    create_views(connection, lake)
    return Outcome(sent, loaded, ingested, verify(lake), connection)


def _expected(fixtures: Path, name: str) -> list[dict[str, str]]:
    with (fixtures / f"snowplow_web.expected_{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _sessions(fixtures: Path) -> dict[str, dict[str, str]]:
    rows = {row["original_domain_sessionid"]: row for row in _expected(fixtures, "sessions")}
    return {session: row for session, row in rows.items() if session not in PINGS_ONLY}


def test_every_mapped_event_is_accepted_and_accounted_for(outcome: Outcome) -> None:
    assert outcome.loaded.code == 0, outcome.loaded.err
    assert outcome.loaded.json["accepted"] == len(outcome.sent)
    assert outcome.ingested.json == {"runs": 1, "messages": len(outcome.sent), "failed_checks": []}
    assert outcome.recount.differences == []


def test_the_fixtures_hold_the_cases_they_promise(fixtures: Path, outcome: Outcome) -> None:
    """A mapper that dropped the hard cases would make everything else here pass."""
    repeated = Counter(event["event_id"] for event in outcome.sent)
    assert sum(repeated.values()) - len(repeated) == 3
    assert len(_sessions(fixtures)) == 15
    assert len(outcome.sent) == 81


def test_sessions_start_and_end_when_snowplow_says_and_count_the_same_events(fixtures: Path, outcome: Outcome) -> None:
    found = outcome.sql.sql(
        """
        select session_id, session_start_ts, session_end_ts, pageviews,
            pageviews + chart_interactions + affiliate_clicks as total_events
        from silver.sessions
        """
    ).fetchall()
    ours = {row[0]: row[1:] for row in found if row[0] not in PINGS_ONLY}
    theirs = {
        session: (
            datetime.fromisoformat(row["start_tstamp"]),
            datetime.fromisoformat(row["end_tstamp"]),
            json.loads(row["event_counts"]).get("page_view", 0),
            int(row["total_events"]),
        )
        for session, row in _sessions(fixtures).items()
    }
    assert ours == theirs


def test_a_session_counts_clicks_and_interactions_as_snowplow_counts_its_event_names(
    fixtures: Path, outcome: Outcome
) -> None:
    found = outcome.sql.sql("select session_id, affiliate_clicks, chart_interactions from silver.sessions").fetchall()
    ours = {session: counts for session, *counts in found if session not in PINGS_ONLY}
    theirs = {}
    for session, row in _sessions(fixtures).items():
        counts = json.loads(row["event_counts"])
        other = sum(count for name, count in counts.items() if name not in ("page_view", "link_click"))
        theirs[session] = [counts.get("link_click", 0), other]
    assert ours == theirs


def test_a_session_begins_and_ends_on_the_pages_that_snowplow_names(fixtures: Path, outcome: Outcome) -> None:
    found = outcome.sql.sql("select session_id, first_page_url, last_page_url from silver.sessions").fetchall()
    ours = {session: pages for session, *pages in found if session not in PINGS_ONLY}
    assert ours == {s: [row["first_page_url"], row["last_page_url"]] for s, row in _sessions(fixtures).items()}


def test_a_duplicate_keeps_the_event_that_was_received_first(outcome: Outcome) -> None:
    click = _event_id("9e983d4a-e07c-4858-8e97-bdb7feb31241")
    found = outcome.sql.sql(f"select ts, ingest_ts from silver.events where event_id = '{click}'").fetchall()
    received = round(_time("2021-03-03 21:27:32.696").timestamp() * 1000)
    assert found == [(datetime(2021, 3, 3, 21, 27, 32, 695000), received)]


def test_a_session_has_the_campaign_and_referrer_that_snowplow_finds(fixtures: Path, outcome: Outcome) -> None:
    """Where the first event has no referrer Snowplow has none, and we take the next event's.

    The device is not compared: the collector reads it off the user agent, and what `load` sends has not been there.
    """
    found = outcome.sql.sql(
        "select session_id, utm_source, utm_medium, utm_campaign, referrer from silver.sessions"
    ).fetchall()
    ours = {session: (campaign, referrer) for session, *campaign, referrer in found if session not in PINGS_ONLY}
    theirs = _sessions(fixtures)
    campaigns = {
        s: [row[f"mkt_{name}"] or None for name in ("source", "medium", "campaign")] for s, row in theirs.items()
    }
    referrers = {session: row["referrer"] for session, row in theirs.items() if row["referrer"]}
    assert {session: campaign for session, (campaign, _) in ours.items()} == campaigns
    assert {session: ours[session][1] for session in referrers} == referrers
    assert len(referrers) == 10


def test_a_session_with_a_campaign_has_the_channel_that_snowplow_gives_it(fixtures: Path, outcome: Outcome) -> None:
    found = outcome.sql.sql("select session_id, channel from silver.sessions where utm_medium is not null").fetchall()
    theirs = {s: row["default_channel_group"] for s, row in _sessions(fixtures).items() if row["mkt_medium"]}
    assert dict(found) == theirs
    assert set(theirs.values()) == {"Display", "Paid Other"}


def _page_views(outcome: Outcome) -> dict[str, int]:
    """Page views by session. Snowplow and gold count two events of one page_view_id once, silver.sessions twice."""
    return dict(outcome.sql.sql("select session_id, count(*) from gold.fact_page_views group by 1").fetchall())


def test_the_page_views_of_each_session_are_as_many_as_snowplow_lists(fixtures: Path, outcome: Outcome) -> None:
    ours = _page_views(outcome)
    listed = Counter(row["original_domain_sessionid"] for row in _expected(fixtures, "page_views"))
    assert ours == {session: count for session, count in listed.items() if session not in PINGS_ONLY}
    assert ours == {session: int(row["page_views"]) for session, row in _sessions(fixtures).items()}


_WITH_PINGS = """
    select views.*, max(pings.ts) as last_ping, count(pings.event_id) as pings
    from gold.fact_page_views as views
    left join gold.fact_chart_interactions as pings
        on
            views.page_view_id = pings.page_view_id
            and views.session_id = pings.session_id
            and pings.chart_control_id = 'page_ping'
    group by all
"""


def test_a_page_view_is_the_event_that_snowplow_names_and_ends_with_its_last_ping(
    fixtures: Path, outcome: Outcome
) -> None:
    found = outcome.sql.sql(
        f"select page_view_id, event_id, session_id, page_url, ts, greatest(ts, last_ping) from ({_WITH_PINGS})"
    ).fetchall()
    theirs = [
        (
            row["page_view_id"],
            _event_id(row["event_id"]),
            row["original_domain_sessionid"],
            row["page_url"],
            datetime.fromisoformat(row["start_tstamp"]),
            datetime.fromisoformat(row["end_tstamp"]),
        )
        for row in _expected(fixtures, "page_views")
    ]
    assert len(theirs) == 43
    assert sorted(found) == sorted(theirs)


def test_a_page_view_after_which_there_were_only_pings_lasts_as_long_as_snowplow_says(
    fixtures: Path, outcome: Outcome
) -> None:
    """Any event prolongs a page view here, to Snowplow only a ping: of one with others, or sent twice, ours is longer."""
    found = outcome.sql.sql(
        f"select page_view_id, dwell_ms, pings < chart_interactions + affiliate_clicks from ({_WITH_PINGS})"
    ).fetchall()
    listed = {row["page_view_id"]: int(row["absolute_time_in_s"]) for row in _expected(fixtures, "page_views")}
    longer = {page_view for page_view, dwell, _ in found if round(dwell / 1000) > listed[page_view]}
    assert {page_view for page_view, dwell, _ in found if round(dwell / 1000) < listed[page_view]} == set()
    assert longer <= {page_view for page_view, _, others in found if others} | {SENT_TWICE}
    assert max(listed.values()) == 240


def test_users_are_as_many_as_snowplow_counts_and_come_and_go_when_it_says(fixtures: Path, outcome: Outcome) -> None:
    """A visitor whose id changed within a session counts with all of it, by the id at its start.

    Page views are those of the visits: gold.visitors adds silver.sessions up, which counts a page view sent twice twice.
    Of two visits that begin in the same millisecond Snowplow may take either for the first; ours is that of the lesser id.
    """
    found = outcome.sql.sql(
        """
        select
            user_id_hash, first_seen_ts, last_seen_ts, visits, landing_page_url, list(session_id),
            list(first_page_url) filter (session_start_ts = first_seen_ts)
        from gold.visitors join silver.sessions using (user_id_hash) group by all
        """
    ).fetchall()
    page_views = _page_views(outcome)
    ours = {user: (*figures, sum(page_views.get(s, 0) for s in visits)) for user, *figures, _, visits, _ in found}
    landings = {user: (landing, set(firsts)) for user, *_, landing, _, firsts in found}
    # Snowplow makes up a page view for a session of pings only.
    made_up = Counter(
        row["domain_userid"]
        for row in _expected(fixtures, "sessions")
        if row["original_domain_sessionid"] in PINGS_ONLY
    )
    theirs = {
        row["domain_userid"]: (
            datetime.fromisoformat(row["start_tstamp"]),
            datetime.fromisoformat(row["end_tstamp"]),
            int(row["sessions"]),
            int(row["page_views"]) - made_up[row["domain_userid"]],
        )
        for row in _expected(fixtures, "users")
    }
    assert len(theirs) == 11
    assert ours == theirs
    expected = {row["domain_userid"]: row["first_page_url"] for row in _expected(fixtures, "users")}
    assert all(landing in firsts and expected[user] in firsts for user, (landing, firsts) in landings.items())
    assert sum(landing == expected[user] for user, (landing, _) in landings.items()) >= 10
    assert outcome.sql.sql("select count(*) from gold.visitors").fetchall() == [(11,)]


@pytest.mark.parametrize("session", [SENT_TOO_LATE, WITHOUT_PAGE_VIEW_ID])
def test_what_snowplow_leaves_out_appears_nowhere(outcome: Outcome, session: str) -> None:
    for table in (
        "silver.events",
        "silver.sessions",
        "gold.fact_funnel",
        "gold.fact_page_views",
        "gold.fact_chart_interactions",
    ):
        assert outcome.sql.sql(f"select count(*) from {table} where session_id = '{session}'").fetchall() == [(0,)]
