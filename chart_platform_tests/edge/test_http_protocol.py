"""What the collector answers, and what is on Kafka afterwards, over real HTTP."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import Callable

import brotli
import httpx
import pytest
import zstandard

from chart_platform.edge.keys import create, keys_file
from chart_platform.edge.links import Links
from chart_platform_tests.edge.collecting import ORIGIN, Collecting, encoded, event, headers_of, received, until

pytestmark = pytest.mark.kafka

PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}


def statuses(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 202, answer.text
    results = answer.json()["results"]
    assert [result["index"] for result in results] == list(range(len(results)))
    return [result["status"] for result in results]


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_an_event_is_on_the_topic_when_it_is_acknowledged(collector: Collecting) -> None:
    topic, sent = collector.events(), event()
    topic.new()
    answer = collector.post(sent)
    (message,) = topic.new()
    assert answer.json() == {
        "accepted": 1,
        "results": [{"index": 0, "event_id": sent["event_id"], "status": "accepted"}],
    }
    kept = json.loads(message.value())
    assert {name: kept[name] for name in ("event_id", "ts", "source")} == {
        "event_id": sent["event_id"],
        "ts": sent["ts"],
        "source": "web",
    }
    assert message.key() == sent["session"]["session_id"].encode()


def test_an_event_a_list_and_an_envelope_are_taken(collector: Collecting) -> None:
    topic = collector.events()
    topic.new()
    assert statuses(collector.post(event())) == ["accepted"]
    assert statuses(collector.post([event(), event()])) == ["accepted", "accepted"]
    assert statuses(collector.post({"events": [event(), event()]})) == ["accepted", "accepted"]
    assert statuses(collector.post([])) == []
    assert len(topic.new()) == 5


def test_the_time_of_an_envelope_is_given_to_events_without_one(collector: Collecting) -> None:
    topic = collector.events()
    topic.new()
    own, given = "2026-01-01T00:00:00Z", "2026-02-02T00:00:00Z"
    with_time, without = event(sent_at=own), event()
    collector.post({"sent_at": given, "events": [with_time, without]})
    kept = {message["event_id"]: message["sent_at"] for message in (json.loads(m.value()) for m in topic.new())}
    assert kept == {with_time["event_id"]: own, without["event_id"]: given}


def test_each_event_of_a_batch_has_its_own_result(collector: Collecting) -> None:
    topic, letters = collector.events(), collector.dead_letters()
    topic.new(), letters.new()
    good, denied = event(), event(user={"consent": {"analytics": False}})
    broken = encoded(event()).replace(b'"page_view"', b'  "hover"')
    body = b"[" + b", ".join([encoded(good), broken, encoded(denied), b"7"]) + b"]"
    answer = collector.post(body)
    assert statuses(answer) == ["accepted", "rejected", "discarded", "rejected"]
    _, rejected, discarded, _ = answer.json()["results"]
    assert [reason["pointer"] for reason in rejected["reasons"]] == ["/event_type"]
    assert [reason["code"] for reason in discarded["reasons"]] == ["consent_denied"]
    assert [json.loads(message.value())["event_id"] for message in topic.new()] == [good["event_id"]]
    found = letters.new()
    assert sorted(letter.value() for letter in found) == sorted([broken, b"7"])
    assert all(json.loads(headers_of(letter)["reasons"]) for letter in found)


def test_a_lone_surrogate_rejects_no_other_event_nor_its_own(collector: Collecting) -> None:
    topic = collector.events()
    topic.new()
    odd = encoded(event(ctx={"locale": "MARK"})).replace(b"MARK", rb"\ud83d")
    assert statuses(collector.post(b"[" + odd + b"," + encoded(event()) + b"]")) == ["accepted", "accepted"]
    assert statuses(collector.post(b'{"events":[' + odd + b"]}")) == ["duplicate"]
    assert statuses(collector.post(odd)) == ["duplicate"]
    assert len(topic.new()) == 4


def test_an_event_that_was_acknowledged_is_a_duplicate_and_written_again(collector: Collecting) -> None:
    topic, sent = collector.events(), event()
    topic.new()
    assert statuses(collector.post(sent)) == ["accepted"]
    again = collector.post(sent)
    assert statuses(again) == ["duplicate"]
    assert again.json()["accepted"] == 1
    assert len(topic.new()) == 2


@pytest.mark.parametrize("encoding", PACKED)
def test_packed_bodies_are_unpacked(collector: Collecting, encoding: str) -> None:
    assert statuses(collector.post(PACKED[encoding](encoded([event()])), content_encoding=encoding)) == ["accepted"]


def test_a_gzip_body_of_several_members_is_read_to_its_end(collector: Collecting) -> None:
    body = encoded(event())
    packed = gzip.compress(body[:20]) + gzip.compress(body[20:])
    assert statuses(collector.post(packed, content_encoding="gzip")) == ["accepted"]


@pytest.mark.parametrize("encoding", PACKED)
@pytest.mark.parametrize("damage", ["cut", "longer", "other"])
def test_a_body_that_is_not_what_its_encoding_says_is_kept_whole(
    collector: Collecting, encoding: str, damage: str
) -> None:
    letters = collector.dead_letters()
    letters.new()
    packed = PACKED[encoding](encoded(event()))
    body = {"cut": packed[:-4], "longer": packed + b"rest", "other": zlib.compress(b"{}")}[damage]
    assert refusal(collector.post(body, content_encoding=encoding)) == (400, "invalid_encoding")
    assert [letter.value() for letter in letters.new()] == [body]


@pytest.mark.parametrize(
    "body", [b"", b" ", b"{", b'{"a":1', b"[1,]", b'"text"', b"7", b"null", b'{"events":{}}', b"\xff"]
)
def test_an_unreadable_body_is_kept_whole_and_refused(collector: Collecting, body: bytes) -> None:
    letters = collector.dead_letters()
    letters.new()
    assert collector.post(body).status_code == 400
    assert [letter.value() for letter in letters.new()] == [body]


def test_types_and_encodings_that_are_not_known_are_refused(collector: Collecting) -> None:
    body = encoded(event())
    for content_type in ("text/plain", "text/plain;charset=UTF-8", "application/json; charset=utf-8", None):
        assert collector.post(body, content_type=content_type).status_code == 202
    for content_type in ("application/x-www-form-urlencoded", "text/html", "application/json; charset=latin-1"):
        assert refusal(collector.post(body, content_type=content_type)) == (415, "content_type")
    for encoding in ("deflate", "gzip, gzip", "compress"):
        assert refusal(collector.post(body, content_encoding=encoding)) == (415, "content_encoding")
    assert collector.post(body, content_encoding="identity").status_code == 202


def test_too_many_bytes_or_events_are_refused(collector: Collecting) -> None:
    most = collector.settings.edge_max_body_bytes
    assert refusal(collector.post(b" " * (most + 1))) == (413, "body_too_large")
    in_chunks = collector.client.post(
        f"/v1/events?key={collector.server_key}", content=(b" " * 65536 for _ in range(most // 65536 + 1))
    )
    assert refusal(in_chunks) == (413, "body_too_large")
    fitting = encoded(event()).ljust(most)
    assert statuses(collector.post(fitting)) == ["accepted"]
    count = collector.settings.edge_max_batch_events
    assert refusal(collector.post([1] * (count + 1))) == (413, "too_many_events")
    assert len(statuses(collector.post([1] * count))) == count


def test_only_a_valid_key_from_its_origin_may_send(collector: Collecting) -> None:
    body = encoded(event())
    client = collector.client
    assert refusal(client.post("/v1/events", content=body)) == (401, "no_key")
    assert refusal(collector.post(body, key="wk_" + "x" * 32)) == (401, "unknown_key")
    assert refusal(collector.post(body, origin="https://shop.example.evil.example")) == (403, "origin")
    assert refusal(collector.post(body, origin="null")) == (403, "origin")
    assert refusal(collector.post(body, origin=None)) == (403, "origin")
    assert refusal(collector.post(body, key=collector.server_key)) == (403, "origin")
    assert statuses(collector.post(body, key=collector.server_key, origin=None)) == ["accepted"]


def test_a_key_is_taken_from_either_header_or_the_query(collector: Collecting) -> None:
    for headers in ({"x-write-key": collector.server_key}, {"authorization": f"Bearer {collector.server_key}"}):
        assert statuses(collector.client.post("/v1/events", content=encoded(event()), headers=headers)) == ["accepted"]
    answer = collector.client.post(f"/v1/events?v=2&key={collector.server_key}&x=%20", content=encoded(event()))
    assert statuses(answer) == ["accepted"]


def test_a_browser_key_for_apps_may_do_without_an_origin(collector: Collecting) -> None:
    _, secret = create(keys_file(collector.settings), "app", "browser", "ios", allow_no_origin=True)
    until(lambda: collector.post(event(), key=secret, origin=None).status_code == 202)
    assert statuses(collector.post(event(), key=secret, origin=None)) == ["accepted"]
    assert refusal(collector.post(event(), key=secret)) == (403, "origin")


def test_a_page_may_read_the_answer_but_never_with_credentials(collector: Collecting) -> None:
    answers = {
        202: collector.post(event()),
        400: collector.post(b"{"),
        401: collector.post(event(), key="wk_none"),
        415: collector.post(event(), content_type="text/html"),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert answer.headers["access-control-expose-headers"] == "Retry-After"
        assert answer.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in answer.headers


def test_a_preflight_is_answered_as_the_key_allows(collector: Collecting) -> None:
    def preflight(path: str, origin: str) -> httpx.Response:
        asked = {
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-encoding,content-type,x-write-key,authorization",
        }
        return collector.client.options(path, headers=asked)

    for path in (f"/v1/events?key={collector.browser_key}", f"/v1/links?key={collector.browser_key}", "/v1/events"):
        answer = preflight(path, ORIGIN)
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert answer.headers["access-control-allow-methods"] == "POST"
        allowed = {name.strip() for name in answer.headers["access-control-allow-headers"].split(",")}
        assert allowed >= {"content-encoding", "content-type", "x-write-key", "authorization"}
        assert answer.headers["access-control-max-age"] == "86400"
        assert "access-control-allow-credentials" not in answer.headers
    assert preflight(f"/v1/events?key={collector.browser_key}", "https://evil.example").status_code == 403


def test_global_privacy_control_discards_and_keeps_nothing_even_of_an_unreadable_body(collector: Collecting) -> None:
    topic, letters = collector.events(), collector.dead_letters()
    topic.new(), letters.new()
    answer = collector.post([event(), {}], sec_gpc="1")
    assert statuses(answer) == ["discarded", "discarded"]
    assert collector.post(b"{", sec_gpc="1").status_code in (202, 400)
    assert collector.post(b"[", sec_gpc="1").status_code == 400
    assert topic.new() == [] == letters.new()


def test_paths_and_methods_that_are_none_are_refused(collector: Collecting) -> None:
    assert refusal(collector.client.get("/")) == (404, "not_found")
    answer = collector.client.get("/v1/events")
    assert refusal(answer) == (405, "method")
    assert answer.headers["allow"] == "POST, OPTIONS"
    assert collector.client.delete("/healthz").status_code == 405


def test_health_readiness_and_the_tracer_are_served(collector: Collecting) -> None:
    client = collector.client
    assert client.get("/healthz").json() == {"status": "live"}
    assert client.get("/readyz").json() == {"status": "ready", "outlet": "kafka"}
    assert client.head("/healthz").content == b""
    script = client.get("/tracer.js")
    if script.status_code == 404:
        assert "npm run build" in script.json()["error"]["message"]
    else:
        assert script.headers["content-type"].startswith("text/javascript")
        assert "max-age" in script.headers["cache-control"]
        again = client.get("/tracer.js", headers={"if-none-match": script.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_a_link_is_signed_followed_and_counted(collector: Collecting) -> None:
    topic, link = collector.events(), next(iter(Links.load()))
    topic.new()
    asked = {
        "session_id": "the-session",
        "page_view_id": "the-view",
        "consent": {"analytics": True},
        "links": [{"link_id": link.link_id, "position": 3}, {"link_id": "none"}],
    }
    path = f"/v1/links?key={collector.browser_key}"
    answer = collector.client.post(path, content=encoded(asked), headers={"origin": ORIGIN})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.json()["unknown"] == ["none"]
    (signed,) = answer.json()["links"]
    url = collector.url + signed["url"].removeprefix(collector.settings.edge_base_url)
    followed = httpx.get(url, headers={"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0"})
    assert followed.status_code == 302
    assert followed.headers["location"].startswith(link.target)
    assert followed.headers["cache-control"] == "no-store"
    (message,) = until(topic.new)
    click = json.loads(message.value())
    assert click["session"]["session_id"] == "the-session"
    assert click["affiliate"]["context"] == "signed"
    assert click["click_id"] in followed.headers["location"]


def test_following_a_link_that_is_none_or_asking_only_for_its_head_counts_nothing(collector: Collecting) -> None:
    topic, link = collector.events(), next(iter(Links.load()))
    topic.new()
    assert collector.client.get("/go/none").status_code == 404
    assert collector.client.head(f"/go/{link.link_id}").headers["location"] == link.target
    counted = collector.figures()
    assert counted['chart_edge_clicks_total{became="unknown_link"}'] >= 1
    assert counted['chart_edge_clicks_total{became="head"}'] >= 1
    time.sleep(0.5)
    assert topic.new() == []


def test_a_request_for_links_that_is_none_is_refused(collector: Collecting) -> None:
    path = f"/v1/links?key={collector.browser_key}"
    for body in (b"", b"[]", b"{}", b"\xff", b"[" * 100_000, encoded({"consent": {"analytics": 1}, "links": []})):
        answer = collector.client.post(path, content=body, headers={"origin": ORIGIN})
        assert refusal(answer) == (400, "links_request")


def test_what_is_counted_is_what_happened(collector: Collecting) -> None:
    before = collector.figures()
    sent = event()
    collector.post([sent, {}, event(user={"consent": {"analytics": False}})])
    collector.post(sent)
    collector.post(b"{")
    after = collector.figures()

    def grown(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    for result in ("accepted", "duplicate", "rejected", "discarded"):
        assert grown(f'chart_edge_events_total{{result="{result}"}}') == 1, result
    assert grown('chart_edge_requests_total{route="events",status="202"}') == 2
    assert grown('chart_edge_requests_total{route="events",status="400"}') == 1
    assert grown("chart_edge_request_seconds_count") == 3
    assert grown("chart_edge_unreadable_total") == 1
    assert grown('chart_edge_discarded_total{why="consent_denied"}') == 1
    assert grown('chart_edge_reasons_total{code="schema_required"}') >= 4


def test_pipelined_requests_are_answered_in_their_order(collector: Collecting) -> None:
    bodies = [encoded(event()) for _ in range(20)]
    head = f"POST /v1/events?key={collector.server_key} HTTP/1.1\r\nhost: x\r\n"
    requests = [f"{head}content-length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
    last = requests[-1].replace(b"host: x", b"host: x\r\nconnection: close")
    answers = received(collector.raw(b"".join(requests[:-1]) + last))
    ids = [json.loads(body)["event_id"] for body in bodies]
    places = [answers.find(event_id.encode()) for event_id in ids]
    assert answers.count(b"HTTP/1.1 202") == len(bodies)
    assert -1 not in places and places == sorted(places)
