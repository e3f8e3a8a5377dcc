"""Who is told of an alert, and whether it is worth a message at all.

Belongs here: owner to channel, and the decision to send, to stay silent or to announce silence; all pure.
Does not belong here: where the history is kept (``outbox``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files

import yaml

from chart_platform.alerting.messages import Alert

# The continuous pipeline meets the same broken day every few seconds: once an hour is a reminder, more is a storm.
REPEAT_AFTER = timedelta(hours=1)
# A backfill breaks the same way on each of its days: three messages show the pattern, thirty hide the next failure.
MAX_MESSAGES_PER_KIND = 3
# How long a chain of retries is known as such.
REMEMBER_FOR = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Told:
    """One failure that was dealt with before: told in a message, or held back."""

    key: str
    kind: str
    run_id: str
    root_run_id: str
    at: datetime
    held_back: bool = False


@dataclass(frozen=True, slots=True)
class Send:
    """Tell it. ``note`` says what was, or from now on is, held back."""

    note: str = ""


@dataclass(frozen=True, slots=True)
class Silence:
    """Do not tell it, and why. ``held_back``: it is news, and will be counted in the next message of its kind."""

    reason: str
    held_back: bool = False


def decide(alert: Alert, history: Sequence[Told], now: datetime) -> Send | Silence:
    """Whether the alert has news, and whether its kinds of failure have messages left in this window."""
    since = now - REPEAT_AFTER
    known = {
        told.key
        for told in history
        # Held back is not told; a retry stays quiet however much later it fails.
        if not told.held_back and (told.at > since or told.root_run_id == alert.root_run_id)
    }
    fresh = [failure for failure in alert.failures if failure.key not in known]
    if not fresh:
        return Silence(f"all {len(alert.failures)} failures were told before")
    kinds = {failure.kind for failure in fresh}
    messages = {
        kind: {t.run_id: t.at for t in history if t.kind == kind and not t.held_back and t.at > since} for kind in kinds
    }
    open_kinds = {kind for kind in kinds if len(messages[kind]) < MAX_MESSAGES_PER_KIND}
    if not open_kinds:
        return Silence(
            f"{MAX_MESSAGES_PER_KIND} messages of this kind went out within {_hours(REPEAT_AFTER)}", held_back=True
        )
    notes = []
    last_told = max((t.at for t in history if t.kind in kinds and not t.held_back), default=None)
    held = {t.run_id for t in history if t.kind in kinds and t.held_back and (last_told is None or t.at >= last_told)}
    if held:
        notes.append(f"{len(held)} runs failed in the same way and were held back since the last message.")
    if all(len(messages[kind]) == MAX_MESSAGES_PER_KIND - 1 for kind in open_kinds):
        until = min([now, *(at for kind in open_kinds for at in messages[kind].values())]) + REPEAT_AFTER
        notes.append(
            f"More of the same is held back until {until.astimezone(UTC):%H:%M} UTC: see Dagster for all of it."
        )
    return Send(" ".join(notes))


def channel_for(owners: Sequence[str], channels: Mapping[str, str], default: str) -> str:
    """The one channel that all owners share; else the default, where the message names them."""
    wanted = {channels.get(owner, default) for owner in owners}
    return wanted.pop() if len(wanted) == 1 else default


@cache
def owner_channels() -> Mapping[str, str]:
    """The packaged ``channels.yml``."""
    channels: dict[str, str] = yaml.safe_load(files(__package__).joinpath("channels.yml").read_text("utf-8"))
    return channels


def _hours(span: timedelta) -> str:
    return f"{span.total_seconds() / 3600:g} h"
