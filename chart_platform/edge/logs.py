"""What the collector says of itself: one line of JSON each on standard error, without personal data.

Belongs here: the form of a line, and how often the same thing is said. Does not belong here: figures (``metrics``).
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import traceback
from datetime import UTC, datetime

_EVERY_SECONDS = 60.0

log = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """A record as one line of JSON. Of an exception it tells type and place, never its text: that may quote a request."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": os.getpid(),
            "message": record.getMessage(),
            **getattr(record, "figures", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = told(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


def told(error: BaseException) -> list[str]:
    """The types and frames of an exception and of what led to it."""
    found = []
    seen: BaseException | None = error
    while seen is not None:
        found.append(type(seen).__qualname__)
        found += [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(seen.__traceback__, limit=-20)]
        seen = seen.__cause__ or seen.__context__
    return found


def configure() -> None:
    """Log JSON lines to standard error: all of ours, of others only what is wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("chart_platform").setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.access").disabled = True


class Occasionally:
    """Says that something happens, at once and then at most once a minute with how often it did meanwhile."""

    def __init__(self) -> None:
        self._silent_until: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def note(self, code: str) -> None:
        self._counts[code] = self._counts.get(code, 0) + 1
        now = time.monotonic()
        if now >= self._silent_until.get(code, 0.0):
            self._silent_until[code] = now + _EVERY_SECONDS
            log.info("Requests are refused: %s.", code, extra={"figures": {"refused": self._counts.pop(code)}})
