"""How much a key or an address may send, and which events this process has acknowledged lately.

Belongs here: token buckets and bounded memories. Does not belong here: what is done about an excess (``app``).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv6Address

_BURST_SECONDS = 2.0
_MOST_BUCKETS = 50_000
_MOST_IDS = 100_000


class Bucket:
    """A token bucket that may go into debt: a batch larger than the bucket passes once, and is then waited for."""

    __slots__ = ("_at", "_balance", "_rate", "_size")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._size = max(1.0, rate * _BURST_SECONDS)
        self._balance = self._size
        self._at = now

    def wait(self, now: float) -> float:
        """Seconds until it gives again; 0 is now. ``now`` is of a monotonic clock."""
        self._balance = min(self._size, self._balance + (now - self._at) * self._rate)
        self._at = now
        return 0.0 if self._balance > 0 else (1 - self._balance) / self._rate

    def take(self, count: int) -> None:
        self._balance -= count


Allowances = Sequence[tuple[str, float]]
"""Who is limited, and to how many events per second; 0 is no limit."""


class Limits:
    """Events per second of keys and networks, as one of ``workers`` processes that share the traffic.

    Who was not seen while :data:`_MOST_BUCKETS` others were is forgotten, and starts with a full bucket again.
    """

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, allowances: Allowances, events: int, now: float) -> int | None:
        """Take ``events`` (0: only look) from all, or say for how many whole seconds there are none.

        ``now`` is of a monotonic clock.
        """
        seconds = 0.0
        buckets = []
        for name, rate in allowances:
            if rate:
                bucket = self._bucket(name, rate, now)
                buckets.append(bucket)
                seconds = max(seconds, bucket.wait(now))
        if seconds:
            return math.ceil(seconds)
        for bucket in buckets:
            bucket.take(events)
        return None

    def _bucket(self, name: str, rate: float, now: float) -> Bucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = Bucket(rate / self._workers, now)
            if len(self._buckets) > _MOST_BUCKETS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(name)
        return bucket


@lru_cache(maxsize=8_192)
def network(address: str) -> str:
    """Whose address it is: an IPv6 customer has at least a /64 of them."""
    if ":" not in address:
        return address
    return f"{IPv6Address(int(IPv6Address(address)) >> 64 << 64)}/64"


class Acknowledged:
    """The last event ids that were acknowledged, between one and two times :data:`_MOST_IDS` of them."""

    def __init__(self, most: int = _MOST_IDS) -> None:
        self._most = most
        self._young: set[int] = set()
        self._old: set[int] = set()

    def __contains__(self, event_id: str) -> bool:
        # Only hashes: it is a hint, and a false one in 10¹³ costs nothing.
        number = hash(event_id)
        return number in self._young or number in self._old

    def update(self, event_ids: Iterable[str]) -> None:
        self._young.update(map(hash, event_ids))
        if len(self._young) >= self._most:
            self._old, self._young = self._young, set()
