"""Segment rules: reading the YAML that analysts edit, and the SQL that judges visitors by it.

Belongs here: the rules and their SQL. Does not belong here: SCD2 rows (the dbt model user_segments).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlglot
import yaml
from sqlglot import exp

FEATURES = ("sessions", "pageviews", "chart_interactions", "affiliate_clicks", "days_active")
_DEFAULT = Path(__file__).parent / "segment_rules.yml"
_NAME = re.compile(r"^[a-z][a-z0-9_]*$")


class RuleError(ValueError):
    """A segment rule that can't be used, with its file and place."""


@dataclass(frozen=True)
class SegmentRule:
    """One rule: visitor is in ``name`` on a day iff ``predicate`` holds over the ``window_days`` days before it."""

    name: str
    owner: str
    description: str
    window_days: int
    predicate: str


def load_rules(path: Path | None = None) -> list[SegmentRule]:
    """Read and check the rules.

    Raises:
        RuleError: naming the file, the rule and what is wrong with it.
    """
    source = path or _DEFAULT
    raw = yaml.safe_load(source.read_text())
    if not isinstance(raw, list):
        raise RuleError(f"{source}: expected a list of rules.")
    rules: list[SegmentRule] = []
    for number, entry in enumerate(raw, 1):
        where = f"{source}, rule {number}"
        try:
            rule = SegmentRule(**entry)
        except TypeError as error:
            raise RuleError(f"{where}: needs name, owner, description, window_days and predicate ({error}).") from None
        if not _NAME.match(str(rule.name)) or rule.name in {r.name for r in rules}:
            raise RuleError(f"{where}: name {rule.name!r} must be lower_snake_case and used once.")
        if not isinstance(rule.window_days, int) or not 1 <= rule.window_days <= 90:
            raise RuleError(f"{where} ({rule.name}): window_days must be 1 to 90, not {rule.window_days!r}.")
        _check_predicate(where, rule)
        rules.append(rule)
    return rules


def _check_predicate(where: str, rule: SegmentRule) -> None:
    try:
        tree = sqlglot.parse_one(rule.predicate, dialect="duckdb")
    except sqlglot.errors.SqlglotError as error:
        raise RuleError(f"{where} ({rule.name}): predicate is not SQL: {error}") from None
    if unknown := sorted({c.name for c in tree.find_all(exp.Column)} - set(FEATURES)):
        raise RuleError(f"{where} ({rule.name}): unknown column {unknown}; there are {', '.join(FEATURES)}.")
    for node in tree.find_all(exp.Select, exp.Anonymous, exp.AggFunc, exp.Window):
        raise RuleError(f"{where} ({rule.name}): {node.sql()} is not allowed in a predicate.")


def longest_window(rules: Sequence[SegmentRule]) -> int:
    return max((rule.window_days for rule in rules), default=1)


def membership_macro(rules: Sequence[SegmentRule]) -> str:
    """A DuckDB table macro: (user_id_hash, evaluated_on, features per window) to (user_id_hash, evaluated_on, segment_key).

    The features relation has one row a visitor, evaluation and window, with ``window_days`` and the columns of ``FEATURES``.
    """
    selects = [
        f"select user_id_hash, evaluated_on, '{rule.name}' as segment_key from query_table(features) "
        f"where window_days = {rule.window_days} and ({rule.predicate})"
        for rule in rules
    ] or [
        "select cast(null as varchar) as user_id_hash, cast(null as date) as evaluated_on, cast(null as varchar) as segment_key where false"
    ]
    return f"create or replace macro segment_members(features) as table {' union all '.join(selects)}"
