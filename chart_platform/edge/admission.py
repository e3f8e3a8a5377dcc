"""One event as its client sent it, to the Kafka record that it becomes: taken, refused with every reason, or not kept.

Belongs here: judging by the contract, consent, what the edge adds and takes out, the bytes of the record. Does not belong
here: HTTP and its errors (``app``), who the client is (``enrich``), making records durable (``outlet``).

The promise: what is accepted here is an event for ``transform.bronze`` too. What the fast way surely accepts is decoded,
completed and written as one struct. Anything else is judged by the whole schema and, if it is an event, brought to the
form that the fast way reads: there is one place where the edge's members are set (docs/decisions/0013-admission.md).
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal

import jsonschema_rs
import msgspec

from chart_platform.contracts import events
from chart_platform.contracts.events import Reason
from chart_platform.edge import privacy
from chart_platform.edge.links import Links
from chart_platform.edge.records import Client, Record
from chart_platform.edge.user_agents import classify
from chart_platform.settings import Settings

Why = Literal["consent_denied", "gpc"]

# The topic takes messages of 1 MiB and dead letters of 2 MiB, with their key, headers and what Kafka puts around them.
_EVENT_BYTES = 1_000_000
_DEAD_LETTER_BYTES = 2_000_000
_MAX_REASONS = 20
_MAX_ID_CHARS = 64
# Bronze reads 250; nobody means more than a few.
_MAX_DEPTH = 100
# Bronze compares with the broker's clock, which may be behind this one.
_CLOCKS_APART_MS = 300_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_YEARS_MS = tuple(
    (datetime(year, month, day, tzinfo=UTC) - _EPOCH) // _MILLISECOND
    for year, month, day in ((1, 1, 1), (9999, 12, 31))
)
# A number that is read alike whoever reads it; whatever else there may be is for the schema to judge.
_SURE_VALUE = re.compile(rb"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,6})?|true|false|null")
_QUOTE = ord('"')
_PATTERNS = {"schema_version", "event_id", "ts", "sent_at"}

_UNSET = msgspec.UNSET
_encode = msgspec.json.Encoder().encode
_text = msgspec.json.Decoder(str).decode


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """It is an event: ``record`` is to be made durable before anybody is told so."""

    event_id: str
    record: Record
    event_type: str


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """It is no event and never will be: ``record`` is its dead letter, to be made durable as well."""

    event_id: str | None
    reasons: tuple[Reason, ...]
    record: Record


class Discarded(msgspec.Struct, frozen=True, gc=False):
    """The visitor does not want it kept: there is no record."""

    event_id: str | None
    why: Why


class _Readable(msgspec.Struct):
    """What can be said of an event that is none."""

    event_id: str | None = None


class _Visit(msgspec.Struct):
    session_id: str


class _Visited(msgspec.Struct):
    session: _Visit


_readable = msgspec.json.Decoder(_Readable).decode
_visited = msgspec.json.Decoder(_Visited).decode


class _Way:
    """What the contract says to one kind of key."""

    def __init__(self, server: bool) -> None:
        sent = events.ingest_type(server)
        self.server = server
        self.decode = msgspec.json.Decoder(sent).decode
        self.ctx = events.member_type(sent, "ctx")
        self.metadata = events.member_type(sent, "metadata")
        self.privacy = events.member_type(events.fast_decoder().type, "privacy")
        self.read_only = events.read_only(server)
        self.validator = jsonschema_rs.Draft202012Validator(
            events.ingest_schema(server), validate_formats=True, mask="The value"
        )


class Admission:
    """Judges and completes events. One a process, not shared between threads.

    Raises:
        ValueError: the contract has a pattern that nothing here checks.
    """

    def __init__(self, settings: Settings, links: Links) -> None:
        patterns = events.patterns()
        if set(patterns) != _PATTERNS:
            raise ValueError(f"The contract has patterns at {sorted(patterns)}; teach Admission._is_sure.")
        # `\d` as RE2 and ECMA read it.
        fits = {member: re.compile(pattern, re.ASCII).fullmatch for member, pattern in patterns.items()}
        self._is_version, self._is_uuid, self._is_time = fits["schema_version"], fits["event_id"], fits["ts"]
        self._conditions = events.conditions()
        self._browser, self._server = _Way(server=False), _Way(server=True)
        self._links = links
        self._topic, self._dlq_topic = settings.kafka_topic, settings.kafka_dlq_topic
        self._honour_gpc = settings.edge_honour_gpc
        self._keep_user_agent = settings.edge_keep_user_agent
        self._first_day, self._max_future_hours = settings.first_day, settings.max_future_hours
        self._oldest_ms = (datetime.combine(settings.first_day, datetime.min.time(), UTC) - _EPOCH) // _MILLISECOND
        ahead_ms = settings.max_future_hours * 3_600_000
        self._ahead_ms = ahead_ms - min(_CLOCKS_APART_MS, ahead_ms // 10)
        self._schema_hash = events.schema_hash()
        self._schema_version = events.schema_version()

    def admit(
        self,
        raw: bytes,
        client: Client,
        *,
        sent_at: str | None = None,
        replayed_from: str | None = None,
        attempt: int = 1,
    ) -> Accepted | Rejected | Discarded:
        """Judge one event as it was sent. Never raises, whatever ``raw`` is.

        ``sent_at`` is the envelope's, for an event that has none; one that is no time is left out. ``replayed_from`` is the
        ``topic/partition/offset`` of the dead letter that ``raw`` comes from; ``attempt`` counts from 1.
        """
        if client.gpc and self._honour_gpc and client.kind == "browser":
            return Discarded(_event_id(raw), "gpc")
        way = self._server if client.kind == "server" else self._browser
        extra: dict[str, Any] = {}
        event: Any
        try:
            event = way.decode(raw)
            if event.user.consent.analytics is False:
                return Discarded(event.event_id[:_MAX_ID_CHARS], "consent_denied")
            ts_ms = self._surely(event)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            judged = self._judge(raw, way)
            if isinstance(judged, Discarded):
                return judged
            if isinstance(judged, list):
                return self._reject(raw, client, judged, replayed_from, attempt)
            event, ts_ms, extra = judged
        if not self._oldest_ms <= ts_ms < client.received_ms + self._ahead_ms:
            return self._reject(raw, client, [self._out_of_bounds(ts_ms)], replayed_from, attempt)
        if sent_at is not None and (event.sent_at is _UNSET or event.sent_at is None) and self._is_time(sent_at):
            event.sent_at = sent_at
        self._complete(event, client, way, replayed_from)
        payload = _encode(event)
        if extra:
            payload = _encode(_merged(_exact(payload), _scrubbed(extra)))
        session = event.session
        named = session.session_id if session else None
        key = (named if named else event.event_id).encode()
        if len(payload) + len(key) > _EVENT_BYTES:
            reason = Reason("too_large", "", f"With what the edge adds the event has over {_EVENT_BYTES} bytes.")
            return self._reject(raw, client, [reason], replayed_from, attempt)
        return Accepted(event.event_id, Record(self._topic, key, payload), event.event_type)

    def unreadable(self, body: bytes, client: Client, reasons: list[Reason]) -> Record | None:
        """The dead letter of a body in which no events could be told apart; none if its sender wants nothing kept."""
        if client.gpc and self._honour_gpc and client.kind == "browser":
            return None
        return self._dead_letter(body, None, client, tuple(reasons), None, 1)

    def _surely(self, event: Any) -> int:
        """The ``ts`` of a decoded event in epoch milliseconds.

        Raises:
            ValueError: the schema must say whether it is an event.
        """
        version, sent_at = event.schema_version, event.sent_at
        known = version == self._schema_version or version is _UNSET or self._is_version(version)
        if not (known and self._is_uuid(event.event_id) and self._is_time(event.ts)):
            raise ValueError
        if isinstance(sent_at, str) and not self._is_time(sent_at):
            raise ValueError
        needed = self._conditions.get(event.event_type)
        if needed is not None and not getattr(event, needed):
            raise ValueError
        chart = event.chart
        if chart and chart.control_value is not _UNSET:
            value = bytes(chart.control_value)
            if value[0] != _QUOTE and not _SURE_VALUE.fullmatch(value):
                raise ValueError
        return _opened(event)

    def _judge(self, raw: bytes, way: _Way) -> tuple[Any, int, dict[str, Any]] | list[Reason] | Discarded:
        """By the whole schema: the event in the form of the fast way with the members that it has no place for, or every
        reason why there is none."""
        try:
            sent = events.parse(raw)
        except UnicodeDecodeError as error:
            return [Reason("invalid_utf8", "", f"Byte {error.start} is not UTF-8.")]
        except ValueError as error:
            return [Reason("invalid_json", "", f"It is no JSON: {error}")]
        if _denies(sent):
            return Discarded(_event_id(raw), "consent_denied")
        if reasons := _read_only(sent, way.read_only) + _violations(sent, way.validator):
            return reasons
        schema = events.event_schema()
        if _depth(sent) > _MAX_DEPTH:
            return [Reason("schema_depth", "", f"It is nested over {_MAX_DEPTH} levels.")]
        exact = _exact(raw)
        try:
            event = way.decode(_encode(events.normalise(schema, _modelled(schema, exact))))
            return event, _opened(event), events.unmodelled(schema, exact)
        except (msgspec.MsgspecError, ValueError):
            return [Reason("undecodable", "", "Valid by the schema, but a time in it can't be represented in UTC.")]

    def _out_of_bounds(self, ts_ms: int) -> Reason:
        if ts_ms < self._oldest_ms:
            return Reason("ts_too_old", "/ts", f"The time is before the platform's first day {self._first_day}.")
        margin = "" if self._ahead_ms == 0 else " (less what clocks may differ)"
        message = f"The time is over {self._max_future_hours} h{margin} ahead of when the edge received it."
        return Reason("ts_in_future", "/ts", message)

    def _complete(self, event: Any, client: Client, way: _Way, replayed_from: str | None) -> None:
        """Set what is the edge's to set, and take out what is not for keeping."""
        event.ingest_ts = client.received_ms
        event.source = client.source
        user = event.user
        ads = user.consent.ads
        event.privacy = way.privacy(True, None if ads is _UNSET else ads, client.address, client.gpc)
        if user.user_id_hash and "@" in user.user_id_hash:
            # No pseudonym; and one text in place of all such would make them one visitor.
            user.user_id_hash = None
        if client.country is not None and not way.server:
            user.geo_country = client.country
        if event.ctx:
            self._complete_context(event.ctx, client)
        elif client.device is not None:
            event.ctx = way.ctx(device=client.device, browser=client.browser, os=client.os)
            if client.user_agent is not None:
                event.ctx.user_agent = client.user_agent
        if event.session and event.session.utm:
            _scrub_utm(event.session.utm)
        if event.chart:
            value = event.chart.control_value
            if isinstance(value, str):
                event.chart.control_value = privacy.scrub_text(value)
        if event.affiliate:
            self._complete_link(event.affiliate, way)
        metadata = event.metadata
        if not metadata:
            metadata = event.metadata = way.metadata()
        metadata.schema_hash = self._schema_hash
        metadata.key_id = client.key_id
        if replayed_from is not None:
            metadata.replayed_from = replayed_from

    def _complete_context(self, ctx: Any, client: Client) -> None:
        if ctx.page_url:
            ctx.page_url = privacy.scrub_url(ctx.page_url)
        if ctx.referrer:
            ctx.referrer = privacy.scrub_url(ctx.referrer)
        named = ctx.user_agent
        if named:
            agent = classify(named)
            ctx.device, ctx.browser, ctx.os = agent.device, agent.browser, agent.os
            ctx.user_agent = privacy.scrub_text(named) if self._keep_user_agent else _UNSET
        else:
            if client.device is not None:
                ctx.device, ctx.browser, ctx.os = client.device, client.browser, client.os
            if client.user_agent is not None:
                ctx.user_agent = client.user_agent

    def _complete_link(self, affiliate: Any, way: _Way) -> None:
        """What a click is worth is the registry's to say; of a server it is believed, as it may know links of its own."""
        link = self._links.get(affiliate.link_id) if affiliate.link_id else None
        if link is not None:
            affiliate.network = link.network
        if not way.server or affiliate.payout_cents is _UNSET or affiliate.payout_cents is None:
            affiliate.payout_cents = link.payout_cents if link else None
        if affiliate.target:
            affiliate.target = privacy.scrub_url(affiliate.target)

    def _reject(
        self, raw: bytes, client: Client, reasons: list[Reason], replayed_from: str | None, attempt: int
    ) -> Rejected:
        if len(reasons) > _MAX_REASONS:
            further = len(reasons) - _MAX_REASONS
            reasons = [*reasons[:_MAX_REASONS], Reason("further", "", f"{further} further reasons.")]
        listed = tuple(reasons)
        try:
            key = _visited(raw).session.session_id.encode()
        except (msgspec.MsgspecError, ValueError, RecursionError):
            key = None
        record = self._dead_letter(raw, key, client, listed, replayed_from, attempt)
        return Rejected(_event_id(raw), listed, record)

    def _dead_letter(
        self,
        raw: bytes,
        key: bytes | None,
        client: Client,
        reasons: tuple[Reason, ...],
        replayed_from: str | None,
        attempt: int,
    ) -> Record:
        headers = [
            ("reasons", _encode(reasons)),
            ("schema_version", self._schema_version.encode()),
            ("attempt", str(attempt).encode()),
            ("context", _encode(client)),
        ]
        if replayed_from is not None:
            headers.append(("lineage", replayed_from.encode()))
        if len(raw) > _DEAD_LETTER_BYTES:
            # Kafka would refuse it whole. Nobody can replay it, but somebody can see what it was.
            headers.append(("cut_from_bytes", str(len(raw)).encode()))
            raw = raw[:_DEAD_LETTER_BYTES]
        return Record(self._dlq_topic, key, raw, tuple(headers))


def _event_id(raw: bytes) -> str | None:
    """The id that the sender knows its event by, if there is one to be read."""
    try:
        found = _readable(raw).event_id
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return found if found is not None and len(found) <= _MAX_ID_CHARS else None


def _epoch_ms(text: str) -> int:
    """Epoch milliseconds of an RFC 3339 time. Raises ``ValueError`` where DuckDB or Python has no such time in UTC."""
    since = datetime.fromisoformat(text) - _EPOCH
    # A division by a timedelta would take as long as all the rest.
    found = since.days * 86_400_000 + since.seconds * 1_000 + since.microseconds // 1_000
    if not _YEARS_MS[0] <= found < _YEARS_MS[1]:
        raise ValueError(f"{text} is out of the years 1 to 9999")
    return found


# All events of a batch were sent at once.
_sent_ms = lru_cache(maxsize=256)(_epoch_ms)


def _opened(event: Any) -> int:
    """Decode what is still a text in JSON; the ``ts`` in epoch milliseconds.

    Raises:
        ValueError: a time can't be represented in UTC, or the text is none.
    """
    chart = event.chart
    if chart and chart.control_value is not _UNSET and bytes(chart.control_value)[0] == _QUOTE:
        chart.control_value = _text(chart.control_value)
    if event.sent_at:
        _sent_ms(event.sent_at)
    return _epoch_ms(event.ts)


def _denies(sent: Any) -> bool:
    for member in ("user", "consent", "analytics"):
        sent = sent.get(member) if isinstance(sent, dict) else None
    return sent is False


def _read_only(sent: Any, paths: tuple[tuple[str, ...], ...]) -> list[Reason]:
    """The reasons for members that only the edge may set; takes these out, so that nothing else is said of them."""
    found = []
    for *above, member in paths:
        place = sent
        for name in above:
            place = place.get(name) if isinstance(place, dict) else None
        if isinstance(place, dict) and member in place:
            del place[member]
            found.append(Reason("read_only", events.pointer([*above, member]), "Only the edge sets this member."))
    return found


def _depth(value: Any) -> int:
    """How deep ``value`` is nested, told up to one more than is allowed."""
    level, depth = [value], 0
    while level and depth <= _MAX_DEPTH:
        depth += 1
        level = [
            below
            for item in level
            if isinstance(item, dict | list)
            for below in (item.values() if isinstance(item, dict) else item)
        ]
    return depth


def _violations(sent: Any, validator: jsonschema_rs.Draft202012Validator) -> list[Reason]:
    try:
        return [_reason(error) for error in validator.iter_errors(sent)]
    except ValueError:  # 255 levels: the validator's recursion limit
        return [Reason("schema_depth", "", "It is nested too deep.")]


def _reason(error: jsonschema_rs.ValidationError) -> Reason:
    keyword = str(error.schema_path[-1])
    # This one names the members, which are the sender's words.
    message = "It has members that the contract does not." if keyword == "unevaluatedProperties" else error.message
    return Reason(f"schema_{keyword}", events.pointer(error.instance_path), message)


def _exact(raw: bytes) -> Any:
    """JSON that was judged before, with its numbers as they are written."""
    found = json.loads(raw.decode(), parse_int=_raw_number, parse_float=_raw_number)
    return events.well_formed(found) if b"\\u" in raw else found


def _raw_number(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


def _modelled(schema: dict[str, Any], value: Any) -> Any:
    """The event without the members that no column holds."""
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    return {k: _modelled(schema["properties"][k], v) for k, v in value.items() if k in schema["properties"]}


def _merged(event: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    both = dict(event)
    for name, value in extra.items():
        below = both.get(name)
        both[name] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return both


def _scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return privacy.scrub_text(value)
    if isinstance(value, list):
        return [_scrubbed(item) for item in value]
    if isinstance(value, dict):
        return {name: _scrubbed(item) for name, item in value.items()}
    return value


def _scrub_utm(utm: Any) -> None:
    for member in utm.__struct_fields__:
        text = getattr(utm, member)
        if text and (kept := privacy.scrub_text(text)) != text:
            setattr(utm, member, kept)
