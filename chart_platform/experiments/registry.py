"""The experiments that somebody answers for: the YAML that analysts edit, read and checked.

Belongs here: what an experiment is. Does not belong here: who saw which variant, or what came of it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from chart_platform.contracts.yaml_lines import YamlMistake, read_yaml
from chart_platform.experiments.metrics import METRIC_NAMES

DEFAULT_EXPERIMENTS = Path(__file__).parent / "experiments.yml"
PAGE: str = "(page)"
"""The experiment of events that tell a variant and name no experiment."""

Share = Annotated[float, Field(gt=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[^:\s][^:]{0,127}$")]


class ExperimentsError(ValueError):
    """Experiments that can't be used, with the file and line."""


class Experiment(BaseModel):
    """One experiment. ``variants`` are the expected shares of visitors; ``start`` and ``end`` whole UTC days, both within.

    ``minimum_detectable_effect`` is relative; ``tightest_at`` the number of visitors at which the sequential intervals are
    narrowest, best what is planned; ``guardrail_margin`` the relative loss of a guardrail metric that is put up with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Name
    owner: str = Field(min_length=1)
    hypothesis: str = Field(min_length=1)
    variants: Mapping[str, Share]
    control: str
    primary: str
    secondary: tuple[str, ...] = ()
    guardrails: tuple[str, ...] = ()
    start: date | None = None
    end: date | None = None
    minimum_detectable_effect: float = Field(default=0.05, gt=0)
    alpha: Share = 0.05
    power: Share = 0.8
    guardrail_margin: float = Field(default=0.0, ge=0, lt=1)
    tightest_at: int = Field(default=5_000, ge=1)

    @model_validator(mode="after")
    def _sound(self) -> Experiment:
        if len(self.variants) < 2:
            raise ValueError("variants: an experiment has at least two")
        if not math.isclose(total := math.fsum(self.variants.values()), 1.0, abs_tol=1e-6):
            raise ValueError(f"variants: the shares sum to {total:g}, not to 1")
        if self.control not in self.variants:
            raise ValueError(f"control: {self.control!r} is none of the variants {', '.join(self.variants)}")
        named = (self.primary, *self.secondary, *self.guardrails)
        if unknown := sorted(set(named) - set(METRIC_NAMES)):
            raise ValueError(f"no metric {', '.join(unknown)}; there are {', '.join(METRIC_NAMES)}")
        if self.primary in self.secondary or len(set(self.secondary)) < len(self.secondary):
            raise ValueError("secondary: a metric is named twice, or is the primary one")
        if self.start and self.end and self.end < self.start:
            raise ValueError(f"end: {self.end} is before the start, {self.start}")
        return self

    @property
    def window(self) -> tuple[datetime | None, datetime | None]:
        """First moment, and the first moment after, UTC without zone; None where it is open."""
        return _midnight(self.start), _midnight(self.end + timedelta(days=1)) if self.end else None

    @property
    def digest(self) -> str:
        """sha256 of all that the entry says."""
        return _digest(self.model_dump(mode="json"))

    @property
    def window_digest(self) -> str:
        """sha256 of what decides who is in the experiment, and when."""
        return _digest([str(self.start), str(self.end)])


def _midnight(day: date | None) -> datetime | None:
    return datetime.combine(day, time(), UTC).replace(tzinfo=None) if day is not None else None


def _digest(said: object) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Design:
    """What an experiment is judged by: as registered, or for one that nobody registered what can be assumed."""

    key: str
    shares: Mapping[str, float]
    control: str
    primary: str
    secondary: tuple[str, ...]
    guardrails: tuple[str, ...]
    alpha: float
    tightest_at: int
    guardrail_margin: float
    registered: bool


class Registry:
    """The experiments by key."""

    def __init__(self, experiments: Iterable[Experiment] = ()) -> None:
        self.experiments = {experiment.key: experiment for experiment in experiments}

    def design(self, key: str, seen: Iterable[str]) -> Design:
        """How to judge ``key``, of which the variants ``seen`` had visitors.

        One that is not registered is judged with equal shares of the variants seen, the one called control, or else the
        first by name, as the control, and every metric but click-through as secondary.
        """
        found = self.experiments.get(key)
        if found is not None:
            return Design(
                key, dict(found.variants), found.control, found.primary, found.secondary, found.guardrails, found.alpha,
                found.tightest_at, found.guardrail_margin, registered=True,
            )  # fmt: skip
        names = sorted(set(seen))
        control = next((name for name in names if name.casefold() == "control"), names[0])
        fields = Experiment.model_fields
        return Design(
            key, {name: 1 / len(names) for name in names}, control, METRIC_NAMES[0], METRIC_NAMES[1:], (),
            fields["alpha"].default, fields["tightest_at"].default, 0.0, registered=False,
        )  # fmt: skip


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    experiments: tuple[Experiment, ...]


def load_experiments(path: Path | None = None) -> Registry:
    """The experiments of ``path`` (default: the demo's).

    Raises:
        ExperimentsError: naming the file, the line and what is wrong there.
    """
    source = path or DEFAULT_EXPERIMENTS
    try:
        file, lines = read_yaml(source, _File, "CHART_EXPERIMENTS")
    except YamlMistake as error:
        raise ExperimentsError(str(error)) from error
    keys = [experiment.key for experiment in file.experiments]
    for number, key in enumerate(keys):
        if key in keys[:number]:
            raise ExperimentsError(f"{source}, line {lines.of('experiments', number)}: {key!r} is there twice.")
    return Registry(file.experiments)
