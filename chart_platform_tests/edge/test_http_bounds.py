"""What a hostile client can't do: take memory, take time, or be answered with a defect."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import brotli
import pytest
import zstandard

from chart_platform.edge import http, serve
from chart_platform_tests.edge.collecting import Collecting, encoded, event, received, until

pytestmark = pytest.mark.kafka

MEGABYTE = 1024 * 1024


def memory(collector: Collecting) -> int:
    """Most bytes of memory that the process ever had."""
    status = Path(f"/proc/{collector.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _zstd_bomb() -> bytes:
    packer = zstandard.ZstdCompressor(level=19).compressobj()
    return b"".join(packer.compress(bytes(MEGABYTE)) for _ in range(2048)) + packer.flush()


def _brotli_bomb() -> bytes:
    packer = brotli.Compressor(quality=1)
    return b"".join(packer.process(bytes(MEGABYTE)) for _ in range(512)) + packer.finish()


BOMBS: dict[str, Callable[[], tuple[str, bytes]]] = {
    "gzip": lambda: ("gzip", gzip.compress(bytes(512 * MEGABYTE), 1)[: MEGABYTE - 1]),
    "gzip of many members": lambda: ("gzip", gzip.compress(bytes(MEGABYTE // 4)) * 1000),
    "br": lambda: ("br", _brotli_bomb()),
    "zstd": lambda: ("zstd", _zstd_bomb()),
    "zstd of many frames": lambda: ("zstd", zstandard.compress(bytes(MEGABYTE // 4)) * 5000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_without_being_unpacked(collector: Collecting, name: str) -> None:
    encoding, bomb = BOMBS[name]()
    assert len(bomb) < collector.settings.edge_max_body_bytes
    collector.post(event())
    before = memory(collector)
    answer = collector.post(bomb, content_encoding=encoding)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert memory(collector) - before < 32 * MEGABYTE


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_output_of_exactly_the_cap_passes_and_one_byte_more_does_not(encoding: str) -> None:
    pack = {"gzip": gzip.compress, "br": brotli.compress, "zstd": zstandard.compress}[encoding]
    assert http.inflate(pack(bytes(1000)), encoding.encode(), 1000) == bytes(1000)
    with pytest.raises(http.Refused) as refused:
        http.inflate(pack(bytes(1001)), encoding.encode(), 1000)
    assert refused.value.status == 413


def test_a_bomb_inside_of_a_bomb_is_no_json(collector: Collecting) -> None:
    nested = gzip.compress(gzip.compress(bytes(64 * MEGABYTE)))
    answer = collector.post(nested, content_encoding="gzip")
    assert answer.status_code == 400


def test_deep_nesting_is_never_a_defect(collector: Collecting) -> None:
    for depth in (200, 254, 255, 256, 900, 1_023, 1_024, 1_025, 5_000, 200_000):
        inside = b"[" * depth + b"]" * depth
        for body in (
            inside,
            b"[" * depth,
            b'{"a":' * depth,
            b"[" + inside + b"]",
            b'{"events":[' + inside + b"]}",
            b'[{"a":' + inside + rb',"b":"\ud800"}]',
            encoded(event(extra=1)).replace(b"1}", inside + b"}"),
        ):
            answer = collector.post(body[: collector.settings.edge_max_body_bytes])
            results = answer.json().get("results", [])
            assert answer.status_code == 400 or {result["status"] for result in results} == {"rejected"}, (
                depth,
                body[:30],
            )
    assert collector.figures()["chart_edge_internal_errors_total"] == 0


def test_a_body_that_comes_too_slowly_is_given_up(collector: Collecting) -> None:
    head = f"POST /v1/events?key={collector.server_key} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n"
    connection = collector.raw(head.encode() + b"[")
    answer = b""
    for _ in range(100):
        try:
            connection.sendall(b" ")
            connection.settimeout(0.1)
            answer += connection.recv(65536)
        except TimeoutError:
            continue
        except OSError:
            break
        if answer:
            break
    assert answer.startswith(b"HTTP/1.1 408"), answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "body_timeout"


def test_a_client_that_leaves_in_the_middle_of_its_body_is_counted_and_nothing_else(collector: Collecting) -> None:
    letters = collector.dead_letters()
    letters.new()
    before = collector.figures().get("chart_edge_disconnected_total", 0.0)
    head = f"POST /v1/events?key={collector.server_key} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n"
    collector.raw(head.encode() + encoded(event())).close()
    assert until(lambda: collector.figures().get("chart_edge_disconnected_total", 0.0) == before + 1)
    assert letters.new() == []


def _floods() -> Iterator[tuple[str, bytes, bytes]]:
    yield "one long header", b"GET /healthz HTTP/1.1\r\nx: " + b"y" * 200_000 + b"\r\n\r\n", b"431"
    yield "many headers", b"GET /healthz HTTP/1.1\r\n" + b"x: y\r\n" * 50_000 + b"\r\n", b"431"
    yield "a long path", b"GET /" + b"y" * 200_000 + b" HTTP/1.1\r\n\r\n", b"431"
    yield "a header without end", b"GET /healthz HTTP/1.1\r\nx: " + b"y" * 200_000, b"431"
    yield "a request line without end", b"GET /" + b"y" * 200_000, b"431"
    yield "no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"
    yield "a path that is not ASCII", b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n", b"400"
    yield "two lengths", b"POST /v1/events HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n12", b"400"
    yield (
        "a length and chunks",
        b"POST /v1/events HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"400",
    )


@pytest.mark.parametrize(("name", "flood", "status"), list(_floods()))
def test_a_flood_of_headers_and_what_is_no_http_are_refused(
    collector: Collecting, name: str, flood: bytes, status: bytes
) -> None:
    connection = collector.raw()
    before = memory(collector)
    try:
        for start in range(0, len(flood), 4096):
            connection.sendall(flood[start : start + 4096])
    except OSError:
        pass  # It has been refused already.
    answer = received(connection)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 " + status), name
    assert memory(collector) - before < 8 * MEGABYTE
    counted = f'chart_edge_bad_http_total{{status="{status.decode()}"}}'
    assert until(lambda: collector.figures().get(counted, 0.0) >= 1)
    assert collector.is_ready()


def test_the_rest_of_a_body_that_was_refused_early_is_not_taken_for_a_head(collector: Collecting) -> None:
    """The refusal comes with the head; a client that goes on sending must find the connection as it was."""
    size = 4 * MEGABYTE
    head = f"POST /v1/events?key={collector.server_key} HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n"
    connection = collector.raw(head.encode())
    assert connection.recv(65536).startswith(b"HTTP/1.1 413")
    for _ in range(size // 65536):
        connection.sendall(bytes(65536))
    connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert received(connection).startswith(b"HTTP/1.1 200")


def test_a_head_just_within_the_bound_is_served(collector: Collecting) -> None:
    answer = collector.client.get("/healthz", headers={"x-long": "y" * (serve.HEAD_BYTES - 1_000)})
    assert answer.status_code == 200


def test_an_upgrade_is_not_followed_and_harms_nothing(collector: Collecting) -> None:
    asked = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-key": "x", "sec-websocket-version": "13"}
    assert collector.client.get("/healthz", headers=asked).status_code == 200
    assert collector.is_ready()


def test_a_head_that_does_not_come_is_not_waited_for(make_collector: Callable[..., Collecting]) -> None:
    running = make_collector(edge_head_timeout_seconds=0.5).start()
    silent = running.raw()
    dribbling = running.raw(b"GET /healthz HTTP/1.1\r\n")
    served = running.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    assert served.recv(65536).startswith(b"HTTP/1.1 200")
    served.sendall(b"\r\n")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            dribbling.sendall(b"x: y\r\n")
        except OSError:
            break
        time.sleep(0.05)
    assert received(silent) == b""
    assert received(served) == b""
    assert time.monotonic() < deadline
