"""CPU and memory of one piece of work in a process of its own.

``python -m bench.measure`` is the child: it reads what to do from stdin, imports it, does it between two looks at
``getrusage`` and prints what it cost.

Belongs here: measuring. Does not belong here: what is measured.
"""

from __future__ import annotations

import importlib
import json
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Cost:
    """What a piece of work cost: CPU-seconds of it and of imports and warm-up before, the process's peak memory, its answer."""

    cpu_seconds: float
    start_cpu_seconds: float
    peak_rss_mb: float
    answer: Any


class WorkFailed(RuntimeError):
    """The child ended with an error; the message is the end of what it printed."""


def measure(function: str, argument: dict[str, Any], warm_up: dict[str, Any] | None = None) -> Cost:
    """Call ``module:function`` with ``argument`` in a fresh process; with ``warm_up`` before, off the clock."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.measure"],
        input=json.dumps({"function": function, "argument": argument, "warm_up": warm_up}),
        capture_output=True,
        text=True,
        cwd=_ROOT,
    )
    if done.returncode != 0:
        raise WorkFailed(f"{function}: {done.stderr.strip()[-2000:]}")
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def _peak_mb() -> float:
    # VmHWM and not ru_maxrss: the latter starts at what the parent had when it forked.
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _child() -> None:
    wanted = json.load(sys.stdin)
    module, _, name = wanted["function"].partition(":")
    function = getattr(importlib.import_module(module), name)
    if wanted["warm_up"] is not None:
        function(wanted["warm_up"])
    before = _cpu()
    answer = function(wanted["argument"])
    after = _cpu()
    cost = {
        "cpu_seconds": after - before,
        "start_cpu_seconds": before,
        "peak_rss_mb": _peak_mb(),
        "answer": answer,
    }
    print("\n" + json.dumps(cost))


if __name__ == "__main__":
    _child()
