"""The data dictionary tells every table and column, and is level with the declarations."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from chart_platform.contracts import dictionary
from chart_platform.contracts.dictionary import unit_of
from chart_platform.contracts.tables import BRONZE_EVENTS, FACT_PAGE_VIEWS, SILVER_EVENTS, TABLES, Column, Table


def test_the_page_is_level_with_the_declarations() -> None:
    assert dictionary.is_level(), "docs/dictionary.md: run chart-platform schemas generate"


def test_a_page_that_says_anything_else_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "dictionary.md"
    assert not dictionary.is_level(path)
    assert dictionary.write(path) and dictionary.is_level(path) and not dictionary.write(path)
    path.write_text(path.read_text().replace("Visit", "Visitation"))
    assert not dictionary.is_level(path)


@pytest.mark.parametrize("declared", TABLES, ids=lambda t: t.full_name)
def test_every_column_has_its_own_line_with_all_there_is_to_say(declared: Table) -> None:
    text = dictionary.page([declared])
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(lines) == len(declared.columns)
    for line, column in zip(lines, declared.columns, strict=True):
        name, kind, unit, meaning, sensitivity, sources = line.removeprefix("| ").removesuffix(" |").split(" | ")
        assert name.startswith(f"`{column.name}`") and name.endswith("*") == column.required
        assert kind and unit and sources and meaning == column.description.replace("|", "\\|")
        assert sensitivity == column.sensitivity
    assert f"### {declared.full_name}\n" in text and declared.owner in text and declared.description in text


def test_a_unit_comes_from_the_type_the_name_the_description_or_what_was_declared() -> None:
    units = {name: unit_of(FACT_PAGE_VIEWS.column(name)) for name in ("dwell_ms", "ts", "event_dt", "affiliate_clicks")}
    assert units == {"dwell_ms": "ms", "ts": "time, UTC", "event_dt": "day, UTC", "affiliate_clicks": "count"}
    assert unit_of(SILVER_EVENTS.column("payout_cents")) == "cents"
    assert unit_of(SILVER_EVENTS.column("geo_country")) == "ISO 3166-1 alpha-2"
    assert unit_of(BRONZE_EVENTS.column("ingest_ts")) == "epoch ms, UTC"
    assert unit_of(Column("weight", pa.int64(), "Part of it, in millionths.")) == "millionths"
    assert unit_of(Column("speed", pa.float64(), "How fast.", unit="km/h")) == "km/h"


def test_lineage_is_told_by_table() -> None:
    (line,) = [line for line in dictionary.page([FACT_PAGE_VIEWS]).splitlines() if "`dwell_ms`" in line]
    assert line.endswith("| silver.events: ts, page_view_id |")
