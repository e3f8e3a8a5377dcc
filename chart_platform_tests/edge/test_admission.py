"""What the edge accepts is an event for bronze too, complete and without personal data; whatever else came is accounted for."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chart_platform.contracts import events
from chart_platform.contracts.events import Reason
from chart_platform.edge.admission import Accepted, Admission, Discarded, Rejected
from chart_platform.edge.links import Links
from chart_platform.edge.records import Client
from chart_platform.settings import Settings
from chart_platform.transform.bronze import Decoder
from chart_platform_tests.contracts.test_events import PATHS, mutated, noise
from chart_platform_tests.transform.fixtures import examples
from chart_platform_tests.transform.homes import DAY, Messages, at, event, uuid

NOON = at(DAY, "12:00:00")
BROWSER = Client(NOON, "k1", "browser", "web", address="203.0.113.0/24", country="DE", device="mobile", browser="Firefox", os="Android")  # fmt: skip
SERVER = Client(NOON, "k2", "server", "server")
LONG = 123456789012345678901234567890


@cache
def admission(**given_: Any) -> Admission:
    return Admission(Settings(**given_), Links.load())


@cache
def decoder() -> Decoder:
    return Decoder(Settings(home=Path(tempfile.mkdtemp(prefix="chart-admission-"))), "t", DAY)


def bronze(*sent: bytes, kafka_ms: int = NOON) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    chunk = Messages(list(sent), [0] * len(sent), list(range(len(sent))), [kafka_ms] * len(sent))
    found = decoder().decode(chunk)
    return found.events.to_pylist(), found.dead_letters.to_pylist()


def sent(kind: str = "page_view", ts: int = NOON, **members: Any) -> dict[str, Any]:
    made = event(1, ts, kind, session=members.pop("session_id", "s1"), visitor="u1")
    for name, value in members.items():
        made[name] = made[name] | value if isinstance(value, dict) and isinstance(made.get(name), dict) else value
    made["user"] = {"consent": {"analytics": True}} | made["user"]
    return made


def raw(made: Any) -> bytes:
    return json.dumps(made, ensure_ascii=False).encode("utf-8", "surrogatepass")


def accepted(made: Any, client: Client = BROWSER, **more: Any) -> dict[str, Any]:
    """The event on the topic; fails unless the edge and bronze take it."""
    body = made if isinstance(made, bytes) else raw(made)
    verdict = admission(**more).admit(body, client)
    assert isinstance(verdict, Accepted), verdict
    kept, refused = bronze(verdict.record.value)
    assert kept and not refused
    return dict(json.loads(verdict.record.value))


def reasons(made: Any, client: Client = BROWSER) -> list[tuple[str, str]]:
    verdict = admission().admit(made if isinstance(made, bytes) else raw(made), client)
    assert isinstance(verdict, Rejected), verdict
    return [(reason.code, reason.pointer) for reason in verdict.reasons]


BASES = [
    sent(ctx={"page_url": "https://x.example/", "referrer": "", "locale": "de"}, seq=3, sent_at="2026-11-02T12:00:01Z"),
    sent("chart_interaction", chart={"action": "sort", "product_ids": ["a"], "control_value": 1}),
    sent("affiliate_click", affiliate={"link_id": "sitesmith-basic-top", "position": 2}, schema_version="1.1.0"),
]
EDGE_PATHS = [*PATHS, ("ctx", "device"), ("affiliate", "network"), ("affiliate", "position"), ("user", "geo_country"),
              ("metadata", "key_id"), ("page_view_id",), ("click_id",), ("ctx", "user_agent"), ("ctx", "referrer")]  # fmt: skip


near_events = mutated(BASES, EDGE_PATHS)
bodies = st.one_of(near_events, noise.filter(lambda value: value is not None))
clients = st.sampled_from([BROWSER, SERVER])


@pytest.mark.slow
@settings(max_examples=examples(300, 20_000))
@given(batch=st.lists(st.tuples(bodies, clients), min_size=1, max_size=12))
def test_nothing_that_the_edge_accepts_becomes_a_dead_letter(batch: list[tuple[bytes, Client]]) -> None:
    verdicts = [admission().admit(body, client) for body, client in batch]
    for (body, _), verdict in zip(batch, verdicts, strict=True):
        if isinstance(verdict, Rejected):
            assert verdict.record.value == body and verdict.reasons
    taken = [verdict for verdict in verdicts if isinstance(verdict, Accepted)]
    # The broker's clock may be minutes behind.
    kept, refused = bronze(*(verdict.record.value for verdict in taken), kafka_ms=NOON - 240_000)
    assert not refused
    assert [row["event_id"] for row in kept] == [verdict.event_id for verdict in taken]


@pytest.mark.slow
@settings(max_examples=examples(500, 50_000))
@given(body=bodies, client=clients)
def test_the_edge_takes_exactly_what_the_contract_offers_to_clients(body: bytes, client: Client) -> None:
    verdict = admission().admit(body, client)
    server = client.kind == "server"
    validator = events.jsonschema_rs.Draft202012Validator(events.ingest_schema(server), validate_formats=True)
    try:
        found = events.parse(body)
        valid = validator.is_valid(found)
    except ValueError:
        found, valid = None, False
    for *above, member in events.read_only(server):
        place = found
        for name in above:
            place = place.get(name) if isinstance(place, dict) else None
        valid = valid and not (isinstance(place, dict) and member in place)
    if not valid:
        assert not isinstance(verdict, Accepted)
    elif isinstance(verdict, Rejected):
        assert {reason.code for reason in verdict.reasons} <= {"ts_in_future", "ts_too_old", "undecodable"}
    elif isinstance(verdict, Discarded):
        assert found["user"]["consent"]["analytics"] is False


@settings(max_examples=examples(500, 50_000))
@given(body=near_events, client=clients)
def test_the_fast_way_accepts_only_what_the_schema_accepts(body: bytes, client: Client) -> None:
    way = admission()._server if client.kind == "server" else admission()._browser
    try:
        admission()._surely(way.decode(body))
    except (msgspec.MsgspecError, ValueError):
        return
    assert way.validator.is_valid(orjson.loads(body))


@settings(max_examples=examples(200, 10_000))
@given(body=near_events)
def test_what_a_client_sent_is_on_the_topic_unless_it_is_personal(body: bytes) -> None:
    verdict = admission().admit(body, BROWSER)
    if not isinstance(verdict, Accepted):
        return
    before, after = events.parse(body), json.loads(verdict.record.value)
    for name in ("event_id", "event_type", "seq", "page_view_id", "click_id", "schema_version"):
        assert after.get(name) == before.get(name)
    assert after["ts"].upper() == before["ts"].upper()
    for member, names in {"session": ("session_id",), "chart": ("action", "product_ids"), "affiliate": ("link_id", "position")}.items():  # fmt: skip
        for name in names:
            assert (after.get(member) or {}).get(name) == (before.get(member) or {}).get(name)


def test_an_event_gets_what_the_edge_knows_and_loses_its_user_agent() -> None:
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0"
    found = accepted(sent(ctx={"user_agent": agent, "page_url": "https://x.example/#top"}))
    assert found["ingest_ts"] == NOON and found["source"] == "web"
    assert found["user"]["geo_country"] == "DE"
    assert found["privacy"] == {"analytics": True, "ads": None, "source_ip_anonymized": "203.0.113.0/24", "gpc": False}
    assert found["ctx"] == {"page_url": "https://x.example/", "device": "desktop", "browser": "Firefox", "os": "Linux"}
    assert found["metadata"] == {"schema_hash": events.schema_hash(), "key_id": "k1"}
    kept = accepted(sent(ctx={"user_agent": agent}), edge_keep_user_agent=True)
    assert kept["ctx"]["user_agent"] == agent


def test_without_a_user_agent_of_its_own_an_event_has_the_class_of_the_request() -> None:
    for made in (sent(), sent(ctx=None), sent(ctx={"user_agent": ""})):
        ctx = accepted(made)["ctx"]
        assert (ctx["device"], ctx["browser"], ctx["os"]) == ("mobile", "Firefox", "Android")


def test_each_member_of_the_edge_is_refused_at_its_place() -> None:
    for path in events.read_only():
        made = sent("affiliate_click")
        place = made
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = None
        assert reasons(made) == [("read_only", "/" + "/".join(path))]
    assert len(events.read_only()) == 12


def test_only_a_server_may_say_where_its_visitor_is_and_what_a_click_pays() -> None:
    click = {"link_id": "sitesmith-basic-top", "payout_cents": 1}
    assert reasons(sent(user={"geo_country": "FR"})) == [("read_only", "/user/geo_country")]
    assert accepted(sent(user={"geo_country": "FR"}), SERVER)["user"]["geo_country"] == "FR"
    assert reasons(sent(user={"geo_country": 7}), SERVER) == [("schema_type", "/user/geo_country")]
    assert accepted(sent("affiliate_click", affiliate=click), SERVER)["affiliate"]["payout_cents"] == 1
    told = accepted(sent("affiliate_click", affiliate=click))["affiliate"]
    assert told["payout_cents"] == 5520 and told["network"] == "harborlink"
    unknown = accepted(sent("affiliate_click", affiliate=click | {"link_id": "nowhere"}))["affiliate"]
    assert unknown["payout_cents"] is None and unknown["link_id"] == "nowhere" and "network" not in unknown


def test_consent_is_required_and_its_refusal_keeps_nothing() -> None:
    assert reasons(sent() | {"user": {}}) == [("schema_required", "/user")]
    assert reasons(sent(user={"consent": None})) == [("schema_type", "/user/consent")]
    denied = sent(user={"consent": {"analytics": False}})
    for made in (denied, denied | {"seq": "no number"}, denied | {"ctx": {"new": 1}}, denied | {"user": denied["user"] | {"geo_country": "DE"}}):  # fmt: skip
        assert admission().admit(raw(made), BROWSER) == Discarded(uuid(1), "consent_denied")
    assert accepted(sent(user={"consent": {"analytics": True, "ads": False}}))["privacy"]["ads"] is False


def test_a_browser_that_objects_globally_is_heard_unless_the_settings_say_otherwise() -> None:
    objecting = msgspec.structs.replace(BROWSER, gpc=True)
    assert admission().admit(raw(sent()), objecting) == Discarded(uuid(1), "gpc")
    assert admission().admit(b"no event", objecting) == Discarded(None, "gpc")
    assert admission().unreadable(b"no event", objecting, [Reason("invalid_json", "", "")]) is None
    assert accepted(sent(), objecting, edge_honour_gpc=False)["privacy"]["gpc"] is True
    assert isinstance(admission().admit(raw(sent()), msgspec.structs.replace(SERVER, gpc=True)), Accepted)


@pytest.mark.parametrize("unknown", [{}, {"newer": [LONG, {"a": 0.30000000000000000001}]}], ids=["fast", "slow"])
@pytest.mark.parametrize("number", [str(LONG), "12.50", "-0.0", "1e2", "0.30000000000000000001", "9007199254740993"])
def test_numbers_stay_as_they_were_written(number: str, unknown: dict[str, Any]) -> None:
    made = sent("chart_interaction", chart={"action": "filter", "control_value": "@@"} | unknown)
    body = raw(made).replace(b'"@@"', number.encode())
    verdict = admission().admit(body, BROWSER)
    assert isinstance(verdict, Accepted)
    assert b'"control_value":' + number.encode() + b"}" in verdict.record.value.replace(b',"newer"', b'}"')
    assert not unknown or str(LONG).encode() in verdict.record.value
    assert bronze(verdict.record.value)[0]


def test_members_that_no_column_holds_reach_bronze_as_extra() -> None:
    made = sent(ctx={"title": "Größe", "deep": {"list": [1, "mail a@b.example", LONG]}}, session={"utm": {"id": "7"}})
    verdict = admission().admit(raw(made), BROWSER)
    assert isinstance(verdict, Accepted)
    (row,), _ = bronze(verdict.record.value)
    extra = json.loads(row["extra"])
    assert extra["ctx"]["title"] == "Größe" and extra["session"] == {"utm": {"id": "7"}}
    assert extra["ctx"]["deep"]["list"][:2] == [1, "[redacted]"]
    assert row["ctx"]["device"] == "mobile" and row["session"]["session_id"] == "s1"


def test_a_lone_surrogate_costs_one_character_and_not_the_event() -> None:
    body = raw(sent(ctx={"page_url": "https://x.example/", "locale": "@@"})).replace(b"@@", b"a\\ud800b")
    assert accepted(body)["ctx"]["locale"] == "a�b"


def test_of_two_equal_members_the_last_counts_as_in_the_browser_that_wrote_them() -> None:
    body = raw(sent(seq=1)).replace(b'"seq": 1', b'"seq": 1, "seq": 2')
    assert accepted(body)["seq"] == 2
    denied = raw(sent()).replace(b'"analytics": true', b'"analytics": true, "analytics": false')
    assert admission().admit(denied, BROWSER) == Discarded(uuid(1), "consent_denied")


def test_a_time_out_of_bounds_is_refused_before_bronze_would() -> None:
    day = 24 * 3_600_000
    assert reasons(sent(ts=NOON + day)) == [("ts_in_future", "/ts")]
    assert reasons(sent(ts=NOON + day - 60_000)) == [("ts_in_future", "/ts")]
    assert accepted(sent(ts=NOON + day - 600_000))
    assert reasons(sent() | {"ts": "2019-12-31T23:59:59.999999999Z"}) == [("ts_too_old", "/ts")]
    for ts in ("2026-11-02T23:59:60Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+10:00"):
        assert reasons(sent(sent_at=ts)) == [("undecodable", "")]
    assert isinstance(admission(max_future_hours=0).admit(raw(sent(ts=NOON - 1)), BROWSER), Accepted)


def test_personal_data_leaves_every_text_that_it_hides_in() -> None:
    mail = "jo%2540x.example"
    made = sent(
        "chart_interaction",
        user={"user_id_hash": "jo@x.example"},
        session={"utm": {"content": mail, "source": "news"}},
        ctx={"page_url": f"https://x.example/?q={mail}&a=1", "referrer": f"https://x.example/{mail}"},
        chart={"action": "filter", "control_value": "4111 1111 1111 1111"},
        affiliate={"target": f"https://x.example/?token=abc&m={mail}"},
    )
    for body in (raw(made), raw(made | {"chart": made["chart"] | {"newer": 1}})):
        verdict = admission().admit(body, BROWSER)
        assert isinstance(verdict, Accepted)
        assert not any(hidden in verdict.record.value for hidden in (b"jo", b"4111", b"abc"))
        found = json.loads(verdict.record.value)
        assert found["session"]["utm"] == {"source": "news", "content": "[redacted]"}
        assert found["ctx"]["page_url"] == "https://x.example/?q=[redacted]&a=1"
        assert found["user"]["user_id_hash"] is None


def test_the_sessions_messages_share_a_partition() -> None:
    def key(**members: Any) -> bytes | None:
        verdict = admission().admit(raw(sent(**members)), BROWSER)
        assert isinstance(verdict, Accepted)
        return verdict.record.key

    assert key() == b"s1"
    assert key(session=None) == key(session_id=None) == key(session={"session_id": ""}) == uuid(1).encode()


def test_the_envelopes_time_is_for_events_that_have_none() -> None:
    def told(made: dict[str, Any], sent_at: str) -> Any:
        verdict = admission().admit(raw(made), BROWSER, sent_at=sent_at)
        assert isinstance(verdict, Accepted)
        return json.loads(verdict.record.value).get("sent_at")

    assert told(sent(), "2026-11-02T12:00:05Z") == "2026-11-02T12:00:05Z"
    assert told(sent(sent_at=None), "2026-11-02T12:00:05Z") == "2026-11-02T12:00:05Z"
    assert told(sent(sent_at="2026-11-02T12:00:01Z"), "2026-11-02T12:00:05Z") == "2026-11-02T12:00:01Z"
    assert told(sent(), "yesterday") is None


def test_a_dead_letter_is_the_event_whole_with_its_reasons_and_its_sender() -> None:
    body = raw(sent(seq="no number") | {"event_type": "nothing"})
    verdict = admission().admit(body, BROWSER, replayed_from="t/1/2", attempt=3)
    assert isinstance(verdict, Rejected)
    record, headers = verdict.record, dict(verdict.record.headers)
    assert (record.topic, record.key, record.value) == ("chart.events.dlq", b"s1", body)
    assert {(r["code"], r["pointer"]) for r in json.loads(headers["reasons"])} == {("schema_enum", "/event_type"), ("schema_type", "/seq")}  # fmt: skip
    assert headers["schema_version"].decode() == events.schema_version()
    assert headers["attempt"] == b"3" and headers["lineage"] == b"t/1/2"
    assert msgspec.json.decode(headers["context"], type=Client) == BROWSER
    assert verdict.event_id == uuid(1)


def test_a_replayed_event_tells_where_it_comes_from() -> None:
    verdict = admission().admit(raw(sent()), BROWSER, replayed_from="chart.events.dlq/1/2")
    assert isinstance(verdict, Accepted)
    assert json.loads(verdict.record.value)["metadata"]["replayed_from"] == "chart.events.dlq/1/2"


@settings(max_examples=examples(200, 10_000))
@given(path=st.sampled_from(EDGE_PATHS), value=st.sampled_from(["SECRET", ["SECRET"], {"SECRET": "SECRET"}, {"consent": "SECRET"}]))  # fmt: skip
def test_no_reason_repeats_what_an_event_says(path: tuple[str, ...], value: Any) -> None:
    made = sent("affiliate_click") | {"SECRET": "SECRET"}
    place: Any = made
    for name in path[:-1]:
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            return
    place[path[-1]] = value
    verdict = admission().admit(raw(made), BROWSER)
    assert isinstance(verdict, Rejected)
    assert b"SECRET" not in dict(verdict.record.headers)["reasons"]


@pytest.mark.parametrize("cut", [b"SECRET", b'{"a": SECRET}', b'{"SECRET', b'"SECRET"', b"[SECRET,]", b"\xffSECRET"])
def test_no_reason_repeats_a_text_that_is_no_json(cut: bytes) -> None:
    verdict = admission().admit(cut, BROWSER)
    assert isinstance(verdict, Rejected)
    assert not any("SECRET" in reason.message for reason in verdict.reasons)


def test_what_kafka_would_not_take_is_told_and_cut() -> None:
    long = sent(ctx={"locale": "x" * 1_000_000})
    assert reasons(long) == [("too_large", "")]
    verdict = admission().admit(raw(sent(ctx={"locale": ["x" * 2_500_000]})), BROWSER)
    assert isinstance(verdict, Rejected)
    headers = dict(verdict.record.headers)
    assert len(verdict.record.value) == 2_000_000 and int(headers["cut_from_bytes"]) > 2_500_000
    many = admission().admit(raw(sent(chart={"product_ids": [1] * 5_000})), BROWSER)
    assert isinstance(many, Rejected)
    assert len(many.reasons) == 21 and many.reasons[-1].message == "4980 further reasons."


def test_deep_nesting_is_refused_and_harms_nobody() -> None:
    for depth in (300, 100_000):
        body = raw(sent(ctx={"x": "@@"})).replace(b'"@@"', b"[" * depth + b"]" * depth)
        assert reasons(body)[0][0] in {"schema_depth", "invalid_json"}
