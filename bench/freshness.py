"""How long an event takes from Kafka to gold, from what the tables of a running instance say: nothing is instrumented.

Belongs here: the measurement of `post → gold`. Every bronze row has the broker's append time; the first snapshot of
gold.fact_funnel whose recorded offsets are past the row's offset is the moment at which it was in gold.

    CHART_HOME=… .venv/bin/python -m bench.freshness --minutes 10
"""

import argparse
import json
from datetime import UTC, datetime, timedelta

from chart_platform.contracts.tables import BRONZE_EVENTS, FACT_FUNNEL
from chart_platform.lakehouse.duck import connect, create_views
from chart_platform.lakehouse.lake import Lake
from chart_platform.lakehouse.progress import KEY, Progress
from chart_platform.settings import get_settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="look at events of the last so many minutes")
    since = datetime.now(UTC) - timedelta(minutes=parser.parse_args().minutes)
    lake = Lake(get_settings())
    connection = connect(lake.settings)
    create_views(connection, lake, [BRONZE_EVENTS])
    connection.execute("create table gold_commit (committed timestamp, p integer, next_offset bigint)")
    for snapshot in lake.load(FACT_FUNNEL).snapshots():
        progress = Progress.from_json(snapshot.summary.additional_properties[KEY])
        at = datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC).replace(tzinfo=None)
        connection.executemany(
            "insert into gold_commit values (?, ?, ?)", [[at, p, o] for p, o in progress.offsets.items()]
        )
    (row,) = connection.execute(
        """
        with arrived as (
            select b.kafka_ts, min(g.committed) as in_gold
            from bronze.events as b
            join gold_commit as g on g.p = b.kafka_partition and g.next_offset > b.kafka_offset
            where b.kafka_ts >= $since
            group by b.kafka_partition, b.kafka_offset, b.kafka_ts
        )
        select count(*), quantile_cont(epoch(in_gold - kafka_ts), [0.5, 0.95, 0.99]), max(epoch(in_gold - kafka_ts)),
            count(*) / nullif(epoch(max(kafka_ts) - min(kafka_ts)), 0)
        from arrived
        """,
        {"since": since.replace(tzinfo=None)},
    ).fetchall()
    events, quantiles, worst, rate = row
    figures = dict(zip(("p50", "p95", "p99"), (round(q, 1) for q in quantiles or ()), strict=False))
    print(
        json.dumps({"events": events, "events_per_s": round(rate or 0, 1), "seconds_to_gold": figures | {"max": worst}})
    )


if __name__ == "__main__":
    main()
