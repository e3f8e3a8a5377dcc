"""Signed contexts: what lets a redirect believe the visit, page view, variant and position of a click.

Belongs here: the token, the secrets, and the answer to ``POST /v1/links``. Does not belong here: what a redirect does
with a context (``redirect``), who may have one signed (write keys).

A token is base64url of a version, the context as msgpack, and the first half of an HMAC-SHA-256 over both and the link's
id, which is in the URL already. It is readable, so there is nothing in it that the page did not know, and it is of use for
one link until it expires. It does not say that a person clicked: whoever has the link can follow it again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from chart_platform.edge.links import Links
from chart_platform.settings import Settings

Status = Literal["signed", "expired", "invalid", "absent"]

LIFETIME_SECONDS = 24 * 3600

_VERSION = b"\x01"
_MAC_BYTES = 16
_MAX_TOKEN_CHARS = 2_048
_MIN_SECRET_CHARS = 16
_SECRET_FILE = "link-secret"

_Id = Annotated[str, msgspec.Meta(max_length=256)]
_Position = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]


class ContextError(ValueError):
    """A request for signed links that can't be answered, told to the client."""


class _Campaign(msgspec.Struct, frozen=True):
    source: _Id | None = None
    medium: _Id | None = None
    campaign: _Id | None = None
    term: _Id | None = None
    content: _Id | None = None


class Utm(_Campaign, frozen=True, array_like=True):
    """The campaign of a visit."""


class Context(msgspec.Struct, frozen=True, array_like=True):
    """What the page knew of the visit. ``expires`` is in UTC seconds since 1970, ``position`` from 1 at the top."""

    expires: int
    analytics: bool
    ads: bool | None = None
    session_id: _Id | None = None
    page_view_id: _Id | None = None
    ab_variant: _Id | None = None
    user_id_hash: _Id | None = None
    position: _Position | None = None
    utm: Utm | None = None


class _Consent(msgspec.Struct):
    analytics: bool
    ads: bool | None = None


class _WantedLink(msgspec.Struct):
    link_id: _Id
    position: _Position | None = None


class LinksRequest(msgspec.Struct):
    """The body of ``POST /v1/links``: what a page knows, and the links that it shows."""

    consent: _Consent
    links: Annotated[list[_WantedLink], msgspec.Meta(max_length=200)]
    session_id: _Id | None = None
    page_view_id: _Id | None = None
    ab_variant: _Id | None = None
    user_id_hash: _Id | None = None
    utm: _Campaign | None = None


class SignedLink(msgspec.Struct, omit_defaults=True):
    """One link of the page, as it is to be followed."""

    link_id: str
    url: str
    position: int | None = None


class LinksAnswer(msgspec.Struct):
    """The answer to ``POST /v1/links``; ``expires_in`` is in seconds."""

    expires_in: int
    links: list[SignedLink]
    unknown: list[str]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Context).decode
_read_request = msgspec.json.Decoder(LinksRequest).decode


class Signer:
    """Signs with the first of ``keys`` and verifies with all, so that a secret can be replaced without a break."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise ValueError("A signer needs at least one secret.")
        self._keys = tuple(keys)

    @classmethod
    def of(cls, settings: Settings) -> Signer:
        """The signer of an instance: the secrets of the settings, else one made once and kept in ``edge_home``.

        Raises:
            ValueError: a secret is too short to protect anything.
        """
        if settings.edge_link_secrets is None:
            return cls([_own_secret(settings.edge_home)])
        given = [text.strip() for text in settings.edge_link_secrets.get_secret_value().split(",")]
        if any(len(text) < _MIN_SECRET_CHARS for text in given):
            raise ValueError(
                f"CHART_EDGE_LINK_SECRETS: each secret needs {_MIN_SECRET_CHARS} characters; make one with "
                f"`openssl rand -hex 32`."
            )
        return cls([text.encode() for text in given])

    def sign(self, link_id: str, context: Context) -> str:
        """The token for ``link_id``, safe in a URL.

        Raises:
            ContextError: the context is too long for one.
        """
        body = _VERSION + _encode(context)
        token = base64.urlsafe_b64encode(body + _mac(self._keys[0], link_id, body)).rstrip(b"=").decode()
        if len(token) > _MAX_TOKEN_CHARS:
            raise ContextError(f"The context makes a link of over {_MAX_TOKEN_CHARS} characters; shorten ids and utm.")
        return token

    def verify(self, token: str | None, link_id: str, now_seconds: float) -> tuple[Status, Context | None]:
        """What ``token`` is worth for ``link_id`` now (UTC seconds); the context only if it is signed and valid."""
        if not token:
            return "absent", None
        if len(token) > _MAX_TOKEN_CHARS:
            return "invalid", None
        try:
            whole = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError):
            return "invalid", None
        body, mac = whole[:-_MAC_BYTES], whole[-_MAC_BYTES:]
        # All keys are tried whatever the first says, so that the time tells nothing.
        matches = [hmac.compare_digest(mac, _mac(key, link_id, body)) for key in self._keys]
        if not any(matches) or body[:1] != _VERSION:
            return "invalid", None
        try:
            context = _decode(body[1:])
        except (msgspec.MsgspecError, ValueError):
            return "invalid", None
        return ("signed", context) if now_seconds < context.expires else ("expired", None)

    def answer(self, body: bytes, links: Links, base_url: str, now_seconds: float) -> LinksAnswer:
        """Sign what a page shows. Without consent its links have no context, as nothing may be known of the visit.

        Raises:
            ContextError: the body is not what ``POST /v1/links`` takes.
        """
        try:
            asked = _read_request(body)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ContextError(f"The body is no request for links: {error}") from None
        utm = Utm(*msgspec.structs.astuple(asked.utm)) if asked.utm else None
        signed, unknown = [], []
        for wanted in asked.links:
            if links.get(wanted.link_id) is None:
                unknown.append(wanted.link_id)
                continue
            url = f"{base_url}/go/{wanted.link_id}"
            if asked.consent.analytics:
                context = Context(
                    expires=int(now_seconds) + LIFETIME_SECONDS,
                    analytics=True,
                    ads=asked.consent.ads,
                    session_id=asked.session_id,
                    page_view_id=asked.page_view_id,
                    ab_variant=asked.ab_variant,
                    user_id_hash=asked.user_id_hash,
                    position=wanted.position,
                    utm=utm,
                )
                url = f"{url}?c={self.sign(wanted.link_id, context)}"
            signed.append(SignedLink(wanted.link_id, url, wanted.position))
        return LinksAnswer(LIFETIME_SECONDS, signed, unknown)


def _mac(key: bytes, link_id: str, body: bytes) -> bytes:
    # No id has a zero byte, so no two pairs of id and body are the same text.
    text = link_id.encode("utf-8", "surrogatepass") + b"\0" + body
    return hmac.digest(key, text, hashlib.sha256)[:_MAC_BYTES]


def _own_secret(folder: Path) -> bytes:
    """The secret of ``folder``; whichever process comes first makes it, and all take what is there then."""
    path = folder / _SECRET_FILE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = folder / f".{_SECRET_FILE}-{secrets.token_hex(8)}"
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32) + "\n")
                file.flush()
                os.fsync(file.fileno())
            # A link, unlike a rename, never replaces what another process made meanwhile.
            with suppress(FileExistsError):
                os.link(made, path)
        finally:
            made.unlink()
    text = path.read_text("utf-8").strip()
    if len(text) < _MIN_SECRET_CHARS:
        raise ValueError(f"{path} has no secret of {_MIN_SECRET_CHARS} characters: delete it, and a new one is made.")
    return text.encode()
