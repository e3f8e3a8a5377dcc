"""One faulty history for all tests of the simulator, and independent readers of its bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema_rs
import pytest

from chart_platform.simulator import FaultRates, Message, SimulationConfig, generate

HEAVY = FaultRates(
    exact_duplicate=0.04,
    retry=0.04,
    late=0.04,
    out_of_order=0.08,
    missing_session=0.10,
    invalid_schema=0.05,
    broken_json=0.03,
    bad_utf8=0.02,
    lone_surrogate=0.02,
    denied_consent=0.03,
    late_min=timedelta(minutes=2),
    late_max=timedelta(days=2),
)


@dataclass(frozen=True)
class History:
    config: SimulationConfig
    messages: list[Message]

    def of(self, fault: str) -> list[Message]:
        return [message for message in self.messages if message.label and message.label.fault == fault]


@cache
def _validator() -> jsonschema_rs.Draft202012Validator:
    text = files("chart_platform.contracts").joinpath("schemas", "chart_event-1.2.0.json").read_text()
    return jsonschema_rs.Draft202012Validator(json.loads(text), validate_formats=True)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def strict_json(value: bytes) -> Any:
    """Parse as the RFC wants it (no NaN); keeps lone surrogates."""
    return json.loads(value.decode("utf-8"), parse_constant=_no_constant)


def scrub(value: Any) -> Any:
    """U+FFFD for what is no Unicode scalar."""
    if isinstance(value, str):
        return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in value)
    if isinstance(value, dict):
        return {key: scrub(item) for key, item in value.items()}
    return [scrub(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="session")
def is_valid() -> Callable[[Any], bool]:
    return lambda event: _validator().is_valid(event)


@pytest.fixture(scope="session")
def heavy() -> History:
    config = SimulationConfig(seed=11, events=8_000, days=4, end=date(2026, 10, 20), faults=HEAVY)
    return History(config, list(generate(config)))


@pytest.fixture(scope="session")
def pure() -> History:
    config = SimulationConfig(seed=11, events=8_000, days=4, end=date(2026, 10, 20))
    return History(config, list(generate(config)))


@pytest.fixture(scope="session")
def posted() -> History:
    """The heavy history in the form of clients."""
    config = SimulationConfig(seed=11, events=8_000, days=4, end=date(2026, 10, 20), faults=HEAVY, form="client")
    return History(config, list(generate(config)))
