"""The process that holds the definitions, for webserver and daemon alike.

Belongs here: settling what an earlier server left behind, then becoming ``dagster api grpc``.
Does not belong here: any definition (``definitions``).

One server for both, because each import of the definitions costs about 5 s of CPU. ``dagster api grpc`` and not
``dagster code-server``, which would put one more Dagster process in front of it only to reload without a restart.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

MODULE = "chart_platform.definitions"
LOCATION = "chart_platform"
_CUT_SHORT = "The process of this run was ended from outside: its instance stopped, or its code server died."


def settle_lost_runs(dagster_home: Path) -> int:
    """Mark runs as failed (or cancelled) that no process works on any more; how many there were.

    Dagster's default launcher can't tell that a run's process is gone once the server that started it is gone too,
    and run monitoring skips such runs. They would stay "started" for ever, and the sensor would wait for them.
    Runs without the launcher's tag are worked on elsewhere (``pipeline``) and are left alone.
    """
    if not _any_started(dagster_home / "history" / "runs.db"):
        return 0
    import dagster as dg
    from dagster._core.storage.tags import GRPC_INFO_TAG

    with dg.DagsterInstance.get() as instance:
        unfinished = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
        lost = [r for r in instance.get_runs(dg.RunsFilter(statuses=unfinished)) if GRPC_INFO_TAG in r.tags]
        for run in lost:
            if run.status is dg.DagsterRunStatus.CANCELING:
                instance.report_run_canceled(run, _CUT_SHORT)
            else:
                instance.report_run_failed(run, _CUT_SHORT)
            print(f"Run {run.run_id} was cut short and is marked as such.", flush=True)
    return len(lost)


def _any_started(database: Path) -> bool:
    """Asks the file itself, as importing Dagster for it would cost every start 2 s."""
    if not database.exists():
        return False
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection:
        found = connection.execute("select 1 from runs where status in ('STARTING', 'STARTED', 'CANCELING') limit 1")
        return found.fetchone() is not None


def main(arguments: list[str]) -> None:
    socket = Path(arguments[0])
    settle_lost_runs(Path(os.environ["DAGSTER_HOME"]))
    # The file of a server that was killed would make its successor fail to bind.
    socket.unlink(missing_ok=True)
    command = ["-m", "dagster", "api", "grpc", "--socket", str(socket), "--module-name", MODULE]
    os.execv(
        sys.executable,
        [sys.executable, *command, "--location-name", LOCATION, "--use-python-environment-entry-point"],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
