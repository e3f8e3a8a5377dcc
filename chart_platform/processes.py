"""Lives of processes that hang together: a child that dies with its parent, a lock that tells whether its holder lives.

Belongs here: what both the embedded broker and the supervisor of an instance need of the system, with nothing but the
standard library. Does not belong here: which processes there are (``local``, ``stream.broker``).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> Callable[[], None] | None:
    """For ``preexec_fn``: SIGTERM to the child when the calling thread ends, in whatever way. Linux only."""
    if sys.platform != "linux":
        return None
    # Loaded here, because between fork and exec nothing may be imported or allocated that takes a lock.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return before_exec


def is_held(lock: Path) -> bool:
    """Whether a living process holds ``lock`` exclusively, itself or by inheritance."""
    try:
        file = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two who look at once don't take each other for the holder.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(file)
