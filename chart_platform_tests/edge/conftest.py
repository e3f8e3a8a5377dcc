"""Collectors for tests: one that a module shares, and new ones with settings of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chart_platform.settings import Settings
from chart_platform_tests.conftest import KafkaTopics, fresh_topics
from chart_platform_tests.edge.collecting import Collecting

# Not for the tests of limits, which set their own.
_UNLIMITED = {"edge_rate_per_ip": 0.0, "edge_unready_seconds": 0.2, "kafka_partitions": 2}


@pytest.fixture(scope="module")
def collector(kafka: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collecting]:
    """A collector that all tests of a module use."""
    home = tmp_path_factory.mktemp("collector")
    running = Collecting(fresh_topics(kafka, home, edge_body_timeout_seconds=1.0, **_UNLIMITED))
    try:
        yield running.start()
        assert running.figures()["chart_edge_internal_errors_total"] == 0
        assert running.stop() == 0
    finally:
        running.kill()


@pytest.fixture
def make_collector(kafka_topics: KafkaTopics) -> Iterator[Callable[..., Collecting]]:
    """``make_collector(edge_workers=2, …)``: a collector, not started yet."""
    made: list[Collecting] = []

    def make(**settings: Any) -> Collecting:
        made.append(Collecting(kafka_topics(**{**_UNLIMITED, **settings})))
        return made[-1]

    yield make
    for running in made:
        running.kill()
