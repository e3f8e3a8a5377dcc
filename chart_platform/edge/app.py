"""The collector as an ASGI application: routes, who may use them, and what is answered.

Belongs here: the protocol of docs/collector.md. Does not belong here: what an event must be (``admission``), bodies
(``http``), durability (``outlet``), processes and sockets (``serve``).

No framework: one event a request is the common case, and a router with middleware costs more than judging the event
(docs/decisions/0012-raw-asgi.md).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
import orjson

from chart_platform.contracts.events import Reason
from chart_platform.conversions.postbacks import line as postback_line
from chart_platform.conversions.postbacks import mapped
from chart_platform.edge import logs, openapi
from chart_platform.edge.admission import Accepted, Admission, Discarded, Rejected
from chart_platform.edge.enrich import Enricher
from chart_platform.edge.http import (
    JSON,
    Answer,
    Disconnected,
    Receive,
    Refused,
    Request,
    Scope,
    Send,
    Unreadable,
    cut,
    inflate,
)
from chart_platform.edge.keys import KeyStore, WriteKey, keys_file
from chart_platform.edge.limits import Acknowledged, Allowances, Limits, network
from chart_platform.edge.links import Links
from chart_platform.edge.metrics import Metrics
from chart_platform.edge.outlet import Outlet, Unavailable
from chart_platform.edge.postbacks import Journal, Mappings, judged, parameters
from chart_platform.edge.records import Client, Record
from chart_platform.edge.redirect import Redirect
from chart_platform.edge.signing import ContextError, Signer
from chart_platform.settings import Settings

log = logging.getLogger(__name__)

Status = Literal["accepted", "duplicate", "rejected", "discarded", "retry"]

_HOUSEKEEPING_SECONDS = 1.0
_RETRY_AFTER_SECONDS = 5.0
_CLOSE_GRACE_SECONDS = 5.0
# Bodies that wait for their answer; each is at most as large as the settings say, and there as long as Kafka takes.
_MOST_BYTES_IN_MEMORY = 256 * 1024 * 1024
# Judging a full batch takes as long as serving hundreds of single events, which must not wait for it.
_EVENTS_AT_A_TIME = 50

# All headers that say who asks and how; with the query and the address they are what a sender is known by.
_TELLING = (
    b"x-write-key",
    b"authorization",
    b"origin",
    b"content-type",
    b"content-encoding",
    b"user-agent",
    b"sec-gpc",
    b"x-forwarded-for",
)
_MOST_SENDERS = 1_024

_LINKS_PATH = "/go/"
_POSTBACKS_PATH = "/v1/postbacks/"
_CLICK_SECONDS = 1.0
TRACER = Path(__file__).parents[2] / "tracer" / "dist" / "tracer.js"

_FOR_ALL = (b"access-control-allow-origin", b"*")
_AN_HOUR = (b"cache-control", b"public, max-age=3600")
_OURS = frozenset({b"content-length", b"x-content-type-options"})
_NOSNIFF = (b"x-content-type-options", b"nosniff")
_VARY = (b"vary", b"Origin")
_EXPOSED = (b"access-control-expose-headers", b"Retry-After")
_PREFLIGHT = (
    (b"access-control-allow-methods", b"POST"),
    (b"access-control-allow-headers", b"authorization, content-encoding, content-type, x-write-key"),
    (b"access-control-max-age", b"86400"),
)
_WHY_DISCARDED = {
    "consent_denied": Reason("consent_denied", "/user/consent/analytics", "The visitor has not consented."),
    "gpc": Reason("gpc", "", "The browser sends Global Privacy Control."),
}

# What the outlet tells that only ever grows; the rest is as it is at the moment.
_OUTLET_COUNTS = frozenset({"delivered", "spilled", "drained", "unavailable", "outages", "producers"})

Handler = Callable[[Request], Awaitable[Answer]]


class _Result(msgspec.Struct, gc=False, omit_defaults=True):
    index: int
    event_id: str | None
    status: Status
    reasons: Sequence[Reason] = ()


class _Results(msgspec.Struct, gc=False):
    accepted: int
    results: list[_Result]


_encode = msgspec.json.Encoder().encode


class _Sender(msgspec.Struct, frozen=True, gc=False):
    """What the head of a request says, checked; ``client`` lacks the time, ``readable`` are headers of the answer."""

    allowances: Allowances
    encoding: bytes
    client: Client
    readable: tuple[tuple[bytes, bytes], ...]


class Collector:
    """The application of one process, the ``worker``-th of ``workers`` that share the traffic.

    Raises:
        ValueError: write keys, links or settings that can't be used.
    """

    def __init__(self, settings: Settings, worker: int = 0, workers: int = 1) -> None:
        self._settings = settings
        self._keys = KeyStore.load(keys_file(settings))
        self._links = Links.load(settings.edge_links)
        self._enricher = Enricher(settings)
        self._admission = Admission(settings, self._links)
        self._signer = Signer.of(settings)
        self._redirect = Redirect(settings, self._links, self._signer, self._enricher)
        self._limits = Limits(workers)
        self._acknowledged = Acknowledged()
        self._outlet = Outlet(settings, settings.edge_home / "spill" / f"{worker}")
        self._mappings = Mappings(settings.conversions_networks)
        self._journal = Journal(settings, settings.edge_home / "postbacks" / f"{worker}")
        self.metrics = Metrics(settings.edge_home / "metrics" / f"{worker}.slots")
        self._senders: dict[tuple[str | bytes | None, ...], _Sender] = {}
        self._refusals = logs.Occasionally()
        self._bytes_in_memory = 0
        self._serving = False
        self._was_ready = False
        self._outlet_counts_before = dict.fromkeys(_OUTLET_COUNTS, 0.0)
        self._routes: dict[str, tuple[str, dict[str, Handler]]] = {
            "/v1/events": ("events", {"POST": self._events, "OPTIONS": self._preflight}),
            "/v1/links": ("links", {"POST": self._sign_links, "OPTIONS": self._preflight}),
            "/healthz": ("healthz", {"GET": self._live, "HEAD": self._live}),
            "/readyz": ("readyz", {"GET": self._readiness, "HEAD": self._readiness}),
            "/metrics": ("metrics", {"GET": self._figures, "HEAD": self._figures}),
            "/openapi.json": ("openapi", {"GET": self._description, "HEAD": self._description}),
            "/tracer.js": ("tracer", {"GET": self._tracer, "HEAD": self._tracer}),
            "/links.js": ("tracer", {"GET": self._tracer, "HEAD": self._tracer}),
        }
        self._postbacks_route: dict[str, Handler] = {"GET": self._postback, "POST": self._postback}
        self._links_route: dict[str, Handler] = {"GET": self._follow, "HEAD": self._follow}
        self._description_body = orjson.dumps(openapi.document(settings))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    # The life of the process.

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.start()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def start(self) -> None:
        """Accept from now on, whether Kafka is there or not.

        Raises:
            RuntimeError: another process has the spill of this worker.
        """
        await self._outlet.start()
        self._serving = True
        self._housekeeping = asyncio.get_running_loop().create_task(self._keep_house())

    def retire(self) -> None:
        """Not ready from now on, for load balancers to see; requests are still served."""
        self._serving = False
        self._take_stock()

    async def stop(self) -> None:
        """After the last request: hand over to Kafka or the spill what is still here."""
        self.retire()
        self._housekeeping.cancel()
        with suppress(asyncio.CancelledError):
            await self._housekeeping
        await self._journal.close()
        await self._outlet.close(_CLOSE_GRACE_SECONDS)
        self._take_stock()

    @property
    def is_ready(self) -> bool:
        return self._serving and self._outlet.state != "full"

    async def _keep_house(self) -> None:
        while True:
            self._senders.clear()
            self._links.refresh()
            self._mappings.refresh()
            self._journal.keep_house()
            self._take_stock()
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)

    def _take_stock(self) -> None:
        metrics, state = self.metrics, self._outlet.state
        if self.is_ready != self._was_ready:
            self._was_ready = self.is_ready
            log.info("The collector is %s.", "ready" if self.is_ready else f"not ready (way out: {state})")
        metrics.set("chart_edge_ready", self.is_ready)
        for name in ("kafka", "spill", "full"):
            metrics.set(f'chart_edge_outlet_state{{state="{name}"}}', name == state)
        for name, value in self._outlet.figures().items():
            if name in _OUTLET_COUNTS:
                metrics.add(f'chart_edge_outlet_total{{what="{name}"}}', value - self._outlet_counts_before[name])
                self._outlet_counts_before[name] = value
            else:
                metrics.set(f'chart_edge_outlet{{what="{name}"}}', value)
        metrics.set("chart_edge_bodies_in_memory_bytes", self._bytes_in_memory)
        metrics.set("chart_edge_postbacks_held_bytes", self._journal.held_bytes)
        metrics.set("chart_edge_write_keys", len(self._keys))

    # Any request.

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        request = Request(scope, receive)
        route, answer = await self._answer(request)
        if answer is None:
            self.metrics.add("chart_edge_disconnected_total")
            return
        headers = [(b"content-length", b"%d" % len(answer.body)), _NOSNIFF, *answer.headers]
        body = b"" if request.method == "HEAD" else answer.body
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self.metrics.add(f'chart_edge_requests_total{{route="{route}",status="{answer.status}"}}')
        if route == "events":
            self.metrics.observe(time.perf_counter() - began)

    async def _answer(self, request: Request) -> tuple[str, Answer | None]:
        if request.path.startswith(_LINKS_PATH):
            route, handlers = "go", self._links_route
        elif request.path.startswith(_POSTBACKS_PATH):
            route, handlers = "postbacks", self._postbacks_route
        else:
            route, handlers = self._routes.get(request.path, ("none", {}))
        try:
            if not handlers:
                raise Refused(404, "not_found", "There is nothing here; see /openapi.json.")
            handler = handlers.get(request.method)
            if handler is None:
                return route, _wrong_method(handlers)
            return route, await handler(request)
        except Refused as refused:
            self.metrics.add(f'chart_edge_refused_total{{code="{refused.code}"}}')
            if refused.status != 404:
                self._refusals.note(refused.code)
            return route, self._readable(request, refused.answer())
        except Disconnected:
            return route, None
        except Exception as error:
            # Whatever it is: nothing was acknowledged, and the client will send it again.
            self.metrics.add("chart_edge_internal_errors_total")
            log.error("A request for %s met a defect.", route, exc_info=error)
            answer = Refused(503, "internal", "That went wrong here; send it again.", _RETRY_AFTER_SECONDS).answer()
            return route, self._readable(request, answer)

    def _readable(self, request: Request, answer: Answer) -> Answer:
        answer.headers += _cors(request)
        return answer

    # POST /v1/events

    async def _events(self, request: Request) -> Answer:
        sender = self._sender(request)
        client = msgspec.structs.replace(sender.client, received_ms=_now_ms())
        body = await self._body(request, sender.allowances)
        self._bytes_in_memory += len(body)
        try:
            answer = await self._take_in(body, sender.encoding, sender.allowances, client)
        finally:
            self._bytes_in_memory -= len(body)
        answer.headers += sender.readable
        return answer

    def _sender(self, request: Request) -> _Sender:
        """Who asks, and how: the same for all requests of a page, and not worth finding out anew within a second."""
        headers = request.headers
        told = (request.query, request.peer, *map(headers.get, _TELLING))
        sender = self._senders.get(told)
        if sender is None:
            key = self._authorized(request)
            allowances = self._allowances(request, key)
            encoding = request.encoding()
            client = self._enricher.client(headers.get, request.peer, key, 0)
            sender = _Sender(allowances, encoding, client, _cors(request))
            if len(self._senders) >= _MOST_SENDERS:
                self._senders.clear()
            self._senders[told] = sender
        return sender

    async def _body(self, request: Request, allowances: Allowances) -> bytes:
        if self._bytes_in_memory > _MOST_BYTES_IN_MEMORY:
            raise Refused(503, "busy", "Too much is under way; send it again.", _RETRY_AFTER_SECONDS)
        body = request.whole_body(self._settings.edge_max_body_bytes)
        if body is None:
            # What won't be taken need not be waited for.
            self._take(allowances, 0)
            body = await request.body(self._settings.edge_max_body_bytes, self._settings.edge_body_timeout_seconds)
        self.metrics.add("chart_edge_body_bytes_total", len(body))
        return body

    async def _take_in(self, body: bytes, encoding: bytes, allowances: Allowances, client: Client) -> Answer:
        text = body
        try:
            text = inflate(body, encoding, self._settings.edge_max_body_bytes)
            events, sent_at = cut(text)
        except Unreadable as unreadable:
            self._take(allowances, 1)
            # Unpacked if it could be: that is what someone will want to read and mend.
            await self._keep_unreadable(text, client, unreadable.reason)
            raise unreadable.refusal() from None
        most = self._settings.edge_max_batch_events
        if len(events) > most:
            raise Refused(413, "too_many_events", f"More than {most} events; send fewer at once.")
        self._take(allowances, len(events))
        admit = self._admission.admit
        verdicts = []
        for number, event in enumerate(events, 1):
            verdicts.append(admit(event, client, sent_at=sent_at))
            if not number % _EVENTS_AT_A_TIME:
                await asyncio.sleep(0)
        records = [verdict.record for verdict in verdicts if not isinstance(verdict, Discarded)]
        unavailable = await self._make_durable(records)
        if unavailable is None and events == [text] and isinstance(only := verdicts[0], Rejected):
            # One event alone is not parsed before it is judged, and its dead letter is the whole body.
            reason = only.reasons[0]
            if reason.code == "invalid_json":
                self.metrics.add("chart_edge_unreadable_total")
                raise Refused(400, reason.code, reason.message)
        return self._results(verdicts, unavailable)

    async def _make_durable(self, records: list[Record]) -> Unavailable | None:
        if records:
            try:
                await self._outlet.submit(records)
            except Unavailable as unavailable:
                return unavailable
        return None

    async def _keep_unreadable(self, body: bytes, client: Client, reason: Reason) -> None:
        record = self._admission.unreadable(body, client, [reason])
        if record is None:
            self.metrics.add('chart_edge_discarded_total{why="gpc"}')
            return
        unavailable = await self._make_durable([record])
        if unavailable is not None:
            raise Refused(503, "unavailable", str(unavailable), unavailable.retry_after_seconds)
        self.metrics.add("chart_edge_unreadable_total")

    def _results(self, verdicts: Sequence[Accepted | Rejected | Discarded], unavailable: Unavailable | None) -> Answer:
        acknowledged, add = self._acknowledged, self.metrics.add
        if len(verdicts) == 1 and unavailable is None and isinstance(one := verdicts[0], Accepted):
            # Nearly all that is ever answered.
            known: Status = "duplicate" if one.event_id in acknowledged else "accepted"
            acknowledged.update((one.event_id,))
            add(f'chart_edge_events_total{{result="{known}"}}')
            return Answer(202, _encode(_Results(1, [_Result(0, one.event_id, known)])))
        results: list[_Result] = []
        taken: list[str] = []
        counts: dict[Status, int] = {}
        for index, verdict in enumerate(verdicts):
            status: Status
            reasons: Sequence[Reason] = ()
            if unavailable is None and isinstance(verdict, Accepted):
                status = "duplicate" if verdict.event_id in acknowledged else "accepted"
                taken.append(verdict.event_id)
            elif isinstance(verdict, Discarded):
                status, reasons = "discarded", (_WHY_DISCARDED[verdict.why],)
                add(f'chart_edge_discarded_total{{why="{verdict.why}"}}')
            elif unavailable is not None:
                status = "retry"
            else:
                assert isinstance(verdict, Rejected)
                status, reasons = "rejected", verdict.reasons
                for reason in reasons:
                    add(f'chart_edge_reasons_total{{code="{reason.code}"}}')
            results.append(_Result(index, verdict.event_id, status, reasons))
            counts[status] = counts.get(status, 0) + 1
        for status, count in counts.items():
            add(f'chart_edge_events_total{{result="{status}"}}', count)
        acknowledged.update(taken)
        accepted = counts.get("accepted", 0) + counts.get("duplicate", 0)
        answer = Answer(202, _encode(_Results(accepted, results)))
        if unavailable is not None:
            answer.headers = (*answer.headers, (b"retry-after", b"%d" % unavailable.retry_after_seconds))
            if counts.get("retry") == len(verdicts):
                answer.status = 503
        return answer

    # POST /v1/links and GET /go/{link_id}

    async def _sign_links(self, request: Request) -> Answer:
        key = self._authorized(request)
        allowances = self._allowances(request, key)
        self._take(allowances, 1)
        encoding = request.encoding()
        try:
            body = inflate(await self._body(request, allowances), encoding, self._settings.edge_max_body_bytes)
            signed = self._signer.answer(body, self._links, self._settings.edge_base_url, time.time())
        except Unreadable as unreadable:
            raise unreadable.refusal() from None
        except ContextError as error:
            raise Refused(400, "links_request", str(error)) from None
        return self._readable(request, Answer(200, _encode(signed)))

    async def _follow(self, request: Request) -> Answer:
        self._take([self._allowance_of_address(request)], 1)
        link_id = request.path.removeprefix(_LINKS_PATH)
        headers = request.headers.get
        answer = self._redirect.handle(request.method, link_id, request.query, headers, request.peer, _now_ms())
        became: str = answer.uncounted or "counted"
        if answer.record is not None:
            kept = self._outlet.spill([answer.record])
            try:
                # The visitor waits for our disk, but not for a broken one.
                await asyncio.wait_for(asyncio.shield(kept), _CLICK_SECONDS)
            except (TimeoutError, Unavailable) as error:
                became = "late" if isinstance(error, TimeoutError) else "lost"
                log.error("A click was redirected and is %s: %s", became, error)
        self.metrics.add(f'chart_edge_clicks_total{{became="{became}"}}')
        return Answer(answer.status, answer.body, tuple(h for h in answer.headers if h[0] not in _OURS))

    # GET or POST /v1/postbacks/{network}

    async def _postback(self, request: Request) -> Answer:
        name = request.path.removeprefix(_POSTBACKS_PATH)
        try:
            key = self._known_key(request)
            if key.kind != "network" or key.source != name:
                raise Refused(403, "network", f"The key {key.id} is not for postbacks of this network.")
        except Refused:
            self._take([self._allowance_of_address(request)], 1)
            raise
        self._take([self._allowance_of_key(key)], 1)
        network = self._mappings.get(name)
        if network is None:
            raise Refused(404, "unknown_network", "There is no mapping for this network.")
        received_at = datetime.fromtimestamp(_now_ms() / 1000, UTC).replace(tzinfo=None)
        sent = mapped(network, await parameters(request, self._settings.edge_body_timeout_seconds))
        line = postback_line(sent, received_at)
        reasons = judged(self._settings, network, line, received_at)
        # Kept whatever it says: what is wrong with it stands in the rejects, for people to mend.
        await self._journal.keep(name, line)
        result = "rejected" if reasons else "accepted"
        self.metrics.add(f'chart_edge_postbacks_total{{network="{name}",result="{result}"}}')
        if reasons:
            error = {"code": "rejected", "message": "It makes no report, and is kept with the reasons."}
            return Answer(400, _encode({"error": error, "reasons": [reason.as_row() for reason in reasons]}))
        return Answer(200, b'{"status":"accepted"}')

    # Who may.

    def _authorized(self, request: Request) -> WriteKey:
        key = self._known_key(request)
        if key.kind == "network":
            raise Refused(403, "postbacks_only", f"The key {key.id} is for postbacks only.")
        return key

    def _known_key(self, request: Request) -> WriteKey:
        secret = request.secret()
        if not secret:
            raise Refused(401, "no_key", "Name a write key: ?key=…, X-Write-Key or Authorization: Bearer.")
        key = self._keys.find(secret)
        if key is None:
            raise Refused(401, "unknown_key", "There is no such write key.")
        if not key.is_valid(datetime.now(UTC)):
            raise Refused(401, "expired_key", f"The write key {key.id} is expired or revoked.")
        if not key.allows(request.origin):
            raise Refused(403, "origin", f"The write key {key.id} is not for this origin.")
        return key

    def _allowances(self, request: Request, key: WriteKey) -> Allowances:
        of_key = self._allowance_of_key(key)
        return [of_key] if key.kind == "server" else [of_key, self._allowance_of_address(request)]

    def _allowance_of_key(self, key: WriteKey) -> tuple[str, float]:
        default = self._settings.edge_rate_per_key
        return key.id, default if key.events_per_second is None else key.events_per_second

    def _allowance_of_address(self, request: Request) -> tuple[str, float]:
        # Who can't be told from others shares one allowance with them.
        address = self._enricher.address(request.headers.get, request.peer)
        return network(address) if address else "unknown", self._settings.edge_rate_per_ip

    def _take(self, allowances: Allowances, events: int) -> None:
        seconds = self._limits.take(allowances, events, time.monotonic())
        if seconds is not None:
            self.metrics.add("chart_edge_rate_limited_events_total", events)
            raise Refused(429, "rate_limited", f"Too many events; send them again in {seconds} s.", seconds)

    async def _preflight(self, request: Request) -> Answer:
        secret = request.secret()
        key = self._keys.find(secret) if secret else None
        if key is not None and not key.allows(request.origin):
            raise Refused(403, "origin", f"The write key {key.id} is not for this origin.")
        # Without a known key there is nothing to hide: the request itself will be told what is wrong.
        return self._readable(request, Answer(204, headers=_PREFLIGHT))

    # For operators.

    async def _live(self, _: Request) -> Answer:
        return Answer(200, b'{"status":"live"}')

    async def _readiness(self, _: Request) -> Answer:
        body = _encode({"status": "ready" if self.is_ready else "not ready", "outlet": self._outlet.state})
        if self.is_ready:
            return Answer(200, body)
        return Answer(503, body, (*Answer(503).headers, (b"retry-after", b"%d" % _RETRY_AFTER_SECONDS)))

    async def _figures(self, _: Request) -> Answer:
        self._take_stock()
        exposition = self.metrics.exposition()
        return Answer(200, exposition, ((b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),))

    async def _description(self, _: Request) -> Answer:
        return Answer(200, self._description_body, (JSON, _FOR_ALL))

    async def _tracer(self, request: Request) -> Answer:
        try:
            # Beside the tracer lies what it loads on pages with affiliate links.
            file = TRACER.with_name(request.path.rpartition("/")[2])
            stamp = file.stat().st_mtime_ns
            script = file.read_bytes()
        except FileNotFoundError:
            raise Refused(404, "not_built", "The tracer is not built: npm ci && npm run build in tracer/.") from None
        tag = b'"%x-%x"' % (stamp, len(script))
        headers = ((b"content-type", b"text/javascript; charset=utf-8"), (b"etag", tag), _AN_HOUR, _FOR_ALL)
        if request.headers.get(b"if-none-match") == tag:
            return Answer(304, headers=headers)
        return Answer(200, script, headers)


def create_app(settings: Settings, worker: int = 0, workers: int = 1) -> Collector:
    """The collector for an ASGI server with lifespan; :func:`chart_platform.edge.serve.serve` is the one with bounds."""
    return Collector(settings, worker, workers)


def _cors(request: Request) -> tuple[tuple[bytes, bytes], ...]:
    """Let the page that asked read the answer. Also a refusal: to a script it would look like an outage otherwise,
    and be tried for ever. It tells no more than any program could ask for."""
    origin = request.headers.get(b"origin")
    return (_VARY,) if origin is None else (_VARY, (b"access-control-allow-origin", origin), _EXPOSED)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _wrong_method(handlers: dict[str, Handler]) -> Answer:
    refused = Refused(405, "method", f"Use {', '.join(handlers)}.").answer()
    refused.headers = (*refused.headers, (b"allow", ", ".join(handlers).encode()))
    return refused
