"""The supervisor with small parts in place of Kafka and Dagster: what it does when they misbehave."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr

from chart_platform.local.code_server import settle_lost_runs
from chart_platform.local.instance import AlreadyRuns, Files, claim
from chart_platform.local.parts import environment, prepare
from chart_platform.local.processes import TOKEN_VARIABLE
from chart_platform.local.supervisor import PortTaken, check_ports, down, status
from chart_platform.settings import Settings

# Real processes and Dagster runs: too long for `make check`.
pytestmark = pytest.mark.slow

FAKE = """
import sys
from chart_platform.local import supervisor
from chart_platform.local.instance import Files
from chart_platform.local.parts import Part
from chart_platform.settings import get_settings

settings = get_settings()
files = Files(settings)

def part(name, code, **given):
    marker = files.run / (name + ".json")
    code = "import os, signal, sys, time; open(%r, 'w').write(str(os.getpid())); " % str(marker) + code
    return Part(name, name, (sys.executable, "-c", code), files.log(name), lambda pid: marker.exists(),
                files=(marker,), **given)

supervisor.parts_of = lambda _settings: PARTS
sys.exit(supervisor.up(settings))
"""
SLEEP = "time.sleep(600)"
STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def _fake(*parts: str) -> str:
    return FAKE.replace("PARTS", f"({', '.join(parts)},)")


def _part(name: str, code: str, given: str = "") -> str:
    return f"part({name!r}, {code!r}, {given})"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_signal_that_ends_it_ends_all_parts(
    make_instance: Callable[..., Any], eventually: Callable[..., Any], number: signal.Signals
) -> None:
    instance = make_instance(code=_fake(_part("kafka", SLEEP), _part("daemon", SLEEP, "after=('kafka',)")))
    up = instance.start_and_wait(20)
    assert len(instance.left()) == 4
    up.send_signal(number)
    assert up.wait(10) == 0, instance.output
    assert eventually(lambda: not instance.left(), 1.0), instance.left()


def test_a_closed_terminal_ends_it_even_if_make_is_what_runs_in_it(
    make_instance: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    instance = make_instance(code=_fake(_part("kafka", SLEEP)))
    child, terminal = pty.fork()
    if child == 0:
        # As make does: the first process of the terminal takes the hangup, tells nobody, and waits.
        signal.signal(signal.SIGHUP, lambda *_: None)
        os._exit(subprocess.call([sys.executable, "-c", instance.code], env=instance.variables))
    try:
        assert eventually(lambda: status(instance.settings)["state"] == "running", 20)
    finally:
        os.close(terminal)
    assert eventually(lambda: not instance.left(), 10), instance.left()
    os.waitpid(child, 0)


def test_killed_it_leaves_nothing_behind_not_even_what_ignores_sigterm(
    make_instance: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    grandchild = f"import subprocess; subprocess.Popen([sys.executable, '-c', {'import signal, time; ' + STUBBORN!r}], "
    grandchild += "start_new_session=True); time.sleep(600)"
    instance = make_instance(code=_fake(_part("kafka", STUBBORN), _part("code-server", grandchild)))
    up = instance.start_and_wait(20)
    assert eventually(lambda: len(instance.left()) == 5, 5)
    up.kill()
    up.wait()
    assert eventually(lambda: not instance.left(), 15), instance.left()
    # Its guard held the home until then; now it is free.
    instance.start_and_wait(20)


def test_a_second_ctrl_c_does_not_wait_for_a_part_that_does_not_end(
    make_instance: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    instance = make_instance(code=_fake(_part("kafka", STUBBORN, "stop_within=60.0")))
    up = instance.start_and_wait(20)
    up.send_signal(signal.SIGINT)
    assert eventually(lambda: "Stopping" in instance.output, 5)
    time.sleep(0.7)
    assert up.poll() is None
    up.send_signal(signal.SIGINT)
    assert up.wait(5) == 0
    assert not instance.left()


def test_two_signals_at_once_are_one_wish(make_instance: Callable[..., Any]) -> None:
    slow = "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), print('went orderly', flush=True), sys.exit(0))); "
    instance = make_instance(code=_fake(_part("kafka", slow + SLEEP)))
    up = instance.start_and_wait(20)
    up.send_signal(signal.SIGINT)
    up.send_signal(signal.SIGTERM)
    assert up.wait(10) == 0
    assert "went orderly" in (instance.home / "logs" / "kafka.log").read_text()


def test_parts_end_in_the_opposite_order_with_kafka_last(make_instance: Callable[..., Any]) -> None:
    note = (
        "signal.signal(signal.SIGTERM, lambda *_: (open(os.environ['CHART_HOME'] + '/order', 'a').write({!r} + ' '), "
    )
    note += "sys.exit(0))); time.sleep(600)"
    names = ("kafka", "code-server", "daemon", "traffic")
    instance = make_instance(code=_fake(*(_part(name, note.format(name)) for name in names)))
    instance.start_and_wait(20).send_signal(signal.SIGINT)
    assert instance.up.wait(15) == 0
    assert (instance.home / "order").read_text().split() == ["traffic", "daemon", "code-server", "kafka"]


def test_a_part_that_dies_while_starting_ends_it_all_with_its_last_words(make_instance: Callable[..., Any]) -> None:
    dying = "os.unlink(os.environ['CHART_HOME'] + '/run/webserver.json'); sys.exit('no such table')"
    instance = make_instance(code=_fake(_part("kafka", SLEEP), _part("webserver", dying, "after=('kafka',)")))
    assert instance.start().wait(20) == 1
    assert "webserver ended with exit code 1" in instance.output
    assert "no such table" in instance.output
    assert not instance.left()


def test_a_part_that_dies_later_is_started_again(
    make_instance: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    instance = make_instance(code=_fake(_part("kafka", SLEEP), _part("traffic", SLEEP)))
    up = instance.start_and_wait(20)
    pid = next(p["pid"] for p in status(instance.settings)["processes"] if p["name"] == "traffic")
    os.kill(pid, signal.SIGKILL)

    def restarted() -> bool:
        traffic = next(p for p in status(instance.settings)["processes"] if p["name"] == "traffic")
        return traffic["state"] == "running" and traffic["restarts"] == 1 and traffic["pid"] != pid

    assert eventually(restarted, 10), instance.output
    assert "traffic was ended by SIGKILL" in instance.output
    assert up.poll() is None


def test_down_ends_it_from_outside_and_minds_nothing_when_nothing_runs(make_instance: Callable[..., Any]) -> None:
    instance = make_instance(code=_fake(_part("kafka", SLEEP)))
    assert down(instance.settings) == 0
    instance.start_and_wait(20)
    assert down(instance.settings) == 0
    assert not instance.left()
    assert instance.up.wait(2) == 0


def test_two_homes_run_side_by_side(make_instance: Callable[..., Any]) -> None:
    one, other = (make_instance(name, code=_fake(_part("kafka", SLEEP))) for name in ("one", "other"))
    one.start_and_wait(20)
    other.start_and_wait(20)
    assert down(one.settings) == 0
    assert status(other.settings)["running"]
    assert not one.left()


def test_a_home_is_claimed_once(tmp_path: Path) -> None:
    files = Files(Settings(home=tmp_path))
    files.make()
    with claim(files), pytest.raises(AlreadyRuns, match=f"process {os.getpid()}"), claim(files):
        pass
    with claim(files):
        pass


def test_a_taken_port_is_named_with_its_holder_and_the_setting(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"Port {port} is held by process {os.getpid()} .*CHART_DAGSTER_PORT"):
            check_ports(Settings(home=tmp_path, dagster_port=port, kafka_bootstrap_servers="elsewhere:9092"))
        with pytest.raises(PortTaken, match=f"Port {port} is held by .*CHART_KAFKA_PORT"):
            check_ports(Settings(home=tmp_path, kafka_port=port - 1))


def test_processes_get_the_settings_of_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHART_SLACK_CHANNEL", "#of-the-environment")
    monkeypatch.setenv("CHART_SIMULATE_RATE", "9")
    given = Settings(home=Path("here"), simulate_rate=3, slack_token=SecretStr("xoxb"))
    variables = environment(given, "mark")
    assert variables["CHART_HOME"] == str(tmp_path / "here")
    assert variables["DAGSTER_HOME"] == str(tmp_path / "here" / "dagster")
    assert variables[TOKEN_VARIABLE] == "mark"
    for name, value in variables.items():
        if name.startswith("CHART_"):
            monkeypatch.setenv(name, value)
    assert Settings() == given.model_copy(update={"home": tmp_path / "here"})


def test_dagsters_home_has_a_long_path_too(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / ("long" * 30))
    prepare(settings)
    files = Files(settings)
    assert len(str(files.socket)) < 100
    assert str(files.socket) in (files.dagster_home / "workspace.yaml").read_text()
    assert (files.dagster_home / "dagster.yaml").exists()


def test_runs_that_lost_their_process_are_settled_and_others_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    assert settle_lost_runs(tmp_path) == 0

    @dg.job
    def nothing() -> None: ...

    launched = {".dagster/grpc_info": "{}"}
    with dg.DagsterInstance.get() as instance:
        runs = {
            name: instance.create_run_for_job(nothing, status=status, tags=tags).run_id
            for name, status, tags in (
                ("lost", dg.DagsterRunStatus.STARTED, launched),
                ("cancelled", dg.DagsterRunStatus.CANCELING, launched),
                ("done", dg.DagsterRunStatus.SUCCESS, launched),
                ("elsewhere", dg.DagsterRunStatus.STARTED, {}),
            )
        }
        assert settle_lost_runs(tmp_path) == 2
        found = {name: instance.get_run_by_id(run_id).status.value for name, run_id in runs.items()}  # type: ignore[union-attr]
    assert found == {"lost": "FAILURE", "cancelled": "CANCELED", "done": "SUCCESS", "elsewhere": "STARTED"}


def test_the_guard_imports_little() -> None:
    """It lives as long as the instance and waits: it must not cost what the platform costs."""
    code = "import sys, chart_platform.local.guard; sys.exit(any(m in sys.modules for m in ('pydantic', 'dagster', 'rich')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
