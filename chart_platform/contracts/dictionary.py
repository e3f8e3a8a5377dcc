"""The data dictionary: every table and column with its meaning, unit, owner, sensitivity and lineage, as one page.

Belongs here: writing the page from the declarations. Does not belong here: facts of its own; who wants a better word in
the page changes the declaration.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from chart_platform.contracts.tables import TABLES, Column, Table
from chart_platform.contracts.tables.declare import Source

PAGE = Path(__file__).parents[2] / "docs" / "dictionary.md"
_HEAD = """\
# Data dictionary

Written by `chart-platform schemas generate` from `chart_platform/contracts/tables`; change the declarations, not this page.
Tables are Iceberg tables of the same names; analysts find them under these names in the published DuckDB file.

Sensitivity: **public** may be shown to anyone; **internal** stays in the company; **personal** is about one visitor and is
erased with them; **financial** is money. A column marked \\* is never null. *From* names the columns that it is made of.
"""
_LAYERS = {
    "bronze": "Bronze: what came in",
    "silver": "Silver: cleaned events, visits, segments",
    "gold": "Gold: facts, dimensions and marts",
}
_BY_NAME: tuple[tuple[str, str], ...] = (
    (r"ingest_ts", "epoch ms, UTC"),
    (r"(event_)?hour", "hour of the day, 00 to 23, UTC"),
    (r"(geo_)?country", "ISO 3166-1 alpha-2"),
    (r"currency", "ISO 4217"),
    (r"locale", "BCP 47"),
    (r".*_url|referrer|affiliate_target", "URL"),
    (r"kafka_(partition|offset)|seq|record|line|.*position|touch", "place in a sequence"),
    (r".*_cents", "cents"),
    (r".*_ms", "ms"),
    (r".*_ppb", "billionths"),
    (r".*(p_value|alpha).*", "probability, 0 to 1"),
    (r".*(rate|ratio|ctr|relative).*", "ratio"),
)
_IN_WORDS = ("billionths", "millionths", "hundredths", "cents", "bytes", "ms", "seconds", "minutes", "hours")


def write(path: Path = PAGE) -> bool:
    """Bring the page level with the declarations. True if it changed."""
    if is_level(path):
        return False
    path.write_text(page())
    return True


def is_level(path: Path = PAGE) -> bool:
    return path.exists() and path.read_text() == page()


def unit_of(column: Column) -> str:
    """The column's unit: the one declared, else by its type, its name or a unit that its description names."""
    kind = column.type
    if column.unit:
        return column.unit
    if pa.types.is_timestamp(kind):
        return "time, UTC"
    if pa.types.is_date(kind):
        return "day, UTC"
    if pa.types.is_boolean(kind):
        return "yes or no"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _unit_of_number(column)
    if pa.types.is_string(kind):
        return _by_name(column.name) or "text"
    return {pa.binary(): "bytes"}.get(kind, "list" if pa.types.is_list(kind) else "record")


def _unit_of_number(column: Column) -> str:
    words = set(re.findall(r"[a-z]+", column.description))
    named = next((unit for unit in _IN_WORDS if unit in words), None)
    return _by_name(column.name) or named or ("count" if pa.types.is_integer(column.type) else "number")


def _by_name(name: str) -> str | None:
    return next((unit for pattern, unit in _BY_NAME if re.fullmatch(pattern, name)), None)


def type_name(kind: pa.DataType) -> str:
    """The type in SQL's words; members of records are left to the bronze tables' declarations."""
    if pa.types.is_list(kind):
        return f"{type_name(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        return "struct"
    names = {
        pa.string(): "varchar",
        pa.binary(): "blob",
        pa.int32(): "integer",
        pa.int64(): "bigint",
        pa.float64(): "double",
        pa.bool_(): "boolean",
        pa.date32(): "date",
        pa.timestamp("us"): "timestamp",
    }
    return names[kind]


def page(tables: Sequence[Table] = TABLES) -> str:
    """The whole page, in Markdown: an index, then the tables by layer in the order of their declaration."""
    return "\n".join([_HEAD, *_index(tables), *(line for layer in _LAYERS for line in _layer(tables, layer))]) + "\n"


def _of_layer(tables: Iterable[Table], layer: str) -> list[Table]:
    return [declared for declared in tables if declared.namespace == layer]


def _index(tables: Sequence[Table]) -> Iterator[str]:
    for layer, title in _LAYERS.items():
        links = (f"[{t.name}](#{t.full_name.replace('.', '')})" for t in _of_layer(tables, layer))
        yield f"- {title}: {', '.join(links)}"
    yield ""


def _layer(tables: Sequence[Table], layer: str) -> Iterator[str]:
    yield f"## {_LAYERS[layer]}\n"
    for declared in _of_layer(tables, layer):
        yield from _table(declared)


def _table(declared: Table) -> Iterator[str]:
    yield f"### {declared.full_name}\n"
    yield f"{declared.description}\n"
    days = f" · days by `{declared.day_column}`" if declared.day_column else ""
    yield f"Owner {declared.owner} · key {_names(declared.key)}{days} · partitioned by {_names(declared.partition_by)}\n"
    yield "| column | type | unit | meaning | sensitivity | from |"
    yield "|---|---|---|---|---|---|"
    lineage = declared.lineage()
    for column in declared.columns:
        name = f"`{column.name}`" + (" \\*" if column.required else "")
        cells = (name, type_name(column.type), unit_of(column), column.description, column.sensitivity)
        yield f"| {' | '.join(map(_cell, cells))} | {_sources(lineage.get(column.name, ()))} |"
    yield ""


def _sources(sources: Iterable[Source]) -> str:
    by_table: dict[str, list[str]] = {}
    for upstream, name in sources:
        by_table.setdefault(upstream, []).append(name)
    return (
        "; ".join(f"{upstream}: {', '.join(dict.fromkeys(names))}" for upstream, names in by_table.items()) or "outside"
    )


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
