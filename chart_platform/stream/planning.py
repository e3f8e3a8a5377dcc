"""Which offsets to read next, as pure arithmetic on offsets and days.

Belongs here: splitting unread offsets into batches of one day, the range a day owns, and the errors of both.
Does not belong here: asking Kafka (``offsets``), asking the table (``lakehouse``), starting runs (``defs``).

Words used throughout, all per Kafka partition:

* *committed*: the first offset that the table has not taken yet.
* *earliest*, *latest*: the first offset that Kafka still holds, and the end of what may be read.
* *day start*: the first offset appended at or after 00:00 UTC of that day. A day owns its offsets from its own start to
  the next day's. Starts never run backwards even if the broker's clock does, because both are "the first offset
  with a time at or after", so a day is one immutable range whatever single timestamps say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

DayStarts = Mapping[date, Mapping[int, int]]


@dataclass(frozen=True, order=True)
class OffsetRange:
    """Offsets ``start`` (included) to ``end`` (excluded) of one partition."""

    partition: int
    start: int
    end: int

    def __post_init__(self) -> None:
        if self.partition < 0 or not 0 <= self.start <= self.end:
            raise ValueError(f"No range of offsets: partition {self.partition}, from {self.start} to {self.end}.")

    @property
    def messages(self) -> int:
        """How many offsets it spans; transaction markers count although nobody can read them."""
        return self.end - self.start


@dataclass(frozen=True)
class DayBatch:
    """What one run takes: ranges, at most one a partition, all owned by ``day``."""

    day: date
    ranges: tuple[OffsetRange, ...]

    @property
    def messages(self) -> int:
        """The most messages it can bring."""
        return sum(offsets.messages for offsets in self.ranges)

    @property
    def key(self) -> str:
        """A short name of exactly these ranges, the same in every process and for ever."""
        return f"{self.day.isoformat()}-{hashlib.blake2b(self.to_json().encode(), digest_size=6).hexdigest()}"

    def to_json(self) -> str:
        """For run config and tags; :meth:`from_json` reads it."""
        ranges = [[offsets.partition, offsets.start, offsets.end] for offsets in self.ranges]
        return json.dumps({"day": self.day.isoformat(), "ranges": ranges}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> DayBatch:
        """The batch that :meth:`to_json` wrote."""
        try:
            content = json.loads(text)
            ranges = tuple(OffsetRange(int(p), int(start), int(end)) for p, start, end in content["ranges"])
            return cls(date.fromisoformat(content["day"]), ranges)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f'No batch: {text!r} ({error}). Expected {{"day": "2026-01-31", "ranges": [[partition, start, end]]}}.'
            ) from error


class RetentionLoss(RuntimeError):
    """Kafka has dropped offsets that were still to be read."""

    def __init__(self, missing: Sequence[OffsetRange], what_now: str) -> None:
        self.missing = tuple(missing)
        total = sum(lost.messages for lost in missing)
        each = "; ".join(f"partition {lost.partition}: {lost.start} to {lost.end - 1}" for lost in missing)
        super().__init__(f"Kafka no longer holds {total} offsets ({each}): retention dropped them. {what_now}")


class TopicTruncated(RuntimeError):
    """The table has taken offsets that the topic never had: it was recreated or truncated."""


def plan_batches(
    committed: Mapping[int, int],
    earliest: Mapping[int, int],
    latest: Mapping[int, int],
    day_starts: DayStarts,
    max_messages: int,
    *,
    adopt: bool = True,
) -> list[DayBatch]:
    """All that is unread, as batches of one day each, oldest day first.

    ``day_starts`` has every day from the oldest unread message's to the newest message's, without gaps. The last day
    owns all that follows its start. No batch spans more than ``max_messages`` offsets, shared max-min fairly: every
    partition gets the same, and what a short one leaves goes to the others, so that one backlog doesn't starve fresh
    messages elsewhere. What a plan says next depends only on what is unread, so planning again after committing a
    batch continues the same plan.

    A partition without committed offset is new, so it is read from 0, and it is a loss if 0 is gone. Only when
    *nothing* was ever committed is there no promise that could be broken: the table then *adopts* the topic
    from where it starts now. Its first batch then names every partition, if need be with an empty range, so that its
    commit fixes where each begins. With ``adopt=False`` the table must have it all, from offset 0.
    """
    if max_messages < 1:
        raise ValueError(f"max_messages is {max_messages}, but a batch takes at least 1 message.")
    _check_not_truncated(committed, latest)
    adopting = adopt and not committed
    start = {p: earliest[p] if adopting else committed.get(p, 0) for p in sorted(latest)}
    missing = [OffsetRange(p, start[p], earliest[p]) for p in start if start[p] < earliest[p]]
    if missing:
        raise RetentionLoss(
            missing,
            "Load them from a copy if there is one; then accept the gap by committing the offsets that Kafka still "
            "has, and raise CHART_KAFKA_RETENTION_HOURS above the longest stop of the pipeline.",
        )
    if all(start[p] >= latest[p] for p in start):
        return []

    days = _consecutive_days(day_starts)
    orphans = [p for p in start if start[p] < min(latest[p], day_starts[days[0]][p])]
    if orphans:
        raise ValueError(
            f"day_starts begins on {days[0]}, but offset {start[orphans[0]]} of partition {orphans[0]} is older: "
            f"give the days from the oldest unread message on."
        )
    batches: list[DayBatch] = []
    for day, following in zip(days, [*days[1:], None], strict=True):
        ends = latest if following is None else day_starts[following]
        begin = {p: max(start[p], day_starts[day][p]) for p in start}
        left = {p: max(0, min(latest[p], ends[p]) - begin[p]) for p in start}
        while share := _fair_shares(left, max_messages):
            batches.append(DayBatch(day, tuple(OffsetRange(p, begin[p], begin[p] + share[p]) for p in sorted(share))))
            for p, taken in share.items():
                begin[p] += taken
                left[p] -= taken
    if adopting:
        named = {offsets.partition for offsets in batches[0].ranges}
        anchors = [OffsetRange(p, start[p], start[p]) for p in start if p not in named]
        batches[0] = DayBatch(batches[0].day, tuple(sorted([*batches[0].ranges, *anchors])))
    return batches


def day_range(
    day: date,
    committed: Mapping[int, int],
    earliest: Mapping[int, int],
    day_starts: DayStarts,
    *,
    ingested_from: Mapping[int, int] | None,
) -> tuple[OffsetRange, ...]:
    """What ``day`` owns of the committed offsets: what a backfill of it has to read. Empty ranges are left out.

    ``day_starts`` has ``day`` and the day after. Kafka alone can't tell whether it still holds all of a day: once a
    day's first messages are dropped, its start seems to be the earliest offset left. ``ingested_from`` says what the
    table knows: the first offset of each partition that it holds for this day (dead letters included; no entry: the
    partition had nothing that day). ``None`` says that the table knows nothing of this day; then every partition
    whose first messages may have been dropped counts as a loss, so that a backfill never replaces a day by less.
    """
    try:
        begins, ends = day_starts[day], day_starts[day + timedelta(days=1)]
    except KeyError as error:
        raise ValueError(f"day_starts must have {day} and the day after, but lacks {error.args[0]}.") from error
    ranges, missing = [], []
    for p in sorted(committed):
        begin, end = begins[p], min(ends[p], committed[p])
        if ingested_from is None:
            # Something older is still there, or there never was anything: then the start is the true one.
            proven = begin > earliest[p] or earliest[p] == 0 or begin >= committed[p]
            if not proven:
                missing.append(OffsetRange(p, 0, earliest[p]))
        elif ingested_from.get(p, earliest[p]) < earliest[p]:
            missing.append(OffsetRange(p, ingested_from[p], earliest[p]))
        if begin < end:
            ranges.append(OffsetRange(p, begin, end))
    if missing:
        unproven = "" if ingested_from is not None else f" Some of them may belong to {day}, and the table can't tell."
        raise RetentionLoss(
            missing,
            f"{day} can't be read again from Kafka, and nothing was changed.{unproven} What the table has of it is all "
            f"there is: rebuild what follows from the table instead.",
        )
    return tuple(ranges)


def _check_not_truncated(committed: Mapping[int, int], latest: Mapping[int, int]) -> None:
    beyond = [
        f"partition {p} is read up to {offset}, " + (f"ends at {latest[p]}" if p in latest else "does not exist")
        for p, offset in sorted(committed.items())
        if offset > latest.get(p, -1)
    ]
    if beyond:
        raise TopicTruncated(
            f"The topic is not the one that was read before, or was truncated: {'; '.join(beyond)}. Restore the topic, "
            f"or start a new table for the new topic (CHART_NAMESPACE_PREFIX, or another CHART_HOME)."
        )


def _consecutive_days(day_starts: DayStarts) -> list[date]:
    days = sorted(day_starts)
    if not days:
        raise ValueError("There are unread messages, but day_starts names no day.")
    for day, following in pairwise(days):
        if following - day != timedelta(days=1):
            raise ValueError(f"day_starts has {day} and {following} but nothing between: days must follow each other.")
    return days


def _fair_shares(left: Mapping[int, int], budget: int) -> dict[int, int]:
    """Max-min fair parts of ``budget``: smallest demand first, each offered an equal part of what remains."""
    shares: dict[int, int] = {}
    demands = sorted((size, p) for p, size in left.items() if size)
    for served, (size, p) in enumerate(demands):
        share = min(size, budget // (len(demands) - served))
        budget -= share
        if share:
            shares[p] = share
    return shares
