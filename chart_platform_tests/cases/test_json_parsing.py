"""JSONTestSuite through the whole platform: whatever a body is, it is accounted for once, with its bytes, and nothing falls.

None of the bodies is an event, so all become dead letters; what differs is why. Bodies named ``y_`` must be parsed and then
refused by the schema, ``n_`` must be refused as no JSON, ``i_`` may be either.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chart_platform.contracts.events import Reason, explain
from chart_platform.lakehouse.duck import connect, create_views
from chart_platform.lakehouse.lake import Lake
from chart_platform.quality.verify import Verification, verify
from chart_platform.settings import Settings
from chart_platform.stream.clients import producer
from chart_platform_tests.command_line import CommandLine, Said
from chart_platform_tests.conftest import fresh_topics

NO_JSON = {"invalid_json", "invalid_utf8"}


@pytest.fixture(scope="module")
def bodies(cases: Path) -> dict[str, bytes]:
    files = sorted((cases / "json_parsing" / "test_parsing").glob("*.json"))
    assert len(files) == 318
    return {file.stem: file.read_bytes() for file in files}


def judged_rightly(name: str, codes: set[str]) -> bool:
    """Whether these reasons fit what the suite says of the body."""
    parsed, refused = all(code.startswith("schema_") for code in codes), len(codes) == 1 and codes <= NO_JSON
    return {"y": parsed, "n": refused, "i": parsed or refused}[name[0]]


def test_the_contract_judges_every_body_as_the_suite_says(bodies: dict[str, bytes]) -> None:
    verdicts = {name: explain(body) for name, body in bodies.items()}
    wrong = {}
    for name, verdict in verdicts.items():
        codes = (
            {reason.code for reason in verdict if isinstance(reason, Reason)} if isinstance(verdict, list) else set()
        )
        if not codes or not judged_rightly(name, codes):
            wrong[name] = verdict
    assert wrong == {}


@dataclass
class Outcome:
    """What one ingestion of all bodies left: ``lines`` are those that can be, and were, also sent by ``load``."""

    lines: dict[str, bytes]
    loaded: Said
    ingested: Said
    letters: list[dict[str, Any]]
    recount: Verification


def _one_line(bodies: dict[str, bytes]) -> dict[str, bytes]:
    """Bodies that a line of a file can hold as they are: no line break, not blank, no byte order mark at the start."""
    return {
        name: body
        for name, body in bodies.items()
        if b"\n" not in body and not body.endswith(b"\r") and body.strip() and not body.startswith(b"\xef\xbb\xbf")
    }


@pytest.fixture(scope="module")
def outcome(
    bodies: dict[str, bytes], kafka: Settings, command_line: CommandLine, tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    """Every body produced raw, then again by ``load`` where it fits a line, all taken in by one ingestion."""
    settings = fresh_topics(kafka, tmp_path_factory.mktemp("json"), kafka_partitions=3)
    sender = producer(settings)
    for name, body in bodies.items():
        sender.produce(settings.kafka_topic, value=body, key=name.encode())
    assert sender.flush(60) == 0
    lines = _one_line(bodies)
    file = settings.root / "lines.jsonl"
    file.write_bytes(b"".join(body + b"\n" for body in lines.values()))
    loaded = command_line.run(settings, "load", "--json", str(file))
    ingested = command_line.run(settings, "ingest", "--json")
    lake = Lake(settings)
    return Outcome(lines, loaded, ingested, list(_dead_letters(lake)), verify(lake))


def _dead_letters(lake: Lake) -> Iterator[dict[str, Any]]:
    connection = connect(lake.settings)
    create_views(connection, lake)
    yield from connection.sql("select * from bronze.dead_letters").to_arrow_table().to_pylist()
    connection.close()


@pytest.mark.kafka
@pytest.mark.slow
def test_one_ingestion_takes_in_every_body_and_nothing_is_lost_or_doubled(
    bodies: dict[str, bytes], outcome: Outcome
) -> None:
    sent = len(bodies) + len(outcome.lines)
    assert outcome.ingested.code == 0, outcome.ingested.err
    assert outcome.ingested.json == {"runs": 1, "messages": sent, "failed_checks": []}
    assert outcome.recount.differences == []
    assert outcome.recount.layers["bronze"] == {"events": 0, "dead_letters": sent}


@pytest.mark.kafka
@pytest.mark.slow
def test_each_body_is_one_dead_letter_with_its_bytes_and_the_right_reason(
    bodies: dict[str, bytes], outcome: Outcome
) -> None:
    raw = {letter["message_key"].decode(): letter for letter in outcome.letters if letter["origin"] is None}
    assert sum(letter["origin"] is None for letter in outcome.letters) == len(bodies)
    # DuckDB and Arrow tell an empty value from a missing one, and so must we.
    assert {name: letter["raw"] for name, letter in raw.items()} == bodies
    codes = {name: {reason["code"] for reason in letter["reasons"]} for name, letter in raw.items()}
    assert {name: found for name, found in codes.items() if not judged_rightly(name, found)} == {}


@pytest.mark.kafka
@pytest.mark.slow
def test_a_body_sent_by_load_is_a_dead_letter_that_names_its_file_and_line(outcome: Outcome) -> None:
    loaded = [letter for letter in outcome.letters if letter["origin"] is not None]
    by_line = {int(letter["origin"].rsplit(":", 1)[1]): letter["raw"] for letter in loaded}
    assert len(by_line) == len(loaded)
    assert by_line == dict(enumerate(outcome.lines.values(), 1))


@pytest.mark.kafka
@pytest.mark.slow
def test_load_reports_every_line_it_knows_to_be_no_event(outcome: Outcome) -> None:
    assert outcome.loaded.code == 0, outcome.loaded.err
    report = outcome.loaded.json
    assert (report["accepted"], report["rejected"], report["blank"]) == (0, len(outcome.lines), 0)
    assert report["refused"] == []
    numbers = Counter(int(line.split(": ", 1)[0].rsplit(":", 1)[1]) for line in report["rejections"])
    assert numbers == Counter(range(1, len(outcome.lines) + 1))
    assert json.dumps(report).isprintable()
