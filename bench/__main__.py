"""``python -m bench``: one run of all benchmarks, its results and the generated page. ``--help`` tells the rest."""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import edge, incremental, ingest, report
from bench.contenders import CONTENDERS, OURS
from bench.measure import WorkFailed, measure
from bench.traffic import Traffic, broker, fill, messages
from chart_platform.settings import Settings
from chart_platform.stream.offsets import TopicOffsets

_ROOT = Path(__file__).parents[1]
_WARM_UP = "bench.warm-up"
_PARTS = ("ingest", "model", "profile", "incremental", "edge")
_BY_SIZE = {"ingest", "model", "profile"}


def main() -> int:
    """Run what was asked for; 1 if a contender failed."""
    options = _options()
    parts = [part for part in _PARTS if part in options.only]
    what = "all" if len(parts) == len(_PARTS) else "-".join(parts)
    results: dict[str, Any] = {"machine": _machine(), "command": "python -m bench " + " ".join(sys.argv[1:])}
    with tempfile.TemporaryDirectory(prefix="chart-bench-", dir=options.scratch) as scratch:
        folder = Path(scratch)
        with broker(folder / "broker") as settings:
            if _BY_SIZE & set(parts):
                fill(settings, _WARM_UP, messages(2_000))
                sizes = [True, False] if options.lean == "both" else [options.lean == "yes"]
                for lean in sizes:
                    results["lean" if lean else "full"] = _one_size(options, parts, settings, folder, lean)
                    report.save(results, what)
            if "incremental" in parts:
                _say("incremental run on one day and on many days of history")
                results["incremental"] = incremental.compare(
                    settings, folder, options.days, options.events_a_day, options.repeat, _say
                )
            if "edge" in parts:
                _say("collector: single events and batches, in turns, then a steady rate")
                results["edge"] = edge.compare(
                    settings, folder, options.edge_seconds, options.edge_steady_seconds, options.repeat, _say
                )
    file = report.save(results, what)
    _say(f"written: {file.relative_to(_ROOT)} and {report.PAGE.relative_to(_ROOT)}")
    return int(any("failed" in row for size in ("lean", "full") for row in _rows(results, size)))


def _one_size(
    options: argparse.Namespace, parts: list[str], settings: Settings, folder: Path, lean: bool
) -> dict[str, Any]:
    size = "lean" if lean else "full"
    topic = f"bench.{size}"
    _say(f"{size}: sending {options.messages} messages")
    traffic: Traffic = fill(settings, topic, messages(options.messages, lean=lean))
    argument, warm_up = (
        {
            "bootstrap_servers": settings.bootstrap_servers,
            "topic": name,
            "ends": TopicOffsets(settings, name).latest(),
            "folder": str(folder / size),
        }
        for name in (topic, _WARM_UP)
    )
    names = [name for name in CONTENDERS if name in options.contenders]
    found: dict[str, Any] = {"messages": traffic.messages, "average_bytes": round(traffic.average_bytes, 1)}
    if "ingest" in parts:
        _say(f"{size}: Kafka → bronze, {traffic.average_bytes:.0f} bytes a message")
        found["ingest"] = ingest.compare(argument, warm_up, traffic, options.repeat, names, _say)
    ours = argument | {"folder": str(folder / size / OURS)}
    if "model" in parts:
        _say(f"{size}: bronze → silver → gold")
        if "ingest" not in parts:
            measure(f"bench.contenders.{OURS}:take_in", ours)
        rows = measure("bench.copies:add", ours | {"copies": options.copies}).answer
        found["model"] = {"events": rows} | _model(ours, rows, options.spark_python)
    if "profile" in parts:
        _say(f"{size}: where the time goes")
        home = argument | {"folder": str(folder / size / "profiled")}
        found["profile"] = measure("bench.profile:profiled", home).answer
    return found


def _model(argument: dict[str, Any], events: int, spark_python: Path | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    measure("bench.model:parse", argument)
    steps = [
        ("silver", "update_silver"),
        ("visits", "run_visits"),
        ("model", "run_model"),
        ("marts", "run_marts"),
        ("attribution", "run_attribution"),
        ("experiments", "run_experiments"),
        ("by_hand_visits", "by_hand_visits"),
        ("by_hand", "by_hand"),
        ("by_hand_all", "by_hand_all"),
    ]
    if spark_python is not None:
        argument = argument | {"spark_python": str(spark_python)}
        steps += [("spark_visits", "spark_visits"), ("spark", "spark")]
    for name, function in steps:
        try:
            cost = measure(f"bench.model:{function}", argument)
        except WorkFailed as error:
            found[name] = {"failed": str(error)}
            _say(f"  {name}: FAILED {error}")
            continue
        # Spark's work is not done by the process that is measured, but by its JVM: the job tells it.
        told = cost.answer if name.startswith("spark") else {}
        seconds = told.get("cpu_seconds", cost.cpu_seconds)
        found[name] = {
            "cpu_seconds": round(seconds, 2),
            "events_per_cpu_second": round(events / seconds),
            "peak_rss_mb": round(told.get("peak_rss_mb", cost.peak_rss_mb)),
            "answer": cost.answer,
        }
        _say(f"  {name}: {seconds:.2f} CPU-seconds")
    if all("failed" not in row for row in found.values()):
        spent = {name: row["cpu_seconds"] for name, row in found.items()}
        ours = spent["silver"] + spent["model"]
        times = {name: round(ours / spent[name], 2) for name in ("by_hand", "by_hand_all", "spark") if name in spent}
        alike = [name for name in ("by_hand_visits", "spark_visits") if name in spent]
        times |= {name: round(spent["visits"] / spent[name], 2) for name in alike}
        found["all_cpu_seconds"] = round(ours + spent["marts"] + spent["attribution"] + spent["experiments"], 2)
        found["ours_times"] = times
        found["funnel"] = measure("bench.model:funnel_sums", argument).answer
    return found


def _rows(results: dict[str, Any], size: str) -> list[dict[str, Any]]:
    found = results.get(size, {})
    return [
        *found.get("ingest", {}).get("contenders", {}).values(),
        *[row for row in found.get("model", {}).values() if isinstance(row, dict)],
    ]


def _machine() -> dict[str, Any]:
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=_ROOT)
    packages = (
        "confluent-kafka", "dlt", "duckdb", "fastapi", "msgspec", "orjson", "polars", "pyarrow", "pyiceberg", "uvicorn",
    )  # fmt: skip
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu[0].partition(":")[2].strip() if cpu else platform.processor(),
        "cores": len(cpu),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": git.stdout.strip(),
        "versions": {name: version(name) for name in packages},
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the platform beside its rivals.")
    parser.add_argument(
        "only", nargs="*", default=list(_PARTS), help=f"parts to run, of {', '.join(_PARTS)}; default: all"
    )
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument(
        "--copies", type=int, default=1, help="model: as many times the messages in bronze, as other visitors'"
    )
    parser.add_argument("--repeat", type=int, default=3, help="repetitions of each contender, in turns; medians count")
    parser.add_argument(
        "--lean", choices=("yes", "no", "both"), default="both", help="trim messages to about 650 bytes; default: both"
    )
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--days", type=int, default=30, help="days of the long history of the incremental benchmark")
    parser.add_argument("--events-a-day", type=int, default=20_000, help="events a day in both histories")
    parser.add_argument("--edge-seconds", type=float, default=5.0, help="how long each turn loads the collector")
    parser.add_argument("--edge-steady-seconds", type=float, default=30.0, help="how long the steady rate lasts")
    parser.add_argument(
        "--spark-python",
        type=Path,
        help="interpreter with bench/requirements-spark.txt; without it no Spark is measured",
    )
    parser.add_argument("--scratch", type=Path, help="where the temporary files go; default: the system's place")
    options = parser.parse_args()
    if unknown := set(options.only) - set(_PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(_PARTS)}")
    return options


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
