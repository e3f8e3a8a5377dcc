"""The link registry's history, and the dimensions that are made of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chart_platform.contracts.tables import (
    DIM_AFFILIATE_LINK,
    DIM_DATE,
    DIM_PRODUCT,
    FACT_CONVERSIONS,
    LINK_CHANGES,
)
from chart_platform.lakehouse.lake import Change
from chart_platform.quality.schemas import audit
from chart_platform.transform.dimensions import RegisteredLink, note_links, update_dimensions
from chart_platform_tests.transform.fixtures import NewHome, dbt_cache, examples, new_home
from chart_platform_tests.transform.homes import Home

__all__ = ["dbt_cache", "new_home"]

LINK = RegisteredLink("top", "kettle", "north", "https://kettle.example/a", 500)
START = datetime(1970, 1, 1)


def moment(number: int) -> datetime:
    return datetime(2026, 11, 2, number)


def versions(home: Home) -> list[dict[str, Any]]:
    update_dimensions(home.lake, audit)
    return sorted(home.rows(DIM_AFFILIATE_LINK), key=lambda row: (row["affiliate_link_id"], row["valid_from"]))


def test_a_changed_link_has_a_new_version_from_when_it_was_seen(new_home: NewHome) -> None:
    home = new_home()
    note_links(home.lake, audit, [LINK], moment(1))
    note_links(home.lake, audit, [LINK], moment(2))
    note_links(home.lake, audit, [replace(LINK, payout_cents=600)], moment(3))
    first, second = versions(home)
    assert (first["payout_cents"], first["valid_from"], first["valid_to"], first["is_current"]) == (
        500,
        START,
        moment(3),
        False,
    )
    assert (second["payout_cents"], second["valid_from"], second["valid_to"], second["is_current"]) == (
        600,
        moment(3),
        None,
        True,
    )
    assert len(home.rows(LINK_CHANGES)) == 2


def test_a_link_that_has_left_the_registry_is_retired_and_may_come_back(new_home: NewHome) -> None:
    home = new_home()
    note_links(home.lake, audit, [LINK], moment(1))
    note_links(home.lake, audit, [], moment(2))
    (gone,) = versions(home)
    assert (gone["state"], gone["retired_at"], gone["valid_to"], gone["is_current"]) == (
        "retired",
        moment(2),
        None,
        True,
    )
    assert [row["state"] for row in home.rows(DIM_PRODUCT)] == ["retired"]
    note_links(home.lake, audit, [LINK], moment(3))
    old, back = versions(home)
    assert (old["retired_at"], old["valid_to"]) == (moment(2), moment(3))
    assert (back["state"], back["retired_at"], back["valid_from"]) == ("registered", None, moment(3))


def test_dimensions_that_say_the_same_are_not_written_again(new_home: NewHome) -> None:
    home = new_home()
    note_links(home.lake, audit, [LINK], moment(1))
    assert set(update_dimensions(home.lake, audit)) == {DIM_AFFILIATE_LINK.full_name, DIM_PRODUCT.full_name}
    assert update_dimensions(home.lake, audit) == {}


REGISTRIES = st.lists(
    st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from([0, 100, 200]), max_size=2), min_size=1, max_size=5
)


@pytest.mark.slow
@settings(max_examples=examples(5, 200))
@given(registries=REGISTRIES)
def test_at_any_time_a_link_has_the_version_that_the_registry_had(
    registries: list[dict[str, int]], new_home: NewHome
) -> None:
    home = new_home()
    for number, registry in enumerate(registries):
        links = [replace(LINK, affiliate_link_id=name, payout_cents=cents) for name, cents in registry.items()]
        note_links(home.lake, audit, links, moment(number))
    found = versions(home)
    for name in {name for registry in registries for name in registry}:
        own = [row for row in found if row["affiliate_link_id"] == name]
        assert own[0]["valid_from"] == START and own[-1]["valid_to"] is None
        assert [row["valid_to"] for row in own[:-1]] == [row["valid_from"] for row in own[1:]]
        assert [row["is_current"] for row in own] == [False] * (len(own) - 1) + [True]
        assert own[-1]["state"] == ("registered" if name in registries[-1] else "retired")
        for number, registry in enumerate(registries):
            (then,) = [
                r
                for r in own
                if r["valid_from"] <= moment(number) and (not r["valid_to"] or moment(number) < r["valid_to"])
            ]
            retired = then["retired_at"] is not None and then["retired_at"] <= moment(number)
            seen = any(name in earlier for earlier in registries[: number + 1])
            assert not seen or retired == (name not in registry)
            assert name not in registry or then["payout_cents"] == registry[name]


def test_the_calendar_has_whole_years_of_iso_weeks(new_home: NewHome) -> None:
    home = new_home()
    names = {c.name: c for c in FACT_CONVERSIONS.columns}
    row: dict[str, Any] = dict.fromkeys(names) | {"event_dt": date(2024, 6, 1)}
    row |= dict.fromkeys(("network", "transaction_id", "currency", "match"), "x") | {"status": "paid"}
    row |= {c: moment(1) for c in ("event_ts", "first_seen_at", "last_seen_at")}
    row |= {"commission_cents": 1, "due_cents": 1, "reversed_cents": 0, "reports": 1, "history": []}
    home.lake.commit(
        FACT_CONVERSIONS,
        lambda current: Change(
            add=home.lake.write(current, pa.Table.from_pylist([row], schema=FACT_CONVERSIONS.arrow))
        ),
    )
    update_dimensions(home.lake, audit)
    days = {r["date_dt"]: r for r in home.rows(DIM_DATE)}
    assert sorted(days) == [date(2024, 1, 1) + timedelta(days=n) for n in range(366)]
    last = days[date(2024, 12, 30)]
    assert (last["iso_year"], last["iso_week"], last["weekday_name"], last["is_weekend"]) == (2025, 1, "Monday", False)
    assert (last["quarter"], last["quarter_start_dt"], last["day_of_year"]) == (4, date(2024, 10, 1), 365)
    assert (last["month_name"], last["week_start_dt"]) == ("December", date(2024, 12, 30))
