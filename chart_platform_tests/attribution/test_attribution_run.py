"""The attribution on real tables: what each model gives, held against the oracle, and following changes."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chart_platform.contracts.tables import (
    ATTRIBUTION_DAILY,
    ATTRIBUTION_JOURNEYS,
    ATTRIBUTION_MODELS,
    ATTRIBUTION_WEIGHTS,
    FACT_AFFILIATE_CLICKS,
    FACT_ATTRIBUTION,
    FACT_CONVERSIONS,
    SILVER_SESSIONS,
)
from chart_platform.quality.attribution import balance_attribution
from chart_platform.quality.schemas import audit
from chart_platform.transform import attribution
from chart_platform_tests.attribution.attribution_oracle import Row
from chart_platform_tests.attribution.attribution_world import START, World, click, random_rows, report, visit
from chart_platform_tests.transform.fixtures import NewHome, examples

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def credits(world: World, conversion: str, kind: str = "cents") -> dict[str, list[int]]:
    """By model, what the touchpoints of a conversion get, in order."""
    rows = sorted(
        (row for row in world.home.rows(FACT_ATTRIBUTION) if row["conversion_id"] == conversion),
        key=lambda row: row["touch"],
    )
    return {model: [row[f"{model}_{kind}"] for row in rows] for model in ATTRIBUTION_MODELS}


def four_touches(world: World, cents: int = 1000) -> Row:
    """Search, e-mail, paid and direct visits of Ann, two days apart, and a click in the last."""
    channels = ("Organic Search", "Email", "Paid Search", "Direct")
    visits = [visit(f"s{n}", START + 2 * n * DAY, "ann", channel) for n, channel in enumerate(channels)]
    clicked = click("c", START + 6 * DAY + HOUR / 12, "s3", cents)
    world.put(SILVER_SESSIONS, visits)
    world.put(FACT_AFFILIATE_CLICKS, [clicked])
    return clicked


@pytest.mark.slow
def test_each_model_divides_a_path_by_its_rule(new_home: NewHome) -> None:
    world = World(new_home(attribution_half_life_days=2))
    four_touches(world)
    world.follow()
    found = credits(world, "c")
    data_driven = {model: found.pop(model) for model in ("markov", "shapley")}
    assert found == {
        "first_touch": [1000, 0, 0, 0],
        "last_touch": [0, 0, 0, 1000],
        "last_non_direct": [0, 0, 1000, 0],
        "linear": [250, 250, 250, 250],
        "position_based": [400, 100, 100, 400],
        # 1/8, 1/4, 1/2 and 1 of 15/8: 66.67, 133.33, 266.67 and 533.33 of 1000, the units left to the largest remainders.
        "time_decay": [67, 133, 267, 533],
    }
    assert {sum(parts) for parts in data_driven.values()} == {1000}
    assert credits(world, "c", "share")["position_based"] == [400_000, 100_000, 100_000, 400_000]


@pytest.mark.slow
def test_money_is_never_lost(new_home: NewHome) -> None:
    """A click of nobody, one of a visit without visitor, one without a payout, and a report whose click is gone."""
    world = World(new_home())
    clicked = four_touches(world)
    world.put(SILVER_SESSIONS, [visit("alone", START, None, "Email")])
    others = [click("nobody", START, None, 77), click("alone", START, "alone", 5), click("free", START, "alone", None)]
    world.put(FACT_AFFILIATE_CLICKS, others)
    gone = click("gone", START, None)
    world.put(FACT_CONVERSIONS, [report("t1", clicked, 401), report("t2", gone, -33), report("t3", None, 9)])
    world.follow()
    rows = world.home.rows(FACT_ATTRIBUTION)
    assert sum(row["linear_cents"] for row in rows if row["kind"] == "click") == 1000 + 77 + 5
    assert sum(row["markov_cents"] for row in rows if row["kind"] == "report") == 401 - 33
    assert {row["conversion_id"]: row["channel"] for row in rows if row["touches"] == 1} == {
        "nobody": "(unknown)",
        "alone": "Email",
        "free": "Email",
        "impact/t2": "(unknown)",
    }
    assert {row["currency"] for row in rows if row["kind"] == "report"} == {"EUR"}
    balances = balance_attribution(world.home.lake, {START.date(), clicked["event_dt"]})
    assert [(b.kind, b.conversions, b.amount_cents, b.ok) for b in balances] == [
        ("click", 3, 82, True),
        ("report", 1, -33, True),
        ("click", 1, 1000, True),
        ("report", 1, 401, True),
    ]


@pytest.mark.slow
@given(
    st.integers(0, 10**6),
    st.fixed_dictionaries(
        {
            "attribution_lookback_days": st.sampled_from([1, 3, 30]),
            "attribution_collapse": st.sampled_from(["none", "consecutive", "unique"]),
            "attribution_half_life_days": st.sampled_from([0.01, 1.0, 7.0]),
            "attribution_training_days": st.sampled_from([1, 4, 30]),
        }
    ),
)
@settings(max_examples=examples(6, 60))
def test_all_tables_hold_what_their_definitions_say(new_home: NewHome, seed: int, given: Mapping[str, Any]) -> None:
    world = World(new_home(**given))
    for table, rows in random_rows(seed).items():
        world.put(table, rows)
    world.follow()
    world.assert_as_defined()


@pytest.mark.slow
@given(st.integers(0, 10**6))
@settings(max_examples=examples(2, 30))
def test_changes_in_any_order_give_the_rows_of_a_rebuild(new_home: NewHome, seed: int) -> None:
    given = {"attribution_lookback_days": 3, "attribution_training_days": 4}
    chance = random.Random(seed)
    final = random_rows(seed)
    arrivals = [(table, row) for table, rows in final.items() for row in rows]
    # Some rows were there before as others: of somebody else, elsewhere, on another path; and some only for a while.
    early = [(t, r) for t, rows in random_rows(seed + 1).items() for r in rows if chance.random() < 0.3]
    chance.shuffle(arrivals)
    world = World(new_home(**given))
    for table in final:
        world.put(table, [row for of, row in early if of is table])
    world.follow()
    leaving = early
    for _ in range(2):
        coming, arrivals = arrivals[: len(arrivals) // 2], arrivals[len(arrivals) // 2 :]
        going, leaving = leaving[: len(leaving) // 2], leaving[len(leaving) // 2 :]
        for table in final:
            world.take(table, [row for of, row in going if of is table])
            world.put(table, [row for of, row in coming if of is table])
        world.follow()
    for table in final:
        world.take(table, [row for of, row in leaving if of is table])
        world.put(table, final[table])
    world.follow()
    rebuilt = World(new_home(**given))
    for table in final:
        rebuilt.put(table, world.home.rows(table))
    rebuilt.follow()
    assert world.made() == rebuilt.made()
    world.assert_as_defined()


@pytest.mark.slow
def test_a_late_visit_divides_the_clicks_after_it_again_and_no_others(new_home: NewHome) -> None:
    world = World(new_home(attribution_lookback_days=5, attribution_training_days=2))
    four_touches(world)
    world.put(SILVER_SESSIONS, [visit("bob", START + 6 * DAY, "bob", "Email")])
    world.put(FACT_AFFILIATE_CLICKS, [click("d", START + 9 * DAY, None, 3)])
    world.follow()
    assert credits(world, "c")["first_touch"] == [1000, 0, 0]
    late = visit("late", START + 3 * DAY, "ann", "Referral")
    world.put(SILVER_SESSIONS, [late])
    made = world.follow()
    # Ann's days from the late visit to the end of the lookback, and the training windows that end on them or a day later.
    journeys, weights = made[ATTRIBUTION_JOURNEYS.full_name], made[ATTRIBUTION_WEIGHTS.full_name]
    assert sorted(journeys.days) == [START.date() + n * DAY for n in (3, 4, 6)]
    assert set(weights.days) <= {START.date() + n * DAY for n in (3, 4, 5, 6, 7)}
    assert sorted(made[FACT_ATTRIBUTION.full_name].days) == [date(2026, 11, 8)]
    assert len(credits(world, "c")["linear"]) == 4
    world.assert_as_defined()
    assert world.follow() == {}


@pytest.mark.slow
def test_a_changed_setting_makes_all_days_again(new_home: NewHome) -> None:
    home = new_home()
    world = World(home)
    four_touches(world)
    world.follow()
    home.settings.attribution_lookback_days = 3
    world.follow()
    assert credits(world, "c")["linear"] == [500, 500]
    world.assert_as_defined()


@pytest.mark.slow
def test_making_a_day_again_changes_nothing(new_home: NewHome) -> None:
    world = World(new_home())
    four_touches(world)
    world.follow()
    before = world.made()
    attribution.run(world.home.lake, audit, [START.date(), START.date() + 6 * DAY])
    assert world.made() == before
    assert world.follow() == {}


@pytest.mark.slow
def test_the_mart_sums_the_fact_by_channel_and_model(new_home: NewHome) -> None:
    world = World(new_home())
    four_touches(world, cents=1)
    world.follow()
    rows = [r for r in world.home.rows(ATTRIBUTION_DAILY) if r["model"] == "linear"]
    assert {r["channel"]: (r["conversions_millionths"], r["amount_cents"]) for r in rows} == {
        "Organic Search": (250_000, 1),
        "Email": (250_000, 0),
        "Paid Search": (250_000, 0),
        "Direct": (250_000, 0),
    }
    assert sum(r["conversions_millionths"] for r in world.home.rows(ATTRIBUTION_DAILY)) == 8_000_000


@pytest.mark.slow
def test_a_first_run_may_take_its_days_in_parts(new_home: NewHome, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_rows(3)
    worlds = [World(new_home()), World(new_home())]
    for world, at_once in zip(worlds, (10**6, 9), strict=True):
        for table, some in rows.items():
            world.put(table, some)
        monkeypatch.setattr(attribution, "_VISITS_AT_ONCE", at_once)
        world.follow()
    assert worlds[0].made() == worlds[1].made()


@pytest.mark.slow
def test_a_visit_over_midnight_is_a_touchpoint_of_its_click_on_the_next_day(new_home: NewHome) -> None:
    world = World(new_home(attribution_lookback_days=1))
    world.put(SILVER_SESSIONS, [visit("s", datetime.fromisoformat("2026-11-02 23:55"), "ann", "Email")])
    world.put(FACT_AFFILIATE_CLICKS, [click("c", datetime.fromisoformat("2026-11-03 00:01"), "s")])
    world.follow()
    found = [(r["path"], r["converted"], r["event_dt"]) for r in world.home.rows(ATTRIBUTION_JOURNEYS)]
    assert sorted(found) == [
        ("Email", 0, date(2026, 11, 2)),
        ("Email", 1, date(2026, 11, 3)),
    ]
    assert credits(world, "c")["markov"] == [100]
