"""dbt, called in this process.

One call of dbt's command line costs 13-24 s, mostly imports and parsing; in a run process that has dbt imported and a
parsed project from the cache it costs about a second. Belongs here: parsing, caching, invoking. Does not belong here:
what the models get and give (``model``).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, cast

import duckdb

from chart_platform.settings import Settings

PROJECT = Path(__file__).parents[2] / "dbt_project"
_QUIET = ["--log-level", "none", "--log-level-file", "none", "--no-write-json", "--no-print", "--no-use-colors"]


class DbtFailed(RuntimeError):
    """dbt failed. The message holds what it said of each model."""


@dataclass(frozen=True)
class Outcome:
    """What came of one node: its status in dbt's words, what a test counted as failed, the SQL that was run, seconds."""

    unique_id: str
    name: str
    status: str
    message: str
    failures: int
    sql: str
    seconds: float

    @property
    def is_data_test(self) -> bool:
        return self.unique_id.startswith("test.")


def _digest() -> str:
    """Of the project's text and dbt's version: what a parsed project depends on."""
    digest = hashlib.sha256(f"{version('dbt-core')} {version('dbt-duckdb')}".encode())
    for path in sorted(PROJECT.rglob("*")):
        if path.suffix in (".sql", ".yml") and "target" not in path.parts:
            digest.update(f"{path.relative_to(PROJECT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _cached(settings: Settings) -> Path:
    """Folder of the parsed project as it is: `manifest.json` for asset definitions, and for dbt itself `manifest.msgpack`
    and, for what only runs models, the smaller `models.msgpack`."""
    folder = settings.root / "cache" / f"dbt-{_digest()}"
    if not folder.exists():
        _parse(folder)
    return folder


def _parse(folder: Path) -> None:
    import msgpack
    from dbt.cli.main import dbtRunner

    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="dbt-parse-", dir=folder.parent))
    result = dbtRunner().invoke(["parse", *_where(scratch), *_QUIET])
    if not result.success:
        shutil.rmtree(scratch, ignore_errors=True)
        raise DbtFailed(f"dbt parse failed: {result.exception}")
    manifest = cast(Any, result.result)
    ready = scratch / "ready"
    ready.mkdir()
    (ready / "manifest.json").write_text(json.dumps(manifest.writable_manifest().to_dict(omit_none=False), default=str))
    # YAML reads 2026-11-02 in a unit test as a date, for which dbt's own encoder has no word.
    packed = partial(msgpack.packb, default=str)
    (ready / "manifest.msgpack").write_bytes(manifest.to_msgpack(encoder=packed))
    (ready / "models.msgpack").write_bytes(_models_only(manifest).to_msgpack(encoder=packed))
    try:
        ready.rename(folder)
    except OSError:
        if not folder.exists():
            raise
    shutil.rmtree(scratch, ignore_errors=True)


def _models_only(manifest: Any) -> Any:
    """The manifest without what a run of models would load for nothing: tests, metrics, words about sources, parsed files."""
    manifest.nodes = {name: node for name, node in manifest.nodes.items() if node.resource_type == "model"}
    for source in manifest.sources.values():
        source.columns = {}
    for others in (
        "unit_tests",
        "exposures",
        "metrics",
        "semantic_models",
        "saved_queries",
        "docs",
        "files",
        "flat_graph",
    ):
        setattr(manifest, others, {})
    return manifest


def _where(scratch: Path) -> list[str]:
    return [
        "--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT), "--target", "embedded",
        "--target-path", str(scratch), "--log-path", str(scratch),
    ]  # fmt: skip


def manifest_json(settings: Settings) -> dict[str, Any]:
    """The project's manifest, as dagster-dbt reads it. Parses only when the project has changed."""
    return cast(dict[str, Any], json.loads((_cached(settings) / "manifest.json").read_text()))


class DbtRun(Protocol):
    """What a dbt command works for: it gives the models what they read, and takes what they return."""

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the schemas that the models read in dbt's connection."""

    def store(self, full_name: str, staged: str, config: Mapping[str, Any]) -> None:
        """Commit the rows that the model of table ``full_name`` has put into relation ``staged``."""


_current: DbtRun | None = None


def current() -> DbtRun | None:
    """The run that dbt works for in this process, or None when somebody called dbt by hand."""
    return _current


def invoke(settings: Settings, arguments: list[str], run: DbtRun | None = None) -> list[Outcome]:
    """Run one dbt command for ``run``, which the plugin finds through :func:`current`. Returns what came of each node; a data test that found rows is an outcome, no error.

    Raises:
        DbtFailed: with each failed node's message.
    """
    global _current
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner
    from dbt.contracts.graph.manifest import Manifest

    # dbt keeps its in-memory database for the life of the process; each run needs views of its own snapshots.
    DuckDBConnectionManager.close_all_connections()
    parsed = "models.msgpack" if arguments[0] == "run" else "manifest.msgpack"
    manifest = Manifest.from_msgpack((_cached(settings) / parsed).read_bytes())
    scratch = Path(tempfile.mkdtemp(prefix="chart-dbt-"))
    _current = run
    try:
        result = dbtRunner(manifest=manifest).invoke([*arguments, *_where(scratch), *_QUIET])
    finally:
        _current = None
        shutil.rmtree(scratch, ignore_errors=True)
        DuckDBConnectionManager.close_all_connections()
    outcomes = [_outcome(found) for found in getattr(result.result, "results", [])]
    failed = [o for o in outcomes if o.status == "error" or (o.status == "fail" and not o.is_data_test)]
    if failed or result.exception is not None:
        detail = "; ".join(f"{o.name}: {o.message}" for o in failed) or str(result.exception)
        raise DbtFailed(f"dbt {arguments[0]} failed: {detail}")
    return outcomes


def _outcome(found: Any) -> Outcome:
    node = found.node
    sql = getattr(node, "compiled_code", None) or ""
    said = (str(found.status), found.message or "", found.failures or 0)
    return Outcome(str(node.unique_id), node.name, *said, sql, found.execution_time)
