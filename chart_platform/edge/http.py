"""Requests as they come and answers as they go: bodies within bounds, decompressed, cut into the events they hold.

Belongs here: what a request is whoever sent it. Does not belong here: keys and limits, what an event must be
(``admission``), routes and their answers (``app``).
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import brotli  # type: ignore[import-untyped]
import msgspec
import numpy as np
import orjson
import zstandard

from chart_platform.contracts.events import Reason, parse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = (b"content-type", b"application/json")

# A member of the scope: a function for the body if all of it is here, else None. Servers without it do as well.
WHOLE_BODY = "chart_platform.whole_body"

_CONTENT_TYPES = frozenset({b"", b"text/plain", b"application/json"})
_CHARSETS = frozenset({b"utf-8", b"utf8", b"us-ascii"})
_ZSTD_WINDOW_BYTES = 8 * 1024 * 1024
_GZIP_OR_NOTHING_ELSE = 31


class Answer(msgspec.Struct, gc=False):
    """``headers`` are beside those that every answer has."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = (JSON,)


class Refused(Exception):
    """A request that is answered with an error: ``code`` is stable, the message for people, without data of the request."""

    def __init__(self, status: int, code: str, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_seconds = retry_after_seconds

    def answer(self) -> Answer:
        body = orjson.dumps({"error": {"code": self.code, "message": str(self)}})
        headers = [JSON]
        if self.retry_after_seconds is not None:
            headers.append((b"retry-after", b"%d" % max(1, round(self.retry_after_seconds))))
        return Answer(self.status, body, tuple(headers))


class Unreadable(Exception):
    """A body that is no events at all, and why; :meth:`refusal` is its answer once the body is kept."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.message)
        self.reason = reason

    def refusal(self) -> Refused:
        return Refused(400, self.reason.code, self.reason.message)


class Disconnected(Exception):
    """The client went away before its body was complete; nobody is left to answer."""


class Request:
    """One request; ``headers`` by lower-case name, of a repeated one the last."""

    __slots__ = ("headers", "method", "path", "query", "receive", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.receive = receive
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])

    @property
    def peer(self) -> str:
        """The address at the other end of the connection, empty where there is none."""
        client = self.scope.get("client")
        return client[0] if client else ""

    @property
    def origin(self) -> str | None:
        origin = self.headers.get(b"origin")
        return None if origin is None else origin.decode("latin-1")

    def parameter(self, name: str) -> str | None:
        if not self.query:
            return None
        for found, value in parse_qsl(self.query.decode("latin-1"), keep_blank_values=True):
            if found == name:
                return value
        return None

    def secret(self) -> bytes | None:
        """The write key that it names, in a header or, as beacons can't have any, in the query."""
        if secret := self.headers.get(b"x-write-key"):
            return secret
        scheme, _, secret = self.headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer" and secret:
            return secret.strip()
        if self.query.startswith(b"key=") and b"&" not in self.query and b"%" not in self.query:
            return self.query[4:]
        parameter = self.parameter("key")
        return parameter.encode("latin-1", "replace") if parameter is not None else None

    def whole_body(self, most_bytes: int) -> bytes | None:
        """The body as :meth:`body` gives it, if all of it is here with the head: nearly every one is, and a timer would
        cost more than all else that is done with it."""
        whole: Callable[[], bytes | None] | None = self.scope.get(WHOLE_BODY)
        body = whole() if whole is not None else None
        if body is not None and len(body) > most_bytes:
            raise _too_large(most_bytes)
        return body

    async def body(self, most_bytes: int, timeout_seconds: float) -> bytes:
        """The body as it was sent, still compressed.

        Raises:
            Refused: 413 with more than ``most_bytes``, 408 when it takes longer than ``timeout_seconds``.
            Disconnected: the client left.
        """
        declared = self.headers.get(b"content-length")
        if declared is not None and int(declared) > most_bytes:
            raise _too_large(most_bytes)
        more: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(timeout_seconds):
                while True:
                    message = await self.receive()
                    if message["type"] == "http.disconnect":
                        raise Disconnected
                    part: bytes = message.get("body", b"")
                    size += len(part)
                    if size > most_bytes:
                        raise _too_large(most_bytes)
                    if not message.get("more_body", False):
                        return part if not more else b"".join([*more, part])
                    more.append(part)
        except TimeoutError:
            problem = f"The body took longer than {timeout_seconds:g} s; send it again, in smaller batches."
            raise Refused(408, "body_timeout", problem) from None

    def encoding(self) -> bytes:
        """How the body is compressed; empty if it isn't.

        Raises:
            Refused: 415 for a content type or encoding that isn't taken.
        """
        content_type = self.headers.get(b"content-type", b"").lower()
        kind, _, parameters = content_type.partition(b";")
        charset = parameters.partition(b"charset=")[2].partition(b";")[0].strip(b' "')
        if kind.strip() not in _CONTENT_TYPES or (charset and charset not in _CHARSETS):
            raise Refused(415, "content_type", "Send text/plain or application/json, in UTF-8.")
        encoding = self.headers.get(b"content-encoding", b"").strip().lower()
        if encoding == b"identity":
            return b""
        if encoding and encoding not in _INFLATE:
            raise Refused(415, "content_encoding", "Send identity, gzip, br or zstd, and only one of them.")
        return encoding


def inflate(body: bytes, encoding: bytes, most_bytes: int) -> bytes:
    """Decompress, and stop at ``most_bytes`` of output.

    Raises:
        Refused: 413 with more output than that.
        Unreadable: it is not what ``encoding`` says, or not all of it.
    """
    if not encoding:
        return body
    try:
        found = _INFLATE[encoding](body, most_bytes)
    except (zlib.error, brotli.error, zstandard.ZstdError, EOFError):
        reason = Reason("invalid_encoding", "", f"The body is not {encoding.decode()}, or not all of it.")
        raise Unreadable(reason) from None
    if len(found) > most_bytes:
        raise _too_large(most_bytes)
    return found


def _gunzip(body: bytes, most_bytes: int) -> bytes:
    parts: list[bytes] = []
    left = most_bytes + 1
    while True:
        # A gzip file may have several members.
        member = zlib.decompressobj(_GZIP_OR_NOTHING_ELSE)
        parts.append(member.decompress(body, left))
        left -= len(parts[-1])
        if left <= 0:
            break
        if not member.eof:
            raise EOFError
        body = member.unused_data
        if not body:
            break
    return b"".join(parts)


def _unbrotli(body: bytes, most_bytes: int) -> bytes:
    stream = brotli.Decompressor()
    parts = [stream.process(body, output_buffer_limit=most_bytes + 1)]
    size = len(parts[0])
    while size <= most_bytes and not stream.is_finished():
        if stream.can_accept_more_data():
            raise EOFError
        parts.append(stream.process(b"", output_buffer_limit=most_bytes + 1 - size))
        size += len(parts[-1])
    return b"".join(parts)


def _unzstd(body: bytes, most_bytes: int) -> bytes:
    if not body:
        raise EOFError
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    with decompressor.stream_reader(body, read_across_frames=True) as reader:
        found: bytes = reader.read(most_bytes + 1)
    if len(found) <= most_bytes:
        # The reader takes a cut stream for a short one; now that its size is known to be small, ask once more.
        while body:
            frame = decompressor.decompressobj()
            frame.decompress(body)
            if not frame.eof:
                raise EOFError
            body = frame.unused_data
    return found


_INFLATE = {b"gzip": _gunzip, b"x-gzip": _gunzip, b"br": _unbrotli, b"zstd": _unzstd}


def _too_large(most_bytes: int) -> Refused:
    return Refused(413, "body_too_large", f"More than {most_bytes} bytes; send fewer events at once.")


class _Envelope(msgspec.Struct, gc=False):
    events: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    sent_at: str | None = None


_array = msgspec.json.Decoder(list[msgspec.Raw])
_envelope = msgspec.json.Decoder(_Envelope)
_SPACE = b" \t\n\r"
_SURROGATES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)


def cut(body: bytes) -> tuple[list[bytes], str | None]:
    """The events of a body, each with the bytes it was sent with, and the envelope's ``sent_at``.

    Of a list every event is JSON then; one event alone is handed on as it is, for whoever judges it to parse.

    Raises:
        Unreadable: the body is neither an event, nor a list of events, nor an envelope.
    """
    try:
        if not body.isascii():
            body.decode()
        try:
            events, sent_at = _found(body)
            return [bytes(event) for event in events], sent_at
        except msgspec.DecodeError:
            if b"\\u" not in body:
                raise
        # msgspec takes a lone surrogate for an error; look at a copy without any, of the same length, and use its places.
        blank = _SURROGATES.sub(lambda found: b"\\ufffd" if found[1] else found[0], body)
        events, sent_at = _found(blank)
        return [body[place] for place in _places(blank, events)], sent_at
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise Unreadable(why_unreadable(body)) from None


def _found(body: bytes) -> tuple[Sequence[bytes | msgspec.Raw], str | None]:
    start = body.lstrip(_SPACE)[:1]
    if start == b"[":
        return _array.decode(body), None
    if start != b"{":
        raise ValueError("neither an object nor a list")
    # Escapes could hide the member's name.
    if b'"events"' in body or b"\\u" in body:
        envelope = _envelope.decode(body)
        if envelope.events is not msgspec.UNSET:
            return envelope.events, envelope.sent_at
    return [body], None


def _places(body: bytes, events: Sequence[bytes | msgspec.Raw]) -> Iterator[slice]:
    """Where in ``body`` the views of it lie."""
    start = np.frombuffer(body, np.uint8).ctypes.data
    for event in events:
        view = np.frombuffer(event, np.uint8)
        yield slice(view.ctypes.data - start, view.ctypes.data - start + len(view))


def why_unreadable(body: bytes) -> Reason:
    """Why this body holds no events."""
    if not body.strip(_SPACE):
        return Reason("empty", "", "The body is empty.")
    try:
        value = parse(body)
    except UnicodeDecodeError as error:
        return Reason("invalid_utf8", "", f"Byte {error.start} of the body is not UTF-8.")
    except ValueError as error:
        place = f" at line {error.lineno}, column {error.colno}" if isinstance(error, orjson.JSONDecodeError) else ""
        return Reason("invalid_json", "", f"The body is not JSON{place}.")
    if isinstance(value, dict):
        message = "An envelope has a list of events and a text sent_at."
    elif isinstance(value, list):
        message = "The events nest too deep to be told apart."
    else:
        message = "Send an event, a list of events, or an object with a list `events`."
    return Reason("not_events", "", message)
