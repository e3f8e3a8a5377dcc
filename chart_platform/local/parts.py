"""The processes of an instance: which there are, how each is started, and when it is up.

Belongs here: commands, environment, files they need, signs of readiness. Does not belong here: starting or watching
them (``child``, ``supervisor``).
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from chart_platform.demo.keys import ensure_demo_keys
from chart_platform.local.code_server import LOCATION
from chart_platform.local.collector import address, is_ready
from chart_platform.local.instance import Files, read_json
from chart_platform.local.processes import TOKEN_VARIABLE
from chart_platform.settings import Settings

_DAGSTER_YAML = Path(__file__).parents[2] / "dagster.yaml"
_DAEMON_IS_UP = "Instance is configured with the following daemons"
_RUNS = "{ runsOrError(filter: {statuses: [STARTING, STARTED, CANCELING]}) { ... on Runs { results { runId } } } }"


@dataclass(frozen=True)
class Part:
    """One process. ``ready`` is asked with its pid; ``after`` names the parts that must be ready before it starts."""

    name: str
    what: str
    command: tuple[str, ...]
    log: Path
    ready: Callable[[int], bool]
    after: tuple[str, ...] = ()
    start_within: float = 120.0
    stop_within: float = 5.0
    files: tuple[Path, ...] = field(default=())
    """Signs of readiness, removed before each start."""


def environment(settings: Settings, token: str) -> dict[str, str]:
    """For every process: ours, with the settings as they are here (paths absolute), Dagster's home and the mark."""
    variables = dict(os.environ)
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        variable = f"CHART_{name.upper()}"
        if name not in settings.model_fields_set or value is None:
            variables.pop(variable, None)
        elif isinstance(value, SecretStr):
            variables[variable] = value.get_secret_value()
        else:
            variables[variable] = str(value)
    if variables.get("PYTHONDONTWRITEBYTECODE") and not _is_compiled():
        # Every process, each run's too, would compile all that it imports: half of what their start costs.
        del variables["PYTHONDONTWRITEBYTECODE"]
        variables["PYTHONPYCACHEPREFIX"] = str(settings.root / "cache" / "pycache")
    return variables | {
        "CHART_HOME": str(settings.root),
        "DAGSTER_HOME": str(Files(settings).dagster_home),
        # A log is read while its process lives, and above all after it was killed.
        "PYTHONUNBUFFERED": "1",
        TOKEN_VARIABLE: token,
    }


def _is_compiled() -> bool:
    """Whether the environment was installed with bytecode, as `make setup` does."""
    package = importlib.util.find_spec("dagster")
    return package is not None and package.cached is not None and Path(package.cached).exists()


def prepare(settings: Settings) -> None:
    """Put Dagster's two files into its home, as they are in this version, and make the keys of the instance's senders."""
    files = Files(settings)
    files.make()
    if not _DAGSTER_YAML.exists():
        raise FileNotFoundError(f"{_DAGSTER_YAML} is missing: `up` runs from a checkout of the repository.")
    shutil.copyfile(_DAGSTER_YAML, files.dagster_home / "dagster.yaml")
    # The location has the name that workspace.yaml gives it, so that both find the same sensor states and history.
    server = {"grpc_server": {"host": "localhost", "socket": str(files.socket), "location_name": LOCATION}}
    (files.dagster_home / "workspace.yaml").write_text(json.dumps({"load_from": [server]}, indent=2) + "\n")
    ensure_demo_keys(settings)


def parts_of(settings: Settings) -> tuple[Part, ...]:
    """The processes of this instance, in the order in which they may start; they stop in the opposite one."""
    files = Files(settings)
    workspace = ("-w", str(files.dagster_home / "workspace.yaml"))
    port = settings.dagster_port

    def python(*arguments: str) -> tuple[str, ...]:
        return (sys.executable, "-m", *arguments)

    kafka = Part(
        "kafka",
        f"Kafka {'on' if settings.embedded_kafka else 'elsewhere,'} {settings.bootstrap_servers}",
        python("chart_platform.local.kafka"),
        files.log("kafka"),
        lambda pid: read_json(files.ready("kafka")).get("pid") == pid,
        # The first start downloads the broker.
        start_within=900.0,
        stop_within=7.0,
        files=(files.ready("kafka"),),
    )
    code = Part(
        "code-server",
        "Dagster's code server",
        python("chart_platform.local.code_server", str(files.socket)),
        files.log("code-server"),
        lambda _pid: _listens(files.socket),
        start_within=300.0,
        # Its runs note down that they were interrupted.
        stop_within=7.0,
        files=(files.socket,),
    )
    # Webserver and daemon by themselves and not by `dagster dev`: it starts a code server of its own, and it ends as a
    # whole when one of its children does, so that nothing could be restarted alone or stopped in order.
    webserver = Part(
        "webserver",
        f"Dagster's UI on {settings.dagster_base_url}",
        python("dagster_webserver", "-h", "127.0.0.1", "-p", str(port), *workspace),
        files.log("webserver"),
        lambda _pid: _answers(f"http://127.0.0.1:{port}/server_info"),
        after=("code-server",),
    )
    daemon = Part(
        "daemon",
        "Dagster's daemon (sensors, run queue)",
        python("dagster._daemon", "run", *workspace),
        files.log("daemon"),
        lambda _pid: _DAEMON_IS_UP in files.log("daemon").read_text(errors="replace"),
        after=("kafka", "code-server"),
        stop_within=4.0,
    )
    collector = Part(
        "collector",
        f"The collector on {settings.edge_base_url}",
        python("chart_platform.local.collector"),
        files.log("collector"),
        lambda _pid: is_ready(address(settings)),
        after=("kafka",),
        # What it has acknowledged is in Kafka or in its spill; the time is for answering what it has begun.
        stop_within=7.0,
    )
    demo_site = Part(
        "demo-site",
        f"The comparison page on {demo_url(settings)}",
        python("chart_platform.demo.serve"),
        files.log("demo-site"),
        lambda _pid: _answers(f"{demo_url(settings)}/healthz"),
        stop_within=2.0,
    )
    posting = settings.simulate_through == "collector"
    traffic = Part(
        "traffic",
        f"Simulated traffic, {settings.simulate_rate:g} events/s {'over HTTP' if posting else 'straight to Kafka'}",
        python("chart_platform.local.traffic"),
        files.log("traffic"),
        lambda pid: read_json(files.ready("traffic")).get("pid") == pid,
        after=("collector" if posting else "kafka",),
        stop_within=3.0,
        files=(files.ready("traffic"),),
    )
    networks = Part(
        "networks",
        "Simulated reports of the affiliate networks",
        python("chart_platform.local.networks"),
        files.log("networks"),
        lambda pid: read_json(files.ready("networks")).get("pid") == pid,
        after=("collector",),
        stop_within=3.0,
        files=(files.ready("networks"),),
    )
    figures = Part(
        "figures",
        "Figures of progress",
        python("chart_platform.local.figures"),
        files.log("figures"),
        # Nobody should wait for them.
        lambda _pid: True,
        after=("kafka", "webserver", "daemon"),
        stop_within=1.0,
        files=(files.ready("figures"),),
    )
    simulated = (traffic,) if settings.simulate_rate > 0 else ()
    # Networks with mappings of their own report for themselves.
    if settings.simulate_rate > 0 and settings.simulate_conversions > 0 and settings.conversions_networks is None:
        simulated = (*simulated, networks)
    return (kafka, code, webserver, daemon, collector, demo_site, *simulated, figures)


def demo_url(settings: Settings) -> str:
    return f"http://127.0.0.1:{settings.demo_port}"


def ports_of(settings: Settings) -> Mapping[int, str]:
    """The ports that an instance needs to be free, each with what it is for and the setting that moves it."""
    servers = {
        settings.dagster_port: "Dagster's UI: set CHART_DAGSTER_PORT to a free port",
        settings.edge_port: "the collector: set CHART_EDGE_PORT to a free port",
        settings.demo_port: "the demo's comparison page: set CHART_DEMO_PORT to a free port",
    }
    if not settings.embedded_kafka:
        return servers
    way_out = "set CHART_KAFKA_PORT to a port that is free together with the next one"
    return {
        settings.kafka_port: f"the embedded Kafka: {way_out}",
        settings.kafka_port + 1: f"the controller of the embedded Kafka, CHART_KAFKA_PORT + 1: {way_out}",
    } | servers


def runs_in_progress(settings: Settings) -> int | None:
    """How many Dagster runs are being worked on; None when the webserver doesn't answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{settings.dagster_port}/graphql",
        json.dumps({"query": _RUNS}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with _direct().open(request, timeout=3) as answer:
            return len(json.load(answer)["data"]["runsOrError"]["results"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _listens(path: Path) -> bool:
    # Dagster loads the definitions before it listens.
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _answers(url: str) -> bool:
    try:
        with _direct().open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _direct() -> urllib.request.OpenerDirector:
    """Past any HTTP proxy of the environment: it is this machine that we ask."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))
