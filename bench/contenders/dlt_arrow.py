"""dlt with Arrow tables made of orjson's dicts."""

from __future__ import annotations

from typing import Any

from bench.contenders.common import Job
from bench.contenders.dlt_load import load
from bench.contenders.orjson_decode import decode


def take_in(argument: dict[str, Any]) -> int:
    """One Arrow table a part."""
    return load(Job.of(argument), decode)
