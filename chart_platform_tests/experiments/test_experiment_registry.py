"""The registry of experiments: what analysts write is understood, and a mistake is told with its line."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from chart_platform.experiments.metrics import METRIC_NAMES
from chart_platform.experiments.registry import ExperimentsError, Registry, load_experiments
from chart_platform.simulator import EXPERIMENT_KEY

GOOD = """experiments:
  - key: banner
    owner: growth@example.com
    hypothesis: A banner sells.
    variants: {plain: 0.8, banner: 0.2}
    control: plain
    primary: conversion
    secondary: [clicks]
    guardrails: [sessions]
    start: 2026-11-02
    end: 2026-11-15
"""


def write(path: Path, text: str) -> Path:
    (path / "experiments.yml").write_text(text)
    return path / "experiments.yml"


def test_an_experiment_lasts_from_its_first_midnight_to_the_end_of_its_last_day(tmp_path: Path) -> None:
    banner = load_experiments(write(tmp_path, GOOD)).experiments["banner"]
    assert banner.window == (datetime(2026, 11, 2), datetime(2026, 11, 16))
    assert dict(banner.variants) == {"plain": 0.8, "banner": 0.2}


def test_the_packaged_registry_has_the_experiment_of_the_simulated_traffic() -> None:
    experiment = load_experiments().experiments[EXPERIMENT_KEY]
    assert dict(experiment.variants) == {"A": 0.5, "B": 0.5}
    assert experiment.window == (None, None)


@pytest.mark.parametrize(
    ("was", "is_now", "line", "told"),
    [
        ("control: plain", "control: plane", 2, "'plane' is none of the variants plain, banner"),
        ("banner: 0.2", "banner: 0.3", 2, "sum to 1.1"),
        ("banner: 0.2", "banner: 2", 5, "less than 1"),
        ("{plain: 0.8, banner: 0.2}", "{plain: 0.8}", 2, "at least two"),
        ("primary: conversion", "primary: profit", 2, "no metric profit; there are click_through"),
        ("[clicks]", "[conversion]", 2, "named twice"),
        ("end: 2026-11-15", "end: 2026-11-01", 2, "before the start"),
        ("end: 2026-11-15", "end: soon", 11, "date"),
        ("key: banner", "key: ban:ner", 2, "key"),
        ("owner:", "boss:", 2, "owner"),
        ("guardrails: [sessions]", "colour: red", 9, "Extra inputs"),
        ("hypothesis: A banner sells.", "hypothesis: ''", 4, "hypothesis"),
        ("experiments:\n", "experiments: [\n", None, "no YAML"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, was: str, is_now: str, line: int | None, told: str) -> None:
    assert was in GOOD
    path = write(tmp_path, GOOD.replace(was, is_now))
    with pytest.raises(ExperimentsError) as caught:
        load_experiments(path)
    assert str(path) in str(caught.value) and told in str(caught.value)
    assert line is None or f"line {line}:" in str(caught.value)


def test_a_key_is_used_once(tmp_path: Path) -> None:
    twice = GOOD + GOOD.partition("\n")[2]
    with pytest.raises(ExperimentsError, match="line 12: 'banner' is there twice"):
        load_experiments(write(tmp_path, twice))


def test_a_missing_file_says_which_setting_names_it(tmp_path: Path) -> None:
    with pytest.raises(ExperimentsError, match=r"nowhere.yml: No such file.*CHART_EXPERIMENTS"):
        load_experiments(tmp_path / "nowhere.yml")


def test_an_experiment_that_nobody_registered_is_judged_with_equal_shares() -> None:
    design = Registry().design("surprise", ["new", "Control", "old"])
    assert design.shares == {"Control": 1 / 3, "new": 1 / 3, "old": 1 / 3}
    assert (design.control, design.primary, design.registered) == ("Control", METRIC_NAMES[0], False)
    assert Registry().design("surprise", ["b", "a"]).control == "a"


def test_what_is_edited_changes_only_the_digest_that_it_concerns(tmp_path: Path) -> None:
    before, wording, window = (
        load_experiments(write(tmp_path, text)).experiments["banner"]
        for text in (GOOD, GOOD.replace("sells", "annoys"), GOOD.replace("11-15", "11-14"))
    )
    assert before.digest != wording.digest and before.window_digest == wording.window_digest
    assert before.window_digest != window.window_digest
