"""Polars decodes the JSON column, PyIceberg appends."""

from __future__ import annotations

from typing import Any

import polars as pl

from bench.contenders.common import EVENT, TIMES, Append, Job, consume, texts, with_kafka

_DTYPE = pl.Struct(dict(pl.Schema(pl.from_arrow(EVENT.empty_table()).schema)))  # type: ignore[union-attr]


def take_in(argument: dict[str, Any]) -> int:
    """One expression a part: decode, unnest, read the times."""
    job = Job.of(argument)
    append = Append(job)
    for part in consume(job):
        column = pl.from_arrow(texts(part.values))
        assert isinstance(column, pl.Series)
        events = (
            column.alias("event")
            .to_frame()
            .select(pl.col("event").str.json_decode(_DTYPE))
            .unnest("event")
            .with_columns(pl.col(name).str.to_datetime("%+", time_unit="us", time_zone="UTC") for name in TIMES)
        )
        append(with_kafka(events.to_arrow(compat_level=pl.CompatLevel.oldest()), part))
    return append.rows
