"""Where the CPU time of Kafka → bronze goes: ``python -m bench profile``.

The main thread's time is split by phase; what remains of the process's time was spent by other threads: librdkafka
fetching and decompressing, Arrow's and DuckDB's pools.

Belongs here: timers around the parts of the ingest. Does not belong here: comparing (``contenders``).
"""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

_spent: defaultdict[str, float] = defaultdict(float)
_stack: list[list[Any]] = []


def _enter(phase: str) -> None:
    now = time.thread_time()
    if _stack:
        _spent[_stack[-1][0]] += now - _stack[-1][1]
    _stack.append([phase, now])


def _leave() -> None:
    now = time.thread_time()
    phase, since = _stack.pop()
    _spent[phase] += now - since
    if _stack:
        _stack[-1][1] = now


def _timed(owner: Any, name: str, phase: str, iterates: bool = False) -> None:
    """Attribute the own time of ``owner.name`` to ``phase``; a callee that is timed as well is not counted twice."""
    original: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        _enter(phase)
        try:
            return original(*args, **kwargs)
        finally:
            _leave()

    @functools.wraps(original)
    def iterate(*args: Any, **kwargs: Any) -> Iterator[Any]:
        source = original(*args, **kwargs)
        while True:
            _enter(phase)
            try:
                item = next(source)
            except StopIteration:
                return
            finally:
                _leave()
            yield item

    setattr(owner, name, iterate if iterates else call)


def profiled(argument: dict[str, Any]) -> dict[str, float]:
    """Take the topic in and say the microseconds of CPU an event by phase."""
    from bench.contenders import ours
    from chart_platform.lakehouse.lake import Lake
    from chart_platform.transform import bronze, source
    from chart_platform.transform import ingest as protocol

    _timed(source, "read_ranges", "consume", iterates=True)
    _timed(bronze.Decoder, "_not_surely_valid", "validate (msgspec)")
    _timed(bronze, "_texts", "join texts")
    _timed(bronze.Decoder, "_columns", "DuckDB from_json")
    _timed(bronze.Decoder, "decode", "rest of decode")
    _timed(protocol, "decode_all", "concatenate", iterates=True)
    _timed(protocol, "in_order", "sort")
    _timed(Lake, "write", "write (main thread)")
    _timed(Lake, "commit", "commit")
    _timed(ours, "audit", "audit")
    import pandera.polars  # noqa: F401 (what is only imported in time is no part of any phase)

    before, began = time.process_time(), time.thread_time()
    events = ours.take_in(argument)
    total, main = time.process_time() - before, time.thread_time() - began
    phases = dict(sorted(_spent.items(), key=lambda item: -item[1]))
    phases["planning and the rest"] = main - sum(phases.values())
    phases["other threads: Parquet, librdkafka"] = total - main
    phases["total"] = total
    return {phase: round(seconds / events * 1e6, 2) for phase, seconds in phases.items()}
