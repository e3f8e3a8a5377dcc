"""The file of segment rules: what it may say, where it is refused, and that its SQL judges as its words say."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from click.testing import Result
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from chart_platform import cli
from chart_platform.transform import segments
from chart_platform.transform.segments import FEATURES, FUNCTIONS, MEASURES, PROFILE, WINDOWS, RuleError, load_rules
from chart_platform_tests.transform.fixtures import examples

FIRST = date(2026, 11, 2)
DOCS = Path(__file__).parents[2] / "docs" / "segments.md"


def entry(**given: Any) -> dict[str, Any]:
    return {
        "name": "a",
        "owner": "o",
        "description": "d",
        "valid_from": FIRST,
        "predicate": "sessions_7d >= 1",
    } | given


def written(folder: Path, *entries: dict[str, Any]) -> Path:
    path = folder / "rules.yml"
    # One by one: YAML would write a day that two entries share as an alias.
    path.write_text("".join(yaml.safe_dump([one], sort_keys=False) for one in entries) or "[]")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(RuleError) as refused:
        load_rules(path)
    return str(refused.value)


def test_the_packaged_rules_have_the_segments_of_the_business_and_the_tiers_of_the_crm() -> None:
    rules = {rule.name: rule for rule in load_rules()}
    of_visits = {
        "high_intent",
        "price_sensitive",
        "returning",
        "brand_loyal",
        "mobile_first",
        "deal_hunter",
        "churn_risk",
    }
    assert of_visits | {"researcher", "crm_gold"} <= rules.keys()
    assert {name for name, rule in rules.items() if rule.of_profiles} == {n for n in rules if n.startswith("crm_")}


# Each: the predicate as it stands in the file, in which of its lines the mistake is, and what is said of it.
MISTAKES = [
    ("sessions_7d >=", 0, "not SQL"),
    ("sessions_7d >= 1) or (true", 0, "not SQL"),
    ("sesions_7d >= 1", 0, "unknown column sesions_7d. Did you mean sessions_7d"),
    (
        "|\n    sessions_7d >= 1\n    and pageviews_14d > 1",
        2,
        "unknown column pageviews_14d. Did you mean pageviews_1d",
    ),
    (">\n    sessions_7d >= 1\n    and zodiac = 'leo'", 2, "unknown column zodiac. docs/segments.md lists"),
    ("t.sessions_7d >= 1", 0, "unknown column t.sessions_7d"),
    ("sessions_7d >= 1\n    or random() > 0.5", 1, "random() is not allowed"),
    ("|\n    sessions_7d >= 1 and\n    my_function(sessions_7d) > 1", 2, "my_function() is not allowed"),
    ("max(sessions_7d) >= 1", 0, "max() is not allowed"),
    ("row_number() over () = 1", 0, "is not allowed"),
    ("(select 1) = 1", 0, "is not allowed"),
    ("sessions_7d in (select 1)", 0, "is not allowed"),
    ("exists (select 1)", 0, "is not allowed"),
    ("cast(crm_tier as integer) > 1", 0, "cast() is not allowed"),
    ("sessions_7d >= 1; drop table x", 0, "is not allowed"),
    ("current_date > '2026-01-01'", 0, "current_date() is not allowed"),
    ("sessions_7d", 0, "gives BIGINT, not true or false"),
    ("crm_tier > 5", 0, "DuckDB refuses it"),
    ("abs(crm_tier) > 5", 0, "DuckDB refuses it"),
    ("round(sessions_7d, 1, 2, 3) > 5", 0, ""),
]


@pytest.mark.parametrize(("predicate", "below", "said"), MISTAKES)
def test_a_predicate_that_cannot_be_used_is_refused_with_its_line(
    predicate: str, below: int, said: str, tmp_path: Path
) -> None:
    path = written(tmp_path, entry(name="good"), entry(name="bad", predicate="PREDICATE"), entry(name="other"))
    path.write_text(path.read_text().replace("PREDICATE", predicate))
    # Five lines of the rule before, then the fifth of this one.
    assert f"{path}, line {10 + below}: predicate of bad: " in (found := refusal(path))
    assert said in found


@settings(max_examples=examples(15, 200))
@given(
    terms=st.lists(st.sampled_from(FEATURES[:-2]), min_size=1, max_size=6),
    data=st.data(),
    style=st.sampled_from(["|", ">", ""]),
)
def test_the_line_of_an_unknown_column_is_told_wherever_it_stands(
    terms: list[str], data: st.DataObject, style: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    wrong = data.draw(st.integers(0, len(terms) - 1))
    lines = [f"{'and ' if n else ''}{'visits' if n == wrong else term} >= {n}" for n, term in enumerate(terms)]
    path = written(tmp_path_factory.mktemp("rules"), entry(predicate="PREDICATE"))
    text = (f"{style}\n    " if style else "") + "\n    ".join(lines)
    path.write_text(path.read_text().replace("PREDICATE", text))
    assert f"line {5 + bool(style) + wrong}: predicate of a: unknown column visits" in refusal(path)


@pytest.mark.parametrize(
    ("entries", "line", "said"),
    [
        ([entry(), entry(name="Big")], 6, "1.name"),
        ([entry(), {**entry(name="b"), "window_days": 7}], 11, "1.window_days: Extra inputs"),
        ([entry(), {k: v for k, v in entry(name="b").items() if k != "owner"}], 6, "1.owner: Field required"),
        ([entry(description="")], 3, "0.description"),
        ([entry(valid_from="soon")], 4, "0.valid_from"),
        ([entry(predicate=None)], 5, "0.predicate"),
        ([entry(), entry(name="b"), entry()], 14, "valid_from of a: line 4 has 2026-11-02 for it already"),
    ],
)
def test_an_entry_that_cannot_be_used_is_refused_with_its_line(
    entries: list[dict[str, Any]], line: int, said: str, tmp_path: Path
) -> None:
    assert f", line {line}: " in (found := refusal(written(tmp_path, *entries)))
    assert said in found


def test_what_is_no_yaml_no_list_or_no_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    assert f"{path}: No such file" in refusal(path)
    path.write_text("- name: [\n")
    assert "line 2" in refusal(path)
    path.write_text("- name: a\n  owner: o\n  name: b\n")
    assert "line 3: name stands in line 1 already" in refusal(path)
    path.write_text("name: a\n")
    assert "should be a valid list" in refusal(path)


def test_every_function_of_the_list_can_be_called(tmp_path: Path) -> None:
    calls = {
        "abs": "abs(sessions_7d - 3) > 1",
        "case": "case when sessions_7d > 1 then true else false end",
        "coalesce": "coalesce(days_since_last_visit, 31) > 7",
        "greatest": "greatest(sorts_7d, filters_7d) > 3",
        "if": "if(sessions_7d > 1, has_profile, false)",
        "least": "least(sorts_7d, filters_7d) > 3",
        "lower": "lower(crm_tier) in ('gold', 'platinum')",
        "nullif": "affiliate_clicks_7d / nullif(sessions_7d, 0) > 0.5",
        "round": "round(pageviews_7d / 3, 1) between 1 and 2.5",
    }
    assert calls.keys() == FUNCTIONS.keys()
    path = written(tmp_path, *(entry(name=f"with_{name}", predicate=call) for name, call in calls.items()))
    assert len(load_rules(path)) == len(FUNCTIONS)


def test_a_version_counts_until_the_next_one_of_its_name_wherever_they_stand(tmp_path: Path) -> None:
    days = [FIRST + timedelta(days=n) for n in (9, 0, 4)]
    path = written(tmp_path, *(entry(valid_from=day) for day in days), entry(name="b"))
    found = {(rule.name, rule.valid_from): rule.valid_until for rule in load_rules(path)}
    assert found == {("a", days[1]): days[2], ("a", days[2]): days[0], ("a", days[0]): None, ("b", FIRST): None}


def test_without_rules_nobody_is_in_a_segment(tmp_path: Path) -> None:
    assert members(load_rules(written(tmp_path)), [{"user_id_hash": "u", "evaluated_on": FIRST}]) == set()


def members(rules: list[segments.SegmentRule], rows: list[dict[str, Any]]) -> set[tuple[str, date, str]]:
    """What the macro says of rows of features; one that a row does not name is 0, null or false."""
    with duckdb.connect() as connection:
        connection.execute(segments.membership_macro(rules))
        numbers = ", ".join(f"{name} bigint default 0" for name in FEATURES if name not in (*PROFILE, segments.VISITED))
        connection.execute(
            f"create table features (user_id_hash varchar, evaluated_on date, {numbers}, {segments.VISITED} bigint, "
            "has_profile boolean default false, crm_tier varchar)"
        )
        for row in rows:
            names = ", ".join(row)
            connection.execute(
                f"insert into features ({names}) values ({', '.join('?' * len(row))})", list(row.values())
            )
        return set(connection.sql("from segment_members('features')").fetchall())


DAYS = st.integers(-1, 4).map(lambda n: FIRST + timedelta(days=n))


@settings(max_examples=examples(15, 300))
@given(
    versions=st.dictionaries(
        st.tuples(st.sampled_from(["a", "b"]), DAYS),
        st.sampled_from(
            [
                ("sessions_1d >= 2 -- two", lambda f: f["sessions_1d"] >= 2),
                (
                    "days_since_last_visit > 3 or sessions_1d = 0",
                    lambda f: (f["seen"] or 0) > 3 or f["sessions_1d"] == 0,
                ),
                ("crm_tier = 'gold'", lambda f: f["tier"] == "gold"),
                ("has_profile and sessions_1d < 2", lambda f: f["profile"] and f["sessions_1d"] < 2),
                ("false", lambda _: False),
            ]
        ),
        max_size=5,
    ),
    states=st.lists(
        st.fixed_dictionaries(
            {
                "day": DAYS,
                "sessions_1d": st.integers(0, 3),
                "seen": st.one_of(st.none(), st.integers(1, 5)),
                "tier": st.sampled_from([None, "gold", "basic"]),
                "profile": st.booleans(),
            }
        ),
        max_size=6,
    ),
)
def test_the_sql_of_the_rules_judges_as_the_version_of_the_day_says(
    versions: dict[tuple[str, date], tuple[str, Any]],
    states: list[dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    entries = [entry(name=name, valid_from=day, predicate=sql) for (name, day), (sql, _) in versions.items()]
    rules = load_rules(written(tmp_path_factory.mktemp("rules"), *entries))
    wanted = set()
    for number, state in enumerate(states):
        for name in ("a", "b"):
            begun = [day for of, day in versions if of == name and day <= state["day"]]
            if not begun:
                continue
            sql, holds = versions[name, max(begun)]
            of_profiles = "crm_tier" in sql or "has_profile" in sql
            if (state["seen"] is not None or (of_profiles and state["profile"])) and holds(state):
                wanted.add((str(number), state["day"], name))
    rows = [
        {
            "user_id_hash": str(number),
            "evaluated_on": state["day"],
            "sessions_1d": state["sessions_1d"],
            "days_since_last_visit": state["seen"],
            "crm_tier": state["tier"],
            "has_profile": state["profile"],
        }
        for number, state in enumerate(states)
    ]
    assert members(rules, rows) == wanted


def test_the_documentation_has_every_feature_function_and_packaged_rule() -> None:
    text = DOCS.read_text()
    names = [*MEASURES, segments.VISITED, *PROFILE, *FUNCTIONS, *(rule.name for rule in load_rules())]
    assert [name for name in names if f"`{name}`" not in text] == []
    assert ", ".join(f"`_{days}d`" for days in WINDOWS) in text


def test_the_command_tells_the_rules_or_the_line_of_a_mistake(tmp_path: Path) -> None:
    def check(*entries: dict[str, Any]) -> Result:
        return CliRunner().invoke(cli.app, ["segments", "check", str(written(tmp_path, *entries))])

    good = check(entry(), entry(valid_from=date(2027, 1, 1)))
    assert good.exit_code == 0 and good.stdout.count("2027-01-01") == 2
    with pytest.raises(RuleError, match="line 5: predicate of a: unknown column visits"):
        raise check(entry(predicate="visits > 1")).exception or AssertionError("accepted")
