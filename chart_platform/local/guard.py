"""The one who stays behind: ends every process of an instance when its supervisor is gone, however it went.

Belongs here: waiting for that moment, and ending them. Does not belong here: an orderly stop (``supervisor``).

A kernel's parent-death signal reaches children only; Dagster's run workers are grandchildren and would go on. The
guard holds the reading end of a pipe whose writing end only the supervisor has, so that it wakes the moment the
supervisor dies, and the instance's lock, so that no second instance starts while the first one is being cleared away.
"""

from __future__ import annotations

import os
import signal
import sys

from chart_platform.local.processes import end_marked

GRACE_SECONDS = 8.0


def main(arguments: list[str]) -> int:
    pipe, token = int(arguments[0]), arguments[1]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(pipe, 1024):
        pass
    return 0 if end_marked(token, grace=GRACE_SECONDS) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
