"""The collector as a process of an instance, and one for the time of a command that sends through it.

Belongs here: starting it, knowing when it is ready, ending it. Does not belong here: what it does (``edge``).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chart_platform.demo.keys import ensure_demo_keys
from chart_platform.local.instance import Files, read_json, supervisor_pid
from chart_platform.local.processes import free_port
from chart_platform.processes import die_with_parent
from chart_platform.settings import Settings, get_settings

_ANYWHERE = ("", "0.0.0.0", "::")
_START_SECONDS = 60.0
_END_SECONDS = 30.0


class CollectorError(RuntimeError):
    """No collector can be had."""


def address(settings: Settings) -> str:
    """Base URL of the collector from this machine, past whatever stands in front of it for browsers."""
    host = "127.0.0.1" if settings.edge_host in _ANYWHERE else settings.edge_host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.edge_port}"


@contextmanager
def ensure_collector(settings: Settings) -> Iterator[tuple[str, str]]:
    """Base URL of a collector of this home and the key for simulated traffic: the instance's if one runs, else one for
    the time of the block, on a free port.

    Raises:
        CollectorError: it does not start; the message has the end of its log.
    """
    key = ensure_demo_keys(settings).traffic
    if (port := _of_instance(settings)) is not None:
        yield address(settings.model_copy(update={"edge_port": port})), key
        return
    port = free_port()
    log = Files(settings).log("collector")
    log.parent.mkdir(parents=True, exist_ok=True)
    variables = {"CHART_HOME": str(settings.root), "CHART_EDGE_HOST": "127.0.0.1", "CHART_EDGE_PORT": str(port)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Nobody balances load over it: it needs not be unready for a while before it ends.
            env=os.environ | variables | {"CHART_EDGE_WORKERS": "1", "CHART_EDGE_UNREADY_SECONDS": "0"},
            preexec_fn=die_with_parent(),
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(process, url, log)
        yield url, key
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            # What it has acknowledged is in Kafka or in its spill, which the next one of this home drains.
            process.kill()
            process.wait()


def is_ready(url: str) -> bool:
    """Whether the collector there can take events durably."""
    # Past any HTTP proxy of the environment: it is this machine that we ask.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{url}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _of_instance(settings: Settings) -> int | None:
    files = Files(settings)
    if supervisor_pid(files) is None:
        return None
    state = read_json(files.state)
    runs = any(p["name"] == "collector" and p["state"] == "running" for p in state.get("processes", ()))
    port = state.get("ports", {}).get("collector")
    return port if runs and isinstance(port, int) else None


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not is_ready(url):
        if process.poll() is not None or time.monotonic() > deadline:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
            raise CollectorError(f"The collector does not start. The end of {log}:\n{last}")
        time.sleep(0.1)


def main() -> int:
    from chart_platform.edge.serve import serve

    try:
        return serve(get_settings())
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr, flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
