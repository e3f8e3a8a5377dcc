"""gold.fact_conversions and its reconciliation: latest states, clicks that come late, money that differs and why."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chart_platform.contracts.tables import (
    CONVERSION_RECONCILIATION,
    CONVERSION_REPORTS,
    FACT_AFFILIATE_CLICKS,
    FACT_CONVERSIONS,
)
from chart_platform.conversions import gold
from chart_platform.conversions.gold import update_facts, update_reconciliation
from chart_platform.lakehouse.changes import Made
from chart_platform.lakehouse.lake import Change
from chart_platform.lakehouse.maintenance import _merge, expire
from chart_platform.quality.conversions import balance_conversions, balance_reconciliation, doubled_transactions
from chart_platform.quality.schemas import audit
from chart_platform_tests.conversions.conversion_world import DAY, NOON, PRODUCTS, World, report
from chart_platform_tests.transform.fixtures import examples, settings

pytestmark = pytest.mark.slow

MORNING = NOON - timedelta(hours=1)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def _take(world: World, *records: Mapping[str, Any], network: str = "plain") -> None:
    world.drop(f"{network}/{world.now:%H%M}-{len(list(world.folder.rglob('*')))}.ndjson", list(records))
    world.take()


def _explained(world: World) -> dict[str, tuple[int, int, int | None]]:
    """Clicks, conversions and difference by explanation; the difference is None where it is not to be told."""
    summed: dict[str, tuple[int, int, int | None]] = {}
    for row in world.rows(CONVERSION_RECONCILIATION):
        clicks, conversions, difference = summed.get(row["explanation"], (0, 0, 0))
        told = None if None in (difference, row["difference_cents"]) else difference + row["difference_cents"]
        summed[row["explanation"]] = (clicks + row["clicks"], conversions + row["conversions"], told)
    return summed


def test_the_networks_own_time_decides_which_state_is_the_latest_and_then_the_receipt(world: World) -> None:
    _take(world, report("t1", status="paid", updated="2026-11-03T00:00:00"))
    _take(world, report("t1", status="pending", updated="2026-11-02T13:00:00"))
    _take(world, report("t1", status="paid", commission="90.00", updated="2026-11-03T00:00:00"))
    world.update()
    row = world.fact("t1")
    assert (row["status"], row["due_cents"], row["reports"]) == ("paid", 9000, 3)
    assert [(state["status"], state["commission_cents"]) for state in row["history"]] == [
        ("pending", 9200),
        ("paid", 9200),
        ("paid", 9000),
    ]


def test_a_report_that_comes_again_is_no_new_state(world: World) -> None:
    _take(world, report("t1"))
    _take(world, report("t1", note="re-sent"))
    world.update()
    row = world.fact("t1")
    assert (row["reports"], len(row["history"])) == (2, 1)
    assert row["first_seen_at"] < row["last_seen_at"]


def test_networks_that_tell_no_time_of_change_are_believed_in_the_order_of_receipt(world: World) -> None:
    line = {"id": "t1", "click": "c", "at": NOON.isoformat(), "commission": "5.00"}
    _take(world, line | {"status": "declined"}, network="other")
    _take(world, line | {"status": "ok"}, line | {"status": "declined"}, network="other")
    world.update()
    row = world.fact("t1")
    assert (row["status"], [state["status"] for state in row["history"]]) == (
        "reversed",
        ["reversed", "approved", "reversed"],
    )


@pytest.mark.parametrize("written", ["0.00", "-92.00", "92.00"])
def test_a_reversal_takes_all_of_the_commission_however_the_network_writes_it(world: World, written: str) -> None:
    _take(world, report("t1"))
    _take(world, report("t1", status="reversed", commission=written, updated="2026-11-03T00:00:00"))
    world.update()
    row = world.fact("t1")
    assert (row["due_cents"], row["reversed_cents"], row["commission_cents"]) == (0, 9200, round(float(written) * 100))


def test_a_conversion_that_came_before_its_click_is_matched_when_the_click_comes(world: World) -> None:
    _take(world, report("t1", click="c1"), report("t2"))
    world.update()
    assert [world.fact(t)["match"] for t in ("t1", "t2")] == ["unknown_click", "no_click_id"]
    click = world.click("c1")
    assert world.update().rows == 1
    row = world.fact("t1")
    assert (row["match"], row["click_event_id"], row["session_id"]) == ("matched", click["event_id"], "visit")
    assert (row["affiliate_link_id"], row["product_id"], row["expected_payout_cents"]) == (
        "sitesmith-premium-top", "sitesmith", 9200)  # fmt: skip
    assert world.update() == Made()


def test_of_several_clicks_only_what_they_share_is_said(world: World) -> None:
    world.click("c1")
    world.click("c1", affiliate_link_id="tilekit-basic-top")
    _take(world, report("t1", click="c1"))
    world.update()
    row = world.fact("t1")
    assert (row["match"], row["click_event_id"], row["affiliate_link_id"]) == ("ambiguous", None, None)
    assert (row["session_id"], row["click_dt"], row["expected_payout_cents"]) == ("visit", DAY, 9200)


def test_a_click_of_another_network_or_beyond_the_window_is_not_the_conversions(world: World) -> None:
    world.click("c1", affiliate_network="other")
    world.click("c2", ts=MORNING - timedelta(days=121))
    world.click("c3", ts=MORNING - timedelta(days=120))
    world.click("c4", affiliate_network=None)
    _take(world, *(report(f"t{n}", click=f"c{n}") for n in (1, 2, 3, 4)))
    world.update()
    found = [world.fact(f"t{n}")["match"] for n in (1, 2, 3, 4)]
    assert found == ["unknown_click", "unknown_click", "matched", "matched"]


def test_a_sub_id_that_later_reports_leave_out_stays(world: World) -> None:
    world.click("c1")
    _take(world, report("t1", click="c1"))
    _take(world, report("t1", status="paid", updated="2026-11-04T00:00:00"))
    world.update()
    row = world.fact("t1")
    assert (row["status"], row["click_id"], row["match"]) == ("paid", "c1", "matched")


def test_a_conversion_whose_day_is_corrected_moves(world: World) -> None:
    _take(world, report("t1"))
    world.update()
    _take(world, report("t1", at="2026-10-30T08:00:00", updated="2026-11-03T00:00:00"))
    world.update()
    assert [row["event_dt"].isoformat() for row in world.rows(FACT_CONVERSIONS)] == ["2026-10-30"]


def test_every_difference_between_clicked_and_paid_has_its_reason(world: World) -> None:
    for number in range(1, 6):
        world.click(f"c{number}")
    world.click(None)
    world.click("c7", affiliate_context="expired")
    world.click("twice")
    world.click("twice")
    _take(
        world,
        report("t1", click="c1"),
        report("t2", click="c2", commission="80.00", status="pending"),
        report("t3", click="c3", status="reversed"),
        report("t4", click="c4", currency="EUR"),
        report("t6"),
        report("t8", click="twice"),
        report("t9", click="elsewhere", status="paid"),
    )
    world.update()
    assert _explained(world) == {
        "agrees": (1, 1, 0),
        "amount_differs": (1, 1, -1200),
        "reversed": (1, 1, -9200),
        "other_currency": (1, 1, None),
        "not_reported": (1, 0, -9200),
        "no_click_id": (1, 1, 0),
        "untrusted_click": (1, 0, -9200),
        "duplicate_click_id": (2, 1, -9200),
        "unknown_click": (0, 1, 9200),
    }
    assert all(balance.ok for balance in balance_reconciliation(world.lake, [DAY]))


def test_years_of_clicks_are_reconciled_in_parts_with_the_same_result(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.clicks({"click_id": f"c{n}", "ts": MORNING - timedelta(days=n % 5)} for n in range(20))
    _take(world, *(report(f"t{n}", click=f"c{n}") for n in range(0, 20, 3)))
    update_facts(world.lake, audit, PRODUCTS)
    monkeypatch.setattr(gold, "_CLICKS_AT_ONCE", 9)
    parts = []
    whole = gold._reconciled
    monkeypatch.setattr(gold, "_reconciled", lambda follower, days: parts.append(len(days)) or whole(follower, days))
    update_reconciliation(world.lake, audit, PRODUCTS)
    in_parts = world.rows(CONVERSION_RECONCILIATION)
    assert parts == [2, 2, 1]
    monkeypatch.undo()
    update_reconciliation(world.lake, audit, {})
    update_reconciliation(world.lake, audit, PRODUCTS)
    assert world.rows(CONVERSION_RECONCILIATION) == in_parts
    assert sum(row["clicks"] for row in in_parts) == 20


def test_the_checks_find_what_is_lost_doubled_or_changed(world: World) -> None:
    world.click("c1")
    _take(world, report("t1", click="c1"), report("t2"))
    world.update()
    assert all(s.ok for s in balance_conversions(world.lake)) and doubled_transactions(world.lake) == 0
    again = pa.Table.from_pylist(world.rows(FACT_CONVERSIONS), schema=FACT_CONVERSIONS.arrow)
    world.lake.commit(FACT_CONVERSIONS, lambda current: Change(add=world.lake.write(current, again)))
    assert doubled_transactions(world.lake) == 2
    assert not all(s.ok for s in balance_conversions(world.lake))
    assert not all(b.ok for b in balance_reconciliation(world.lake, [DAY]))


TRANSACTIONS, CLICKS = st.sampled_from(["t1", "t2", "t3"]), st.sampled_from(["c1", "c2", None])
HOURS = st.integers(0, 60)
REPORTS = st.builds(
    lambda transaction, click, status, commission, at, updated: report(
        transaction, click=click, status=status, commission=f"{commission}.00",
        at=(MORNING + timedelta(hours=at)).isoformat(), updated=(MORNING + timedelta(hours=updated)).isoformat(),
    ),
    TRANSACTIONS, CLICKS, st.sampled_from(["pending", "approved", "paid", "reversed"]), st.sampled_from([92, 80, -92, 0]),
    HOURS, HOURS,
)  # fmt: skip
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("reports"), st.lists(REPORTS, min_size=1, max_size=3)),
        st.tuples(st.just("click"), st.tuples(CLICKS, st.integers(0, 40))),
        st.tuples(st.just("update"), st.sampled_from([None, [DAY], [DAY + timedelta(days=1)]])),
        st.tuples(st.just("housekeeping"), st.booleans()),
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.slow
@settings(max_examples=examples(8, 120))
@given(steps=STEPS)
def test_incremental_runs_in_any_order_end_in_the_rows_of_a_rebuild_and_of_an_oracle(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any]]
) -> None:
    world = World(tmp_path_factory.mktemp("world"))
    for kind, given_ in steps:
        if kind == "reports":
            _take(world, *given_)
        elif kind == "click":
            click_id, hours = given_
            world.click(click_id, ts=MORNING + timedelta(hours=hours))
        elif kind == "update":
            world.update(given_)
        else:
            _keep_house(world, forget=given_)
    world.update()
    tables = (FACT_CONVERSIONS, CONVERSION_RECONCILIATION)
    incremental = [world.rows(table) for table in tables]
    _oracle(world, incremental[0])
    # Other rules make everything be made again; then back, so that rules are the same as before.
    for products in ({}, PRODUCTS):
        update_facts(world.lake, audit, products)
        update_reconciliation(world.lake, audit, products)
    assert [world.rows(table) for table in tables] == incremental
    days = {row["event_dt"] for row in incremental[1]} | {row["event_dt"] for row in incremental[0]}
    for day in sorted(days):
        world.update([day])
    assert [world.rows(table) for table in tables] == incremental
    assert all(s.ok for s in balance_conversions(world.lake)) and doubled_transactions(world.lake) == 0
    assert all(b.ok for b in balance_reconciliation(world.lake, days))


def _keep_house(world: World, forget: bool) -> None:
    """Compact what there is, and maybe expire every snapshot that is not the newest."""
    for table in (CONVERSION_REPORTS, FACT_AFFILIATE_CLICKS, FACT_CONVERSIONS):
        current = world.lake.load(table)
        by_day: dict[str, list[Any]] = {}
        for file in world.lake.files(current):
            by_day.setdefault(repr(file.partition), []).append(file)
        for files in by_day.values():
            if len(files) > 1:
                _merge(world.lake, table, world.lake.load(table), files)
        if forget:
            expire(world.lake, table, timedelta(0))


def _oracle(world: World, facts: list[dict[str, Any]]) -> None:
    """What the fact must say, in plain Python from the reports and clicks."""
    reports, clicks = world.rows(CONVERSION_REPORTS), world.rows(FACT_AFFILIATE_CLICKS)
    assert len(facts) == len({row["transaction_id"] for row in reports})
    for row in facts:
        mine = [r for r in reports if r["transaction_id"] == row["transaction_id"]]
        mine.sort(key=lambda r: (r["updated_ts"], r["received_at"], r["file_hash"], r["record"]))
        last = mine[-1]
        said = [r["click_id"] for r in mine if r["click_id"]]
        near = [c for c in clicks if said and c["click_id"] == said[-1] and _in_window(c["ts"], last["event_ts"])]
        match = "no_click_id" if not said else ("unknown_click", "matched")[len(near)] if len(near) < 2 else "ambiguous"
        assert (row["status"], row["commission_cents"], row["match"], row["reports"]) == (
            last["status"], last["commission_cents"], match, len(mine))  # fmt: skip
        assert row["due_cents"] == (0 if last["status"] == "reversed" else last["commission_cents"])
        assert row["click_event_id"] == (near[0]["event_id"] if match == "matched" else None)
        states = [(r["status"], r["commission_cents"]) for r in mine]
        changes = [s for n, s in enumerate(states) if n == 0 or s != states[n - 1]]
        assert [(h["status"], h["commission_cents"]) for h in row["history"]] == changes


def _in_window(clicked: datetime, converted: datetime) -> bool:
    return -1 <= (converted.date() - clicked.date()).days <= 120
