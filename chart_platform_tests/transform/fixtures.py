"""Homes for tests on real tables, and how thoroughly hypothesis searches. Folders import the fixtures they use."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings

from chart_platform_tests.conftest import shared_folder
from chart_platform_tests.transform.homes import Home

# `ci` tries the same examples in every run of `make check`. CHART_HYPOTHESIS_PROFILE=search tries as many others,
# `thorough` many more, and shrinks what fails, which takes minutes as an example takes seconds. Both print the blob that
# reproduces what they find.
_SHARED: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck)}
_UNSHRUNK = [Phase.explicit, Phase.generate]
settings.register_profile("ci", derandomize=True, database=None, phases=_UNSHRUNK, **_SHARED)
settings.register_profile("search", database=None, print_blob=True, phases=_UNSHRUNK, **_SHARED)
settings.register_profile("thorough", print_blob=True, **_SHARED)
settings.load_profile(os.environ.get("CHART_HYPOTHESIS_PROFILE", "ci"))

NewHome = Callable[..., Home]
T = TypeVar("T")


def examples(default: int, thorough: int) -> int:
    """How many examples a property test tries in the loaded profile."""
    return thorough if _thorough() else default


def some(of: Sequence[T], most: int = 3) -> Sequence[T]:
    """As many of these as a test has time for: the ends and what lies evenly between; all in the profile `thorough`."""
    if _thorough() or len(of) <= most:
        return of
    return [of[n * (len(of) - 1) // (most - 1)] for n in range(most)]


def _thorough() -> bool:
    return os.environ.get("CHART_HYPOTHESIS_PROFILE") == "thorough"


@pytest.fixture(scope="session")
def dbt_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parsed dbt project, shared by all homes of the session."""
    return shared_folder(tmp_path_factory, "dbt-cache")


@pytest.fixture
def new_home(tmp_path_factory: pytest.TempPathFactory, dbt_cache: Path) -> NewHome:
    """``new_home(session_timeout_minutes=5, …)`` gives a fresh lake without Kafka."""
    numbers = itertools.count()
    base = tmp_path_factory.mktemp("homes")

    def make(**given: Any) -> Home:
        return Home(base / str(next(numbers)), dbt_cache, **given)

    return make
