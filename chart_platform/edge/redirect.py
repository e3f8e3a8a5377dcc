"""``GET /go/{link_id}``: where an affiliate link leads, and the click that it is.

Belongs here: the answer as data, what counts as a click, the event of one. Does not belong here: sending the answer and
making the record durable (``app``), the registry (``links``), tokens (``signing``).

Nothing of a request ends up in where it leads: the target is the registry's, to which a click id made here is added. A
click is counted whoever vouches for it, as the network pays for it all the same; but whose click it was is only kept of
visitors who agreed, which nobody but a valid signed context can say.
"""

from __future__ import annotations

import secrets
import string
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from chart_platform.contracts import events
from chart_platform.edge import privacy
from chart_platform.edge.enrich import Enricher, Headers
from chart_platform.edge.links import Link, Links
from chart_platform.edge.records import Client, KeyKind, Record
from chart_platform.edge.signing import Context, Signer, Status
from chart_platform.edge.user_agents import classify
from chart_platform.settings import Settings

Uncounted = Literal["head", "prefetch", "bot", "unknown_link"]

_ALPHABET = string.digits + string.ascii_letters
# 62**22 is over 2**130: nobody guesses one, and no two are alike.
_CLICK_ID_CHARS = 22
_NO_STORE = ((b"cache-control", b"no-store"), (b"x-robots-tag", b"noindex, nofollow"))
_NOT_FOUND = b"<!doctype html><html lang=en><title>Not found</title><p>There is no such link.</p></html>\n"

_encode = msgspec.json.Encoder().encode


class Answer(msgspec.Struct, frozen=True):
    """An HTTP response; ``record`` is the click to be made durable, or ``uncounted`` says why it is none."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    record: Record | None
    uncounted: Uncounted | None


class _Self(msgspec.Struct, frozen=True):
    """Stands where an event has a write key."""

    id: str = "redirect"
    kind: KeyKind = "browser"
    source: str = "web"


class Redirect:
    """Answers requests for links."""

    def __init__(self, settings: Settings, links: Links, signer: Signer, enricher: Enricher) -> None:
        self._topic = settings.kafka_topic
        self._honour_gpc = settings.edge_honour_gpc
        self._links, self._signer, self._enricher = links, signer, enricher
        self._key = _Self()

    def handle(
        self, method: str, link_id: str, query: bytes, headers: Headers, peer_ip: str, received_ms: int
    ) -> Answer:
        """The answer to ``GET`` or ``HEAD`` of ``/go/{link_id}``. Never raises, whatever a request has.

        ``received_ms`` is epoch milliseconds, ``peer_ip`` the other end of the connection.
        """
        link = self._links.get(link_id)
        if link is None:
            return _not_found(method)
        if uncounted := _uncounted(method, headers):
            # Without a click id: the network must not see a click that nobody made.
            return _to(link.target, None, uncounted)
        click_id = _click_id()
        status, context = self._signer.verify(_token(query), link_id, received_ms / 1000)
        client = self._enricher.client(headers, peer_ip, self._key, received_ms)
        record = self._click(link, click_id, status, context, client, headers(b"referer"))
        return _to(link.location(click_id), record, None)

    def _click(
        self, link: Link, click_id: str, status: Status, context: Context | None, client: Client, referer: bytes | None
    ) -> Record:
        event_id = _uuid7(client.received_ms)
        event: dict[str, Any] = {
            "schema_version": events.schema_version(),
            "event_type": "affiliate_click",
            "event_id": event_id,
            "ts": _stamp(client.received_ms),
            "affiliate": {
                "link_id": link.link_id,
                "target": link.target,
                "payout_cents": link.payout_cents,
                "position": (context.position if context else None) or link.position,
                "network": link.network,
                "context": status,
            },
            "metadata": {"schema_hash": events.schema_hash()},
            "ingest_ts": client.received_ms,
            "source": client.source,
            "click_id": click_id,
        }
        objects = client.gpc and self._honour_gpc
        if context is not None and context.analytics and not objects:
            event |= _visitor(context, client, referer)
        else:
            event |= _nobody(context, client)
        session_id = event.get("session", {}).get("session_id")
        return Record(self._topic, (session_id or event_id).encode(), _encode(event))


def _visitor(context: Context, client: Client, referer: bytes | None) -> dict[str, Any]:
    """Who clicked, of one who agreed to be known."""
    utm = None
    if context.utm is not None:
        told = msgspec.structs.asdict(context.utm)
        utm = {name: text and privacy.scrub_text(text) for name, text in told.items()}
    user_id_hash = context.user_id_hash
    return {
        "user": {
            # No pseudonym, as in admission.
            "user_id_hash": None if user_id_hash and "@" in user_id_hash else user_id_hash,
            "geo_country": client.country,
            "consent": {"analytics": True, "ads": context.ads},
        },
        "session": {"session_id": context.session_id, "utm": utm},
        "ctx": {
            "page_url": privacy.scrub_url(referer.decode("latin-1")) if referer else None,
            "ab_variant": context.ab_variant,
            "device": client.device,
            "browser": client.browser,
            "os": client.os,
            "user_agent": client.user_agent,
        },
        "privacy": {
            "analytics": True,
            "ads": context.ads,
            "source_ip_anonymized": client.address,
            "gpc": client.gpc,
        },
        "page_view_id": context.page_view_id,
    }


def _nobody(context: Context | None, client: Client) -> dict[str, Any]:
    """What may be said of a click whose visitor did not agree, or is unknown."""
    return {
        "user": {"consent": {"analytics": False, "ads": False}},
        "ctx": {"ab_variant": context.ab_variant if context else None},
        "privacy": {"analytics": False, "ads": False, "source_ip_anonymized": None, "gpc": client.gpc},
    }


def _uncounted(method: str, headers: Headers) -> Uncounted | None:
    if method == "HEAD":
        return "head"
    for name in (b"sec-purpose", b"purpose", b"x-purpose", b"x-moz"):
        told = (headers(name) or b"").lower()
        if b"prefetch" in told or b"preview" in told or b"prerender" in told:
            return "prefetch"
    agent = headers(b"user-agent")
    return "bot" if agent and classify(agent.decode("latin-1")).is_bot else None


def _to(location: str, record: Record | None, uncounted: Uncounted | None) -> Answer:
    headers = ((b"location", location.encode("ascii")), *_NO_STORE, (b"content-length", b"0"))
    return Answer(302, headers, b"", record, uncounted)


def _not_found(method: str) -> Answer:
    headers = (
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", str(len(_NOT_FOUND)).encode()),
        (b"content-security-policy", b"default-src 'none'"),
        (b"x-content-type-options", b"nosniff"),
        *_NO_STORE,
    )
    return Answer(404, headers, b"" if method == "HEAD" else _NOT_FOUND, None, "unknown_link")


def _token(query: bytes) -> str | None:
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if name == b"c":
            return value.decode("latin-1")
    return None


def _click_id() -> str:
    number = secrets.randbelow(62**_CLICK_ID_CHARS)
    digits = []
    for _ in range(_CLICK_ID_CHARS):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(digits)


def _uuid7(epoch_ms: int) -> str:
    """RFC 9562: 48 bits of milliseconds, then random ones around version and variant."""
    random = secrets.randbits(74)
    number = (epoch_ms & (1 << 48) - 1) << 80 | 7 << 76 | (random >> 62) << 64 | 2 << 62 | random & (1 << 62) - 1
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _stamp(epoch_ms: int) -> str:
    moment = datetime.fromtimestamp(epoch_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{epoch_ms % 1000:03d}Z"
