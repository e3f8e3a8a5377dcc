"""The process of live traffic: what it leaves behind."""

from __future__ import annotations

from pathlib import Path

from chart_platform.local.traffic import prune


def test_of_the_truths_of_earlier_starts_only_the_newest_stay(tmp_path: Path) -> None:
    live = [f"live-2026112{day}T000000Z-{9 - day}.ndjson" for day in range(8)]
    for name in [*live, "demo-seed1-100.ndjson", "seed1-100.ndjson"]:
        (tmp_path / name).touch()
    prune(tmp_path, keep=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo-seed1-100.ndjson", *live[-3:], "seed1-100.ndjson"]
    prune(tmp_path / "none")
