"""The tables of experiments on real Iceberg tables: who is exposed to what, what counts, and that late news change no end."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chart_platform.contracts.tables import (
    EXPERIMENT_EXPOSURES,
    EXPERIMENT_RESULTS,
    EXPERIMENT_SUMS,
    SILVER_EVENTS,
    SILVER_SESSIONS,
)
from chart_platform.experiments.registry import Registry
from chart_platform.lakehouse.maintenance import expire
from chart_platform_tests.experiments.experiment_world import DAY, PRE_DAYS, Event, World, expected, registered
from chart_platform_tests.transform.fixtures import examples, settings

pytestmark = pytest.mark.slow

NOON = datetime(2026, 11, 2, 12)
HOUR, ONE_DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def seen(number: int, at: datetime, **given: Any) -> Event:
    return Event(number, at, **({"visitor": "v", "session": f"s{number}", "variant": "A", "keys": ("exp",)} | given))


def test_an_experiment_is_named_by_its_key_with_its_variant_or_by_the_page(world: World) -> None:
    world.add(
        seen(1, NOON, visitor="a", keys=("exp",), variant="A"),
        seen(2, NOON, visitor="b", keys=("exp:B", "other:x:y", "plain"), variant="A"),
        seen(3, NOON, visitor="c", keys=None, variant="P"),
        seen(4, NOON, visitor="d", keys=(), variant="Q"),
        seen(5, NOON, visitor="e", keys=("exp", ":B"), variant=None),
        seen(6, NOON, visitor=None),
        seen(7, NOON, visitor="f", keys=("exp:",), variant="A"),
    )
    world.follow()
    found = {(r["user_id_hash"], r["experiment_key"], r["variant"]) for r in world.rows(EXPERIMENT_EXPOSURES)}
    assert found == {
        ("a", "exp", "A"), ("b", "exp", "B"), ("b", "other", "x:y"), ("b", "plain", "A"),
        ("c", "(page)", "P"), ("d", "(page)", "Q"), ("f", "exp", "A"),
    }  # fmt: skip


def test_an_earlier_exposure_that_comes_late_moves_the_visitor_to_its_day(world: World) -> None:
    world.add(seen(1, NOON, kind="click"), seen(2, NOON + ONE_DAY, kind="click"))
    world.follow()
    world.add(seen(3, NOON - ONE_DAY, kind="click"))
    made = world.follow()
    assert made[EXPERIMENT_EXPOSURES.full_name].replaced == 1
    assert world.exposure("exp", "v")["event_dt"] == DAY - ONE_DAY
    assert {day: counts["clicks"] for day, counts in world.counted("exp", "v").items()} == {
        DAY - ONE_DAY: 1, DAY: 1, DAY + ONE_DAY: 1}  # fmt: skip


def test_who_crosses_over_counts_until_the_day_before_and_is_counted_as_such(world: World) -> None:
    world.add(
        seen(1, NOON, kind="click"), seen(2, NOON + ONE_DAY, kind="click"), seen(3, NOON + 2 * ONE_DAY, variant="B")
    )
    world.follow()
    row = world.exposure("exp", "v")
    assert (row["variant"], row["crossover_variant"], row["crossover_ts"]) == ("A", "B", NOON + 2 * ONE_DAY)
    clicks = [r for r in world.rows(EXPERIMENT_SUMS) if r["metric"] == "clicks" and r["variant"] == "A"]
    by_day = {r["event_dt"]: (r["visitors"], r["crossovers"], r["x"], r["xx"]) for r in clicks}
    assert by_day == {DAY: (1, 0, 1, 1), DAY + ONE_DAY: (0, 0, 1, 3), DAY + 2 * ONE_DAY: (-1, 1, -2, -4)}


def test_a_crossover_that_turns_out_never_to_have_been_is_forgotten(world: World) -> None:
    kept = [seen(1, NOON), seen(2, NOON + 2 * HOUR)]
    world.hold([*kept, seen(3, NOON + HOUR, variant="B"), seen(4, NOON - HOUR, variant="C", session="s1")])
    world.follow()
    assert world.exposure("exp", "v")["variant"] == "C"
    world.hold(kept)
    world.follow()
    row = world.exposure("exp", "v")
    assert (row["variant"], row["first_exposure_ts"], row["crossover_ts"]) == ("A", NOON, None)


def test_only_what_follows_the_exposure_counts_even_within_its_visit(world: World) -> None:
    visit = {"session": "s", "keys": None, "variant": None}
    world.add(
        seen(1, NOON, kind="compare", **visit),
        seen(2, NOON + timedelta(minutes=1), kind="click", payout=500, **visit),
        seen(3, NOON + timedelta(minutes=1), kind="interact", **visit),
        seen(4, NOON + timedelta(minutes=2), session="s"),
        seen(5, NOON + timedelta(minutes=3), kind="click", payout=70, **visit),
        seen(6, NOON + timedelta(minutes=4), kind="interact", **visit),
        seen(7, NOON + timedelta(minutes=5), kind="interact", **visit),
    )
    world.follow()
    assert world.counted("exp", "v") == {
        DAY: {"sessions": 1, "converted_sessions": 1, "clicks": 1, "payout_cents": 70, "chart_interactions": 2,
              "comparison_sessions": 1, "comparison_clicks": 1}}  # fmt: skip


def test_the_days_before_the_exposure_are_its_covariates_and_older_ones_are_not(world: World) -> None:
    stranger = {"keys": None, "variant": None, "kind": "click"}
    world.add(seen(1, NOON), seen(2, NOON - 2 * HOUR, **stranger), seen(3, NOON - PRE_DAYS * ONE_DAY, **stranger))
    world.add(seen(4, NOON - PRE_DAYS * ONE_DAY - HOUR, **stranger))
    world.follow()
    assert world.counted("exp", "v")[DAY] == {
        "sessions": 1, "pre_sessions": 2, "pre_converted_sessions": 2, "pre_clicks": 2, "pre_payout_cents": 200}  # fmt: skip
    late = seen(5, NOON - ONE_DAY, **stranger)
    world.add(late)
    world.follow()
    assert world.counted("exp", "v")[DAY]["pre_clicks"] == 3


def test_outside_of_the_window_nobody_is_exposed_and_nothing_counts(world: World) -> None:
    world.registry = Registry([registered(start=DAY, end=DAY + ONE_DAY)])
    last = datetime(2026, 11, 3, 23, 59, 59)
    world.add(
        seen(1, NOON - ONE_DAY, kind="click"),
        seen(2, NOON, kind="click"),
        seen(3, last, kind="click"),
        seen(4, last + timedelta(seconds=1), kind="click", variant="B"),
        seen(5, last + timedelta(seconds=1), kind="click", visitor="late"),
    )
    world.follow()
    assert world.exposure("exp", "late") is None
    row = world.exposure("exp", "v")
    assert (row["first_exposure_ts"], row["crossover_ts"]) == (NOON, None)
    assert {day: counts["clicks"] for day, counts in world.counted("exp", "v").items()} == {DAY: 1, DAY + ONE_DAY: 1}
    assert world.counted("exp", "v")[DAY]["pre_clicks"] == 1


def test_an_edited_registry_changes_what_it_speaks_of_and_nothing_else(world: World) -> None:
    world.registry = Registry([registered()])
    crowd = [
        seen(
            n,
            NOON + n * HOUR,
            visitor=f"v{n}",
            variant="AB"[n // 2 % 2],
            kind="click" if n % 3 else "page",
            keys=(key,),
        )
        for n, key in enumerate(["exp", "other"] * 12)
    ]
    world.add(*crowd, *(seen(100 + n, NOON, visitor=f"w{n}", variant="AB"[n // 2 % 2]) for n in range(8)))
    world.follow()
    assert {r["control"] for r in world.rows(EXPERIMENT_RESULTS)} == {"A"}
    world.registry = Registry([registered(control="B")])
    made = {name: m.rows for name, m in world.follow().items()}
    assert made.pop(EXPERIMENT_RESULTS.full_name) > 0 and not any(made.values())
    assert {(r["experiment_key"], r["control"]) for r in world.rows(EXPERIMENT_RESULTS)} == {
        ("exp", "B"),
        ("other", "A"),
    }
    world.registry = Registry([registered(control="B", start=DAY + ONE_DAY)])
    world.follow()
    assert world.contents() == expected(world.events, world.registry)
    world.registry = Registry()
    world.follow()
    assert world.contents() == expected(world.events, world.registry)


def test_what_comes_changes_few_rows_and_what_is_level_none(world: World) -> None:
    world.add(*(seen(n, NOON + n * HOUR, visitor=f"v{n}", variant="AB"[n % 2]) for n in range(40)))
    world.follow()
    world.add(
        seen(100, NOON + 40 * HOUR, visitor="new"), seen(101, NOON + 40 * HOUR, visitor="v3", variant="B", kind="click")
    )
    made = world.follow()
    assert [made[t.full_name].rows for t in (EXPERIMENT_EXPOSURES,)] == [1]
    assert made["gold.experiment_visitor_days"].rows == 2
    assert set(made[EXPERIMENT_SUMS.full_name].days) == {DAY + 2 * ONE_DAY}
    assert not any(m.rows or m.replaced for m in world.follow().values())


def test_snapshots_that_have_expired_are_made_good_by_making_all_again(world: World) -> None:
    world.add(seen(1, NOON, kind="click"))
    world.follow()
    world.add(seen(2, NOON + ONE_DAY, visitor="w", variant="B", kind="click"))
    for table in (SILVER_EVENTS, SILVER_SESSIONS, EXPERIMENT_EXPOSURES):
        expire(world.lake, table, timedelta(0))
    world.follow()
    assert world.contents() == expected(world.events, world.registry)


VISITORS = [None, "u", "v", "w", "x"]
KEYS = [None, ("exp",), ("exp",), ("exp:A",), ("exp:B", "other"), ("other:x",)]
GAPS = [0, 1, 3600, 86_399, 86_400, 2 * 86_400]
REGISTRIES = [
    Registry(),
    Registry([registered()]),
    Registry([registered(start=DAY, end=DAY + ONE_DAY, control="B")]),
    Registry([registered(start=DAY), registered("other", variants={"x": 0.9, "y": 0.1}, control="x")]),
]


@st.composite
def events(draw: st.DrawFn) -> list[Event]:
    made = []
    for session in range(draw(st.integers(2, 9))):
        visitor = draw(st.sampled_from(VISITORS))
        ts = datetime(2026, 11, 1, 23, 59, 58) + timedelta(seconds=draw(st.sampled_from(GAPS)) + session * 20_000)
        variant, keys = draw(st.sampled_from([None, "A", "A", "B"])), draw(st.sampled_from(KEYS))
        for _ in range(draw(st.integers(1, 4))):
            kind = draw(st.sampled_from(["page", "compare", "interact", "click", "click"]))
            told = draw(st.booleans())
            payout = draw(st.sampled_from([0, 70, 12_345]))
            made.append(
                Event(
                    len(made),
                    ts,
                    visitor,
                    f"s{session}",
                    kind,
                    variant if told else None,
                    keys if told else None,
                    payout,
                )
            )
            ts += timedelta(seconds=draw(st.sampled_from([0, 1, 2])))
    return made


@given(events(), st.randoms(use_true_random=False), st.lists(st.sampled_from(REGISTRIES), min_size=3, max_size=3))
@settings(max_examples=examples(4, 150))
def test_whatever_comes_in_whatever_order_the_tables_are_those_of_one_look_at_the_end(
    tmp_path_factory: pytest.TempPathFactory, of: list[Event], rng: Any, registries: list[Registry]
) -> None:
    world = World(tmp_path_factory.mktemp("world"), registries[0])
    waiting, never = list(of), rng.sample(of, rng.randint(0, 2))
    rng.shuffle(waiting)
    for registry in registries:
        world.registry = registry
        cut = rng.randint(0, len(waiting))
        world.hold([*world.events, *waiting[:cut]])
        waiting = waiting[cut:]
        then = rng.random()
        if then < 0.8:
            world.follow()
        if then > 0.6:
            world.follow([DAY + rng.randint(-1, 2) * ONE_DAY])
    # Some are found never to have been.
    world.hold([e for e in (*world.events, *waiting) if e not in never])
    world.follow()
    held = world.contents()
    assert held == expected(world.events, world.registry)
    world.follow([DAY + n * ONE_DAY for n in range(-2, 5)])
    assert world.contents() == held
    assert date.max not in {r["event_dt"] for r in world.rows(EXPERIMENT_SUMS)}
