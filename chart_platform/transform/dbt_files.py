"""dbt's property files, written from the tables' declarations.

One file a model says what the model returns: columns, types, owner, contract and data tests; of a model in between, what
the comment at its head says. Tables that no model makes are sources. Belongs here: turning declarations into those files and telling whether they are level. Does not belong
here: properties that people write (unit tests, metrics), and invoking dbt (``dbt``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from chart_platform.contracts.tables import BRONZE_EVENTS, FACT_FUNNEL, SILVER_EVENTS, TABLES, Column, Table
from chart_platform.lakehouse.duck import duckdb_type
from chart_platform.transform.dbt import PROJECT

_HEAD = "# Written by `chart-platform schemas generate` from chart_platform/contracts/tables. Change the declaration instead.\n"
_SOURCES = Path("models/staging/__lakehouse.yml")
_GROUPS = Path("models/__groups.yml")
_EXPOSURES = Path("models/__exposures.yml")
_NAMESPACES = {
    "bronze": "What came in: the topic's messages, dead letters, files of networks and companies. Immutable.",
    "silver": "Tables of silver that the exact path writes before dbt runs.",
    "gold": "Tables of gold that follow files and company data, made by SQL of their own packages.",
}


class _Dumper(yaml.SafeDumper):
    """Lists are indented under their key, and nothing is written as a reference to something above."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _file(content: Mapping[str, Any]) -> str:
    return _HEAD + yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def group_of(table: Table) -> str:
    """dbt's group of the table: the team before the @ of its owner, in dbt's letters."""
    return table.owner.partition("@")[0].replace("-", "_")


def _data_type(kind: pa.DataType) -> str:
    """The column's type in the words of the target that renders the file. They differ for lists only."""
    name = duckdb_type(kind).lower()
    if pa.types.is_list(kind) and not pa.types.is_struct(kind.value_type):
        trino = f"array({duckdb_type(kind.value_type).lower()})"
        return "{{ '" + trino + "' if target.type == 'athena' else '" + name + "' }}"
    return name


def _column(column: Column) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": column.name,
        "data_type": _data_type(column.type),
        "description": column.description,
        "config": {"meta": {"sensitivity": column.sensitivity}},
    }
    if column.required:
        described["constraints"] = [{"type": "not_null"}]
    return described


def _data_tests(table: Table) -> list[dict[str, Any]]:
    """The declaration as two tests, as each costs a query and dbt's time around it: one of values, one of the key."""
    where = {"where": _tested(table)} if _tested(table) else {}
    values = {
        "required": [c.name for c in table.columns if c.required],
        "allowed": {c.name: list(c.allowed) for c in table.columns if c.allowed is not None},
        "minimum": {c.name: c.minimum for c in table.columns if c.minimum is not None},
    }
    return [
        {
            "unique_key": {
                "name": "key_is_unique",
                "description": f"One row a {', '.join(table.key)}.",
                "arguments": {"columns": list(table.key)},
                **({"config": where} if where else {}),
            }
        },
        {
            "declared_values": {
                "name": "values_are_declared",
                "description": "Required columns have values; values are allowed ones and not below their minimum.",
                "arguments": {name: found for name, found in values.items() if found},
                **({"config": where} if where else {}),
            }
        },
    ]


def _tested(table: Table) -> str | None:
    """Which rows the tests look at: those of the days that a run has touched, where the table has days at all."""
    return f"{table.day_column} in (__tested_days__)" if table.day_column else None


def _described(table: Table) -> dict[str, Any]:
    return {"name": table.name, "description": table.description}


def _model(table: Table) -> str:
    meta = {"owner": table.owner, "key": list(table.key)} | (
        {"day_column": table.day_column} if table.day_column else {}
    )
    config = {"group": group_of(table), "contract": {"enforced": True}, "partitioned_by": list(table.partition_by)}
    model = {
        **_described(table),
        "config": {**config, "meta": meta},
        "columns": [_column(c) for c in table.columns],
        "data_tests": _data_tests(table),
    }
    return _file({"version": 2, "models": [model]})


def _sources(tables: Iterable[Table]) -> str:
    sources = []
    for namespace, description in _NAMESPACES.items():
        found = [
            {
                **_described(t),
                "config": {"meta": {"owner": t.owner, "key": list(t.key)}, **_freshness(t)},
                "columns": [{k: v for k, v in _column(c).items() if k != "constraints"} for c in t.columns],
            }
            for t in tables
            if t.namespace == namespace
        ]
        if found:
            sources.append({"name": namespace, "schema": namespace, "description": description, "tables": found})
    return _file({"version": 2, "sources": sources})


def _freshness(table: Table) -> dict[str, Any]:
    """Only silver.events is a stream; how old company data or reports may be is asked by the checks of their own assets."""
    if table != SILVER_EVENTS:
        return {}
    return {
        "loaded_at_field": "{{ 'epoch_ms(ingest_ts)' if target.type == 'duckdb' else 'from_unixtime(ingest_ts / 1000.0)' }}",
        "freshness": {
            "warn_after": {"count": 1, "period": "hour"},
            "error_after": {"count": 1, "period": "day"},
        },
    }


def _groups(tables: Iterable[Table]) -> str:
    owners = {group_of(t): t.owner for t in tables}
    groups = [{"name": name, "owner": {"name": name, "email": owners[name]}} for name in sorted(owners)]
    return _file({"version": 2, "groups": groups})


def _exposures(models: Sequence[Table]) -> str:
    """Who reads the tables outside dbt."""
    owner = {"name": group_of(FACT_FUNNEL), "email": FACT_FUNNEL.owner}
    every = [f"ref('{t.name}')" for t in models]
    kinds = {
        "analysts_file": (
            "analysis",
            "The DuckDB file that is published after each commit to gold: views of every table.",
            every,
        ),
        "athena": ("analysis", "Athena over the same Iceberg tables, where the catalog is Glue.", every),
        "demo_panel": (
            "application",
            "The demo's page, which follows each event to its row of the funnel.",
            ["ref('fact_funnel')"],
        ),
    }
    exposures = [
        {"name": name, "type": kind, "maturity": "high", "owner": owner, "description": description, "depends_on": read}
        for name, (kind, description, read) in kinds.items()
    ]
    return _file({"version": 2, "exposures": exposures})


def _between(path: Path) -> str:
    """Of a model that is no declared table: what the comment at its head says.

    Raises:
        ValueError: the model's file has no comment.
    """
    comment = re.search(r"(?:^--[^\n]*\n)+", path.read_text(), flags=re.MULTILINE)
    if comment is None:
        raise ValueError(
            f"{path}: a model that is no table of the contract says in a comment at its head what it returns."
        )
    description = " ".join(line.removeprefix("--").strip() for line in comment.group().splitlines())
    owner = {"owner": BRONZE_EVENTS.owner}
    config = {"group": group_of(BRONZE_EVENTS), "meta": owner}
    return _file({"version": 2, "models": [{"name": path.stem, "description": description, "config": config}]})


def _model_folders(project: Path) -> dict[tuple[str, str], Path]:
    """Folder of each model file, by namespace and name. Folders with another name than a namespace hold tables of gold."""
    folders = {}
    for path in sorted((project / "models").rglob("*.sql")):
        layer = path.relative_to(project / "models").parts[0]
        folders[layer if layer in _NAMESPACES else "gold", path.stem] = path.parent.relative_to(project)
    return folders


def property_files(project: Path = PROJECT) -> Iterator[tuple[Path, str]]:
    """Every file that is written from declarations, as (path in the project, text)."""
    folders = _model_folders(project)
    for table in TABLES:
        if folder := folders.get((table.namespace, table.name)):
            yield folder / f"{table.name}.yml", _model(table)
    declared = {t.name for t in TABLES}
    for path in sorted((project / "models").rglob("*.sql")):
        by_hand = (text := _read(path.with_suffix(".yml"))) is not None and not text.startswith(_HEAD)
        if path.stem not in declared and not by_hand:
            yield path.relative_to(project).with_suffix(".yml"), _between(path)
    yield _SOURCES, _sources([t for t in TABLES if (t.namespace, t.name) not in folders])
    yield _GROUPS, _groups(TABLES)
    yield _EXPOSURES, _exposures([t for t in TABLES if (t.namespace, t.name) in folders])


def write(project: Path = PROJECT) -> list[Path]:
    """Bring the files level with the declarations. Returns those that changed."""
    changed = [path for path, text in property_files(project) if _read(project / path) != text]
    wanted = dict(property_files(project))
    for path in changed:
        (project / path).write_text(wanted[path])
    for path in stale(project):
        (project / path).unlink()
        changed.append(path)
    return changed


def stale(project: Path = PROJECT) -> list[Path]:
    """Files written from a declaration or for a model that is gone."""
    wanted = dict(property_files(project))
    written = [p.relative_to(project) for p in (project / "models").rglob("*.yml") if p.read_text().startswith(_HEAD)]
    return sorted(set(written) - set(wanted))


def unlevel(project: Path = PROJECT) -> list[Path]:
    """Files that say anything else than the declarations, with those that are missing and those that should not be."""
    return [path for path, text in property_files(project) if _read(project / path) != text] + stale(project)


def _read(path: Path) -> str | None:
    return path.read_text() if path.exists() else None
