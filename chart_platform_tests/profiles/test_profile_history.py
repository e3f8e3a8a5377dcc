"""gold.dim_user as SCD2: what each snapshot opens and closes, and the invariants over any run of snapshots."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chart_platform.contracts.tables import DIM_USER, PROFILE_CHANGES, PROFILE_SNAPSHOTS
from chart_platform.lakehouse.maintenance import compact
from chart_platform.profiles.history import look, state, update_dimension
from chart_platform.profiles.snapshots import ProfilesRefused
from chart_platform.quality.schemas import audit
from chart_platform_tests.profiles.profile_world import START, Company
from chart_platform_tests.transform.fixtures import examples, settings


def test_a_change_closes_a_row_where_the_next_begins(tmp_path: Path) -> None:
    company = Company(tmp_path)
    company.give(0, {"a": "gold", "b": "basic"})
    company.give(5, {"a": "platinum", "b": "basic"})
    assert company.tiers() == [("a", "gold", 0, 5), ("a", "platinum", 5, None), ("b", "basic", 0, None)]
    assert [row["is_current"] for row in company.dimension()] == [False, True, True]


def test_a_deleted_profile_closes_its_row_and_a_return_opens_one(tmp_path: Path) -> None:
    company = Company(tmp_path)
    for hour, users in enumerate(({"a": "gold", "b": "x"}, {"b": "x"}, {"b": "x"}, {"a": "gold", "b": "x"})):
        company.give(hour, users)
    assert company.tiers() == [("a", "gold", 0, 1), ("a", "gold", 3, None), ("b", "x", 0, None)]


def test_snapshots_that_are_the_same_or_older_change_nothing(tmp_path: Path) -> None:
    company = Company(tmp_path)
    assert company.give(5, {"a": "gold"}).outcome == "changed"
    before = company.dimension()
    assert company.give(6, {"a": "gold"}).outcome == "same"
    assert company.give(6, {"a": "gold"}).outcome == "same"
    assert company.give(4, {"a": "basic", "b": "x"}).outcome == "outdated"
    assert company.give(6, {"a": "basic"}).outcome == "outdated"
    assert company.dimension() == before


def test_a_source_that_is_suddenly_empty_closes_nobody(tmp_path: Path) -> None:
    company = Company(tmp_path)
    company.give(0, {"a": "gold"})
    with pytest.raises(ProfilesRefused, match="no profiles at all, where 1 stand"):
        company.give(1, {})
    assert company.tiers() == [("a", "gold", 0, None)]


def test_without_a_source_the_profiles_are_absent_and_a_look_does_nothing(tmp_path: Path) -> None:
    company = Company(tmp_path)
    assert look(company.lake, audit) == []
    assert company.dimension() == []
    assert state(company.lake).name == "absent"
    assert company.rows(PROFILE_SNAPSHOTS) == []


# Up to three users; in each snapshot each of them has a tier or is not there. Hours may repeat or go back.
SNAPSHOTS = st.lists(
    st.tuples(
        st.integers(0, 8), st.dictionaries(st.sampled_from("abc"), st.sampled_from(["x", "y", None]), min_size=1)
    ),
    min_size=1,
    max_size=6,
)


def _oracle(snapshots: list[tuple[int, dict[str, Any]]]) -> dict[str, dict[int, Any]]:
    """Per user the state at each snapshot that counts: those that go forward in time."""
    states: dict[int, dict[str, Any]] = {}
    for hour, users in snapshots:
        if not states or hour > max(states):
            states[hour] = users
    return {user: {hour: users.get(user, "gone") for hour, users in states.items()} for user in "abc"}


@pytest.mark.slow
@settings(max_examples=examples(8, 150))
@given(snapshots=SNAPSHOTS, compacted=st.integers(0, 5))
def test_as_of_joins_find_the_snapshot_of_that_time_and_rows_never_overlap_and_a_replay_gives_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, snapshots: list[tuple[int, dict[str, Any]]], compacted: int
) -> None:
    company = Company(tmp_path_factory.mktemp("company"))
    for number, (hour, users) in enumerate(snapshots):
        company.give(hour, users)
        company.dimension()
        if number == compacted:
            compact(company.lake, PROFILE_CHANGES)
    rows = company.tiers()
    for user, states in _oracle(snapshots).items():
        mine = [row for row in rows if row[0] == user]
        for (_, one, _, ended), (_, other, begun, _) in pairwise(mine):
            assert ended is not None and ended <= begun
            # A gap is a time at which the profile was deleted, and only that; without one the states differ.
            assert all((states[hour] == "gone") == (ended <= hour < begun) for hour in states if ended <= hour <= begun)
            assert ended < begun or one != other
        for hour, tier in states.items():
            found = [t for _, t, begun, ended in mine if begun <= hour and (ended is None or hour < ended)]
            assert found == ([] if tier == "gone" else [tier])
        assert all(ended is None or begun < ended for _, _, begun, ended in mine)
    incremental = company.rows(DIM_USER)
    update_dimension(company.lake, audit, anew=True)
    assert company.rows(DIM_USER) == incremental
    replayed = Company(tmp_path_factory.mktemp("replayed"))
    for hour, users in snapshots:
        replayed.give(hour, users)
    assert replayed.dimension() == incremental


def test_rows_say_from_when_they_are(tmp_path: Path) -> None:
    company = Company(tmp_path)
    company.give(0, {"a": "gold"})
    assert company.dimension()[0]["valid_from"] == START
