"""The funnel macro on DuckDB, against the definition in plain Python."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chart_platform.serving.funnels import FunnelRefused, funnel_sql
from chart_platform_tests.funnels.funnel_oracle import (
    Event,
    Exclusion,
    Funnel,
    best_attempt,
    longest_subsequence,
)
from chart_platform_tests.transform.fixtures import examples

MINUTE = 60_000
_EPOCH = datetime(2026, 11, 2)
_HAPPENED = pa.schema({"who": pa.int64(), "ts": pa.timestamp("us"), "event_id": pa.int64(), "what": pa.string()})


def measured(funnel: Funnel, histories: Sequence[Sequence[Event]], **options: Any) -> dict[int, dict[str, Any]]:
    """The macro's rows by key, which is the number of the history; times as ms since the epoch of the tests."""
    rows = [
        {"who": key, "ts": _EPOCH + timedelta(milliseconds=time), "event_id": place, "what": letter}
        for key, events in enumerate(histories)
        for place, (time, letter) in enumerate(events)
    ]
    with duckdb.connect() as connection:
        # From the last to the first: the order of rows in a table must not matter.
        connection.register("happened", pa.Table.from_pylist(rows[::-1], _HAPPENED))
        found = connection.sql(asked(funnel, **options)).order("who").to_arrow_table().to_pylist()
    assert len({row["who"] for row in found}) == len(found)
    return {row.pop("who"): {name: _ms(value) for name, value in row.items()} for row in found}


def asked(funnel: Funnel, **options: Any) -> str:
    steps = [{"name": f"step{i}", "where": _matches(step)} for i, step in enumerate(funnel.steps)]
    exclude = [{"where": _matches(rule.letters)} for rule in funnel.exclude]
    if funnel.mode != "unordered":
        for rule, told in zip(funnel.exclude, exclude, strict=True):
            told |= {"after": f"step{rule.after}", "before": f"step{rule.before}"}
    window = None if funnel.window_ms is None else f"{funnel.window_ms // 1000} seconds"
    return funnel_sql("happened", steps, "who", mode=funnel.mode, window=window, exclude=exclude, **options)


def expected(funnel: Funnel, histories: Sequence[Sequence[Event]]) -> dict[int, dict[str, Any]]:
    rows = {}
    for key, events in enumerate(histories):
        if attempt := best_attempt(funnel, events):
            times = {f"step{i}_ts": time for i, time in enumerate(attempt.times)}
            rows[key] = {"reached": attempt.reached, **times, "convert_ms": attempt.convert_ms}
            if funnel.exclude:
                rows[key]["excluded"] = attempt.excluded
    return rows


def _matches(letters: str) -> str:
    return f"what in ({', '.join(repr(letter) for letter in letters)})"


def _ms(value: Any) -> Any:
    return (value - _EPOCH) // timedelta(milliseconds=1) if isinstance(value, datetime) else value


def minutes(text: str) -> list[Event]:
    """``"A0 B30"``: A, and B half an hour later."""
    return [(int(word[1:]) * MINUTE, word[0]) for word in text.split()]


LETTERS = st.sampled_from(["A", "B", "C", "AB", "BC"])
WINDOWS = st.one_of(st.none(), st.integers(0, 8).map(lambda span: span * 1000))


@st.composite
def histories(draw: st.DrawFn) -> list[list[Event]]:
    """Visits of up to nine events, often several at one time, now and then one that is nothing."""
    event = st.tuples(st.sampled_from([0, 0, 1000, 2000, 5000]), st.sampled_from(["A", "B", "C", "X", None]))
    made = []
    for gaps in draw(st.lists(st.lists(event, max_size=9), min_size=1, max_size=20)):
        now, events = 0, []
        for gap, letter in gaps:
            now += gap
            events.append((now, letter))
        made.append(events)
    return made


@st.composite
def funnels(draw: st.DrawFn, mode: str) -> Funnel:
    steps = tuple(draw(st.lists(LETTERS, min_size=1, max_size=4)))
    exclude = []
    if mode != "strict" and len(steps) > 1:
        for letters in draw(st.lists(st.sampled_from(["X", "C", "XB"]), max_size=2)):
            after = draw(st.integers(0, len(steps) - 2))
            exclude.append(Exclusion(letters, after, draw(st.integers(after + 1, len(steps) - 1))))
    return Funnel(steps, mode, draw(WINDOWS), tuple(exclude))


@pytest.mark.parametrize("mode", ["ordered", "strict", "unordered"])
@settings(max_examples=examples(25, 2000))
@given(data=st.data())
def test_every_key_has_the_attempt_that_the_definition_gives(mode: str, data: st.DataObject) -> None:
    funnel, visits = data.draw(funnels(mode)), data.draw(histories())
    assert measured(funnel, visits) == expected(funnel, visits)


@settings(max_examples=examples(15, 1000))
@given(steps=st.lists(LETTERS, min_size=1, max_size=3), window=WINDOWS, visits=histories())
def test_no_choice_of_events_in_order_gets_further(
    steps: list[str], window: int | None, visits: list[list[Event]]
) -> None:
    funnel = Funnel(tuple(steps), window_ms=window)
    found = measured(funnel, visits)
    for key, events in enumerate(visits):
        reached = found[key]["reached"] if key in found else 0
        assert reached == longest_subsequence(funnel, events)


def test_a_start_whose_window_has_passed_does_not_hide_a_later_one() -> None:
    funnel = Funnel(("A", "B"), window_ms=30 * MINUTE)
    [found] = measured(funnel, [minutes("A0 A50 B70")]).values()
    assert found == {"reached": 2, "step0_ts": 50 * MINUTE, "step1_ts": 70 * MINUTE, "convert_ms": 20 * MINUTE}


@pytest.mark.parametrize(
    ("funnel", "visit", "steps"),
    [
        (Funnel(("A", "B", "C"), window_ms=30 * MINUTE), "A0 A50 B70", ["A50", "B70"]),
        (Funnel(("A", "B", "C"), "strict"), "A0 X1 B2", ["A0"]),
        (Funnel(("A", "B", "C"), "unordered"), "B0 A1 C2", ["A1", "B0", "C2"]),
        (Funnel(("A", "B", "C"), exclude=(Exclusion("X", 1, 2),)), "A0 B1 X2 B3 C4", ["A0", "B1"]),
        (Funnel(("A", "B", "C"), exclude=(Exclusion("X", 1, 2),)), "A0 B1 X2 A3 B4 C5", ["A3", "B4", "C5"]),
        (Funnel(("A", "A")), "A0", ["A0"]),
    ],
)
def test_the_examples_of_the_documents_hold(funnel: Funnel, visit: str, steps: list[str]) -> None:
    [found] = measured(funnel, [minutes(visit)]).values()
    times = [found[f"step{i}_ts"] for i in range(len(funnel.steps))]
    assert [time for time in times if time is not None] == [time for step in steps for time, _ in minutes(step)]
    assert found["reached"] == len(steps)
    assert found.get("excluded", False) == (len(steps) == 2 and bool(funnel.exclude))


def test_any_other_event_ends_a_strict_attempt_and_a_later_start_may_get_further() -> None:
    [found] = measured(Funnel(("A", "B"), "strict"), [minutes("A0 C1 B2 A3 B4")]).values()
    assert found == {"reached": 2, "step0_ts": 3 * MINUTE, "step1_ts": 4 * MINUTE, "convert_ms": MINUTE}


def test_an_excluded_event_ends_an_attempt_and_a_new_start_may_still_convert() -> None:
    rule = (Exclusion("X", 1, 2),)
    visits = [minutes("A0 B1 X2 C3"), minutes("A0 X1 B2 C3"), minutes("A0 B1 X2 B3 C4"), minutes("A0 B1 X2 A3 B4 C5")]
    found = measured(Funnel(("A", "B", "C"), exclude=rule), visits)
    assert [(row["reached"], row["excluded"]) for row in found.values()] == [
        (2, True),
        (3, False),
        (2, True),
        (3, False),
    ]


def test_the_window_includes_its_last_millisecond() -> None:
    funnel = Funnel(("A", "B"), window_ms=MINUTE)
    found = measured(funnel, [[(0, "A"), (MINUTE, "B")], [(0, "A"), (MINUTE + 1, "B")]])
    assert [row["reached"] for row in found.values()] == [2, 1]


def test_one_event_is_never_two_steps() -> None:
    assert measured(Funnel(("A", "A")), [minutes("A0"), minutes("A0 A1")]) == {
        0: {"reached": 1, "step0_ts": 0, "step1_ts": None, "convert_ms": None},
        1: {"reached": 2, "step0_ts": 0, "step1_ts": MINUTE, "convert_ms": MINUTE},
    }


def test_events_of_nobody_or_of_no_time_are_left_out_and_keys_may_have_several_columns() -> None:
    steps = [{"name": "saw", "where": "what = 'A'"}, {"name": "left", "where": "what = 'B' and events.cents > 0"}]
    happened = """(
        select * from (values
            ('s1', 1, timestamp '2026-11-02 10:00:00', 'A', 0, 1), ('s1', 1, timestamp '2026-11-02 10:00:00', 'B', 5, 2),
            ('s1', 2, timestamp '2026-11-02 10:00:00', 'A', 0, 3), ('s1', null, timestamp '2026-11-02 10:00:00', 'A', 0, 4),
            (null, 1, timestamp '2026-11-02 10:00:00', 'A', 0, 5), ('s2', 1, null, 'A', 0, 6)
        ) as t (session_id, part, ts, what, cents, event_id)
    )"""
    query = funnel_sql(happened, steps, ["session_id", "part"])
    found = duckdb.sql(f"select session_id, part, reached, convert_ms from ({query}) order by all").fetchall()
    assert found == [("s1", 1, 2, 0), ("s1", 2, 1, None)]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"mode": "loose"}, "mode 'loose' is none of ordered, strict, unordered"),
        ({"window": "half an hour"}, "window 'half an hour' is no whole number of seconds, minutes, hours or days"),
        ({"window": "-5 minutes"}, "window '-5 minutes'"),
        ({"steps": []}, "there are no steps"),
        ({"steps": [{"name": "a"}]}, "step 1 needs a name and a where"),
        ({"steps": [{"name": "a b", "where": "true"}]}, "step name 'a b' is no column name"),
        ({"steps": [{"name": "a", "where": "true"}] * 2}, "two steps are named 'a'"),
        ({"by": "a_ts"}, "step 'a' would make a second column a_ts"),
        ({"exclude": [{"where": "x", "after": "b"}]}, "no step lies from 'b' to 'b'; steps are a, b"),
        ({"exclude": [{"where": "x", "before": "c"}]}, "no step lies from 'a' to 'c'"),
        ({"exclude": [{}]}, "exclusion 1 needs a where"),
        ({"exclude": [{"where": "x"}], "mode": "strict"}, "exclude has no meaning in mode strict"),
        ({"exclude": [{"where": "x", "after": "a"}], "mode": "unordered"}, "have no meaning in mode unordered"),
    ],
)
def test_what_is_no_funnel_is_refused_with_what_is_wrong(options: dict[str, Any], problem: str) -> None:
    arguments = {"steps": [{"name": "a", "where": "true"}, {"name": "b", "where": "true"}], "by": "who"} | options
    with pytest.raises(FunnelRefused, match=re.escape(problem)):
        funnel_sql("happened", **arguments)
