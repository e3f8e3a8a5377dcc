"""dbt's property files say what the tables' declarations say, and models that don't keep to them are refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from chart_platform.contracts.tables import FACT_AFFILIATE_CLICKS, FACT_CHART_INTERACTIONS, TABLES
from chart_platform.transform import dbt, dbt_files
from chart_platform_tests.transform.fixtures import NewHome, dbt_cache, new_home
from chart_platform_tests.transform.homes import DAY, at, event

__all__ = ["dbt_cache", "new_home"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the dbt project to change."""
    return Path(shutil.copytree(dbt.PROJECT, tmp_path / "dbt_project", ignore=shutil.ignore_patterns("target", "logs")))


def test_the_files_are_level_with_the_declarations() -> None:
    unlevel = dbt_files.unlevel()
    assert not unlevel, f"{', '.join(map(str, unlevel))}: run chart-platform schemas generate"


def test_every_table_is_either_a_model_or_a_source(project: Path) -> None:
    described: set[str] = set()
    for path, text in dbt_files.property_files(project):
        found = yaml.safe_load(text)
        namespace = "silver" if path.parts[1] == "silver" else "gold"
        described |= {f"{namespace}.{model['name']}" for model in found.get("models", ()) if "columns" in model}
        described |= {f"{s['schema']}.{t['name']}" for s in found.get("sources", ()) for t in s["tables"]}
    assert described == {t.full_name for t in TABLES}


def test_a_file_that_says_anything_else_is_named_and_written_anew(project: Path) -> None:
    dbt_files.write(project)
    assert dbt_files.unlevel(project) == []
    changed, missing, stale = (
        Path("models/gold") / f"{name}.yml" for name in ("fact_funnel", "fact_page_views", "gone")
    )
    shutil.copy(project / changed, project / stale)
    (project / changed).write_text((project / changed).read_text().replace("varchar", "text"))
    (project / missing).unlink()
    assert dbt_files.unlevel(project) == [changed, missing, stale]
    assert dbt_files.write(project) == [changed, missing, stale]
    assert dbt_files.unlevel(project) == [] and not (project / stale).exists()


def test_files_that_people_write_are_left_alone(project: Path) -> None:
    ours = project / "models/gold/notes.yml"
    ours.write_text("version: 2\n")
    dbt_files.write(project)
    assert ours.read_text() == "version: 2\n"


def test_a_model_in_between_is_described_by_the_comment_at_its_head(project: Path) -> None:
    model = project / "models/intermediate/int_new.sql"
    model.write_text("{{ config(materialized='view') }}\n\n-- Rows of\n-- no one.\nselect 1 as one -- really\n")
    dbt_files.write(project)
    (described,) = yaml.safe_load(model.with_suffix(".yml").read_text())["models"]
    assert (described["name"], described["description"]) == ("int_new", "Rows of no one.")
    model.write_text("select 1 as one\n")
    with pytest.raises(ValueError, match=r"int_new\.sql: .* comment at its head"):
        dbt_files.write(project)


@pytest.mark.slow
def test_a_model_that_breaks_its_contract_is_refused_before_it_commits(
    project: Path, new_home: NewHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    clicks, interactions = (
        project / f"models/gold/{t.name}.sql" for t in (FACT_AFFILIATE_CLICKS, FACT_CHART_INTERACTIONS)
    )
    clicks.write_text(clicks.read_text().replace("payout_cents,", "cast(payout_cents as varchar) as payout_cents,"))
    interactions.write_text(interactions.read_text().replace("chart_action,", ""))
    monkeypatch.setattr(dbt, "PROJECT", project)
    home = new_home()
    home.send(DAY, [event(1, at(DAY, "10:00:00"), "affiliate_click", session="s")])
    with pytest.raises(dbt.DbtFailed) as refused:
        home.advance()
    said = {line.split("|")[1].strip(): line for line in str(refused.value).splitlines() if line.count("|") > 4}
    assert "data type mismatch" in said["payout_cents"]
    assert "missing in definition" in said["chart_action"]
    assert home.rows(FACT_AFFILIATE_CLICKS) == home.rows(FACT_CHART_INTERACTIONS) == []
