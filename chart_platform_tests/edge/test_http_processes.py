"""The collector's life: start without Kafka, several workers, keys that change, defects, and an orderly end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from chart_platform.edge import keys
from chart_platform.edge.app import create_app
from chart_platform.settings import Settings
from chart_platform.stream.topics import ensure_topics
from chart_platform_tests.command_line import CommandLine
from chart_platform_tests.conftest import KafkaTopics
from chart_platform_tests.edge.collecting import ORIGIN, Collecting, Topic, encoded, event, received, until
from chart_platform_tests.edge.flaky_kafka import FlakyKafka

pytestmark = pytest.mark.kafka

MakeCollector = Callable[..., Collecting]


def ids(topic: Topic) -> list[str]:
    return [json.loads(message.value())["event_id"] for message in topic.new()]


@contextmanager
def kafka_away(running: Collecting) -> Iterator[FlakyKafka]:
    """A collector whose way to Kafka is a proxy that refuses connections until ``mend`` is called."""
    with FlakyKafka(int(running.settings.bootstrap_servers.rpartition(":")[2])) as way:
        running.settings = running.settings.model_copy(update={"kafka_bootstrap_servers": f"127.0.0.1:{way.port}"})
        yield way


def children(pid: int) -> list[int]:
    """Processes whose parent is ``pid`` and that serve."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_without_kafka_it_starts_accepts_and_sends_on_when_kafka_is_there(
    kafka: Settings, make_collector: MakeCollector
) -> None:
    running = make_collector(edge_delivery_timeout_ms=300)
    direct = running.settings
    # Not even the topics are there yet.
    fresh = {"kafka_topic": f"{direct.kafka_topic}.new", "kafka_dlq_topic": f"{direct.kafka_topic}.new.dlq"}
    with FlakyKafka(int(kafka.bootstrap_servers.rpartition(":")[2])) as way:
        way.cut()
        through = {"kafka_bootstrap_servers": f"127.0.0.1:{way.port}"}
        running.settings = running.settings.model_copy(update=fresh | through)
        running.start()
        sent = [event() for _ in range(5)]
        assert running.post(sent).json()["accepted"] == 5
        assert running.figures()['chart_edge_outlet_state{state="spill"}'] == 1
        way.mend()
        made = direct.model_copy(update=fresh)
        assert until(lambda: running.figures()['chart_edge_outlet_total{what="drained"}'] == 5, within=60)
        ensure_topics(made)
        assert sorted(ids(Topic(made, made.kafka_topic))) == sorted(one["event_id"] for one in sent)
    assert running.stop() == 0


def test_the_figures_of_two_workers_are_added_up_and_survive_one_of_them(make_collector: MakeCollector) -> None:
    running = make_collector(edge_workers=2).start()
    assert until(lambda: running.figures()["chart_edge_ready"] == 2)
    topic = running.events()
    sent = [event() for _ in range(40)]

    def post_anew(one: Any) -> int:
        # A connection each, so that both workers are asked.
        url = f"{running.url}/v1/events?key={running.browser_key}"
        return httpx.post(url, content=encoded(one), headers={"origin": ORIGIN}, trust_env=False).status_code

    assert {post_anew(one) for one in sent} == {202}
    accepted = 'chart_edge_events_total{result="accepted"}'
    assert running.figures()[accepted] == 40
    files = list((running.settings.edge_home / "metrics").iterdir())
    assert len(files) == 2
    victim = children(running.pid)[0]
    os.kill(victim, signal.SIGKILL)
    assert until(lambda: len(children(running.pid)) == 2 and victim not in children(running.pid))
    running.client.close()
    running.client = httpx.Client(base_url=running.url, trust_env=False)
    assert until(lambda: any("starts again" in line["message"] for line in running.log))
    assert running.figures()[accepted] == 40
    assert until(lambda: post_anew(event()) == 202)
    assert running.figures()[accepted] == 41
    assert {one["event_id"] for one in sent} <= set(ids(topic))
    workers = children(running.pid)
    assert running.stop() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_workers_end_when_their_parent_is_killed(make_collector: MakeCollector) -> None:
    running = make_collector(edge_workers=2).start()
    assert until(lambda: len(children(running.pid)) == 2)
    workers = children(running.pid)
    running.kill()
    assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def test_a_port_in_use_and_unusable_keys_are_errors_of_one_line(
    make_collector: MakeCollector, command_line: CommandLine
) -> None:
    running = make_collector().start()
    said = command_line.run(running.settings, "collect")
    assert said.code == 1
    assert f"127.0.0.1:{running.settings.edge_port}" in said.err and "CHART_EDGE_PORT" in said.err
    keys.keys_file(running.settings).write_text("keys:\n  - id: key_1\n")
    other = running.settings.model_copy(update={"edge_port": 0})
    said = command_line.run(other, "collect")
    assert said.code == 1
    assert re.search(r"error: .*write-keys\.yml, line 2: .*", said.err)
    assert "Traceback" not in said.err


def test_a_second_collector_can_not_take_the_spill_of_the_first(
    make_collector: MakeCollector, command_line: CommandLine
) -> None:
    running = make_collector().start()
    said = command_line.run(running.settings.model_copy(update={"edge_port": 0}), "collect")
    assert said.code != 0
    assert "spill" in said.err
    assert running.post(event()).status_code == 202


def test_keys_made_rotated_and_revoked_are_followed_while_it_runs(make_collector: MakeCollector) -> None:
    running = make_collector().start()
    file = keys.keys_file(running.settings)
    key, secret = keys.create(file, "new", "browser", "web", [ORIGIN])
    assert until(lambda: running.post(event(), key=secret).status_code == 202)
    replaced, other = keys.rotate(file, key.id, timedelta(hours=1))
    assert until(lambda: running.post(event(), key=other).status_code == 202)
    assert running.post(event(), key=secret).status_code == 202
    keys.revoke(file, key.id)
    assert until(lambda: running.post(event(), key=secret).status_code == 401)
    assert running.post(event(), key=other).status_code == 202
    kept = file.read_text()
    file.write_text("keys: [{")
    assert until(
        lambda: any("can't be used" in line["message"] for line in running.log if running.post(event(), key=other))
    )
    assert running.post(event(), key=other).status_code == 202
    file.write_text(kept)
    keys.revoke(file, replaced.id)
    assert until(lambda: running.post(event(), key=other).status_code == 401)


def test_a_stopping_collector_is_unready_then_finishes_what_it_has_begun(make_collector: MakeCollector) -> None:
    running = make_collector(edge_unready_seconds=1.0).start()
    topic, sent = running.events(), event()
    body = encoded(sent)
    head = f"POST /v1/events?key={running.server_key} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    begun = running.raw(head.encode() + body[:10])
    assert running.process is not None
    running.process.send_signal(signal.SIGTERM)
    assert until(lambda: running.client.get("/readyz").status_code == 503)
    assert running.client.get("/healthz").status_code == 200
    # It is still taken: a load balancer needs a moment to see that it shouldn't be asked.
    assert running.post(event()).status_code == 202

    def refused() -> bool:
        try:
            running.raw().close()
        except ConnectionRefusedError:
            return True
        return False

    assert until(refused)
    begun.sendall(body[10:])
    assert received(begun).startswith(b"HTTP/1.1 202")
    assert running.process.wait(30) == 0
    assert sent["event_id"] in ids(topic)
    messages = [line["message"] for line in running.log]
    assert [text for text in messages if "not ready" in text] and "Worker 0 has ended." in messages


def test_no_acknowledged_event_is_lost_when_it_ends_under_load(make_collector: MakeCollector) -> None:
    running = make_collector(edge_workers=2).start()
    topic = running.events()
    acknowledged: list[str] = []

    def send() -> None:
        with httpx.Client(base_url=running.url, trust_env=False, timeout=30) as client:
            while True:
                sent = [event() for _ in range(3)]
                try:
                    answer = client.post(f"/v1/events?key={running.server_key}", content=encoded(sent))
                except httpx.TransportError:
                    return
                if answer.status_code == 202:
                    results = answer.json()["results"]
                    acknowledged.extend(one["event_id"] for one in results if one["status"] == "accepted")

    senders = [threading.Thread(target=send) for _ in range(4)]
    for sender in senders:
        sender.start()
    assert until(lambda: len(acknowledged) > 300)
    assert running.stop() == 0
    for sender in senders:
        sender.join()
    missing = set(acknowledged) - set(ids(topic))
    assert missing == set()


def test_when_nothing_can_be_made_durable_all_is_to_be_sent_again(make_collector: MakeCollector) -> None:
    running = make_collector(edge_delivery_timeout_ms=200, edge_spill_max_bytes=1024**2)
    with kafka_away(running) as way:
        way.cut()
        running.start()
        body = encoded([event(ctx={"page_url": f"https://shop.example/{os.urandom(20_000).hex()}"}) for _ in range(20)])
        full = until(lambda: (answer := running.post(body)).status_code == 503 and answer)
        assert {result["status"] for result in full.json()["results"]} == {"retry"}
        assert full.json()["accepted"] == 0
        assert int(full.headers["retry-after"]) >= 1
        unreadable = running.post(b"[" + b" " * 900_000)
        assert (unreadable.status_code, unreadable.json()["error"]["code"]) == (503, "unavailable")
        assert "retry-after" in unreadable.headers
        mixed = running.post(body[:-1] + b"," + encoded(event(user={"consent": {"analytics": False}})) + b"]")
        assert mixed.status_code == 202
        assert [result["status"] for result in mixed.json()["results"]] == ["retry"] * 20 + ["discarded"]
        assert "retry-after" in mixed.headers
        assert until(lambda: running.client.get("/readyz").status_code == 503)
        way.mend()
        assert until(lambda: running.is_ready() and running.post(body).status_code == 202, within=60)


def test_a_defect_acknowledges_nothing_and_says_so_without_data(
    kafka_topics: KafkaTopics, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The one test that needs the application in this process: a defect has to be put in."""
    from chart_platform.edge import logs

    settings = kafka_topics()
    _, secret = keys.create(keys.keys_file(settings), "x", "server", "server")
    app = create_app(settings)

    def defect(*_: Any, **__: Any) -> Any:
        raise KeyError("203.0.113.7 visitor@example.org")

    monkeypatch.setattr(app._admission, "admit", defect)

    async def ask() -> httpx.Response:
        await app.start()
        try:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://collector") as client:
                return await client.post(f"/v1/events?key={secret}", content=encoded(event()))
        finally:
            await app.stop()

    answer = asyncio.run(ask())
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert app.metrics.get("chart_edge_internal_errors_total") == 1
    assert Topic(settings, settings.kafka_topic).new() == []
    (record,) = (record for record in caplog.records if record.exc_info)
    line = logs.JsonLines().format(record)
    assert "KeyError" in line and "test_http_processes.py" in line
    assert "203.0.113.7" not in line and "visitor@example.org" not in line
    assert orjson.loads(line)["level"] == "error"


def test_rates_are_limited_per_address_and_key_and_say_when_to_come_back(make_collector: MakeCollector) -> None:
    running = make_collector(edge_rate_per_ip=5.0, edge_rate_per_key=1000.0).start()
    first = running.post([event() for _ in range(50)])
    assert first.status_code == 202
    second = running.post(event())
    assert (second.status_code, second.json()["error"]["code"]) == (429, "rate_limited")
    # 50 events into a bucket of 10 that gets 5 a second.
    assert 7 <= int(second.headers["retry-after"]) <= 9
    assert second.headers["access-control-expose-headers"] == "Retry-After"
    server = running.post(event(), key=running.server_key, origin=None)
    assert server.status_code == 202
    assert running.figures()['chart_edge_refused_total{code="rate_limited"}'] == 1


def test_its_lines_tell_no_address_query_body_or_key(make_collector: MakeCollector) -> None:
    running = make_collector(edge_trusted_proxies="127.0.0.0/8").start()
    told = "https://shop.example/?email=visitor@example.org"
    running.post([event(ctx={"page_url": told}), {"bad": "visitor@example.org"}], x_forwarded_for="203.0.113.7")
    running.post(b"{visitor@example.org", x_forwarded_for="203.0.113.7")
    running.post(event(), key="wk_not_a_key_visitor@example.org", x_forwarded_for="203.0.113.7")
    running.raw(b"visitor@example.org\r\n\r\n").close()
    assert running.stop() == 0
    lines = running.log
    assert lines and all({"ts", "level", "logger", "pid", "message"} <= set(line) for line in lines)
    text = running.log_file.read_text()
    for secret in ("203.0.113", "visitor", "example.org", running.browser_key, running.server_key, "page_url"):
        assert secret not in text
