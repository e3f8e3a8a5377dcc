"""The process that plays the four affiliate networks: it sees the clicks of gold, and reports what came of them.

Two networks put files into the drop folder, two call back over HTTP, as their mappings say. A day of theirs is some
seconds, so that conversions are pending, approved, paid or reversed within minutes of `up`.

Belongs here: wiring the simulator to this instance. Does not belong here: what is reported (``simulator.networks``).
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import FrameType
from urllib.parse import urlencode

from pyiceberg.expressions import GreaterThanOrEqual

from chart_platform.contracts.tables import FACT_AFFILIATE_CLICKS
from chart_platform.demo.keys import demo_keys
from chart_platform.lakehouse.drop import Drop
from chart_platform.lakehouse.duck import connect, relation
from chart_platform.lakehouse.lake import Lake
from chart_platform.local.collector import address
from chart_platform.local.instance import Files, replace_text
from chart_platform.settings import Settings, get_settings
from chart_platform.simulator.networks import NETWORKS, POSTBACKS, Click, Habits, Live, State, report_file

_NETWORKS_DAY = timedelta(seconds=15)
_CLICKS_EVERY_SECONDS = 15.0
_FILES_EVERY_SECONDS = 120.0
_NAP_SECONDS = 0.5
_LATE = timedelta(minutes=10)
"""Clicks reach gold in batches, and not in the order of their times."""


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


class _Clicks:
    """The clicks that reach gold from now on, each once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._since = _now()
        self._seen: dict[str, datetime] = {}

    def new(self) -> Iterator[Click]:
        oldest = max(self._since, _now() - _LATE)
        self._seen = {click_id: ts for click_id, ts in self._seen.items() if ts >= oldest - _LATE}
        lake = Lake(self._settings)
        current = lake.load(FACT_AFFILIATE_CLICKS)
        files = lake.files(current, GreaterThanOrEqual("event_dt", oldest.date()))
        connection = connect(self._settings)
        connection.execute("create temp table networks (name varchar)")
        connection.executemany("insert into networks values (?)", [(name,) for name in NETWORKS])
        found = connection.execute(
            "select click_id, affiliate_network, ts, coalesce(payout_cents, 0) "
            f"from {relation(current, FACT_AFFILIATE_CLICKS, files)} "
            "where click_id is not null and affiliate_network in (from networks) and ts >= ? order by ts, click_id",
            [oldest],
        ).fetchall()
        connection.close()
        for click_id, network, ts, payout_cents in found:
            if click_id not in self._seen:
                self._seen[click_id] = ts
                yield Click(click_id, network, ts, payout_cents)


class _Callers:
    """Networks that call back, again and again until they are answered."""

    def __init__(self, settings: Settings) -> None:
        self._url = address(settings)
        self._secrets = demo_keys(settings).networks
        self._waiting: list[tuple[str, State]] = []
        # Past any HTTP proxy of the environment: it is this machine that we call.
        self._direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def report(self, network: str, state: State) -> None:
        self._waiting.append((network, state))

    def call(self) -> None:
        waiting, self._waiting = self._waiting, []
        for at, (network, state) in enumerate(waiting):
            query = urlencode({"key": self._secrets[network], **POSTBACKS[network](state)})
            try:
                self._direct.open(f"{self._url}/v1/postbacks/{network}?{query}", timeout=5).close()
            except urllib.error.HTTPError as error:
                if error.code not in (429, 503):
                    raise RuntimeError(f"A postback of {network} was answered {error.code}.") from None
                self._waiting += waiting[at:]
                return
            except OSError:
                # The collector is away; its restart takes seconds.
                self._waiting += waiting[at:]
                return


def main() -> int:
    settings = get_settings()
    stopped = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    live = Live(Habits(conversion=settings.simulate_conversions), secrets.randbits(24), _NETWORKS_DAY)
    clicks, callers = _Clicks(settings), _Callers(settings)
    drop = Drop(settings, settings.conversions_drop_url)
    files: dict[str, list[State]] = defaultdict(list)
    reported = 0
    clicks_due = 0.0
    files_due = time.monotonic() + _FILES_EVERY_SECONDS
    while not stopped:
        replace_text(Files(settings).ready("networks"), json.dumps({"pid": os.getpid(), "reported": reported}))
        if time.monotonic() >= clicks_due:
            clicks_due = time.monotonic() + _CLICKS_EVERY_SECONDS
            for click in clicks.new():
                live.clicked(click)
        for network, state in live.due(_now()):
            reported += 1
            if network in POSTBACKS:
                callers.report(network, state)
            else:
                files[network].append(state)
        callers.call()
        if time.monotonic() >= files_due:
            files_due = time.monotonic() + _FILES_EVERY_SECONDS
            for network, states in files.items():
                drop.put(*report_file(network, f"{_now():%Y-%m-%d/%H%M%S}", states))
            files.clear()
        time.sleep(_NAP_SECONDS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
