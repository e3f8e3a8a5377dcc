"""The topic as an external asset, and the bronze assets that take it in: incrementally by ranges, or a day again."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg

from chart_platform.contracts.tables import BRONZE_DEAD_LETTERS, BRONZE_EVENTS
from chart_platform.defs.metadata import spec, table_metadata
from chart_platform.defs.partitions import daily
from chart_platform.defs.resources import Platform
from chart_platform.lakehouse.lake import StaleWriter
from chart_platform.quality.reconciliation import Coverage, cover
from chart_platform.quality.schemas import ContractBreach, audit
from chart_platform.settings import get_settings
from chart_platform.stream.planning import DayBatch, RetentionLoss, TopicTruncated
from chart_platform.transform.source import take_in, take_in_again

TOPIC_KEY = dg.AssetKey(["kafka", *get_settings().kafka_topic.split(".")])

topic = dg.AssetSpec(
    TOPIC_KEY,
    description="The Kafka topic of events. Its observations show end offsets and lag in messages.",
    group_name="kafka",
    kinds={"kafka"},
    owners=[BRONZE_EVENTS.owner],
)


class BronzeConfig(dg.Config):
    """``batch``: ranges as the sensor planned them. Without it the whole day is read again and replaced."""

    batch: str | None = None


def _coverage(found: list[Coverage]) -> dg.AssetCheckResult:
    lines = ["partition | start | end | events | dead letters | missing | doubled | no message", "--- | " * 7 + "---"]
    lines += [
        f"{c.partition} | {c.start} | {c.end} | {c.events} | {c.dead_letters} | {c.missing} | {c.doubled} | {c.unreadable}"
        for c in found
    ]
    return dg.AssetCheckResult(
        asset_key=[BRONZE_EVENTS.namespace, BRONZE_EVENTS.name],
        check_name="reconciliation",
        passed=all(c.ok for c in found),
        metadata={
            "offsets": sum(c.end - c.start for c in found),
            "events": sum(c.events for c in found),
            "dead_letters": sum(c.dead_letters for c in found),
            "missing": sum(c.missing for c in found),
            "doubled": sum(c.doubled for c in found),
            "by_partition": dg.MetadataValue.md("\n".join(lines)),
        },
    )


@dg.multi_asset(
    name="bronze",
    specs=[
        spec(BRONZE_EVENTS, deps=[TOPIC_KEY], kinds={"iceberg", "python"}),
        spec(BRONZE_DEAD_LETTERS, deps=[TOPIC_KEY], kinds={"iceberg", "python"}),
    ],
    check_specs=[
        dg.AssetCheckSpec(
            "reconciliation",
            asset=["bronze", "events"],
            description="Per Kafka partition, bronze.events plus bronze.dead_letters hold every offset of the range once.",
        ),
        dg.AssetCheckSpec(
            "contract", asset=["bronze", "events"], description="Pandera: the rows keep the table's contract."
        ),
    ],
    partitions_def=daily,
)
def bronze(context: dg.AssetExecutionContext, config: BronzeConfig, platform: Platform) -> Iterator[Any]:
    lake = platform.lake()
    day = date.fromisoformat(context.partition_key)
    try:
        if config.batch is not None:
            batch = DayBatch.from_json(config.batch)
            if batch.day != day:
                raise dg.Failure(f"Batch of {batch.day} in a run of partition {day}.", allow_retries=False)
            result, ranges = take_in(lake, batch, audit), batch.ranges
        else:
            result, ranges = take_in_again(lake, day, audit)
    except (ContractBreach, StaleWriter, RetentionLoss, TopicTruncated) as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    if result.skipped:
        context.log.info("An earlier run had committed this batch; nothing was written.")
    shared = {"batch/events": result.events, "batch/dead_letters": result.dead_letters, "batch/skipped": result.skipped}
    yield dg.MaterializeResult(
        asset_key=["bronze", "events"], metadata=table_metadata(lake, BRONZE_EVENTS, day) | shared
    )
    yield dg.MaterializeResult(
        asset_key=["bronze", "dead_letters"],
        metadata=table_metadata(lake, BRONZE_DEAD_LETTERS, day)
        | {"batch/reasons": dg.MetadataValue.json(result.reasons)},
    )
    yield _coverage(cover(lake, day, ranges))
    yield dg.AssetCheckResult(
        asset_key=["bronze", "events"], check_name="contract", passed=True, metadata={"rows": result.events}
    )
