"""Who sent a request, with what is personal already removed.

Belongs here: the address behind trusted proxies, its country and network, the class of the user agent, the signal of
Global Privacy Control. Does not belong here: events (``admission``), write keys, HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Protocol

from chart_platform.edge import privacy
from chart_platform.edge.geo import Geo
from chart_platform.edge.records import Client, KeyKind
from chart_platform.edge.user_agents import classify
from chart_platform.settings import Settings

Headers = Callable[[bytes], bytes | None]
"""The value of a header by its lower-case name; of a repeated one the last, or all joined by commas."""

_Address = IPv4Address | IPv6Address

# More proxies than that nobody has, and each costs time.
_MAX_HOPS = 32
_KNOWN_ADDRESSES = 8_192


class Key(Protocol):
    """What the enricher needs of a write key (``keys.WriteKey``)."""

    @property
    def id(self) -> str: ...

    @property
    def kind(self) -> KeyKind: ...

    @property
    def source(self) -> str: ...


class Enricher:
    """Makes the :class:`Client` of a request.

    Raises:
        GeoError: the geo database of the settings can't be used.
        ValueError: ``CHART_EDGE_TRUSTED_PROXIES`` has something that is no network.
    """

    def __init__(self, settings: Settings) -> None:
        self._keep_user_agent = settings.edge_keep_user_agent
        self._geo = Geo(settings.edge_geo_database)
        self._trusted = _networks(settings.edge_trusted_proxies)
        self._place = lru_cache(maxsize=_KNOWN_ADDRESSES)(self._look_up)

    def client(self, headers: Headers, peer_ip: str, key: Key, received_ms: int) -> Client:
        """The sender of a request. ``peer_ip`` is the other end of the connection, ``received_ms`` epoch milliseconds.

        A server speaks for others: its own address, user agent and privacy signal say nothing of the visitor.
        """
        if key.kind == "server":
            return Client(received_ms=received_ms, key_id=key.id, kind=key.kind, source=key.source)
        if self._geo.refresh():
            self._place.cache_clear()
        address = self.address(headers, peer_ip)
        network, country = (None, None) if address is None else self._place(address)
        named = headers(b"user-agent")
        text = named.decode("latin-1") if named else None
        agent = classify(text) if text else None
        return Client(
            received_ms=received_ms,
            key_id=key.id,
            kind=key.kind,
            source=key.source,
            gpc=headers(b"sec-gpc") == b"1",
            country=country,
            address=network,
            device=agent.device if agent else None,
            browser=agent.browser if agent else None,
            os=agent.os if agent else None,
            user_agent=privacy.scrub_text(text) if text and self._keep_user_agent else None,
        )

    def address(self, headers: Headers, peer_ip: str) -> str | None:
        """The whole address of the sender, for rate limits only; null where it can't be known.

        ``X-Forwarded-For`` is read from the right, as each proxy appends whom it saw: the first address that is no
        trusted proxy's is the sender's. What is further left, the sender may have made up.
        """
        if not self._trusted:
            return _normal(peer_ip)
        found = _parsed(peer_ip)
        forwarded = headers(b"x-forwarded-for")
        if forwarded:
            for hop in reversed(forwarded.decode("latin-1").split(",")[-_MAX_HOPS:]):
                if found is None or not self._is_trusted(found):
                    break
                found = _parsed(_without_port(hop.strip()))
        return None if found is None else str(found)

    def _is_trusted(self, address: _Address) -> bool:
        return any(address in network for network in self._trusted)

    def _look_up(self, address: str) -> tuple[str, str | None]:
        return privacy.truncate(ip_address(address)), self._geo.country(address)


def _networks(listed: str) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(network.strip(), strict=False) for network in listed.split(",") if network.strip())
    except ValueError as error:
        raise ValueError(f"CHART_EDGE_TRUSTED_PROXIES: {error}. Give networks as 10.0.0.0/8,fd00::/8.") from None


@lru_cache(maxsize=_KNOWN_ADDRESSES)
def _normal(text: str) -> str | None:
    found = _parsed(text)
    return None if found is None else str(found)


@lru_cache(maxsize=_KNOWN_ADDRESSES)
def _parsed(text: str) -> _Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _without_port(hop: str) -> str:
    """Some proxies write ``192.0.2.1:4711`` and ``[2001:db8::1]:4711``."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
