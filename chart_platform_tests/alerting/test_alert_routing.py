"""Who is told, and when silence is better."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chart_platform.alerting.messages import Alert, Failure
from chart_platform.alerting.outbox import CLAIM, GIVE_UP_AFTER, Outbox
from chart_platform.alerting.routing import (
    MAX_MESSAGES_PER_KIND,
    REPEAT_AFTER,
    Send,
    Silence,
    channel_for,
    owner_channels,
)
from chart_platform.alerting.slack import Delivered, Refused, Unavailable

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def alert(run: str, *checks: str, partition: str = "2026-11-20", root: str | None = None) -> Alert:
    failures = tuple(Failure(f"check:a:{check}", check, "http://d", partition=partition) for check in checks)
    return Alert(run, root or run, "job", f"http://d/runs/{run}", False, failures, partition)


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "not-yet-there" / "alerts.db")


def admit(outbox: Outbox, alert: Alert, after: timedelta = timedelta()) -> Send | Silence:
    return outbox.admit(alert, "#c", NOW + after)


def test_one_channel_of_all_owners_wins_and_the_default_takes_the_rest() -> None:
    channels = {"a": "#a", "also-a": "#a", "b": "#b"}
    assert channel_for(["a"], channels, "#all") == "#a"
    assert channel_for(["a", "also-a"], channels, "#all") == "#a"
    assert channel_for(["a", "b"], channels, "#all") == "#all"
    assert channel_for(["stranger"], channels, "#all") == "#all"
    assert channel_for([], channels, "#all") == "#all"


def test_the_packaged_channels_map_owners_to_channels() -> None:
    assert all(channel.startswith(("#", "C")) for channel in owner_channels().values())


def test_the_same_failure_is_told_once_in_a_window(outbox: Outbox) -> None:
    assert admit(outbox, alert("r1", "x")) == Send()
    assert isinstance(admit(outbox, alert("r1", "x")), Silence)
    assert isinstance(admit(outbox, alert("r2", "x"), REPEAT_AFTER - MINUTE), Silence)
    assert admit(outbox, alert("r3", "x"), REPEAT_AFTER + MINUTE) == Send()


def test_a_retry_stays_quiet_however_late_unless_it_fails_in_a_new_way(outbox: Outbox) -> None:
    assert admit(outbox, alert("r1", "x")) == Send()
    assert isinstance(admit(outbox, alert("r2", "x", root="r1"), 5 * REPEAT_AFTER), Silence)
    assert isinstance(admit(outbox, alert("r3", "x", "y", root="r1"), 5 * REPEAT_AFTER), Send)


def test_a_new_failure_beside_a_known_one_is_told(outbox: Outbox) -> None:
    assert admit(outbox, alert("r1", "x")) == Send()
    assert admit(outbox, alert("r2", "x", "y"), MINUTE) == Send()
    assert isinstance(admit(outbox, alert("r3", "y"), 2 * MINUTE), Silence)


def test_a_storm_of_one_kind_is_announced_held_back_and_counted(outbox: Outbox) -> None:
    days = [f"2026-10-{day:02}" for day in range(1, 31)]
    decisions = [admit(outbox, alert(day, "x", partition=day), i * MINUTE) for i, day in enumerate(days)]
    assert [isinstance(decision, Send) for decision in decisions] == [True] * MAX_MESSAGES_PER_KIND + [False] * 27
    last = decisions[MAX_MESSAGES_PER_KIND - 1]
    assert isinstance(last, Send)
    assert "held back until 13:00 UTC" in last.note

    other = admit(outbox, alert("other", "y"), 40 * MINUTE)
    assert other == Send(), "a storm must not hide another failure"

    after = admit(outbox, alert("later", "x", partition="2026-11-01"), 3 * REPEAT_AFTER)
    assert isinstance(after, Send)
    assert after.note.startswith("27 runs failed in the same way and were held back")


def test_what_was_held_back_is_news_once_the_window_has_passed(outbox: Outbox) -> None:
    for day in ("1", "2", "3", "4"):
        admit(outbox, alert(day, "x", partition=day))
    assert isinstance(admit(outbox, alert("4-again", "x", partition="4", root="4"), 2 * REPEAT_AFTER), Send)


def test_of_many_that_tell_the_same_at_once_one_does(outbox: Outbox) -> None:
    with ThreadPoolExecutor(8) as pool:
        decisions = list(pool.map(lambda i: admit(outbox, alert(f"r{i}", "x")), range(24)))
        claims = list(pool.map(lambda _: outbox.claim(NOW), range(8)))
    assert decisions.count(Send()) == 1
    assert len([claim for claim in claims if claim is not None]) == 1


def test_a_message_is_claimed_by_one_and_comes_back_if_its_claimant_dies(outbox: Outbox) -> None:
    admit(outbox, alert("r1", "x"))
    first = outbox.claim(NOW)
    assert first is not None
    assert outbox.claim(NOW) is None
    again = outbox.claim(NOW + CLAIM)
    assert again is not None
    assert (again.id, again.attempts) == (first.id, 2)


def test_an_undelivered_message_waits_longer_each_time_and_is_given_up_in_the_end(outbox: Outbox) -> None:
    admit(outbox, alert("r1", "x"))
    pending, moment, waits = outbox.claim(NOW), NOW, []
    while pending is not None and outbox.settle(pending, Unavailable("down"), moment):
        tried, pending = moment, None
        while pending is None:
            moment += MINUTE
            pending = outbox.claim(moment)
        waits.append((moment - tried) // MINUTE)
    assert waits[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert moment - NOW >= GIVE_UP_AFTER
    assert outbox.claim(moment + GIVE_UP_AFTER) is None


def test_slacks_own_delay_is_kept_and_its_channel_rests_as_a_whole(outbox: Outbox) -> None:
    admit(outbox, alert("r1", "x"))
    pending = outbox.claim(NOW)
    assert pending is not None
    outbox.settle(pending, Unavailable("HTTP 429", retry_after=600), NOW)
    admit(outbox, alert("r2", "y"))
    outbox.admit(replace(alert("r3", "z"), run_id="r3"), "#other", NOW)
    other = outbox.claim(NOW)
    assert other is not None
    assert other.channel == "#other"
    first = outbox.claim(NOW + 11 * MINUTE)
    assert first is not None
    assert first.id == pending.id


@pytest.mark.parametrize("outcome", [Delivered("#c"), Refused("invalid_blocks")])
def test_a_delivered_or_refused_message_is_done(outbox: Outbox, outcome: Delivered | Refused) -> None:
    admit(outbox, alert("r1", "x"))
    pending = outbox.claim(NOW)
    assert pending is not None
    assert outbox.settle(pending, outcome, NOW) is False
    assert outbox.claim(NOW + GIVE_UP_AFTER) is None
