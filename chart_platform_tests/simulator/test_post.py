"""Posting: every message is answered for, whatever the collector does. A real HTTP server that misbehaves as it is told."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from chart_platform.contracts.events import Accepted, explain, parse
from chart_platform.simulator import FaultRates, Message, SimulationConfig, generate, live
from chart_platform.simulator.post import MAX_BATCH_EVENTS, PostError, PostReport, post
from chart_platform_tests.simulator.conftest import HEAVY, History
from chart_platform_tests.simulator.test_live import FakeClock

Answer = tuple[int, dict[str, str], bytes]


class StandIn:
    """Takes events by the contract. ``misbehave`` sees each request first and may answer it, or cut it off (an error)."""

    def __init__(self, misbehave: Callable[[int, str, bytes], Answer | None] = lambda *_: None) -> None:
        self.misbehave = misbehave
        self.requests: list[tuple[str, bytes]] = []
        self.kept: list[bytes] = []
        self.links: list[str] = []
        self.followed: list[tuple[str, str | None]] = []

    def answer(self, path: str, body: bytes, headers: Any) -> Answer:
        # Nobody who follows a link shows a key.
        assert headers["Authorization"] == (None if path.startswith("/go/") else "Bearer wk_test")
        self.requests.append((path, body))
        if (answer := self.misbehave(len(self.requests), path, body)) is not None:
            return answer
        if path == "/v1/links":
            (link,) = json.loads(body)["links"]
            self.links.append(link["link_id"])
            url = f"https://elsewhere.example/edge/go/{link['link_id']}?c=signed"
            return 200, {}, json.dumps({"links": [{**link, "url": url}], "expires_in": 60}).encode()
        if path.startswith("/go/"):
            self.followed.append((path, headers["User-Agent"]))
            return 302, {"Location": "https://www.example/"}, b""
        try:
            found = parse(body)
        except ValueError:
            self.kept.append(body)
            return 400, {}, b'{"error":{}}'
        events = found if isinstance(found, list) else [found]
        self.kept += [json.dumps(event).encode() for event in events]
        results = [{"status": judge(event)} for event in events]
        return 202, {}, json.dumps({"results": results}).encode()


def judge(event: Any) -> str:
    if isinstance(event, dict) and (event.get("user") or {}) != "visitor-1":
        consent = (event.get("user") or {}).get("consent") or {}
        if consent.get("analytics") is False:
            return "discarded"
    return "accepted" if isinstance(explain(json.dumps(event).encode()), Accepted) else "rejected"


@contextmanager
def serving(stand_in: StandIn) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body are two writes: with Nagle's algorithm each answer waits 40 ms for the first one's acknowledgement.
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self._go()

        def do_GET(self) -> None:
            self._go()

        def _go(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                status, headers, content = stand_in.answer(self.path, body, self.headers)
            except ConnectionError:
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _post(stand_in: StandIn, messages: Any, **given: Any) -> PostReport:
    with serving(stand_in) as url:
        return post(messages, url, "wk_test", **given)


def _sent_ids(stand_in: StandIn) -> Counter[str]:
    return Counter(json.loads(body)["event_id"] for body in stand_in.kept)


@pytest.mark.slow
def test_every_answer_is_the_one_that_its_label_expects(posted: History) -> None:
    stand_in = StandIn()
    report = _post(stand_in, posted.messages)
    assert report.surprises == {}
    assert report.sent == len(posted.messages) == len(stand_in.kept)
    labels = Counter(m.label.expected for m in posted.messages if m.label)
    assert report.answered["discarded"] == labels["discarded"]
    assert report.answered["rejected"] + report.answered["unreadable"] == labels["dead_letter"]
    assert report.answered["unreadable"] > 0
    assert report.bytes == sum(len(m.value) for m in posted.messages)


def test_events_go_out_in_their_order_and_by_the_hundreds(posted: History) -> None:
    stand_in = StandIn()
    messages = [m for m in posted.messages if m.label and m.label.fault == "clean"][:3_000]
    report = _post(stand_in, messages)
    assert [json.loads(m.value)["event_id"] for m in messages] == [json.loads(v)["event_id"] for v in stand_in.kept]
    assert report.requests < 3_000 / 20
    assert all(len(json.loads(body)) <= MAX_BATCH_EVENTS for _, body in stand_in.requests)


def test_what_would_spoil_a_request_travels_alone_and_byte_for_byte(posted: History) -> None:
    stand_in = StandIn()
    messages = posted.messages[:4_000]
    _post(stand_in, messages)
    spoiling = [m.value for m in messages if not _is_json(m.value)]
    assert spoiling == [body for _, body in stand_in.requests if not _is_json(body)]


def _is_json(value: bytes) -> bool:
    try:
        parse(value)
    except ValueError:
        return False
    return True


def test_a_busy_collector_gets_the_same_again(pure_clients: list[Message]) -> None:
    busy: dict[int, Answer] = {1: (429, {"Retry-After": "0.01"}, b"{}"), 2: (503, {"Retry-After": "0.01"}, b"{}")}
    stand_in = StandIn(lambda turn, *_: busy.get(turn))
    report = _post(stand_in, pure_clients)
    assert stand_in.requests[0] == stand_in.requests[1] == stand_in.requests[2]
    assert set(_sent_ids(stand_in).values()) == {1}
    assert report.answered == {"accepted": len(pure_clients)}
    assert report.retried == 2


def test_a_lost_answer_is_followed_by_the_same_events_with_the_same_ids(pure_clients: list[Message]) -> None:
    lost = []

    def lose_the_second(turn: int, _path: str, body: bytes) -> Answer | None:
        if turn == 2:
            lost.extend(event["event_id"] for event in json.loads(body))
            raise ConnectionResetError
        return None

    stand_in = StandIn(lose_the_second)
    report = _post(stand_in, pure_clients)
    assert lost and set(lost) <= set(_sent_ids(stand_in))
    assert report.answered == {"accepted": len(pure_clients)}


def test_only_those_events_that_are_asked_for_again_go_again(pure_clients: list[Message]) -> None:
    asked = set()

    def some(turn: int, _path: str, body: bytes) -> Answer | None:
        if turn > 1:
            return None
        ids = [event["event_id"] for event in json.loads(body)]
        asked.update(ids[::3])
        results = [{"status": "retry" if event_id in asked else "accepted"} for event_id in ids]
        return 202, {}, json.dumps({"results": results}).encode()

    stand_in = StandIn(some)
    report = _post(stand_in, pure_clients)
    second = [event["event_id"] for event in json.loads(stand_in.requests[1][1])]
    assert set(second) == asked
    assert report.retried == len(asked)
    assert report.answered == {"accepted": len(pure_clients)}


def test_a_request_too_large_is_split(pure_clients: list[Message]) -> None:
    def at_most_seven(_turn: int, _path: str, body: bytes) -> Answer | None:
        return (413, {}, b"{}") if len(json.loads(body)) > 7 else None

    stand_in = StandIn(at_most_seven)
    report = _post(stand_in, pure_clients)
    assert set(_sent_ids(stand_in).values()) == {1}
    assert report.answered == {"accepted": len(pure_clients)}


def test_a_refusal_is_an_error_with_the_collectors_words(pure_clients: list[Message]) -> None:
    with pytest.raises(PostError, match=r"401: .*no such key"):
        _post(StandIn(lambda *_: (401, {}, b'{"error":{"message":"no such key"}}')), pure_clients)


def test_a_collector_that_stays_away_is_an_error_and_no_hang(pure_clients: list[Message]) -> None:
    with pytest.raises(PostError, match="ConnectionRefusedError"):
        post(iter(pure_clients), "http://127.0.0.1:9", "wk_test", patience_s=lambda: 0.2)


def test_an_answer_that_no_label_expects_is_told(pure_clients: list[Message]) -> None:
    def reject(_turn: int, _path: str, body: bytes) -> Answer:
        return 202, {}, json.dumps({"results": [{"status": "rejected"} for _ in json.loads(body)]}).encode()

    report = _post(StandIn(reject), pure_clients)
    assert report.surprises == {"accepted → rejected": len(pure_clients)}


def test_redirected_clicks_follow_a_link_that_was_signed_for_their_visit() -> None:
    config = SimulationConfig(seed=1, faults=HEAVY, form="client")
    messages = list(live(config, 40.0, FakeClock(), duration=timedelta(minutes=5)))
    clicks = [json.loads(m.value) for m in messages if m.redirected]
    assert clicks
    stand_in = StandIn()
    report = _post(stand_in, messages)
    assert stand_in.links == [click["affiliate"]["link_id"] for click in clicks]
    assert stand_in.followed == [
        (f"/go/{click['affiliate']['link_id']}?c=signed", click["ctx"]["user_agent"]) for click in clicks
    ]
    (first, *_) = [json.loads(body) for path, body in stand_in.requests if path == "/v1/links"]
    assert first["session_id"] == clicks[0]["session"]["session_id"]
    assert first["consent"]["analytics"] is True
    assert report.sent == len(messages)
    assert report.surprises == {}


def test_progress_is_told_at_the_end(pure_clients: list[Message]) -> None:
    told: list[int] = []
    _post(StandIn(), pure_clients, on_progress=lambda report: told.append(report.sent))
    assert told[-1] == len(pure_clients)


@pytest.fixture
def pure_clients() -> list[Message]:
    return list(generate(SimulationConfig(seed=3, events=1_500, form="client", faults=FaultRates.none())))
