"""Segment rules: the YAML that analysts edit, read and checked, and the SQL that judges visitors by it.

Belongs here: what a rule may say, and its SQL. Does not belong here: the features themselves (the dbt model
int_segment_features), who is judged when (``scope``), SCD2 rows (the dbt model user_segments).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path

import duckdb
import sqlglot
from pydantic import BaseModel, ConfigDict, Field, RootModel, field_validator
from sqlglot import exp

from chart_platform.contracts.yaml_lines import YamlMistake, read_yaml

WINDOWS = (1, 7, 30)
"""Whole days before the day that is judged."""
LONGEST = timedelta(days=max(WINDOWS))
"""Who has not visited for so long has no features but those of the company's profile."""
MEASURES = {
    "sessions": "Visits.",
    "days_active": "Days with a visit.",
    "pageviews": "Page views.",
    "comparison_views": "Page views of comparison pages.",
    "chart_interactions": "Chart interactions.",
    "toggles": "Chart interactions that toggled.",
    "sorts": "Chart interactions that sorted.",
    "filters": "Chart interactions that filtered.",
    "expands": "Chart interactions that expanded a feature.",
    "price_interactions": "Chart interactions with a control of price.",
    "deal_interactions": "Chart interactions with a control or value of deals, discounts, coupons or trials.",
    "affiliate_clicks": "Affiliate clicks.",
    "shops_clicked": "Distinct hosts that the first affiliate clicks of the visits led to.",
    "payout_cents": "Expected payout of the clicks, cents.",
    "mobile_sessions": "Visits on a phone.",
    "engaged_sessions": "Visits that GA4 would call engaged.",
}
"""What is counted over each window: `<measure>_<days>d` is the feature, 0 without a visit."""
PROFILE = {
    "has_profile": "Whether the company has a profile of the visitor (boolean).",
    "crm_tier": "Tier that the CRM puts the visitor in (text); null without a profile.",
}
"""What the company knew at the beginning of the day, by gold.dim_user."""
VISITED = "days_since_last_visit"
FEATURES = (
    *(f"{measure}_{days}d" for measure in MEASURES for days in WINDOWS),
    VISITED,
    *PROFILE,
)
FUNCTIONS: dict[str, type[exp.Expr]] = {
    "abs": exp.Abs,
    "case": exp.Case,
    "coalesce": exp.Coalesce,
    "greatest": exp.Greatest,
    "if": exp.If,
    "least": exp.Least,
    "lower": exp.Lower,
    "nullif": exp.Nullif,
    "round": exp.Round,
}
"""What a predicate may call, besides the operators."""
_OPERATORS = (
    *(exp.And, exp.Or, exp.Not, exp.Paren, exp.Neg, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod),
    *(exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Is, exp.Between, exp.In),
    *(exp.Like, exp.ILike, exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Null),
)
DEFAULT_RULES = Path(__file__).parent / "segment_rules.yml"


class RuleError(ValueError):
    """A segment rule that can't be used. The message names the file, the line and what is wrong there."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    owner: str = Field(min_length=1)
    description: str = Field(min_length=1)
    valid_from: date
    predicate: str = Field(min_length=1)

    @field_validator("predicate", mode="before")
    @classmethod
    def _unquoted(cls, given: object) -> object:
        """`predicate: false`, which ends a segment, is a boolean to YAML."""
        return str(given).lower() if isinstance(given, bool) else given


class _File(RootModel[list[_Entry]]):
    """The rules in the order of the file."""


@dataclass(frozen=True)
class SegmentRule:
    """One version of a rule: on a day from ``valid_from`` on and before ``valid_until`` (None: for good) a visitor is in
    ``name`` iff ``predicate`` holds over the visitor's features of that day."""

    name: str
    owner: str
    description: str
    valid_from: date
    valid_until: date | None
    predicate: str

    @property
    def of_profiles(self) -> bool:
        """Whether it asks for the company's profile, and so judges everyone who has one, visits or not."""
        return any(column in PROFILE for column in _columns(_parsed(self.predicate)))

    @property
    def condition(self) -> str:
        """SQL over `evaluated_on` and the features. The line break ends a comment in the predicate."""
        known = f"({VISITED} is not null{' or has_profile' if self.of_profiles else ''})"
        until = f" and evaluated_on < date '{self.valid_until}'" if self.valid_until else ""
        return f"evaluated_on >= date '{self.valid_from}'{until} and {known} and ({self.predicate}\n)"


def load_rules(path: Path | None = None) -> list[SegmentRule]:
    """The rules of the file (the packaged one without ``path``), each version for itself.

    Raises:
        RuleError: with the file, the line, and the first thing that is wrong.
    """
    source = path or DEFAULT_RULES
    try:
        file, lines = read_yaml(source, _File, "CHART_SEGMENT_RULES")
    except YamlMistake as error:
        raise RuleError(str(error)) from error
    written = source.read_text("utf-8").splitlines()

    def refuse(number: int, key: str, mistake: str, word: str = "") -> RuleError:
        line = _line_of(word, written, lines.of(number, key))
        return RuleError(f"{source}, line {line}: {key} of {file.root[number].name}: {mistake}")

    places: dict[tuple[str, date], int] = {}
    for number, entry in enumerate(file.root):
        for mistake, word in _mistakes(entry.predicate):
            raise refuse(number, "predicate", mistake, word)
        other = places.setdefault((entry.name, entry.valid_from), number)
        if other != number:
            raise refuse(
                number,
                "valid_from",
                f"line {lines.of(other, 'valid_from')} has {entry.valid_from} for it already. Another version of a rule has "
                "another valid_from; another segment has another name.",
            )
    if _refused([entry.predicate for entry in file.root]):
        for number, entry in enumerate(file.root):
            if refused := _refused([entry.predicate]):
                raise refuse(number, "predicate", refused)
    starts = sorted(places)
    until = {before: after[1] for before, after in pairwise(starts) if before[0] == after[0]}
    return [SegmentRule(**dict(entry), valid_until=until.get((entry.name, entry.valid_from))) for entry in file.root]


def _parsed(predicate: str) -> exp.Expr:
    return sqlglot.parse_one(predicate, dialect="duckdb")


def _columns(tree: exp.Expr) -> list[str]:
    return [column.sql(dialect="duckdb") for column in tree.find_all(exp.Column)]


def _mistakes(predicate: str) -> Iterator[tuple[str, str]]:
    """What is wrong with the words of a predicate, and at which word."""
    try:
        tree = _parsed(predicate)
    except sqlglot.errors.ParseError as error:
        at = error.errors[0]
        yield f"not SQL: {at['description']} at {at['highlight']!r}", str(at["highlight"])
        return
    except sqlglot.errors.SqlglotError as error:
        yield f"not SQL: {error}", ""
        return
    for name in _columns(tree):
        if name not in FEATURES:
            near = get_close_matches(name, FEATURES, 3, 0.6)
            hint = f"Did you mean {' or '.join(near)}?" if near else "docs/segments.md lists the features."
            yield f"unknown column {name}. {hint}", name
    for node in tree.walk():
        if not isinstance(node, (*_OPERATORS, *FUNCTIONS.values())):
            names = [node.name] if isinstance(node, exp.Anonymous) else _names(node)
            word = next((name for name in names if _whole(name).search(predicate)), "")
            said = f"{word.lower()}()" if word else node.sql(dialect="duckdb")
            yield (
                f"{said} is not allowed. A predicate compares features of one visitor and day; it may call "
                f"{', '.join(FUNCTIONS)}.",
                word or node.key,
            )


def _names(node: exp.Expr) -> list[str]:
    return node.sql_names() if isinstance(node, exp.Func) else []


_STRANGERS = " union all ".join(
    f"select {', '.join(f'cast({value} as bigint) as {name}' for name in FEATURES if name not in PROFILE)}, "
    f"{known} as has_profile, cast({tier} as varchar) as crm_tier"
    for value, known, tier in (("0", "false", "null"), ("1", "true", "'gold'"), ("100", "true", "''"))
)
"""Rows to try predicates on: what parses may still compare a text with a number."""


def _refused(predicates: Sequence[str]) -> str | None:
    """What DuckDB says against any of the predicates."""
    listed = ", ".join(f"({predicate}\n)" for predicate in predicates) or "true"
    with duckdb.connect() as connection:
        try:
            tried = connection.sql(f"select {listed} from ({_STRANGERS})")
            others = {str(kind) for kind in tried.types} - {"BOOLEAN"}
            tried.fetchall()
        except duckdb.Error as error:
            return f"DuckDB refuses it: {str(error).splitlines()[0]}"
    return f"gives {others.pop()}, not true or false" if others else None


def _whole(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)


def _line_of(word: str, written: Sequence[str], first: int) -> int:
    """Line of the first ``word`` in or after line ``first`` (from 1), where the entry begins."""
    later = (number for number, line in enumerate(written[first - 1 :], first) if word and _whole(word).search(line))
    return next(later, first)


def membership_macro(rules: Sequence[SegmentRule]) -> str:
    """A DuckDB table macro: name of a relation of features, a row a visitor and day, to (user_id_hash, evaluated_on,
    segment_key). It reads the relation once, and of its features those that rules name."""
    held = ", ".join(f"case when {rule.condition} then '{rule.name}' end" for rule in rules)
    return f"""
        create or replace macro segment_members(features) as table
        select user_id_hash, evaluated_on, segment_key
        from (
            select user_id_hash, evaluated_on, unnest(cast([{held}] as varchar[])) as segment_key
            from query_table(features)
        )
        where segment_key is not null
    """
