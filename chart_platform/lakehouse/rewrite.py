"""Copy-on-write: replace some rows of a table by others, touching only the files that hold them.

Belongs here: turning "these rows go, those come" into a :class:`~chart_platform.lakehouse.lake.Change`.
Does not belong here: which rows those are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb
import numpy as np
import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table as IcebergTable

from chart_platform.contracts.tables import Table
from chart_platform.lakehouse.duck import local_path, relation
from chart_platform.lakehouse.lake import Change
from chart_platform.lakehouse.progress import Progress
from chart_platform.lakehouse.unload import unload


def replace_rows(
    connection: duckdb.DuckDBPyConnection,
    current: IcebergTable,
    declared: Table,
    candidates: Sequence[DataFile],
    doomed: str,
    added: pa.Table | str,
    written: Sequence[DataFile] = (),
    progress: Progress | None = None,
    summary: Mapping[str, str] | None = None,
) -> Change:
    """A change that drops the rows of ``candidates`` for which the SQL predicate ``doomed`` holds and adds ``added``
    (rows, or a relation of SQL) and the files ``written`` before.

    ``doomed`` sees the table's columns under the alias ``t``. Rows for which it is null stay.
    """
    if isinstance(added, pa.Table):
        connection.register("added", added)
        added = "added"
    hit: list[DataFile] = []
    fresh = added
    if candidates:
        source = relation(current, declared, candidates, filename=True)
        found = connection.sql(f"select distinct filename from {source} as t where {doomed}").fetchall()
        names = {name for (name,) in found}
        hit = [f for f in candidates if local_path(f.file_path) in names]
    if hit:
        connection.execute(
            f"""
            create or replace temp table rewritten as
            select * from {relation(current, declared, hit)} as t where not coalesce({doomed}, false)
            union all by name
            select * from {added}
            """
        )
        fresh = "rewritten"
    files = unload(connection, current, declared, fresh)
    return Change(add=[*written, *files], remove=hit, progress=progress, summary=summary or {})


def in_order(fresh: pa.Table, declared: Table) -> pa.Table:
    """Rows in the table's sort order, which Iceberg records and nobody applies."""
    if ascending(fresh, declared.sort_by):
        return fresh
    return fresh.sort_by([(column, "ascending") for column in declared.sort_by])


def ascending(fresh: pa.Table, names: Sequence[str], strictly: bool = False) -> bool:
    """Whether rows ascend by integer columns, as what was read from Kafka does. False if one isn't a filled integer."""
    columns = [fresh[name] for name in names]
    if not all(pa.types.is_integer(column.type) and not column.null_count for column in columns):
        return False
    after = np.full(max(fresh.num_rows - 1, 0), not strictly)
    for column in reversed(columns):
        step = np.diff(column.to_numpy())
        after = (step > 0) | ((step == 0) & after)
    return bool(after.all())
