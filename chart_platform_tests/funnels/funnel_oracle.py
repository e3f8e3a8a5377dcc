"""What a funnel is, event by event in plain Python, to hold the SQL against.

Belongs here: the definition of docs/funnels.md, written to be read. Does not belong here: anything fast.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

Event = tuple[int, str | None]
"""Time, ms; and what happened. A list of them is in its order, also where times are equal."""


@dataclass(frozen=True)
class Exclusion:
    """Letters that end an attempt past step ``after`` and not yet at step ``before``, both counted from 0."""

    letters: str
    after: int
    before: int


@dataclass(frozen=True)
class Funnel:
    steps: tuple[str, ...]
    """For each step the letters that are events of it."""
    mode: str = "ordered"
    window_ms: int | None = None
    exclude: tuple[Exclusion, ...] = ()


@dataclass
class Attempt:
    """Time of each step, None when not reached; and whether an exclusion ended it."""

    times: list[int | None]
    excluded: bool = field(default=False)

    @property
    def reached(self) -> int:
        return sum(time is not None for time in self.times)

    @property
    def convert_ms(self) -> int | None:
        known = [time for time in self.times if time is not None]
        return max(known) - min(known) if len(known) == len(self.times) else None


def best_attempt(funnel: Funnel, events: Sequence[Event]) -> Attempt | None:
    """Of the attempts that each event begins, the one that gets furthest; of several the first. None without any."""
    walk = _unordered if funnel.mode == "unordered" else _in_order
    found = [attempt for start in range(len(events)) if (attempt := walk(funnel, events[start:]))]
    return max(found, key=lambda attempt: attempt.reached, default=None)


def _in_order(funnel: Funnel, events: Sequence[Event]) -> Attempt | None:
    (began, first), *rest = events
    if not _is(first, funnel.steps[0]):
        return None
    attempt = Attempt([began] + [None] * (len(funnel.steps) - 1))
    for time, letter in rest:
        at = attempt.reached - 1
        if at + 1 == len(funnel.steps) or _too_late(funnel, began, time):
            break
        if any(_is(letter, rule.letters) and rule.after <= at < rule.before for rule in funnel.exclude):
            attempt.excluded = True
            break
        if _is(letter, funnel.steps[at + 1]):
            attempt.times[at + 1] = time
        elif funnel.mode == "strict":
            break
    return attempt


def _unordered(funnel: Funnel, events: Sequence[Event]) -> Attempt | None:
    (began, first), *_ = events
    if not any(_is(first, step) for step in funnel.steps):
        return None
    attempt = Attempt([None] * len(funnel.steps))
    for number, (time, letter) in enumerate(events):
        if attempt.reached == len(funnel.steps) or _too_late(funnel, began, time):
            break
        if number > 0 and any(_is(letter, rule.letters) for rule in funnel.exclude):
            attempt.excluded = True
            break
        for kind in dict.fromkeys(step for step in funnel.steps if _is(letter, step)):
            open_steps = [i for i, step in enumerate(funnel.steps) if step == kind and attempt.times[i] is None]
            for i in open_steps[:1]:
                attempt.times[i] = time
    return attempt


def longest_subsequence(funnel: Funnel, events: Sequence[Event]) -> int:
    """The most first steps that some events in order match within the window: every choice of events tried."""
    for length in range(len(funnel.steps), 0, -1):
        for chosen in itertools.combinations(events, length):
            in_time = not _too_late(funnel, chosen[0][0], chosen[-1][0])
            if in_time and all(_is(letter, step) for (_, letter), step in zip(chosen, funnel.steps, strict=False)):
                return length
    return 0


def _is(letter: str | None, letters: str) -> bool:
    return letter is not None and letter in letters


def _too_late(funnel: Funnel, began: int, time: int) -> bool:
    return funnel.window_ms is not None and time - began > funnel.window_ms
