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
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from chart_platform.settings import Settings

PROJECT = Path(__file__).parents[2] / "dbt_project"
_QUIET = ["--log-level", "none", "--log-level-file", "none", "--no-write-json", "--no-print", "--no-use-colors"]


class DbtFailed(RuntimeError):
    """dbt failed. The message holds what it said of each model."""


def _digest() -> str:
    """Of the project's text and dbt's version: what a parsed project depends on."""
    digest = hashlib.sha256(f"{version('dbt-core')} {version('dbt-duckdb')}".encode())
    for path in sorted(PROJECT.rglob("*")):
        if path.suffix in (".sql", ".yml") and "target" not in path.parts:
            digest.update(f"{path.relative_to(PROJECT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _cached(settings: Settings) -> Path:
    """Folder with `manifest.json` (for asset definitions) and `manifest.msgpack` (for dbt itself) of the project as it is."""
    folder = settings.root / "cache" / f"dbt-{_digest()}"
    if not folder.exists():
        _parse(folder)
    return folder


def _parse(folder: Path) -> None:
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
    (ready / "manifest.json").write_text(json.dumps(manifest.writable_manifest().to_dict(omit_none=False)))
    (ready / "manifest.msgpack").write_bytes(manifest.to_msgpack())
    try:
        ready.rename(folder)
    except OSError:
        if not folder.exists():
            raise
    shutil.rmtree(scratch, ignore_errors=True)


def _where(scratch: Path) -> list[str]:
    return [
        "--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT),
        "--target-path", str(scratch), "--log-path", str(scratch),
    ]  # fmt: skip


def manifest_json(settings: Settings) -> dict[str, Any]:
    """The project's manifest, as dagster-dbt reads it. Parses only when the project has changed."""
    return cast(dict[str, Any], json.loads((_cached(settings) / "manifest.json").read_text()))


def invoke(settings: Settings, arguments: list[str]) -> None:
    """Run one dbt command.

    Raises:
        DbtFailed: with each failed node's message.
    """
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner
    from dbt.contracts.graph.manifest import Manifest

    # dbt keeps its in-memory database for the life of the process; each run needs views of its own snapshots.
    DuckDBConnectionManager.close_all_connections()
    manifest = Manifest.from_msgpack((_cached(settings) / "manifest.msgpack").read_bytes())
    scratch = Path(tempfile.mkdtemp(prefix="chart-dbt-"))
    try:
        result = dbtRunner(manifest=manifest).invoke([*arguments, *_where(scratch), *_QUIET])
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        DuckDBConnectionManager.close_all_connections()
    if not result.success:
        nodes = getattr(result.result, "results", [])
        failed = [node for node in nodes if str(node.status) in ("error", "fail")]
        detail = "; ".join(f"{node.node.name}: {node.message}" for node in failed) or str(result.exception)
        raise DbtFailed(f"dbt {arguments[0]} failed: {detail}")
