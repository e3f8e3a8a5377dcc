"""`up`, `down` and `status` of one instance.

Belongs here: the order in which parts start and stop, signals, and the promise that nothing is left behind.
Does not belong here: what the parts are (``parts``), the life of one (``child``), the command line (``cli``).

The promise has three layers. Orderly: every way out of ``up`` ends the parts in their order, each within its time.
Thorough: afterwards whatever carries the instance's mark is ended, wherever it has moved. And without us: when
``up`` itself is killed, the kernel signals its children and the guard ends all the rest.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from rich.console import Console

from chart_platform.local import view
from chart_platform.local.child import Child
from chart_platform.local.figures import Figures, latest_figures
from chart_platform.local.instance import AlreadyRuns, Files, claim, is_claimed, read_json, replace_text, supervisor_pid
from chart_platform.local.parts import demo_url, environment, parts_of, ports_of, prepare, runs_in_progress
from chart_platform.local.processes import (
    born,
    end_marked,
    group_of,
    kill_marked,
    marked,
    port_holder,
    port_is_free,
    send_signal,
)
from chart_platform.settings import Settings

_TICK_SECONDS = 0.1
_WATCH_SECONDS = 0.5
_UPKEEP_SECONDS = 10.0
# Traffic and figures 3 + daemon 4 + runs 6 + servers 7 + Kafka 7 + leftovers 3: 30 s at the very most.
_RUNS_MAY_FINISH_SECONDS = 6.0
_LEFTOVERS_GRACE_SECONDS = 3.0
_DOWN_PATIENCE_SECONDS = 40.0
_ONE_WISH_SECONDS = 0.5
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class PortTaken(RuntimeError):
    """A port that the instance needs is in use."""


class _GivenUp(RuntimeError):
    """A part can't be had."""


def up(settings: Settings, *, open_browser: bool = False, console: Console | None = None) -> int:
    """Run the instance in the foreground until it is told to stop; the exit code.

    0 after a stop that was asked for (Ctrl-C, SIGTERM, SIGHUP, ``down``), 1 when it could not start or a part is lost.
    """
    show = view.View(console or Console())
    files = Files(settings)
    try:
        files.make()
        with claim(files) as lock:
            check_ports(settings)
            prepare(settings)
            with _guarded(lock) as token:
                return _Supervisor(settings, token, show).run(open_browser)
    except (AlreadyRuns, PortTaken, OSError) as error:
        show.say(str(error), "red")
        return 1
    except KeyboardInterrupt:
        # Before the first part was started.
        return 0


def down(settings: Settings, *, console: Console | None = None) -> int:
    """Stop the instance of this home from outside, and wait until all of it is gone; the exit code."""
    show = view.View(console or Console())
    files = Files(settings)
    if not is_claimed(files):
        show.say(f"No instance runs in {settings.root}.")
        return 0
    pid = supervisor_pid(files)
    show.say(f"Stopping the instance in {settings.root}" + (f" (process {pid})" if pid else ""))
    # The last resort leaves the rest to the guard, which is a process of its own.
    for number in (signal.SIGTERM, signal.SIGKILL):
        if (supervisor := supervisor_pid(files)) is not None:
            send_signal(supervisor, number)
        deadline = time.monotonic() + _DOWN_PATIENCE_SECONDS
        while time.monotonic() < deadline:
            # Also the process itself: it lets go of its home a moment before it ends.
            if not is_claimed(files) and (pid is None or born(pid) is None):
                show.say("Stopped.")
                return 0
            time.sleep(_TICK_SECONDS)
    show.say(f"The instance in {settings.root} does not end: see {files.logs}.", "red")
    return 1


def status(settings: Settings) -> dict[str, Any]:
    """The instance as JSON can hold it. A process counts as running only if it is there now."""
    files = Files(settings)
    claimed = is_claimed(files)
    found = read_json(files.state) if claimed else {}
    processes = found.get("processes", [])
    for process in processes:
        if process["pid"] is None or born(process["pid"]) is None:
            process["pid"] = None
            process["state"] = "stopped" if process["state"] in ("starting", "running") else process["state"]
    figures = latest_figures(files) if claimed else Figures()
    return {
        "home": str(settings.root),
        "running": claimed,
        "state": found.get("state", "starting") if claimed else "stopped",
        "pid": found.get("pid") if claimed else None,
        "started_at": found.get("started_at"),
        "urls": found.get("urls", {}),
        "ports": found.get("ports", {}),
        "processes": processes,
        "events_sent": figures.sent,
        "kafka": {
            "bootstrap_servers": settings.bootstrap_servers,
            "embedded": settings.embedded_kafka,
            "lag": sum(figures.lag.values()) if figures.lag is not None else None,
            "lag_by_partition": figures.lag,
        },
        "gold_committed_at": figures.gold_at.isoformat(timespec="seconds") if figures.gold_at else None,
    }


def check_ports(settings: Settings) -> None:
    """Raise :class:`PortTaken` if a port is in use, naming it, its holder and the way out."""
    taken = []
    for port, purpose in ports_of(settings).items():
        if port_is_free(port) or (settings.embedded_kafka and "Kafka" in purpose and _is_our_kafka(settings)):
            continue
        holder = port_holder(port)
        taken.append(f"Port {port} is held by {holder or 'another program'}. It is for {purpose}.")
    if taken:
        raise PortTaken("\n".join(taken))


def _is_our_kafka(settings: Settings) -> bool:
    # Another command of this home (`demo`, `ingest`) may have started it: it is shared.
    from chart_platform.stream.broker import LocalBroker

    return LocalBroker(settings).running()


@contextmanager
def _guarded(lock: int) -> Iterator[str]:
    """A mark for all processes of the instance, and the guard that ends them when we die."""
    token = uuid.uuid4().hex
    read, write = os.pipe()
    try:
        guard = subprocess.Popen(
            [sys.executable, "-m", "chart_platform.local.guard", str(read), token],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(read, lock),
            # Out of reach of signals to our group, such as the second Ctrl-C or a `kill -9 -<group>`.
            start_new_session=True,
        )
        os.close(read)
        try:
            yield token
        finally:
            os.close(write)
            write = -1
            guard.wait()
    finally:
        if write >= 0:
            os.close(write)


class _Supervisor:
    """One run of `up`."""

    def __init__(self, settings: Settings, token: str, show: view.View) -> None:
        self._settings = settings
        self._files = Files(settings)
        self._token = token
        self._view = show
        variables = environment(settings, token)
        self._children = {part.name: Child(part, variables) for part in parts_of(settings)}
        self._started_at = datetime.now(UTC)
        self._stops_asked = 0
        self._asked_at = 0.0
        self._had_terminal = os.isatty(0)
        self._stopping = False
        self._written = ""

    def run(self, open_browser: bool) -> int:
        with self._signals():
            began = time.monotonic()
            try:
                self._start_all()
                if not self._stops_asked:
                    self._view.close()
                    self._view.say(f"Up after {time.monotonic() - began:.1f} s.", "bold green")
                    for line in view.where_to_look(self._settings):
                        self._view.say(line)
                    if open_browser:
                        webbrowser.open(demo_url(self._settings))
                    self._watch()
            except _GivenUp as reason:
                self._view.close()
                self._view.say(str(reason), "red")
                return 1
            finally:
                self._stop_all()
        return 0

    def _start_all(self) -> None:
        while not self._stops_asked:
            self._look_after(starting=True)
            if all(child.state == "running" for child in self._children.values()):
                return
            self._view.show(view.progress_line(self._children.values()))
            time.sleep(_TICK_SECONDS)

    def _watch(self) -> None:
        upkeep_due = 0.0
        while not self._stops_asked:
            self._look_after(starting=False)
            if time.monotonic() >= upkeep_due:
                upkeep_due = time.monotonic() + _UPKEEP_SECONDS
                for child in self._children.values():
                    child.keep_log_bounded()
            troubled = [child for child in self._children.values() if child.state != "running"]
            self._view.show(view.figures_line(latest_figures(self._files), troubled), repeat=True)
            time.sleep(_WATCH_SECONDS)

    def _look_after(self, *, starting: bool) -> None:
        """One look at every part: start what may start, note what is ready, see to what has died."""
        if self._had_terminal and not os.isatty(0):
            # A closed terminal signals only its first process; when that is make (`ssh -t … make up`), not us.
            self._stops_asked += 1
        for child in self._children.values():
            if child.state == "waiting":
                if all(self._children[name].state == "running" for name in child.part.after):
                    child.start()
            elif child.state == "restarting":
                if time.monotonic() >= child.start_again_at:
                    child.start()
            elif child.exit_code() is not None:
                self._after_death(child, starting)
            elif child.state == "starting":
                self._see_if_ready(child)
        self._write_state("starting" if starting else "running")

    def _see_if_ready(self, child: Child) -> None:
        assert child.pid is not None
        if child.part.ready(child.pid):
            child.state = "running"
            child.ready_after = child.lived()
            self._view.say(f"✓ {child.part.what} ({child.ready_after:.1f} s)", "green")
        elif child.lived() > child.part.start_within:
            child.state = "failed"
            raise _GivenUp(self._report(child, f"is not up after {child.part.start_within:g} s"))

    def _after_death(self, child: Child, starting: bool) -> None:
        child.bury()
        report = self._report(child, child.how_it_ended())
        delay = None if starting else child.backoff.after(child.lived())
        if delay is None:
            child.state = "failed"
            raise _GivenUp(report)
        child.state = "restarting"
        child.start_again_at = time.monotonic() + delay
        self._view.say(f"{report}\nStarting it again in {delay:g} s.", "yellow")

    def _report(self, child: Child, event: str) -> str:
        lines = "\n".join(f"  {line}" for line in child.last_lines())
        return f"{child.part.name} {event}. The end of {child.part.log}:\n{lines or '  (it said nothing)'}"

    def _stop_all(self) -> None:
        self._stopping = True
        self._view.close()
        self._view.say("Stopping (again Ctrl-C: at once)")
        began = time.monotonic()
        self._write_state("stopping")
        self._end("traffic", "networks", "figures")
        # First the one that starts runs, then those that carry them.
        self._end("daemon")
        webserver = self._children.get("webserver")
        if webserver is not None and webserver.state == "running":
            self._let_runs_finish()
        # The collector as late as may be: browsers may still have something to send.
        self._end("webserver", "code-server", "demo-site", "collector")
        self._end("kafka")
        clean = end_marked(self._token, grace=_LEFTOVERS_GRACE_SECONDS if not self._forced else 0.0)
        for child in self._children.values():
            child.exit_code()
            if child.state != "failed":
                child.state = "stopped"
        self._write_state("stopped")
        self._view.close()
        self._view.say(
            f"Stopped after {time.monotonic() - began:.1f} s."
            if clean
            else f"Some processes do not end even when killed; their environment has the mark {self._token}."
        )

    def _let_runs_finish(self) -> None:
        """A run that is cut short is done again by the next `up`; one that is nearly done is worth a few seconds."""

        def none_left() -> bool:
            count = runs_in_progress(self._settings)
            if count:
                self._view.show(f"Letting {count} run(s) finish")
            return not count

        if not self._wait(none_left, _RUNS_MAY_FINISH_SECONDS, every=0.3):
            self._view.say("A run did not finish in time; the next `up` does its batch again.")

    def _end(self, *names: str) -> None:
        children = [self._children[name] for name in names if name in self._children]
        for child in children:
            child.ask_to_end()
        limit = max((child.part.stop_within for child in children), default=0.0)
        groups = {child.group for child in children}

        def gone() -> bool:
            if any(child.pid is not None and child.exit_code() is None for child in children):
                return False
            return not any(group_of(pid) in groups for pid in marked(self._token))

        self._wait(gone, limit)
        for child in children:
            if child.pid is not None:
                self._view.say(f"{child.part.name} did not end within {limit:g} s and is killed.", "yellow")
            child.kill()

    def _wait(self, done: Callable[[], bool], limit: float, *, every: float = _TICK_SECONDS / 2) -> bool:
        deadline = time.monotonic() + limit
        while not done():
            if time.monotonic() > deadline or self._forced:
                return False
            time.sleep(every)
        return True

    @property
    def _forced(self) -> bool:
        return self._stops_asked > 1

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def asked(_number: int, _frame: FrameType | None) -> None:
            # A closing terminal, or make, may send two signals for one wish.
            if time.monotonic() - self._asked_at < _ONE_WISH_SECONDS:
                return
            self._asked_at = time.monotonic()
            self._stops_asked += 1
            if self._forced and self._stopping:
                kill_marked(self._token, signal.SIGKILL)

        # What nohup has switched off stays off.
        heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, asked) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _write_state(self, state: str) -> None:
        pid = os.getpid()
        kafka = self._settings.kafka_port
        text = json.dumps(
            {
                "state": state,
                "pid": pid,
                "born": born(pid),
                "started_at": self._started_at.isoformat(timespec="seconds"),
                "urls": {
                    "demo": demo_url(self._settings),
                    "collector": self._settings.edge_base_url,
                    "dagster": self._settings.dagster_base_url,
                },
                "ports": {
                    "demo": self._settings.demo_port,
                    "collector": self._settings.edge_port,
                    "dagster": self._settings.dagster_port,
                }
                | ({"kafka": kafka, "kafka_controller": kafka + 1} if self._settings.embedded_kafka else {}),
                "processes": [child.describe() for child in self._children.values()],
            }
        )
        if text != self._written:
            self._written = text
            try:
                replace_text(self._files.state, text)
            except OSError:
                # A full disk must not keep us from ending what we started.
                self._written = ""
