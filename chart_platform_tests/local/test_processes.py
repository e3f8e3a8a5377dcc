from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chart_platform.local import processes
from chart_platform.local.processes import TOKEN_VARIABLE, born, end_marked, marked

# A process that leaves its session, its group and its parent, and does not listen to SIGTERM.
STUBBORN = """
import os, signal, sys, time
if os.fork():
    time.sleep(60)
os.setsid()
if os.fork():
    os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(60)
"""


@contextmanager
def _running(code: str, token: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, TOKEN_VARIABLE: token})
    try:
        yield process
    finally:
        for pid in marked(token):
            os.kill(pid, signal.SIGKILL)
        process.wait()


def _wait_for(count: int, token: str) -> None:
    deadline = time.monotonic() + 10
    while len(marked(token)) != count and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(marked(token)) == count


def test_the_mark_finds_a_grandchild_that_left_session_and_parent() -> None:
    with _running(STUBBORN, "mark-of-a-grandchild") as process:
        _wait_for(2, "mark-of-a-grandchild")
        assert process.pid in marked("mark-of-a-grandchild")
        assert sorted(processes._marked_by_ps("mark-of-a-grandchild")) == sorted(marked("mark-of-a-grandchild"))


def test_ending_by_mark_leaves_none_even_of_those_that_ignore_sigterm() -> None:
    with _running(STUBBORN, "mark-to-end"):
        _wait_for(2, "mark-to-end")
        assert end_marked("mark-to-end", grace=0.3)
        assert marked("mark-to-end") == []


def test_another_mark_is_left_alone() -> None:
    with _running("import time; time.sleep(60)", "mark-of-one") as process:
        _wait_for(1, "mark-of-one")
        assert end_marked("mark-of-another", grace=0.1)
        assert end_marked("mark-of", grace=0.1)
        assert process.poll() is None


def test_a_process_that_has_ended_has_no_birth() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert born(process.pid)
    process.kill()
    deadline = time.monotonic() + 5
    # Also while it is a zombie, not waited for yet.
    while born(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert born(process.pid) is None
    process.wait()


@pytest.mark.parametrize("deaths", [1, 3])
def test_backoff_doubles_and_a_steady_life_wipes_it_out(deaths: int) -> None:
    from chart_platform.local.child import Backoff

    backoff = Backoff()
    for number in range(deaths):
        assert backoff.after(0.1) == 2**number
    assert backoff.after(61.0) == 1.0


def test_backoff_gives_up_on_what_never_lives() -> None:
    from chart_platform.local.child import Backoff

    backoff = Backoff(attempts=3)
    assert [backoff.after(1.0) for _ in range(4)] == [1.0, 2.0, 4.0, None]
