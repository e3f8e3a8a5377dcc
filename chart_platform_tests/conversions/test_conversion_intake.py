"""Files are taken in once, whatever happens to their names and to the run; nothing of them is lost without a word."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest

from chart_platform.contracts.tables import (
    CONVERSION_FILES,
    CONVERSION_REJECTS,
    CONVERSION_REPORTS,
    FACT_CONVERSIONS,
    Table,
)
from chart_platform.conversions import intake, postbacks
from chart_platform.conversions.networks import load_networks
from chart_platform.conversions.reports import Bounds
from chart_platform_tests.conversions.conversion_world import NOON, PLAIN, World, report

pytestmark = pytest.mark.slow

BRONZE = (CONVERSION_FILES, CONVERSION_REPORTS, CONVERSION_REJECTS)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def _codes(world: World) -> list[list[str]]:
    return [[reason["code"] for reason in row["reasons"]] for row in world.rows(CONVERSION_REJECTS)]


def test_a_file_that_is_dropped_again_renamed_or_copied_changes_nothing(world: World) -> None:
    first = world.drop("plain/a.ndjson", [report("t1"), report("t2"), {"id": "t3"}])
    assert (world.take().reports, len(world.rows(CONVERSION_REJECTS))) == (2, 1)
    before = [world.rows(table) for table in BRONZE]
    world.drop("plain/a.ndjson", first.read_bytes())
    world.drop("plain/later/copy.jsonl", first.read_bytes())
    first.rename(first.with_name("b.ndjson"))
    result = world.take()
    assert (result.reports, result.rejects, result.taken) == (0, 0, [])
    assert [world.rows(table) for table in BRONZE] == before


def test_a_file_whose_name_size_and_time_are_known_is_not_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.drop("plain/a.ndjson", [report("t1")])
    world.take()
    monkeypatch.setattr(intake.Drop, "read", lambda *_: pytest.fail("read again"))
    assert world.take().known == 1


def test_a_corrected_file_adds_its_reports_and_updates_the_conversions(world: World) -> None:
    world.drop("plain/a.ndjson", [report("t1", commission="92.00"), report("t2")])
    world.take()
    world.drop("plain/a.ndjson", [report("t1", commission="93.00"), report("t2")])
    assert world.take().reports == 2
    world.update()
    assert len(world.rows(CONVERSION_REPORTS)) == 4
    assert {row["transaction_id"]: row["due_cents"] for row in world.rows(FACT_CONVERSIONS)} == {"t1": 9300, "t2": 9200}


def test_a_record_is_refused_with_all_of_its_reasons_its_line_and_its_text(world: World) -> None:
    bad = '{"id": "", "status": "maybe", "at": "soon", "commission": "1.005", "currency": "US"}'
    world.drop("plain/a.ndjson", f"\n{bad}\n")
    world.take()
    (row,) = world.rows(CONVERSION_REJECTS)
    assert {(reason["code"], reason["column"]) for reason in row["reasons"]} == {
        ("missing", "id"),
        ("unknown_status", "status"),
        ("not_a_time", "at"),
        ("too_fine", "commission"),
        ("not_a_currency", "currency"),
    }
    assert (row["file"], row["line"], row["record"], row["raw"], row["network"]) == (
        "plain/a.ndjson",
        2,
        1,
        bad,
        "plain",
    )


def test_conversions_of_another_time_than_ours_are_refused(world: World) -> None:
    world.drop("plain/a.ndjson", [report("t1", at="1970-01-01T00:00:00"), report("t2", at="2026-12-24T00:00:00")])
    world.take()
    assert _codes(world) == [["out_of_range"], ["out_of_range"]]


def test_files_outside_the_folder_of_a_network_and_files_of_no_known_form_are_told(world: World) -> None:
    world.drop("stray.csv", "x")
    world.drop("nobody/a.csv", "y")
    world.drop("plain/a.xlsx", b"PK\xff")
    world.drop("plain/b.csv", "id,click\n1,2\n")
    world.take()
    assert sorted(_codes(world)) == [["missing_column"], ["unknown_format"], ["unknown_network"], ["unknown_network"]]
    assert {row["rejects"] for row in world.rows(CONVERSION_FILES)} == {1}


def test_an_empty_file_is_written_down_and_nothing_else(world: World) -> None:
    world.drop("plain/empty.csv", "")
    assert world.take().rejects == 0
    (row,) = world.rows(CONVERSION_FILES)
    assert (row["reports"], row["rejects"], row["bytes"]) == (0, 0, 0)


def test_hidden_and_unfinished_files_and_files_just_written_are_left_alone(world: World) -> None:
    for name in ("plain/.a.ndjson", "plain/a.ndjson.part", "_done/a.csv"):
        world.drop(name, [report("t1")])
    fresh = world.drop("plain/fresh.ndjson", [report("t1")])
    just_now = (world.now + timedelta(hours=1, seconds=-2)).replace(tzinfo=UTC).timestamp()
    os.utime(fresh, (just_now, just_now))
    assert world.take().taken == []


def test_when_the_mapping_learns_to_read_what_was_refused_the_file_is_read_again(world: World) -> None:
    world.drop("plain/a.ndjson", [report("t1"), report("t2", status="in review")])
    world.drop("nobody/a.csv", "x")
    world.take()
    received = world.rows(CONVERSION_FILES)[0]["received_at"]
    (world.settings.home / "networks.yml").write_text(
        PLAIN.replace("pending: [pending]", "pending: [pending, in review]")
    )
    assert len(world.take().taken) == 1
    assert [row["network_status"] for row in world.rows(CONVERSION_REPORTS)] == ["approved", "in review"]
    assert _codes(world) == [["unknown_network"]]
    assert {row["received_at"] for row in world.rows(CONVERSION_REPORTS)} == {received}
    assert world.take().taken == []


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_run_that_dies_between_its_commits_is_made_good_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    world.drop("plain/a.ndjson", [report("t1"), {"id": "bad"}])
    with monkeypatch.context() as patch:
        patch.setattr(intake, "_replace", _dying(intake._replace, at))
        with pytest.raises(KeyboardInterrupt):
            world.take()
    world.take()
    assert [len(world.rows(table)) for table in BRONZE] == [1, 1, 1]
    world.drop("plain/b.ndjson", [report("t2")])
    world.take()
    assert [len(world.rows(table)) for table in BRONZE] == [2, 2, 1]


def _dying(replace: Callable[..., None], at: int) -> Callable[..., None]:
    calls = 0

    def die(lake: Any, table: Table, *rest: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        replace(lake, table, *rest)

    return die


def test_two_runs_at_once_take_a_file_in_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.drop("plain/a.ndjson", [report("t1"), {"id": "bad"}])
    other = World(world.settings.home)
    replace = intake._replace

    def meanwhile(*given: Any) -> None:
        monkeypatch.setattr(intake, "_replace", replace)
        other.take()
        replace(*given)

    monkeypatch.setattr(intake, "_replace", meanwhile)
    world.take()
    assert [len(world.rows(table)) for table in BRONZE] == [1, 1, 1]


def test_a_postback_is_judged_at_once_and_taken_in_as_a_line(world: World) -> None:
    network = load_networks(world.settings.conversions_networks)["plain"]
    bounds = Bounds.at(NOON, world.settings.first_day, 24)
    call = {"tx": "t1", "sub": "c1", "state": "approved", "amount": "92.00"}

    def line(**more: str) -> bytes:
        return postbacks.line(list((call | more).items()), NOON)

    assert postbacks.judge(network, line(), bounds) == []
    (reason,) = postbacks.judge(network, line(amount="a lot"), bounds)
    assert (reason.code, reason.column) == ("not_an_amount", "amount")
    world.drop(postbacks.file_name(network.name, "1"), line())
    world.take()
    (row,) = world.rows(CONVERSION_REPORTS)
    assert (row["transaction_id"], row["click_id"], row["event_ts"], row["commission_cents"]) == (
        "t1",
        "c1",
        NOON,
        9200,
    )
