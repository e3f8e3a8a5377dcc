"""The audit that trusts nobody: recount from Kafka's bytes to gold, without the pipeline's code or its checks.

Messages are read again, by another Kafka client, and parsed by the plain JSON parser; every layer is then compared by offsets, event ids and
payout per day. Belongs here: that recount. Does not belong here: the running checks (``reconciliation``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import duckdb
import orjson
import pyarrow as pa

from chart_platform.contracts.tables import (
    BRONZE_DEAD_LETTERS,
    BRONZE_EVENTS,
    FACT_AFFILIATE_CLICKS,
    FACT_FUNNEL,
    SILVER_EVENTS,
    SILVER_SESSIONS,
)
from chart_platform.lakehouse.duck import connect, create_views, relation
from chart_platform.lakehouse.lake import Lake
from chart_platform.lakehouse.progress import progress_of, snapshot_at
from chart_platform.quality.recount import IndependentReader, Recounted

_RECOUNT = pa.schema(
    [
        ("p", pa.int32()),
        ("o", pa.int64()),
        ("event_id", pa.string()),
        ("ts", pa.string()),
        ("ingest_ts", pa.int64()),
        ("payout_cents", pa.int64()),
    ]
)
_MOST_EXAMPLES = 5
_DERIVED = (SILVER_SESSIONS, FACT_FUNNEL, FACT_AFFILIATE_CLICKS)


@dataclass
class Verification:
    """Figures by layer, payout by day, and every difference in words. ``ok`` iff there is no difference."""

    layers: dict[str, dict[str, int]] = field(default_factory=dict)
    payout_cents_by_day: dict[str, dict[str, int]] = field(default_factory=dict)
    explained: dict[str, int] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.differences

    def to_dict(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "layers": self.layers,
            "payout_cents_by_day": self.payout_cents_by_day,
            "explained": self.explained,
            "differences": self.differences,
        }


def verify(lake: Lake, on_progress: Callable[[int, int], None] | None = None) -> Verification:
    """Recount everything. Costs a full reading of the topic and of every table."""
    report = Verification()
    committed, snapshots = _level(lake, report)
    reader = IndependentReader(lake.settings, lake.settings.kafka_topic)
    earliest, latest = reader.ends()
    report.explained["not_yet_ingested"] = sum(end - committed.get(p, earliest[p]) for p, end in latest.items())
    ranges = {p: (earliest[p], end) for p, end in sorted(committed.items()) if p in earliest and end > earliest[p]}
    if beyond := {p: end for p, end in committed.items() if end > latest.get(p, 0)}:
        report.differences.append(f"Offsets taken in that Kafka does not have (topic recreated?): {beyond}")
    connection = connect(lake.settings)
    create_views(connection, lake, snapshots=snapshots)
    connection.register("nothing", _RECOUNT.empty_table())
    connection.execute("create table kafka as select * from nothing")
    _read_topic(reader, connection, ranges, on_progress)
    reader.close()
    connection.execute(
        """
        create table held as
        select kafka_partition as p, kafka_offset as o, event_id, true as is_event from bronze.events
        union all
        select kafka_partition, kafka_offset, null, false from bronze.dead_letters where topic = $topic
        """,
        {"topic": lake.settings.kafka_topic},
    )
    connection.execute("create table bounds (p integer, low bigint, high bigint)")
    for partition, (start, end) in ranges.items():
        connection.execute("insert into bounds values (?, ?, ?)", [partition, start, end])
    # Dead letters commit first, so they may be ahead of the common offsets.
    connection.execute("delete from held as h using bounds as b where not h.is_event and b.p = h.p and h.o >= b.high")
    _kafka_to_bronze(connection, report, committed)
    _bronze_to_silver(connection, report)
    _silver_to_gold(connection, report)
    _payouts(connection, report)
    connection.close()
    _refused_at_the_edge(lake, report)
    return report


def _refused_at_the_edge(lake: Lake, report: Verification) -> None:
    """Compare the edge's dead letters, offset by offset and byte for byte, with their topic."""
    topic = lake.settings.kafka_dlq_topic
    current = lake.load(BRONZE_DEAD_LETTERS)
    progress = progress_of(current)
    committed = dict(progress.offsets) if progress else {}
    reader = IndependentReader(lake.settings, topic)
    earliest, latest = reader.ends()
    report.explained["dead_letters_not_yet_ingested"] = sum(
        end - committed.get(p, earliest[p]) for p, end in latest.items()
    )
    if beyond := {p: end for p, end in committed.items() if end > latest.get(p, 0)}:
        report.differences.append(f"Offsets of {topic} taken in that Kafka does not have (topic recreated?): {beyond}")
    ranges = {p: (earliest[p], end) for p, end in committed.items() if p in earliest and end > earliest[p]}
    connection = connect(lake.settings)
    connection.execute("create table sent (p integer, o bigint, digest varchar)")
    connection.execute("create table bounds (p integer, low bigint, high bigint)")
    for partition, (start, end) in ranges.items():
        connection.execute("insert into bounds values (?, ?, ?)", [partition, start, end])
    for messages in reader.messages(ranges):
        digests = [None if m.value is None else sha256(m.value).hexdigest() for m in messages]
        read = pa.table({"p": [m.partition for m in messages], "o": [m.offset for m in messages], "digest": digests})
        connection.register("read", read)
        connection.execute("insert into sent select * from read")
    reader.close()
    source = relation(current, BRONZE_DEAD_LETTERS, lake.files(current))
    connection.execute(
        f"create table held as select kafka_partition as p, kafka_offset as o, sha256(raw) as digest, source "
        f"from {source} where topic = $topic",
        {"topic": topic},
    )
    report.layers["edge"] = {
        "messages": _number(connection, "select count(*) from sent"),
        "dead_letters": _number(connection, "select count(*) from held"),
    }
    in_bounds = "exists (select 1 from bounds as b where b.p = h.p and h.o >= b.low and h.o < b.high)"
    report.explained["dead_letters_no_longer_in_kafka"] = _number(
        connection, f"select count(*) from held as h where not {in_bounds}"
    )
    for what, sql in {
        "Dead letters of the edge lost": "select p, o from sent anti join held using (p, o)",
        "Dead letters of the edge doubled": "select p, o, count(*) as n from held group by all having count(*) > 1",
        "Dead letters of the edge that Kafka has no message for": f"select p, o from held as h anti join sent using (p, o) where {in_bounds}",
        "Dead letters of the edge with other bytes than the message": "select p, o from held join sent using (p, o) where held.digest is distinct from sent.digest",
        "Dead letters of the edge not marked as such": "select p, o, source from held where source <> 'edge'",
    }.items():
        _expect_none(connection, report, what, sql)
    connection.close()


def _read_topic(
    reader: IndependentReader,
    connection: duckdb.DuckDBPyConnection,
    ranges: Mapping[int, tuple[int, int]],
    on_progress: Callable[[int, int], None] | None,
) -> None:
    done, total = 0, sum(end - start for start, end in ranges.values())
    for messages in reader.messages(ranges):
        connection.register("recount", _recount(messages))
        connection.execute("insert into kafka select * from recount")
        done += len(messages)
        if on_progress is not None:
            on_progress(done, total)


def _recount(messages: Sequence[Recounted]) -> pa.Table:
    ids: list[str | None] = []
    times: list[str | None] = []
    received: list[int | None] = []
    cents: list[int | None] = []
    for message in messages:
        try:
            event = _parse(message.value or b"")
            click = event.get("affiliate") or {}
            row = (event.get("event_id"), event.get("ts"), event.get("ingest_ts"), click.get("payout_cents"))
        except (ValueError, AttributeError, RecursionError):
            row = (None, None, None, None)
        ids.append(row[0] if isinstance(row[0], str) and row[0].isascii() else None)
        times.append(row[1] if isinstance(row[1], str) and row[1].isascii() else None)
        received.append(row[2] if isinstance(row[2], int) and 0 <= row[2] < 2**53 else message.appended_ms)
        paid = row[3]
        whole = isinstance(paid, int) or (isinstance(paid, float) and paid.is_integer())
        cents.append(int(paid) if whole and paid is not None and abs(paid) < 2**53 else None)
    columns = [[m.partition for m in messages], [m.offset for m in messages], ids, times, received, cents]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, _RECOUNT, strict=True)], schema=_RECOUNT)


def _parse(value: bytes) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        # A lone surrogate in a title, which orjson refuses; the event is valid all the same.
        return json.loads(value)


def _number(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    return int(connection.sql(sql).fetchall()[0][0] or 0)


def _expect_none(connection: duckdb.DuckDBPyConnection, report: Verification, what: str, sql: str) -> None:
    """``sql`` finds rows that should not be. Their number and a few of them go to the report."""
    count = _number(connection, f"select count(*) from ({sql})")
    if count:
        examples = "; ".join(str(row) for row in connection.sql(f"{sql} limit {_MOST_EXAMPLES}").fetchall())
        report.differences.append(f"{what}: {count} (e.g. {examples})")


def _kafka_to_bronze(connection: duckdb.DuckDBPyConnection, report: Verification, committed: dict[int, int]) -> None:
    report.layers["kafka"] = {
        "messages": _number(connection, "select count(*) from kafka"),
        "committed_offsets": sum(committed.values()),
    }
    report.layers["bronze"] = {
        "events": _number(connection, "select count(*) from held where is_event"),
        "dead_letters": _number(connection, "select count(*) from held where not is_event"),
    }
    in_bounds = "exists (select 1 from bounds as b where b.p = h.p and h.o >= b.low and h.o < b.high)"
    # Rows of offsets that Kafka's retention dropped can't be compared with bytes any more.
    report.explained["no_longer_in_kafka"] = _number(
        connection, f"select count(*) from held as h where not {in_bounds}"
    )
    _expect_none(
        connection,
        report,
        "Messages of Kafka lost (neither in bronze.events nor in bronze.dead_letters)",
        "select k.p, k.o from kafka as k anti join held as h on h.p = k.p and h.o = k.o",
    )
    _expect_none(
        connection,
        report,
        "Offsets doubled in bronze",
        "select p, o, count(*) as n from held group by p, o having count(*) > 1",
    )
    _expect_none(
        connection,
        report,
        "Rows of bronze that Kafka has no message for",
        f"select h.p, h.o from held as h anti join kafka as k on h.p = k.p and h.o = k.o where {in_bounds}",
    )
    _expect_none(
        connection,
        report,
        "Rows of bronze.events with another event_id than the message",
        "select h.p, h.o, h.event_id, k.event_id from held as h join kafka as k on h.p = k.p and h.o = k.o "
        "where h.is_event and k.event_id is not null and h.event_id <> k.event_id",
    )


def _bronze_to_silver(connection: duckdb.DuckDBPyConnection, report: Verification) -> None:
    bronze = "select distinct event_id, cast(ts as date) as event_dt from bronze.events"
    report.layers["silver.events"] = {
        "rows": _number(connection, "select count(*) from silver.events"),
        "distinct_in_bronze": _number(connection, f"select count(*) from ({bronze})"),
    }
    report.explained["duplicates"] = (
        report.layers["bronze"]["events"] - report.layers["silver.events"]["distinct_in_bronze"]
    )
    _expect_none(
        connection,
        report,
        "Events of bronze lost in silver",
        f"select event_id, event_dt from ({bronze}) anti join silver.events using (event_id, event_dt)",
    )
    _expect_none(
        connection,
        report,
        "Events doubled in silver",
        "select event_id, event_dt, count(*) as n from silver.events group by all having count(*) > 1",
    )
    _expect_none(
        connection,
        report,
        "Event ids used for different events on different days",
        "select event_id, count(distinct event_dt) as days from silver.events group by event_id having count(distinct event_dt) > 1",
    )
    _expect_none(
        connection,
        report,
        "Events of silver that bronze lacks",
        f"select event_id, event_dt from silver.events anti join ({bronze}) using (event_id, event_dt)",
    )


def _silver_to_gold(connection: duckdb.DuckDBPyConnection, report: Verification) -> None:
    for name in (SILVER_SESSIONS, FACT_FUNNEL, FACT_AFFILIATE_CLICKS):
        report.layers[name.full_name] = {"rows": _number(connection, f"select count(*) from {name.full_name}")}
    anonymous = "session_id is null and user_id_hash is null"
    report.explained["events_without_visit_or_visitor"] = _number(
        connection, f"select count(*) from silver.events where {anonymous}"
    )
    expected = report.layers["silver.events"]["rows"] - report.explained["events_without_visit_or_visitor"]
    counted = _number(connection, "select sum(pageviews + chart_interactions + affiliate_clicks) from silver.sessions")
    report.layers["silver.sessions"]["events"] = counted
    if counted != expected:
        report.differences.append(
            f"silver.sessions counts {counted} events, silver.events has {expected} that belong to a visit"
        )
    sessions, funnels = report.layers["silver.sessions"]["rows"], report.layers["gold.fact_funnel"]["rows"]
    if sessions != funnels:
        report.differences.append(f"gold.fact_funnel has {funnels} visits, silver.sessions {sessions}")
    _expect_none(
        connection,
        report,
        "Visits that differ between silver.sessions and gold.fact_funnel",
        "(select session_id, session_start_ts, affiliate_clicks > 0 as clicked from silver.sessions "
        "except select session_id, session_start_ts, clicked_affiliate from gold.fact_funnel)",
    )
    clicks = "select event_id, event_dt, coalesce(payout_cents, 0) as cents from silver.events where event_type = 'affiliate_click'"
    facts = "select event_id, event_dt, coalesce(payout_cents, 0) as cents from gold.fact_affiliate_clicks"
    _expect_none(connection, report, "Clicks of silver lost or changed in gold", f"({clicks} except all {facts})")
    _expect_none(connection, report, "Clicks of gold that silver lacks", f"({facts} except all {clicks})")
    _expect_none(
        connection,
        report,
        "Visits whose funnel payout is not the sum of their clicks",
        """
        with by_click as (
            select session_id, sum(coalesce(payout_cents, 0)) as cents
            from gold.fact_affiliate_clicks where session_id is not null group by 1
        ),
        by_funnel as (select session_id, sum(payout_cents) as cents from gold.fact_funnel group by 1)
        select session_id, by_click.cents, by_funnel.cents
        from by_funnel full join by_click using (session_id)
        where coalesce(by_click.cents, 0) <> coalesce(by_funnel.cents, 0)
        """,
    )


def _payouts(connection: duckdb.DuckDBPyConnection, report: Verification) -> None:
    """Sums of payout_cents by event day, as each layer has them. Kafka's and bronze's count an event once."""
    kafka = """
        select cast(cast(ts as timestamptz) at time zone 'UTC' as date) as day, arg_min(payout_cents, ingest_ts) as cents
        from kafka semi join (select p, o from held where is_event) using (p, o) group by event_id, 1
    """
    bronze = """
        select cast(ts as date) as day, arg_min(affiliate.payout_cents, ingest_ts) as cents
        from bronze.events group by event_id, 1
    """
    layers = {
        "kafka": f"select day, sum(cents) from ({kafka}) group by 1",
        "bronze": f"select day, sum(cents) from ({bronze}) group by 1",
        "silver": "select event_dt, sum(payout_cents) from silver.events group by 1",
        "gold": "select event_dt, sum(payout_cents) from gold.fact_affiliate_clicks group by 1",
    }
    for layer, sql in layers.items():
        for day, cents in connection.sql(sql).fetchall():
            if cents:
                report.payout_cents_by_day.setdefault(str(day), {})[layer] = int(cents)
    compared = ["bronze", "silver", "gold"] if report.explained["no_longer_in_kafka"] else list(layers)
    for day, sums in sorted(report.payout_cents_by_day.items()):
        if len({sums.get(layer, 0) for layer in compared}) > 1:
            report.differences.append(
                f"Payout of {day} differs: " + ", ".join(f"{x} {sums.get(x, 0)}" for x in compared)
            )
    report.payout_cents_by_day = dict(sorted(report.payout_cents_by_day.items()))


def _level(lake: Lake, report: Verification) -> tuple[dict[int, int], dict[str, int]]:
    """The offsets that every table has taken in, and each table's snapshot of that moment.

    While the pipeline runs, bronze is ahead of gold. Each run hands the same offsets from table to table, so there is
    a snapshot of each table for the offsets of the one that is furthest behind.
    """
    found = {table: lake.progress(table) for table in (BRONZE_EVENTS, SILVER_EVENTS, *_DERIVED)}
    first = found[BRONZE_EVENTS]
    if first is None:
        return {}, {}
    last = min((dict(p.offsets) if p else {} for p in found.values()), key=lambda offsets: sum(offsets.values()))
    snapshots: dict[str, int] = {}
    for table in found:
        snapshot_id = snapshot_at(lake.load(table), last)
        if snapshot_id is None:
            behind = sum(first.offsets.values()) - sum(last.values())
            report.differences.append(
                f"Tables stand at different offsets ({behind} apart) and {table.full_name} has no snapshot of the common ones;"
                " run chart-platform ingest."
            )
            return dict(first.offsets), {}
        snapshots[table.full_name] = snapshot_id
    report.explained["in_bronze_on_the_way_to_gold"] = sum(first.offsets.values()) - sum(last.values())
    return last, snapshots
