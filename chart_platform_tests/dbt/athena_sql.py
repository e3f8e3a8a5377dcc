"""What Athena's SQL is not, as far as that can be told without Athena.

Belongs here: a check of one compiled query, by its words and by sqlglot's grammar. Does not belong here: compiling.
"""

from __future__ import annotations

import re

import sqlglot

# Functions of Trino (https://trino.io/docs/current/functions.html) that Athena's engine 3 has as well. What a model needs
# beyond it is looked up there and added here.
FUNCTIONS = frozenset(
    re.findall(
        r"\w+",
        """
    abs all_match any_match approx_distinct arbitrary array_agg array_distinct array_join array_max array_min array_sort
    avg bool_and bool_or cardinality cast ceil ceiling coalesce concat concat_ws contains count count_if cume_dist
    current_date date date_add date_diff date_format date_trunc day dense_rank element_at exp extract filter first_value
    flatten floor from_unixtime greatest grouping hour if json_extract json_extract_scalar lag last_value lead least length
    listagg ln lower ltrim map map_agg max max_by md5 min min_by minute mod month nth_value ntile nullif percent_rank pow
    power rank reduce regexp_extract regexp_extract_all regexp_like regexp_replace replace reverse round row row_number
    rtrim sequence sha256 sign slice split split_part sqrt starts_with stddev_samp strpos substr substring sum to_hex
    to_unixtime to_utf8 transform trim try try_cast unnest upper var_samp week xxhash64 year zip
    """,
    )
)
# Words that stand before a parenthesis and call nothing.
_NOT_CALLS = frozenset(
    re.findall(
        r"\w+",
        """
    all and any array as between by case decimal distinct else end except exists filter from group having in inner
    intersect into join left not on or order over partition select sets some then timestamp union using values varchar when
    where with within
    """,
    )
)
_NOT_ATHENA = {
    "semi join": r"\bsemi\s+join\b",
    "anti join": r"\banti\s+join\b",
    "asof join": r"\basof\b",
    "union by name": r"\bby\s+name\b",
    "columns left out of *": r"\*\s*exclude\b|\*\s*replace\b",
    "group by all": r"\b(group|order)\s+by\s+all\b",
    "::": r"::",
    "qualify": r"\bqualify\b",
    "a struct in braces": r"[{}]",
    "a list in brackets": r"(?<!array)\[",
    "a filter without where": r"\bfilter\s*\((?!\s*where\b)",
    "an interval without quotes": r"\binterval\s+(\d|\()",
    "//": r"//",
    "nested recursion": r"\brecursive\b",
}


def plain(sql: str) -> str:
    """The query without comments, and with texts and quoted names empty."""
    text = re.sub(r"--[^\n]*|/\*.*?\*/", " ", sql, flags=re.DOTALL)
    return re.sub(r"'(?:[^']|'')*'", "''", re.sub(r'"[^"]*"', '""', text)).lower()


def objections(sql: str) -> list[str]:
    """Every reason why Athena would not take the query; none is no promise that it would."""
    text = plain(sql)
    found = [name for name, pattern in _NOT_ATHENA.items() if re.search(pattern, text)]
    # `unnest(…) as days (day)` and `row(…)) as row(name varchar)` name columns and call nothing.
    calls = set(re.findall(r"(?<!\bas )\b([a-z_]\w*)\s*\(", text)) - _NOT_CALLS
    found += [f"function {name}" for name in sorted(calls - FUNCTIONS)]
    try:
        sqlglot.parse_one(sql, dialect="athena", error_level=sqlglot.ErrorLevel.RAISE)
    except sqlglot.errors.SqlglotError as error:
        found.append(f"syntax: {str(error).splitlines()[0]}")
    return found
