"""Real instances in a home and on ports of their own, seen from outside through /proc.

Belongs here: starting them and finding what they leave. Does not belong here: any knowledge of how they end processes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chart_platform.settings import Settings

UP = "import sys; from chart_platform.local.supervisor import up; from chart_platform.settings import get_settings; "
UP += "sys.exit(up(get_settings()))"


def free_ports(count: int = 1) -> int:
    """The first of ``count`` ports in a row that are free."""
    while True:
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
        try:
            for number in range(port, port + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number))
        except (OSError, OverflowError):
            continue
        return port


def processes_of(home: Path) -> dict[int, str]:
    """Living processes that have ``home`` as their CHART_HOME, with their commands."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if f"CHART_HOME={home}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., Any]:
    return eventually


def eventually(what: Callable[[], Any], within: float, every: float = 0.1) -> Any:
    """The first true value of ``what``, or its last one when the time is over."""
    deadline = time.monotonic() + within
    while not (value := what()) and time.monotonic() < deadline:
        time.sleep(every)
    return value


class Instance:
    """An instance under test. ``code`` is what its supervisor process runs."""

    def __init__(self, home: Path, *, code: str = UP, **variables: str) -> None:
        self.home = home
        self.code = code
        self.kafka_port = free_ports(2)
        self.dagster_port = free_ports()
        self.edge_port = free_ports()
        self.demo_port = free_ports()
        self.variables = {
            name: value for name, value in os.environ.items() if not name.startswith(("CHART_", "DAGSTER_"))
        }
        self.variables |= {
            "CHART_HOME": str(home),
            "CHART_KAFKA_PORT": str(self.kafka_port),
            "CHART_DAGSTER_PORT": str(self.dagster_port),
            "CHART_EDGE_PORT": str(self.edge_port),
            "CHART_DEMO_PORT": str(self.demo_port),
            "CHART_SIMULATE_RATE": "5",
            **variables,
        }
        self.up: subprocess.Popen[bytes] | None = None
        self._output = home.parent / f"{home.name}.out"

    @property
    def settings(self) -> Settings:
        return Settings(
            home=self.home,
            kafka_port=self.kafka_port,
            dagster_port=self.dagster_port,
            edge_port=self.edge_port,
            demo_port=self.demo_port,
        )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def start(self) -> subprocess.Popen[bytes]:
        with self._output.open("wb") as output:
            self.up = subprocess.Popen(
                [sys.executable, "-c", self.code], env=self.variables, stdout=output, stderr=subprocess.STDOUT
            )
        return self.up

    def start_and_wait(self, within: float = 180.0) -> subprocess.Popen[bytes]:
        up = self.start()
        assert eventually(lambda: "Up after" in self.output or up.poll() is not None, within), self.output
        assert up.poll() is None, self.output
        return up

    def second_up(self, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", self.code],
            env=self.variables | variables,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def left(self) -> dict[int, str]:
        return processes_of(self.home)

    def graphql(self, query: str) -> Any:
        url = f"http://127.0.0.1:{self.dagster_port}/graphql"
        request = urllib.request.Request(
            url, json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return json.load(answer)["data"]

    def clear_away(self) -> None:
        for pid in self.left():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self.up is not None:
            self.up.wait()


@pytest.fixture
def make_instance(tmp_path: Path) -> Iterator[Callable[..., Instance]]:
    made: list[Instance] = []

    def make(name: str = "home", **given: Any) -> Instance:
        made.append(Instance(tmp_path / name, **given))
        return made[-1]

    yield make
    for instance in made:
        instance.clear_away()
