"""Tables of an older contract: they get what the newer one adds, keep their rows, and refuse anything else."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from chart_platform.contracts.tables import BRONZE_DEAD_LETTERS, BRONZE_EVENTS, Column, Table
from chart_platform.lakehouse import maintenance
from chart_platform.lakehouse.catalog import SchemaContradiction, ensure_table, open_catalog
from chart_platform.lakehouse.lake import Change, Lake
from chart_platform.quality.schemas import audit
from chart_platform.transform.ingest import reingest_day
from chart_platform_tests.transform.fixtures import NewHome
from chart_platform_tests.transform.homes import DAY, Home, at, event

pytestmark = pytest.mark.slow

ADDED = {
    "privacy": {"gpc"}, "ctx": {"device", "browser", "os"}, "affiliate": {"position", "network", "context"},
    "metadata": {"key_id", "replayed_from"},
}  # fmt: skip
"""What contract 1.2.0 added to the structs of 1.1.0."""


def before(column: Column) -> Column:
    gone = ADDED.get(column.name)
    return replace(column, type=pa.struct([f for f in column.type if f.name not in gone])) if gone else column


OLD = replace(
    BRONZE_EVENTS,
    columns=tuple(before(c) for c in BRONZE_EVENTS.columns if c.name != "click_id"),
)
"""bronze.events of 1.1.0, and for good measure from before it had a click_id."""


def messages() -> list[object]:
    members: dict[str, Any] = {
        "session": "s", "ctx": {"page_url": "/compare", "locale": "de"},
        "user": {"user_id_hash": "v", "consent": {"analytics": True, "ads": False}},
        "metadata": {"sdk_version": "1", "experiment_keys": ["a", "b"]},
    }  # fmt: skip
    kinds = ["page_view", "chart_interaction", "affiliate_click"]
    return [event(n, at(DAY, "10:00:00") + n, kinds[n % 3], **members) for n in range(9)] + [
        event(9, at(DAY, "11:00:00"))
    ]


def test_a_table_of_an_older_contract_is_read_appended_rewritten_and_rebuilt_like_a_new_one(new_home: NewHome) -> None:
    new, old = new_home(), new_home()
    new.send(DAY, messages())
    as_then = pa.Table.from_pylist(new.rows(BRONZE_EVENTS), schema=OLD.arrow)
    lake = Lake(old.settings)
    written = lake.write(lake.load(OLD), as_then)
    lake.commit(OLD, lambda _: Change(add=written, progress=new.lake.progress(BRONZE_EVENTS)))
    old.log = {partition: list(log) for partition, log in new.log.items()}

    assert old.multiset(BRONZE_EVENTS) == new.multiset(BRONZE_EVENTS)
    later = event(20, at(DAY, "12:00:00"), ctx={"device": "phone", "os": "iOS"}, click_id="c1",
                  affiliate={"network": "awin", "position": 2})  # fmt: skip
    for home in (new, old):
        home.send(DAY, [later])
    assert old.multiset(BRONZE_EVENTS) == new.multiset(BRONZE_EVENTS)
    assert {row["ctx"]["device"] for row in old.rows(BRONZE_EVENTS) if row["ctx"]} == {None, "phone"}

    # Some rows of an old file go: what stays is rewritten with the new members.
    part = old.batch(DAY, {0: (3, 5)})
    reingest_day(old.lake, part, old.read(part), audit)
    assert old.multiset(BRONZE_EVENTS) == new.multiset(BRONZE_EVENTS)
    whole = old.batch(DAY, {0: (0, len(old.log[0]))})
    reingest_day(old.lake, whole, old.read(whole), audit)
    assert old.multiset(BRONZE_EVENTS) == new.multiset(BRONZE_EVENTS)
    for home in (new, old):
        home.advance()
    assert old.lake.progress(BRONZE_EVENTS) == new.lake.progress(BRONZE_EVENTS)


def test_a_merge_of_files_from_before_and_after_an_evolution_keeps_every_row(new_home: NewHome) -> None:
    home = new_home()
    lake = Lake(home.settings)
    empty: dict[str, Any] = dict.fromkeys(OLD.arrow.names)
    row = empty | {
        "event_type": "page_view", "event_id": "e", "ts": 0, "ingest_ts": 1, "ctx": {"locale": "de"},
        "kafka_partition": 7, "kafka_offset": 0, "kafka_ts": 0, "ingest_dt": DAY, "hour": "12",
    }  # fmt: skip
    lake.commit(OLD, lambda t: Change(add=lake.write(t, pa.Table.from_pylist([row], schema=OLD.arrow))))
    for n in range(maintenance.MANY_FILES):
        home.send(DAY, [event(n, at(DAY, "10:00:00"), ctx={"device": "phone"})])
    rows = home.multiset(BRONZE_EVENTS)
    assert maintenance.compact(home.lake, BRONZE_EVENTS).files_merged == maintenance.MANY_FILES + 1
    assert home.multiset(BRONZE_EVENTS) == rows and rows.total() == maintenance.MANY_FILES + 1


def test_starters_at_the_same_time_add_each_column_once(new_home: NewHome) -> None:
    home = new_home()
    Lake(home.settings).load(OLD)
    together, errors = threading.Barrier(4), []

    def start() -> None:
        lake = open_catalog(home.settings)
        together.wait()
        try:
            ensure_table(lake, home.settings, BRONZE_EVENTS)
        except Exception as error:
            errors.append(error)

    starters = [threading.Thread(target=start) for _ in range(4)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    assert errors == []
    found = home.lake.load(BRONZE_EVENTS).schema()
    assert sorted(f.name for f in found.fields) == sorted(BRONZE_EVENTS.arrow.names)
    assert {f.name for f in found.find_field("ctx").field_type.fields} >= ADDED["ctx"]


def changed(table: Table, column: str, **members: Any) -> Table:
    return replace(table, columns=tuple(replace(c, **members) if c.name == column else c for c in table.columns))


@pytest.mark.parametrize(
    ("newer", "named"),
    [
        (changed(BRONZE_DEAD_LETTERS, "origin", type=pa.int64()), "origin"),
        (changed(BRONZE_DEAD_LETTERS, "origin", required=True), "origin"),
        (changed(BRONZE_DEAD_LETTERS, "origin", name="file", required=True), "file, origin"),
        (changed(BRONZE_DEAD_LETTERS, "reasons", type=pa.list_(pa.struct([("code", pa.string())]))), "reasons.message"),
        (changed(BRONZE_DEAD_LETTERS, "headers", name="header"), "headers"),
        (changed(BRONZE_DEAD_LETTERS, "reasons", type=pa.string()), "reasons"),
    ],
    ids=["type", "now required", "new and required", "member gone", "renamed", "no longer a list"],
)
def test_anything_but_an_optional_addition_is_refused_and_named(new_home: NewHome, newer: Table, named: str) -> None:
    home: Home = new_home()
    schema = home.lake.load(BRONZE_DEAD_LETTERS).schema()
    with pytest.raises(SchemaContradiction, match=f"differ in {named}"):
        ensure_table(open_catalog(home.settings), home.settings, newer)
    assert home.lake.load(BRONZE_DEAD_LETTERS).schema() == schema


def test_members_are_added_inside_lists(new_home: NewHome) -> None:
    home = new_home()
    home.send(DAY, [b"broken"])
    wider = pa.list_(pa.struct([pa.field(name, pa.string()) for name in ("code", "hint", "pointer", "message")]))
    newer = changed(BRONZE_DEAD_LETTERS, "reasons", type=wider)
    ensure_table(open_catalog(home.settings), home.settings, newer)
    (row,) = home.rows(newer)
    assert row["reasons"][0]["code"] == "invalid_json" and row["reasons"][0]["hint"] is None
