"""The command line as its users meet it: a process with arguments, an exit code, and two streams of text.

One demonstration of a new home serves most tests; the commands after it find a broker running and leave it running.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chart_platform.contracts.tables import BRONZE_EVENTS
from chart_platform.lakehouse.duck import connect, create_views
from chart_platform.lakehouse.lake import Change, Lake
from chart_platform.settings import Settings
from chart_platform.simulator import GroundTruth
from chart_platform.stream.broker import LocalBroker
from chart_platform_tests.command_line import CommandLine, Said
from chart_platform_tests.conftest import free_port_pair

# A process or a server each: too long for `make check`.
pytestmark = pytest.mark.slow

EVENTS = 400
TOO_LARGE = 2_000_000


def _event(number: int, **more: Any) -> bytes:
    event = {
        "event_type": "page_view",
        "event_id": f"00000000-0000-7000-8000-{number:012d}",
        "ts": datetime.now(UTC).strftime("%Y-%m-%dT00:00:00Z"),
        "user": {"user_id_hash": f"visitor-{number}"},
        **more,
    }
    return json.dumps(event).encode()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_plain(said: Said) -> bool:
    return "Traceback" not in said.err + said.out


@dataclass
class Demonstration:
    """What ``demo`` said, and the home that it left; ``was_stopped`` if nothing listened on its port afterwards."""

    said: Said
    settings: Settings
    was_stopped: bool

    @property
    def figures(self) -> dict[str, Any]:
        return self.said.json


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, command_line: CommandLine) -> Demonstration:
    """A small history with faults in a new home, with the embedded broker, all by one command."""
    folder, port = tmp_path_factory.mktemp("demo"), free_port_pair()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        said = command_line.run(
            Settings(home=folder / "unused", kafka_port=port),
            *("demo", "--fresh", "--faults", "--events", str(EVENTS), "--days", "2", "--seed", "5", "--json"),
        )
    stopped = not _answers(port)
    assert said.code == 0, said.err
    return Demonstration(said, Settings(home=Path(said.json["home"]), kafka_port=port), stopped)


@pytest.fixture(scope="module")
def home(demo: Demonstration) -> Iterator[Settings]:
    """The demonstration's home with its broker running, as a terminal beside `up` would find it."""
    broker = LocalBroker(demo.settings)
    broker.start()
    yield demo.settings
    assert broker.running(), "a command stopped a broker that it had not started"
    broker.stop()


# Help and wrong usage


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["demo", "load", "ingest", "sql", "verify", "simulate", "schemas"]),
        (["load", "-h"], ["--json", ".gz", "dead letters"]),
        (["verify", "--help"], ["--json", "Exit code 1"]),
    ],
)
def test_help_says_what_there_is(
    command_line: CommandLine, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    said = command_line.run(Settings(home=tmp_path), *arguments)
    assert said.code == 0
    assert [word for word in words if word not in " ".join(said.out.split())] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ingets"], "ingets"),
        (["load", "no-such-file.ndjson"], "no-such-file.ndjson"),
        (["sql", "select 1", "--format", "yaml"], "yaml"),
        (["demo", "--end", "tomorrow"], "tomorrow"),
        (["demo", "--events", "0"], "--events"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_names_what_is_wrong(
    command_line: CommandLine, tmp_path: Path, arguments: list[str], words: str
) -> None:
    said = command_line.run(Settings(home=tmp_path), *arguments)
    assert said.code == 2
    assert words in said.err and said.out == "" and _is_plain(said)


def test_schemas_check_finds_the_released_versions_compatible(command_line: CommandLine, tmp_path: Path) -> None:
    said = command_line.run(Settings(home=tmp_path), "schemas", "check")
    assert (said.code, said.err) == (0, "")
    assert "backward compatible" in said.out


def test_a_taken_port_is_an_error_that_names_it_and_the_way_out(command_line: CommandLine, tmp_path: Path) -> None:
    port = free_port_pair()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        said = command_line.run(Settings(home=tmp_path, kafka_port=port), "ingest")
    assert said.code == 1
    assert str(port) in said.err and "CHART_KAFKA_PORT" in said.err
    assert said.err.startswith("error: ") and said.out == "" and _is_plain(said)


def test_a_wrong_setting_is_an_error_that_names_it(command_line: CommandLine, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "chart_platform_tests.command_line.environment", lambda _: {**os.environ, "CHART_KAFKA_PORT": "x"}
        )
        said = command_line.run(Settings(home=tmp_path), "sql", "select 1")
    assert said.code == 1
    assert "kafka_port" in said.err and _is_plain(said)


def test_missing_aws_credentials_are_an_error_without_a_traceback(command_line: CommandLine, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            patch.delenv(name, raising=False)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(name, os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        settings = Settings(home=tmp_path, catalog_type="glue", warehouse="s3://nobody/warehouse")
        said = command_line.run(settings, "sql", "select 1")
    assert said.code == 1
    assert "credentials" in said.err and _is_plain(said)


# demo


@pytest.mark.kafka
@pytest.mark.slow
def test_demo_accounts_for_every_message_as_the_ground_truth_says(demo: Demonstration) -> None:
    figures, truth = demo.figures, GroundTruth.read(Path(demo.figures["truth_file"])).summary()
    layers, explained = figures["verification"]["layers"], figures["verification"]["explained"]
    assert figures["verification"]["ok"] and figures["failed_checks"] == []
    assert truth["accepted"] == EVENTS
    assert truth["duplicates"] and truth["dead_letters"] and truth["discarded"], "no fault was drawn"
    assert figures["truth"] == {key: truth[key] for key in figures["truth"]}
    # Of those who deny consent, nothing came further than the collector; what it refuses has a topic of its own.
    assert layers["kafka"]["messages"] == truth["accepted"] + truth["duplicates"]
    assert layers["edge"]["messages"] == layers["edge"]["dead_letters"] == truth["dead_letters"]
    assert truth["sent"] == sum(truth[name] for name in ("accepted", "duplicates", "dead_letters", "discarded"))
    assert layers["silver.events"]["rows"] == truth["accepted"]
    assert explained["duplicates"] == truth["duplicates"]
    gold = {day: sums["gold"] for day, sums in figures["verification"]["payout_cents_by_day"].items()}
    assert gold == {day: cents for day, cents in truth["payout_cents_by_day"].items() if cents}


@pytest.mark.kafka
@pytest.mark.slow
def test_demo_starts_the_embedded_broker_and_stops_it_again(demo: Demonstration) -> None:
    assert (demo.settings.root / "kafka" / "data").is_dir()
    assert demo.was_stopped


@pytest.mark.kafka
@pytest.mark.slow
def test_a_fresh_demo_leaves_the_home_of_the_environment_alone(demo: Demonstration) -> None:
    unused = demo.settings.root.parent / "unused"
    assert [path.name for path in unused.iterdir()] == ["cache"]


# sql


@pytest.mark.kafka
@pytest.mark.slow
def test_sql_sees_the_tables_after_the_demo_is_over(demo: Demonstration, command_line: CommandLine) -> None:
    query = "select sum(payout_cents) as cents from gold.fact_funnel"
    said = command_line.run(demo.settings, "sql", query, "--format", "json")
    assert (said.code, said.json) == (0, [{"cents": demo.figures["truth"]["payout_cents"]}])


def test_sql_prints_any_value_whole_and_as_it_is_in_each_format(command_line: CommandLine, tmp_path: Path) -> None:
    query = """
        select '[/b] [red]x' as "[title]", repeat('y', 300) as long, 1 as n, 2 as n, 'nan'::double as f, '\\xFF'::blob as b,
            date '2026-11-01' as d, null as missing
    """
    settings = Settings(home=tmp_path)
    said = {f: command_line.run(settings, "sql", query, "--format", f) for f in ("table", "csv", "json")}
    assert {f: s.code for f, s in said.items()} == {"table": 0, "csv": 0, "json": 0}
    table = said["table"].out
    assert "[/b] [red]x" in table and "[title]" in table and "y" * 300 in table
    assert table.splitlines()[-1] == "1 rows"
    (row,) = csv.DictReader(io.StringIO(said["csv"].out))
    assert list(row.values()) == ["[/b] [red]x", "y" * 300, "1", "2", "nan", "ff", "2026-11-01", ""]
    (row,) = said["json"].json
    assert list(row.values()) == ["[/b] [red]x", "y" * 300, 1, 2, None, "ff", "2026-11-01", None]


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ("select * from gold.no_such_table", 1, "no_such_table"),
        ("", 2, "no rows"),
    ],
)
def test_a_query_that_fails_is_a_plain_error(
    command_line: CommandLine, tmp_path: Path, query: str, code: int, words: str
) -> None:
    said = command_line.run(Settings(home=tmp_path), "sql", query)
    assert said.code == code
    assert words in said.err and said.out == "" and _is_plain(said)


# load and ingest


@dataclass
class Loads:
    """``load`` of files with all that can be wrong in them, of standard input and of a torn file; then ``ingest`` twice."""

    files: Said
    plain: Path
    packed: Path
    stdin: Said
    torn: Path
    damaged: Said
    first: Said
    second: Said


@pytest.fixture(scope="module")
def loads(home: Settings, command_line: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Loads:
    folder = tmp_path_factory.mktemp("load")
    plain, packed = folder / "events.ndjson", folder / "more.ndjson.gz"
    lines = [
        b"\xef\xbb\xbf" + _event(1),
        b"{not json",
        b"",
        _event(2) + b"\r",
        _event(3, event_type="purchase"),
        _event(4, chart={"control_id": "x" * TOO_LARGE}),
        _event(5),
    ]
    plain.write_bytes(b"\n".join(lines))
    packed.write_bytes(gzip.compress(_event(6) + b"\n\xff\n"))
    files = command_line.run(home, "load", "--json", str(plain), str(packed))
    stdin = command_line.run(home, "load", "-", stdin=_event(7) + b"\n[]\n")
    torn = folder / "torn.ndjson.gz"
    torn.write_bytes(gzip.compress(_event(8) + b"\n")[:-6])
    damaged = command_line.run(home, "load", str(torn))
    first, second = (command_line.run(home, "ingest", "--json") for _ in range(2))
    return Loads(files, plain, packed, stdin, torn, damaged, first, second)


@pytest.mark.kafka
@pytest.mark.slow
def test_load_counts_good_bad_blank_and_oversized_lines_of_files_and_names_them(loads: Loads) -> None:
    report = loads.files.json
    assert (report["accepted"], report["rejected"], report["blank"]) == (4, 3, 1)
    where = [line.split(": ", 1)[0] for line in report["rejections"]]
    assert sorted(where) == sorted([f"{loads.plain}:2", f"{loads.plain}:5", f"{loads.packed}:2"])
    (refused,) = report["refused"]
    assert refused.startswith(f"{loads.plain}:6: ")
    assert loads.files.code == 1, "a line that Kafka does not take is lost, and the exit code must say so"


@pytest.mark.kafka
@pytest.mark.slow
def test_load_reads_standard_input_and_reports_bad_lines_for_people(loads: Loads) -> None:
    assert loads.stdin.code == 0
    assert "accepted 1, rejected 1 (now dead letters), blank 0" in loads.stdin.out
    assert "stdin:2: " in loads.stdin.err and _is_plain(loads.stdin)


@pytest.mark.kafka
@pytest.mark.slow
def test_ingest_takes_in_what_was_loaded_and_a_second_ingest_nothing(loads: Loads) -> None:
    assert (loads.first.code, loads.second.code) == (0, 0), loads.first.err + loads.second.err
    assert loads.first.json == {"runs": 1, "messages": 10, "failed_checks": []}
    assert loads.second.json == {"runs": 0, "messages": 0, "failed_checks": []}


@pytest.mark.kafka
@pytest.mark.slow
def test_a_bad_line_is_a_dead_letter_with_its_origin_and_a_good_one_an_event(loads: Loads, home: Settings) -> None:
    connection = connect(home)
    create_views(connection, Lake(home))
    letters = connection.sql("select origin, raw from bronze.dead_letters where origin is not null").fetchall()
    assert dict(letters) == {
        f"{loads.plain}:2": b"{not json",
        f"{loads.plain}:5": _event(3, event_type="purchase"),
        f"{loads.packed}:2": b"\xff",
        "stdin:2": b"[]",
    }
    users = connection.sql("select user_id_hash from silver.events where user_id_hash like 'visitor-%' order by 1")
    assert users.fetchall() == [(f"visitor-{number}",) for number in (1, 2, 5, 6, 7, 8)]
    connection.close()


@pytest.mark.kafka
@pytest.mark.slow
def test_a_damaged_gzip_file_is_a_plain_error_after_the_lines_before_the_damage(loads: Loads) -> None:
    assert loads.damaged.code == 1
    assert f"error: {loads.torn} is no whole gzip file" in loads.damaged.err
    assert "first 1 lines were sent" in loads.damaged.err and _is_plain(loads.damaged)


# verify


@contextmanager
def _without_a_data_file(settings: Settings) -> Iterator[int]:
    """Take one data file out of bronze.events, as a careless hand could, and put it back."""
    lake = Lake(settings)
    (victim, *_) = lake.files(lake.load(BRONZE_EVENTS))
    lake.commit(BRONZE_EVENTS, lambda _: Change(remove=[victim]))
    try:
        yield victim.record_count
    finally:
        lake.commit(BRONZE_EVENTS, lambda _: Change(add=[victim]))


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.usefixtures("loads")
def test_verify_is_exit_code_1_and_says_what_is_lost_when_a_table_was_tampered_with(
    home: Settings, command_line: CommandLine
) -> None:
    with _without_a_data_file(home) as rows:
        tampered = command_line.run(home, "verify", "--json")
    assert tampered.code == 1
    assert tampered.json["ok"] is False
    lost = [d for d in tampered.json["differences"] if d.startswith("Messages of Kafka lost")]
    assert len(lost) == 1 and f": {rows} (" in lost[0]
    mended = command_line.run(home, "verify")
    assert mended.code == 0, mended.out + mended.err
    assert "Every message is accounted for." in mended.out
