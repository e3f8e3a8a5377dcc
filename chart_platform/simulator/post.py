"""Posts messages to the collector as a client would, and waits until it has answered for every one of them.

Belongs here: batches, patience with a collector that is busy or away, the accounting of its answers.
Does not belong here: what is sent (``history``, ``live``), the write key's making (``edge.keys``), a real client's queue
(the tracer): what is not acknowledged when the process ends is not kept for the next one.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from chart_platform.simulator.faults import UNREADABLE
from chart_platform.simulator.messages import Message

PROGRESS_EVERY: Final = 5_000
MAX_BATCH_EVENTS: Final = 500
MAX_BATCH_BYTES: Final = 512 * 1024
_TIMEOUT_S: Final = 30.0
_BUSY: Final = (429, 503)
_EXPECTED: Final = {
    "accepted": ("accepted", "duplicate"),
    "duplicate": ("accepted", "duplicate"),
    "dead_letter": ("rejected", "unreadable"),
    "discarded": ("discarded",),
}
"""What the collector may answer to a message by what its label expects. ``duplicate`` is only the collector's hint."""


@dataclass(slots=True)
class PostReport:
    """Counts of messages: ``sent`` so far, ``answered`` by the collector's word, ``surprises`` (expected → answered)."""

    sent: int = 0
    bytes: int = 0
    requests: int = 0
    retried: int = 0
    """Messages that were sent again: the collector was busy or its answer was lost."""
    answered: Counter[str] = field(default_factory=Counter)
    surprises: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


class PostError(RuntimeError):
    """The collector can't be reached or doesn't take what we send."""


def post(
    messages: Iterable[Message],
    url: str,
    key: str,
    *,
    on_progress: Callable[[PostReport], None] | None = None,
    patience_s: Callable[[], float] = lambda: 60.0,
) -> PostReport:
    """Post all messages in their order and wait for the answers.

    ``url`` is the collector's base, ``key`` a write key of kind ``server``. ``patience_s`` is asked, whenever the
    collector is away or busy, for how long to go on trying. Messages go out in whatever batches are there by the time
    the last one is answered: live traffic almost singly, a history by the hundreds.

    Raises:
        PostError: the collector was away or busy for too long, or refused a request as a whole.
    """
    poster = _Poster(url, key, patience_s, on_progress)
    worker = threading.Thread(target=poster.run, name="post", daemon=True)
    worker.start()
    try:
        for message in messages:
            if not poster.take(message):
                break
    finally:
        # Also on the way out of an interrupt: what was handed over should arrive.
        poster.take(None)
        worker.join()
    if poster.error is not None:
        raise poster.error
    return poster.report


class _Poster:
    """The sending half: takes messages from a queue, in order, until None."""

    def __init__(
        self, url: str, key: str, patience_s: Callable[[], float], on_progress: Callable[[PostReport], None] | None
    ) -> None:
        parts = urlsplit(url)
        self._path = parts.path.rstrip("/")
        self._connection = HTTPConnection(parts.hostname or "", parts.port or 80, timeout=_TIMEOUT_S)
        self._as_sender = {"Authorization": f"Bearer {key}", "Content-Type": "text/plain"}
        self._url = url
        self._patience_s = patience_s
        self._on_progress = on_progress
        self._waiting: queue.Queue[Message | None] = queue.Queue(4 * MAX_BATCH_EVENTS)
        self._began = time.monotonic()
        self.report = PostReport()
        self.error: BaseException | None = None

    def take(self, message: Message | None) -> bool:
        """Hand over; False when the sending half has given up."""
        while self.error is None:
            try:
                self._waiting.put(message, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def run(self) -> None:
        due = PROGRESS_EVERY
        try:
            more = True
            while more:
                more = self._send(self._ready())
                self.report.seconds = time.monotonic() - self._began
                if self._on_progress is not None and (self.report.sent >= due or not more):
                    self._on_progress(self.report)
                    due = self.report.sent + PROGRESS_EVERY
        except Exception as error:
            self.error = error
        finally:
            self._connection.close()

    def _ready(self) -> list[Message | None]:
        """What waits, at least one."""
        found = [self._waiting.get()]
        size = 0
        while found[-1] is not None and len(found) < MAX_BATCH_EVENTS and size < MAX_BATCH_BYTES:
            size += len(found[-1].value)
            try:
                found.append(self._waiting.get_nowait())
            except queue.Empty:
                break
        return found

    def _send(self, messages: list[Message | None]) -> bool:
        """Send in order; False when there was the end among them."""
        batch: list[Message] = []
        for message in messages:
            if message is not None and not _stands_alone(message):
                batch.append(message)
                continue
            self._post(batch)
            batch = []
            if message is None:
                return False
            if message.redirected:
                self._follow(message)
            else:
                self._post_alone(message)
        self._post(batch)
        return True

    def _post(self, batch: Sequence[Message]) -> None:
        """Post good and invalid events, and again those that the collector asks for again."""
        first = True
        while batch:
            status, _, body = self._request("POST", "/v1/events", b"[" + b",".join(m.value for m in batch) + b"]")
            if status == 413 and len(batch) > 1:
                self._post(batch[: len(batch) // 2])
                batch = batch[len(batch) // 2 :]
                continue
            if status != 202:
                raise self._refused(status, body)
            results = orjson.loads(body)["results"]
            if len(results) != len(batch):
                raise PostError(f"{self._url} gave {len(results)} results for {len(batch)} events.")
            again = []
            for message, result in zip(batch, results, strict=True):
                if result["status"] == "retry":
                    again.append(message)
                else:
                    self._count(message, result["status"])
            self.report.retried += len(again)
            if again and not first:
                time.sleep(0.2)
            batch, first = again, False

    def _post_alone(self, message: Message) -> None:
        status, _, body = self._request("POST", "/v1/events", message.value)
        if status not in (202, 400):
            raise self._refused(status, body)
        self._count(message, "unreadable" if status == 400 else orjson.loads(body)["results"][0]["status"])

    def _follow(self, message: Message) -> None:
        """Click the link of the event: ask for a signed one, as the tracer does after a page view, and go there."""
        event = orjson.loads(message.value)
        context = {
            "session_id": event["session"]["session_id"],
            "page_view_id": event["page_view_id"],
            "ab_variant": event["ctx"]["ab_variant"],
            "user_id_hash": event["user"]["user_id_hash"],
            "consent": {name: given for name, given in event["user"]["consent"].items() if given is not None},
            "utm": event["session"]["utm"],
            "links": [{"link_id": event["affiliate"]["link_id"], "position": event["affiliate"].get("position") or 1}],
        }
        context = {name: value for name, value in context.items() if value is not None}
        status, _, body = self._request("POST", "/v1/links", orjson.dumps(context))
        links = orjson.loads(body).get("links") if status == 200 else None
        if not links:
            raise self._refused(status, body)
        there = urlsplit(links[0]["url"])
        agent = {"User-Agent": event["ctx"]["user_agent"]}
        # Not where the address says: that is where browsers reach the collector, which may be a proxy in front of it.
        path = f"/go/{there.path.rpartition('/go/')[2]}?{there.query}"
        status, _, body = self._request("GET", path, None, agent)
        if status != 302:
            raise self._refused(status, body)
        self._count(message, "accepted")

    def _count(self, message: Message, answer: str) -> None:
        self.report.sent += 1
        self.report.bytes += len(message.value)
        self.report.answered[answer] += 1
        if message.label is not None and answer not in _EXPECTED[message.label.expected]:
            self.report.surprises[f"{message.label.expected} → {answer}"] += 1

    def _request(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, bytes]:
        """One exchange; as often as it takes while the collector is away (it may have got it, then) or busy."""
        since = time.monotonic()
        attempt = 0
        while True:
            pause = min(0.1 * 2**attempt, 2.0)
            try:
                self._connection.request(method, self._path + path, body, headers or self._as_sender)
                answer = self._connection.getresponse()
                content = answer.read()
                self.report.requests += 1
                if answer.status not in _BUSY:
                    return answer.status, answer.headers, content
                pause = float(answer.headers.get("Retry-After") or pause)
                trouble = f"it answers {answer.status}"
            except (OSError, HTTPException) as error:
                self._connection.close()
                trouble = f"{type(error).__name__}: {error}"
            self.report.retried += 1
            attempt += 1
            if time.monotonic() + pause - since > self._patience_s():
                raise PostError(
                    f"The collector {self._url} has taken nothing for {time.monotonic() - since:.0f} s ({trouble}). "
                    f"Check that it runs, then send again: what it took already then counts as duplicates."
                )
            time.sleep(pause)

    def _refused(self, status: int, body: bytes) -> PostError:
        return PostError(f"The collector {self._url} answers {status}: {body[:300].decode(errors='replace')}")


def _stands_alone(message: Message) -> bool:
    return message.redirected or (message.label is not None and message.label.kind in UNREADABLE)
