"""A client that loads a collector: as fast as it answers, or at a steady rate whatever it does.

``python -m bench.edge_load`` reads what to do from stdin and prints what it saw; it has a process of its own, so that its
CPU-seconds are nobody else's. At a steady rate each request has its time, and its latency counts from there, so that a
server that stalls is charged for all that had to wait (no coordinated omission).

Belongs here: sending and timing. Does not belong here: what the server spent (``edge``).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from itertools import cycle
from pathlib import Path
from typing import Any

import uvloop

_LENGTH = b"content-length: "


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._answer = b""
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self._load.idle(self)

    def ask(self, request: bytes, due: float) -> None:
        self.due = due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        if not found:
            return
        start = head.lower().index(_LENGTH) + len(_LENGTH)
        if len(body) < int(head[start:].partition(b"\r\n")[0]):
            return
        self._answer = b""
        self._load.answered(self, head, body)

    def connection_lost(self, _: Exception | None) -> None:
        self._load.lost += 1


class _Load:
    def __init__(self, requests: list[bytes], expected: bytes) -> None:
        self._requests = cycle(requests)
        self._expected = expected
        self._idle: deque[_Connection] = deque()
        self._overdue: deque[float] = deque()
        self._steady = False
        self.over = False
        self.answers = 0
        self.wrong: list[str] = []
        self.lost = 0
        self.latencies: list[float] = []

    def idle(self, connection: _Connection) -> None:
        if self._steady:
            if self._overdue:
                connection.ask(next(self._requests), self._overdue.popleft())
            else:
                self._idle.append(connection)
        elif not self.over:
            connection.ask(next(self._requests), time.perf_counter())

    def answered(self, connection: _Connection, head: bytes, body: bytes) -> None:
        self.latencies.append(time.perf_counter() - connection.due)
        self.answers += 1
        if not head.startswith(b"HTTP/1.1 202") or self._expected not in body:
            self.wrong.append((head + b" " + body)[:300].decode())
        self.idle(connection)

    async def as_fast_as_it_answers(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.over = True
        await asyncio.sleep(0.5)

    async def steadily(self, rate: float, seconds: float) -> None:
        began = time.perf_counter() + 0.1
        for number in range(int(rate * seconds)):
            due = began + number / rate
            while (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            if self._idle:
                self._idle.popleft().ask(next(self._requests), due)
            else:
                self._overdue.append(due)
        deadline = time.perf_counter() + 20
        while self.answers < int(rate * seconds) and time.perf_counter() < deadline:
            await asyncio.sleep(0.01)
        self.over = True

    async def run(self, port: int, connections: int, seconds: float, rate: float | None) -> None:
        self._steady = rate is not None
        loop = asyncio.get_running_loop()
        opened = [
            await loop.create_connection(lambda: _Connection(self), "127.0.0.1", port) for _ in range(connections)
        ]
        await (self.steadily(rate, seconds) if rate is not None else self.as_fast_as_it_answers(seconds))
        for transport, _ in opened:
            transport.abort()


def requests(bodies: list[bytes], path: str) -> list[bytes]:
    """Whole HTTP requests as a browser's fetch makes them."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: https://shop.example\r\nContent-Type: application/json\r\n"
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
        "\r\nAccept: */*\r\n"
    )
    return [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]


def main() -> None:
    wanted = json.load(sys.stdin)
    events = Path(wanted["events"]).read_bytes().splitlines()
    size = wanted["batch"]
    batches = [events[at : at + size] for at in range(0, len(events) - size + 1, size)]
    bodies = [batch[0] if size == 1 else b"[" + b",".join(batch) + b"]" for batch in batches]
    load = _Load(requests(bodies, wanted["path"]), wanted["expected"].encode())
    uvloop.run(load.run(wanted["port"], wanted["connections"], wanted["seconds"], wanted["rate"]))
    in_order = sorted(load.latencies)
    quantiles = {f"p{q:g}": round(in_order[int(len(in_order) * q / 100)] * 1_000, 2) for q in (50, 95, 99, 99.9)}
    print(
        json.dumps({"answers": load.answers, "wrong": load.wrong[:3], "wrong_count": len(load.wrong), "ms": quantiles})
    )


if __name__ == "__main__":
    main()
