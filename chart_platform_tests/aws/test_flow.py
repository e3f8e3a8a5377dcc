"""From Kafka to gold with the tables on S3 and the catalog in Glue: the same commands, the same accounting."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import duckdb
import pytest

from chart_platform.lakehouse.duck import connect
from chart_platform.lakehouse.lake import Lake
from chart_platform.quality.verify import verify
from chart_platform.serving.publish import published_file, shared_copy
from chart_platform.simulator import FaultRates, GroundTruth, SimulationConfig, generate
from chart_platform.simulator.send import send
from chart_platform_tests.aws.conftest import Glue
from chart_platform_tests.command_line import CommandLine
from chart_platform_tests.conftest import KafkaTopics


@pytest.mark.kafka
@pytest.mark.slow
def test_what_was_sent_reaches_gold_on_s3_and_every_message_is_accounted_for(
    glue: Glue,
    aws_settings: Callable[..., dict[str, Any]],
    kafka_topics: KafkaTopics,
    command_line: CommandLine,
) -> None:
    settings = kafka_topics(**aws_settings(), kafka_partitions=2)
    config = SimulationConfig(seed=7, events=300, days=1, end=datetime.now(UTC).date(), faults=FaultRates.default())
    messages = list(generate(config))
    truth = GroundTruth.of(messages).summary()
    send(messages, settings)

    ingested = command_line.run(settings, "ingest", "--json")
    assert ingested.code == 0, ingested.err
    assert ingested.json == {"runs": 1, "messages": truth["sent"], "failed_checks": []}

    recount = verify(Lake(settings))
    assert recount.differences == []
    assert recount.layers["silver.events"]["rows"] == truth["accepted"]
    assert recount.layers["bronze"]["dead_letters"] == truth["dead_letters"]
    gold = {day: sums["gold"] for day, sums in recount.payout_cents_by_day.items()}
    assert gold == {day: cents for day, cents in truth["payout_cents_by_day"].items() if cents}

    found = command_line.run(
        settings, "sql", "--format", "json", "select sum(payout_cents) as cents from gold.fact_funnel"
    )
    assert (found.code, found.json) == (0, [{"cents": truth["payout_cents"]}]), found.err

    _published_file_reads_from_s3(settings, truth)
    _nothing_of_a_table_is_on_this_machine(settings)
    _the_published_file_also_stands_beside_the_tables(glue, settings)


def _published_file_reads_from_s3(settings: Any, truth: dict[str, Any]) -> None:
    reader = connect(settings)
    reader.execute(f"attach '{published_file(settings)}' as published (read_only)")
    assert reader.sql("select sum(payout_cents) from published.gold.fact_funnel").fetchall() == [
        (truth["payout_cents"],)
    ]
    reader.close()


def _nothing_of_a_table_is_on_this_machine(settings: Any) -> None:
    assert not list(settings.root.rglob("*.parquet")) and not list(settings.root.rglob("*.avro"))


def _the_published_file_also_stands_beside_the_tables(glue: Glue, settings: Any) -> None:
    shared = shared_copy(settings)
    assert shared is not None and shared.url == f"{settings.warehouse_url}/published/chart.duckdb"
    copy = settings.root / "copy.duckdb"
    glue.client("s3").download_file(shared.bucket, shared.key, str(copy))
    assert copy.read_bytes() == published_file(settings).read_bytes()
    with duckdb.connect(str(copy), read_only=True) as reader:
        views = reader.sql("select schema_name || '.' || view_name from duckdb_views() where not internal").fetchall()
    assert ("gold.fact_funnel",) in views
