"""Loading Arrow tables with dlt into its filesystem destination, for the contenders that use it.

As Iceberg, through dlt's own catalog in memory, unless ``BENCH_DLT_FORMAT=parquet`` asks for plain Parquet.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import dlt
import pyarrow as pa

from bench.contenders.common import Job, Part, consume

FORMAT = os.environ.get("BENCH_DLT_FORMAT", "iceberg")


def load(job: Job, decode: Callable[[Part], pa.Table]) -> int:
    """One pipeline run over the whole topic."""
    job.folder.mkdir(parents=True, exist_ok=True)
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    os.environ["DATA_WRITER__COMPRESSION"] = "zstd"
    os.environ["DATA_WRITER__COMPRESSION_LEVEL"] = "1"
    # Parallel loading would only buy wall-clock time.
    os.environ["LOAD__WORKERS"] = os.environ["NORMALIZE__WORKERS"] = "1"
    rows = 0

    def events() -> Iterator[pa.Table]:
        nonlocal rows
        for part in consume(job):
            decoded = decode(part)
            rows += decoded.num_rows
            yield decoded

    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=str(job.folder / "pipelines"),
        destination=dlt.destinations.filesystem(f"file://{job.folder}/bucket"),
        dataset_name="bronze",
    )
    options: dict[str, Any] = {"table_format": "iceberg"} if FORMAT == "iceberg" else {}
    resource = dlt.resource(events, name="events", write_disposition="append", **options)
    pipeline.run(resource, loader_file_format="parquet").raise_on_failed_jobs()
    return rows
