"""Where admitted records leave the collector: into Kafka, or onto the local disk until Kafka takes them.

Belongs here: the producer, delivery reports, when to spill and when to drain, and the order of a key's records. Does not
belong here: the files of the spill (``spill``), what a record says (``admission``), HTTP.

All of it runs on the event loop, the delivery reports included: a timer polls the producer every two milliseconds while
something is under way, which costs about a tenth more than a thread that polls, but needs no locks and never fights with
the loop for the interpreter.
Only the disk has a thread.

A record is durable when every in-sync replica has it or when it is fsynced in the spill. The breaker opens at the first
record that Kafka does not confirm in time: all that is under way goes to the spill in the order it came, new records
follow it there at once, and the drainer tries until Kafka answers. From then on only keys with records in the spill queue
up behind them; all others go straight again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer

from chart_platform.edge.records import Record
from chart_platform.edge.spill import Spill, Window, frame
from chart_platform.settings import Settings
from chart_platform.stream.clients import producer

RETRY_AFTER_SECONDS = 5

_LINGER_MS = 5
_POLL_SECONDS = 0.002
_QUEUE_MESSAGES = 100_000
_QUEUE_KILOBYTES = 128 * 1024
_WINDOW_RECORDS = 2_000
_WINDOW_BYTES = 2 * 1024 * 1024
# To begin with, and after a failure: what is in flight when Kafka doesn't confirm may arrive twice.
_PROBE_RECORDS = 50
_PROBE_SECONDS = 0.25
_LEAST_ROOM_BYTES = 64 * 1024

# Kafka's answer to these will be the same next time.
_PERMANENT = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_RECORD})

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class Unavailable(RuntimeError):
    """Neither Kafka nor the spill can take records now; try again after ``retry_after_seconds``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.retry_after_seconds = RETRY_AFTER_SECONDS


class _Ticket:
    """Records of one submit on their way to Kafka; called by the producer for each, on the loop."""

    __slots__ = ("future", "left", "outlet", "records")

    def __init__(self, outlet: Outlet, records: Sequence[Record], future: asyncio.Future[None]) -> None:
        self.outlet = outlet
        self.records = records
        self.future = future
        self.left = len(records)

    def __call__(self, error: KafkaError | None, _: object) -> None:
        # Zero or less: the spill has taken over, and what Kafka says now no longer matters.
        if error is None:
            self.left -= 1
            if self.left == 0:
                self.outlet._delivered(self)
        elif self.left > 0:
            self.outlet._failures.append((self, error))


class _Reports:
    """Delivery reports of records of the spill: unlike a ticket it wants to know what became of each."""

    def __init__(self, number: int, reported: asyncio.Future[dict[int, KafkaError]]) -> None:
        self._left = number
        self._failures: dict[int, KafkaError] = {}
        self.all = reported

    def add(self, index: int, error: KafkaError | None, _: object = None) -> None:
        if error is not None:
            self._failures[index] = error
        self._left -= 1
        if self._left == 0 and not self.all.done():
            self.all.set_result(self._failures)


class Outlet:
    """Makes records durable. To be used from one event loop, between :meth:`start` and :meth:`close`.

    ``directory`` is the spill's, of this process alone; what dead processes left in directories beside it is sent too.
    Within a process records of one key never overtake earlier ones of that key that are in the spill.
    """

    def __init__(self, settings: Settings, directory: Path) -> None:
        self._settings = settings
        self._directory = directory
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="spill")
        self._outstanding: dict[_Ticket, None] = {}
        self._failures: list[tuple[_Ticket, KafkaError]] = []
        self._fatal: KafkaError | None = None
        self._ticking = False
        self._breaker_open = False
        self._refused_until = 0.0
        self._closing = False
        # Keys of the records that this process has in its spill, with their number; keys of those that are being sent
        # from there; what waits for these.
        self._behind: dict[bytes, int] = {}
        self._draining: set[bytes] = set()
        self._waiting: list[tuple[Sequence[Record], asyncio.Future[None]]] = []
        self._pending: list[tuple[Sequence[Record], bytes, asyncio.Future[None]]] = []
        self._pending_bytes = 0
        self._committing = False
        self._window_records = _PROBE_RECORDS
        self._counts = dict.fromkeys(("delivered", "spilled", "drained", "unavailable", "outages", "producers"), 0)

    async def start(self) -> None:
        """Claim the spill and begin to send what it holds. Kafka need not be there, nor its topics.

        Raises ``SpillInUse`` if another process has the directory, ``OSError`` if it can't be used.
        """
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._spill = await self._on_disk(Spill, self._directory, self._settings.edge_spill_max_bytes)
        self._producer = self._new_producer()
        self._drainer = self._loop.create_task(self._drain())

    @property
    def state(self) -> Literal["kafka", "spill", "full"]:
        """Where new records go. ``full``: nowhere, they are :class:`Unavailable`."""
        if not self._breaker_open:
            return "kafka"
        no_room = self._room < _LEAST_ROOM_BYTES or time.monotonic() < self._refused_until
        return "full" if no_room else "spill"

    def figures(self) -> dict[str, float]:
        """Counts since the start (records; ``outages`` of Kafka; ``producers`` made), and what is held at the moment."""
        return {
            **self._counts,
            "outstanding_requests": len(self._outstanding) + len(self._waiting),
            "breaker_open": self._breaker_open,
            "backlog_records": sum(self._behind.values()),
            "backlog_bytes": self._spill.backlog_bytes + self._pending_bytes,
            "spill_bytes": self._spill.bytes_on_disk,
            "damaged_segments": self._spill.damaged,
            "refused_by_kafka": self._spill.refused,
        }

    def submit(self, records: Sequence[Record]) -> asyncio.Future[None]:
        """Resolves when all are durable, in Kafka if it confirms within ``edge_delivery_timeout_ms``.

        Fails with :class:`Unavailable`; some of the records may have become durable nevertheless.
        """
        if self._closing:
            return self._gone(records)
        if self._breaker_open:
            return self._keep(records)
        if self._behind or self._draining:
            return self._queue(records)
        return self._send(records)

    def _queue(self, records: Sequence[Record]) -> asyncio.Future[None]:
        """Behind what the spill has of the same keys: there, or until the window with the last of it is confirmed."""
        queued, straight, wait = [], [], False
        for record in records:
            if record.key in self._behind or record.key in self._draining:
                queued.append(record)
                wait = wait or record.key in self._draining
            else:
                straight.append(record)
        if not queued:
            return self._send(straight)
        if wait:
            # Not to the spill, or a busy key would never get out of it.
            behind = self._loop.create_future()
            self._waiting.append((queued, behind))
        else:
            behind = self._keep(queued)
        return self._both(self._send(straight), behind) if straight else behind

    def _release(self) -> None:
        """Those that waited for a window go on, in their order."""
        self._draining.clear()
        waiting, self._waiting = self._waiting, []
        for records, future in waiting:
            if self._breaker_open or any(record.key in self._behind for record in records):
                self._keep(records, future)
            else:
                self._send(records, future)

    def spill(self, records: Sequence[Record]) -> asyncio.Future[None]:
        """Resolves when all are fsynced here, whatever Kafka does; they are sent on promptly. Fails as ``submit`` does."""
        return self._gone(records) if self._closing else self._keep(records)

    async def close(self, grace_seconds: float) -> None:
        """Take no more, give Kafka the grace to confirm what is under way, spill the rest. All futures are done then."""
        self._closing = True
        deadline = self._loop.time() + grace_seconds
        while self._under_way() and not self._breaker_open and self._loop.time() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
        self._drainer.cancel()
        with suppress(asyncio.CancelledError):
            await self._drainer
        self._hand_over()
        while self._committing:
            await asyncio.sleep(_POLL_SECONDS)
        await self._on_disk(self._spill.close)
        self._disk.shutdown()
        self._let_go(self._producer)

    # To Kafka.

    def _send(self, records: Sequence[Record], future: asyncio.Future[None] | None = None) -> asyncio.Future[None]:
        if future is None:
            future = self._loop.create_future()
        ticket = _Ticket(self, records, future)
        produce = self._producer.produce
        sent = 0
        try:
            for record in records:
                if record.headers:
                    produce(record.topic, record.value, record.key, -1, ticket, headers=list(record.headers))
                else:
                    produce(record.topic, record.value, record.key, -1, ticket)
                sent += 1
        except (BufferError, KafkaException) as error:
            return self._stopped(ticket, sent, error)
        if sent:
            self._outstanding[ticket] = None
            if not self._ticking:
                self._keep_ticking()
        else:
            future.set_result(None)
        return future

    def _stopped(self, ticket: _Ticket, sent: int, error: BufferError | KafkaException) -> asyncio.Future[None]:
        """The producer took only the first ``sent`` of the ticket's records."""
        self._keep_ticking()
        if isinstance(error, KafkaException) and error.args[0].code() not in _PERMANENT:
            self._outstanding[ticket] = None
            self._open(error.args[0])
            return ticket.future
        if not sent:
            return self._keep(ticket.records, ticket.future)
        # The rest goes to the spill; all is done when both are.
        whole, ticket.future = ticket.future, self._loop.create_future()
        both = self._both(ticket.future, self._keep(ticket.records[sent:]))
        both.add_done_callback(partial(_pass_on, whole))
        ticket.records, ticket.left = ticket.records[:sent], sent
        self._outstanding[ticket] = None
        return whole

    def _delivered(self, ticket: _Ticket) -> None:
        del self._outstanding[ticket]
        self._counts["delivered"] += len(ticket.records)
        if not ticket.future.done():
            ticket.future.set_result(None)

    def _keep_ticking(self) -> None:
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(_POLL_SECONDS, self._tick)

    def _tick(self) -> None:
        try:
            self._producer.poll(0)
        except KafkaException as error:
            # Raised for fatal errors only; all others come with a delivery report.
            self._fatal = error.args[0]
        if self._failures:
            self._handle_failures()
        if self._fatal is not None:
            self._replace_producer(self._fatal)
        if len(self._producer):
            self._loop.call_later(_POLL_SECONDS, self._tick)
        else:
            self._ticking = False

    def _handle_failures(self) -> None:
        # Not in the callback: the producer must not be called from within its own poll.
        failures, self._failures = self._failures, []
        for ticket, error in failures:
            if ticket not in self._outstanding:
                continue
            if error.code() in _PERMANENT:
                # The drainer finds out which of the records it is; a whole batch is refused for one of them.
                del self._outstanding[ticket]
                self._to_spill(ticket)
            else:
                self._open(error)

    def _open(self, error: KafkaError) -> None:
        if not self._breaker_open:
            self._breaker_open = True
            self._counts["outages"] += 1
            log.warning("Kafka does not confirm (%s): events go to the spill %s.", error.str(), self._directory)
        self._hand_over()
        self._wake.set()

    def _hand_over(self) -> None:
        """Everything under way to the spill, in the order it came. Some of it may be in Kafka too."""
        tickets, self._outstanding = self._outstanding, {}
        for ticket in tickets:
            self._to_spill(ticket)
        if tickets:
            self._producer.purge(blocking=False)

    def _to_spill(self, ticket: _Ticket) -> None:
        ticket.left = 0
        self._keep(ticket.records, ticket.future)

    def _new_producer(self) -> Producer:
        self._counts["producers"] += 1
        patience = self._settings.edge_delivery_timeout_ms
        return producer(
            self._settings,
            **{
                "linger.ms": _LINGER_MS,
                "message.timeout.ms": patience,
                "request.timeout.ms": patience,
                # A broker that has gone without a word is given up as fast as its messages are.
                "socket.timeout.ms": max(patience, 1_000),
                "socket.connection.setup.timeout.ms": max(patience, 1_000),
                "socket.nagle.disable": True,
                "reconnect.backoff.ms": 50,
                "reconnect.backoff.max.ms": 1_000,
                "retry.backoff.ms": 50,
                "retry.backoff.max.ms": 500,
                "queue.buffering.max.messages": _QUEUE_MESSAGES,
                "queue.buffering.max.kbytes": _QUEUE_KILOBYTES,
                # The topic's own limit decides, on compressed bytes.
                "message.max.bytes": 8 * 1024 * 1024,
                "log_level": 0,
            },
        )

    def _replace_producer(self, error: KafkaError) -> None:
        """An idempotent producer that can't keep its promise any more sends nothing ever again."""
        log.error("The Kafka producer has failed for good (%s) and is replaced.", error.str())
        self._fatal = None
        self._open(error)
        old, self._producer = self._producer, self._new_producer()
        self._let_go(old)

    def _let_go(self, old: Producer) -> None:
        """Have it report all that it holds as failed."""
        old.purge()
        deadline = time.monotonic() + 1
        while len(old) and time.monotonic() < deadline:
            with suppress(KafkaException):
                old.poll(0.01)
        self._failures.clear()

    # To the disk.

    @property
    def _room(self) -> int:
        return self._settings.edge_spill_max_bytes - self._spill.bytes_on_disk - self._pending_bytes

    def _keep(self, records: Sequence[Record], future: asyncio.Future[None] | None = None) -> asyncio.Future[None]:
        """Append to the spill, with all others that wait, as soon as the disk is done with those before."""
        future = self._loop.create_future() if future is None else future
        frames = b"".join(map(frame, records))
        if len(frames) > self._room:
            self._refuse(records, future, "Kafka does not confirm and the spill has no room left.")
            return future
        self._pending.append((records, frames, future))
        self._pending_bytes += len(frames)
        self._queue_up(records)
        if not self._committing:
            self._commit()
        return future

    def _commit(self) -> None:
        self._committing = True
        group, self._pending = self._pending, []
        frames = b"".join(frames for _, frames, _ in group)
        done = self._loop.run_in_executor(self._disk, self._spill.append, frames)
        done.add_done_callback(partial(self._committed, group, len(frames)))

    def _committed(
        self,
        group: list[tuple[Sequence[Record], bytes, asyncio.Future[None]]],
        size: int,
        done: asyncio.Future[None],
    ) -> None:
        self._pending_bytes -= size
        error = done.exception()
        if error is not None:
            log.error("%s", error)
        for records, _, future in group:
            if error is not None:
                self._catch_up(records)
                self._refuse(records, future, str(error))
                continue
            self._counts["spilled"] += len(records)
            if not future.done():
                future.set_result(None)
        self._committing = False
        if self._pending:
            self._commit()
        self._wake.set()

    def _refuse(self, records: Sequence[Record], future: asyncio.Future[None], reason: str) -> None:
        self._refused_until = time.monotonic() + RETRY_AFTER_SECONDS
        self._counts["unavailable"] += len(records)
        if not future.done():
            future.set_exception(Unavailable(reason))

    def _gone(self, records: Sequence[Record]) -> asyncio.Future[None]:
        future = self._loop.create_future()
        self._refuse(records, future, "The collector is shutting down.")
        return future

    def _both(self, first: asyncio.Future[None], second: asyncio.Future[None]) -> asyncio.Future[None]:
        return self._loop.create_task(_all(first, second))

    async def _on_disk(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._loop.run_in_executor(self._disk, partial(function, *args, **kwargs))

    # From the disk to Kafka.

    async def _drain(self) -> None:
        while True:
            self._wake.clear()
            try:
                window = await self._on_disk(self._spill.read, self._window_records, _WINDOW_BYTES)
                if window is not None:
                    try:
                        sent = await self._send_on(window)
                    finally:
                        self._release()
                elif self._breaker_open:
                    sent = await self._kafka_answers()
                else:
                    if not (self._committing or self._spill.backlog_bytes):
                        # What a damaged segment has lost will never be confirmed.
                        self._behind.clear()
                    await self._wake.wait()
                    continue
            except Exception:
                # Whatever it is: a drainer that ended would hold back events for good without a word.
                log.exception("The spill %s can't be drained now.", self._directory)
                await asyncio.sleep(RETRY_AFTER_SECONDS)
                continue
            if not sent:
                self._window_records = _PROBE_RECORDS
                await asyncio.sleep(_PROBE_SECONDS)
                continue
            self._window_records = min(_WINDOW_RECORDS, 2 * self._window_records)
            if self._breaker_open:
                self._breaker_open = False
                log.warning("Kafka confirms again: %d bytes of the spill follow.", self._spill.backlog_bytes)

    async def _send_on(self, window: Window) -> bool:
        failures = await self._send_window(window)
        if failures and all(error.code() in _PERMANENT for error in failures.values()):
            # Of a batch that Kafka refuses, it says so for every record: each gets a trial of its own.
            for index in sorted(failures):
                record = window.records[index]
                alone = replace(window, records=[record], appended_here=False)
                error = (await self._send_window(alone)).get(0)
                if error is not None and error.code() not in _PERMANENT:
                    self._fall_behind(window)
                    self._open(error)
                    return False
                if error is not None:
                    log.error("Kafka refuses a record of %d bytes for good: %s.", len(record.value), error.str())
                    await self._on_disk(self._spill.set_aside, record)
        elif failures:
            self._fall_behind(window)
            self._open(next(iter(failures.values())))
            return False
        await self._on_disk(self._spill.confirm, window)
        self._counts["drained"] += len(window.records)
        self._refused_until = 0.0
        return True

    async def _send_window(self, window: Window) -> dict[int, KafkaError]:
        """What Kafka did not confirm, by index; empty when it has all."""
        reports = _Reports(len(window.records), self._loop.create_future())
        if window.appended_here:
            self._catch_up(window.records)
            self._draining.update(record.key for record in window.records if record.key is not None)
        for index, record in enumerate(window.records):
            report = partial(reports.add, index)
            while True:
                try:
                    self._producer.produce(
                        record.topic, record.value, record.key, -1, report, headers=list(record.headers)
                    )
                except BufferError:
                    self._keep_ticking()
                    await asyncio.sleep(_POLL_SECONDS)
                    continue
                except KafkaException as error:
                    report(error.args[0])
                break
        self._keep_ticking()
        return await reports.all

    async def _kafka_answers(self) -> bool:
        """For when the spill has nothing to try with: it refused all there was."""
        timeout = self._settings.edge_delivery_timeout_ms / 1_000
        try:
            await asyncio.to_thread(self._producer.list_topics, timeout=timeout)
        except KafkaException:
            return False
        return True

    def _catch_up(self, records: Sequence[Record]) -> None:
        """They are not in the spill any more, or on their way from there."""
        for record in records:
            if (key := record.key) is not None:
                left = self._behind.get(key, 0) - 1
                if left > 0:
                    self._behind[key] = left
                else:
                    self._behind.pop(key, None)

    def _fall_behind(self, window: Window) -> None:
        """Kafka didn't take the window: what follows has to wait for its second try."""
        if window.appended_here:
            self._queue_up(window.records)

    def _queue_up(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.key is not None:
                self._behind[record.key] = self._behind.get(record.key, 0) + 1

    def _under_way(self) -> bool:
        return bool(self._outstanding or self._committing or self._spill.backlog_bytes)


def _pass_on(to: asyncio.Future[None], done: asyncio.Future[None]) -> None:
    error = None if done.cancelled() else done.exception()
    if to.done():
        return
    if error is not None:
        to.set_exception(error)
    else:
        to.set_result(None)


async def _all(*parts: asyncio.Future[None]) -> None:
    await asyncio.gather(*parts)
