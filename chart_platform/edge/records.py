"""What the edge hands over to be made durable, and who sent it.

Belongs here: the two records that the rooms of the edge pass to each other. Does not belong here: any behaviour.
"""

from __future__ import annotations

from typing import Literal

import msgspec

KeyKind = Literal["browser", "server", "network"]


class Record(msgspec.Struct, frozen=True, gc=False):
    """One Kafka message: ``key`` is the session's, else the event's id."""

    topic: str
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Client(msgspec.Struct, frozen=True, gc=False):
    """What the edge knows of the sender of a request, personal data already removed.

    Kept as JSON in a dead letter's ``context`` header, so that a replay enriches as the first attempt would have.
    ``received_ms`` is epoch milliseconds; ``address`` the truncated network, ``device`` and so on the class of the
    user agent, ``user_agent`` itself only where the settings keep it.
    """

    received_ms: int
    key_id: str
    kind: KeyKind
    source: str
    gpc: bool = False
    country: str | None = None
    address: str | None = None
    device: str | None = None
    browser: str | None = None
    os: str | None = None
    user_agent: str | None = None
