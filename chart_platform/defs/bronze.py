"""The topics as external assets, and the bronze assets that take it in: incrementally by ranges, or a day again."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg

from chart_platform.contracts.feeds import Feed, feeds
from chart_platform.contracts.tables import BRONZE_DEAD_LETTERS, BRONZE_EVENTS, Table
from chart_platform.defs.metadata import spec, table_metadata
from chart_platform.defs.partitions import daily
from chart_platform.defs.resources import Platform
from chart_platform.lakehouse.lake import Lake, StaleWriter
from chart_platform.quality.reconciliation import Coverage, cover
from chart_platform.quality.schemas import ContractBreach, audit
from chart_platform.settings import get_settings
from chart_platform.stream.planning import OffsetRange, RetentionLoss, TopicTruncated
from chart_platform.transform.ingest import IngestResult
from chart_platform.transform.source import Intake, take_in, take_in_again

TOPIC_KEY = dg.AssetKey(["kafka", *get_settings().kafka_topic.split(".")])
DLQ_KEY = dg.AssetKey(["kafka", *get_settings().kafka_dlq_topic.split(".")])
TOPIC_KEYS = {"events": TOPIC_KEY, "dead_letters": DLQ_KEY}
"""The topic of each feed."""

topics = [
    dg.AssetSpec(
        key,
        description=f"{what} Its observations show end offsets and lag in messages.",
        group_name="kafka",
        kinds={"kafka"},
        owners=[BRONZE_EVENTS.owner],
    )
    for key, what in ((TOPIC_KEY, "The Kafka topic of events."), (DLQ_KEY, "The Kafka topic of edge refusals."))
]

_EVERY_OFFSET = "Per Kafka partition, {} every offset of the range once."


class BronzeConfig(dg.Config):
    """``intake``: batches as the sensor planned them. Without it the whole day is read again and replaced."""

    intake: str | None = None


def _coverage(table: Table, found: list[Coverage]) -> dg.AssetCheckResult:
    lines = ["partition | start | end | events | dead letters | missing | doubled | no message", "--- | " * 7 + "---"]
    lines += [
        f"{c.partition} | {c.start} | {c.end} | {c.events} | {c.dead_letters} | {c.missing} | {c.doubled} | {c.unreadable}"
        for c in found
    ]
    return dg.AssetCheckResult(
        asset_key=[table.namespace, table.name],
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


def _take(lake: Lake, day: date, config: BronzeConfig) -> Iterator[tuple[Feed, IngestResult, tuple[OffsetRange, ...]]]:
    """Do what ``config`` asks for, feed by feed; a feed without anything to take costs nothing."""
    if config.intake is None:
        again = take_in_again(lake, day, audit)
        yield from ((feed, *again[feed.name]) for feed in feeds(lake.settings))
        return
    intake = Intake.from_json(config.intake)
    if intake.day != day:
        raise dg.Failure(f"Intake of {intake.day} in a run of partition {day}.", allow_retries=False)
    for feed in feeds(lake.settings):
        batch = intake.batches.get(feed.name)
        taken = take_in(lake, feed, batch, audit) if batch is not None else IngestResult()
        yield feed, taken, batch.ranges if batch is not None else ()


@dg.multi_asset(
    name="bronze",
    specs=[
        spec(BRONZE_EVENTS, deps=[TOPIC_KEY], kinds={"iceberg", "python"}),
        spec(BRONZE_DEAD_LETTERS, deps=[TOPIC_KEY, DLQ_KEY], kinds={"iceberg", "python"}),
    ],
    check_specs=[
        dg.AssetCheckSpec(
            "reconciliation",
            asset=["bronze", "events"],
            description=_EVERY_OFFSET.format("bronze.events plus bronze.dead_letters hold"),
        ),
        dg.AssetCheckSpec(
            "reconciliation",
            asset=["bronze", "dead_letters"],
            description=_EVERY_OFFSET.format("bronze.dead_letters holds of the edge's topic"),
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
        taken = list(_take(lake, day, config))
    except (ContractBreach, StaleWriter, RetentionLoss, TopicTruncated) as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    results = {feed.name: result for feed, result, _ in taken}
    events, letters = results["events"], results["dead_letters"]
    for name, result in results.items():
        if result.skipped:
            context.log.info(f"An earlier run had committed this batch of {name}; nothing was written.")
    yield dg.MaterializeResult(
        asset_key=["bronze", "events"],
        metadata=table_metadata(lake, BRONZE_EVENTS, day)
        | {"batch/events": events.events, "batch/dead_letters": events.dead_letters, "batch/skipped": events.skipped},
    )
    yield dg.MaterializeResult(
        asset_key=["bronze", "dead_letters"],
        metadata=table_metadata(lake, BRONZE_DEAD_LETTERS, day)
        | {
            "batch/reasons": dg.MetadataValue.json(events.reasons),
            "batch/edge_reasons": dg.MetadataValue.json(letters.reasons),
            "batch/edge_dead_letters": letters.dead_letters,
        },
    )
    for feed, _, ranges in taken:
        yield _coverage(feed.table, cover(lake, feed, day, ranges))
    yield dg.AssetCheckResult(
        asset_key=["bronze", "events"], check_name="contract", passed=True, metadata={"rows": events.events}
    )
