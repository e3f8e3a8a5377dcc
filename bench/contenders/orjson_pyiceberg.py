"""orjson, Python dicts and PyIceberg: what most would write first."""

from __future__ import annotations

from typing import Any

from bench.contenders.common import Append, Job, consume
from bench.contenders.orjson_decode import decode


def take_in(argument: dict[str, Any]) -> int:
    """One append a part."""
    job = Job.of(argument)
    append = Append(job)
    for part in consume(job):
        append(decode(part))
    return append.rows
