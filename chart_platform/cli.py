"""``chart-platform``: the command line. Parses arguments, calls, prints; what happens is elsewhere.

Every command that needs Kafka starts the embedded broker of its CHART_HOME if none runs, and stops what it started.
Exit codes: 0 done, 1 the answer is no or something failed, 2 wrong usage.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable
from rich.text import Text

from chart_platform.edge.commands import keys
from chart_platform.experiments.commands import experiment
from chart_platform.rebuild.command import rebuild
from chart_platform.settings import Settings, get_settings

if TYPE_CHECKING:
    from chart_platform.simulator import Message

app = typer.Typer(
    help="Clickstream data platform for product-comparison pages: Kafka in, Iceberg out, every event accounted for.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
schemas = typer.Typer(
    help="The event contract and its versions, and what is written from the tables' contracts.", no_args_is_help=True
)
app.add_typer(schemas, name="schemas")
segments = typer.Typer(help="The rules of the segments.", no_args_is_help=True)
app.add_typer(segments, name="segments")
app.add_typer(keys, name="keys")
app.add_typer(experiment, name="experiment")
app.command()(rebuild)

_err = Console(stderr=True)
Json = Annotated[bool, typer.Option("--json", help="Print figures as JSON on standard output.")]
Through = Annotated[
    Literal["collector", "kafka"] | None,
    typer.Option(help="Post the events over HTTP, as browsers do, or write them to the topic. [default: collector]"),
]


def _plain_errors() -> tuple[type[BaseException], ...]:
    """Errors that explain themselves: printed without a traceback."""
    import duckdb
    from confluent_kafka import KafkaException
    from pyiceberg.exceptions import RESTError

    plain = (RuntimeError, ValueError, OSError, KeyError, duckdb.Error, KafkaException, RESTError)
    # Only who uses AWS has loaded its client.
    botocore = sys.modules.get("botocore.exceptions")
    return plain if botocore is None else (*plain, botocore.BotoCoreError, botocore.ClientError)


def main() -> None:
    """Entry point: expected errors become one line and exit code 1; CHART_DEBUG=1 shows the traceback."""
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if os.environ.get("CHART_DEBUG") or not isinstance(error, _plain_errors()):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _print_json(value: Any) -> None:
    print(json.dumps(_jsonable(value), default=str))


def _jsonable(value: Any) -> Any:
    """``value`` without what JSON has no word for: infinities and NaN become null, as in JavaScript."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return value


@contextmanager
def _bar(title: str, total: int | None, quiet: bool) -> Iterator[Any]:
    columns = [SpinnerColumn(), TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    with Progress(*columns, console=_err, disable=quiet or not _err.is_terminal, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done, total=None: progress.update(task, completed=done, total=total)


@contextmanager
def _kafka(settings: Settings) -> Iterator[None]:
    from chart_platform.stream.broker import ensure_broker
    from chart_platform.stream.topics import ensure_topics

    with ensure_broker(settings):
        ensure_topics(settings)
        yield


def _use_home(home: Path) -> Settings:
    """Point this process, and all that it starts, at another CHART_HOME."""
    os.environ["CHART_HOME"] = str(home)
    os.environ["DAGSTER_HOME"] = str(home.absolute() / "dagster")
    get_settings.cache_clear()
    return get_settings()


def _send_simulated(
    settings: Settings, through: str, messages: Iterable[Message], advance: Callable[[int], None]
) -> int:
    """Send labelled messages, made in the form for where they enter; how many. The collector must judge as labelled."""
    if through == "kafka":
        from chart_platform.simulator.send import send

        return send(messages, settings, on_progress=lambda report: advance(report.sent)).sent
    from chart_platform.local.collector import ensure_collector
    from chart_platform.simulator.post import post

    with ensure_collector(settings) as (url, key):
        report = post(messages, url, key, on_progress=lambda report: advance(report.sent))
    if report.surprises:
        answers = ", ".join(f"{count} × {surprise}" for surprise, count in report.surprises.items())
        raise RuntimeError(f"The collector answered other than the messages' labels expect: {answers}.")
    return report.sent


@app.command()
def up() -> None:
    """Start the whole platform: Kafka, Dagster and live simulated traffic. Ctrl-C stops all of it."""
    from chart_platform.local.supervisor import up as run

    sys.exit(run(get_settings(), console=Console()))


@app.command()
def down() -> None:
    """Stop the platform that `up` started for this CHART_HOME in another terminal."""
    from chart_platform.local.supervisor import down as run

    sys.exit(run(get_settings()))


@app.command()
def status(as_json: Json = False) -> None:
    """Show processes, ports and what each table has taken in from Kafka."""
    from chart_platform.contracts.tables import TABLES
    from chart_platform.lakehouse.lake import Lake
    from chart_platform.local.supervisor import status as processes

    settings = get_settings()
    found = dict(processes(settings))
    lake = Lake(settings)
    found["tables"] = {}
    for table in TABLES:
        progress = lake.progress(table)
        snapshot = lake.load(table).current_snapshot()
        rows = (
            snapshot.summary.additional_properties.get("total-records", "0") if snapshot and snapshot.summary else "0"
        )
        found["tables"][table.full_name] = {
            "rows": int(rows),
            "kafka_offsets": sum(progress.offsets.values()) if progress else None,
        }
    if as_json:
        _print_json(found)
        return
    view = RichTable("table", "rows", "kafka offsets taken in")
    for name, row in found.pop("tables").items():
        view.add_row(name, f"{row['rows']:,}", "" if row["kafka_offsets"] is None else f"{row['kafka_offsets']:,}")
    console = Console()
    console.print_json(json.dumps(found, default=str))
    console.print(view)


@app.command()
def demo(
    events: Annotated[int, typer.Option(min=1, help="Distinct events to simulate.")] = 100_000,
    days: Annotated[int, typer.Option(min=1, max=365, help="Days of history they are spread over.")] = 5,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 1,
    faults: Annotated[
        bool, typer.Option("--faults/--no-faults", help="Add duplicates, retries, late and broken messages.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Use a new CHART_HOME in a temporary folder.")] = False,
    end: Annotated[str | None, typer.Option(help="Day after the history's last (YYYY-MM-DD); default: today.")] = None,
    through: Through = None,
    as_json: Json = False,
) -> None:
    """Simulate, ingest and build to gold through the Dagster assets, print the accounting, leave all queryable."""
    from chart_platform.lakehouse.lake import Lake
    from chart_platform.pipeline import run_until_current
    from chart_platform.quality.verify import verify as recount
    from chart_platform.simulator import FaultRates, GroundTruthWriter, SimulationConfig, generate

    until = _day(end, "--end") if end else datetime.now(UTC).date()
    settings = _use_home(Path(tempfile.mkdtemp(prefix="chart-demo-"))) if fresh else get_settings()
    way = through or settings.simulate_through
    config = SimulationConfig(
        seed=seed,
        events=events,
        days=days,
        end=until,
        faults=FaultRates.default() if faults else FaultRates.none(),
        form="client" if way == "collector" else "topic",
    )
    began = time.monotonic()
    truth_file = settings.root / "truth" / f"demo-seed{seed}-{events}.ndjson"
    truth_file.parent.mkdir(parents=True, exist_ok=True)
    with _kafka(settings):
        with GroundTruthWriter(truth_file) as writer, _bar("simulate", events, as_json) as advance:
            sent = _send_simulated(settings, way, writer.recorded(generate(config)), advance)
            truth = writer.summary()
        with _bar("ingest to gold", None, as_json) as advance:
            report = run_until_current(settings, lambda r, _left: advance(r.messages))
        with _bar("verify", sent, as_json) as advance:
            verification = recount(Lake(settings), lambda done, _total: advance(done))
    result = {
        "home": str(settings.root),
        "seconds": round(time.monotonic() - began, 1),
        "sent": sent,
        "truth_file": str(truth_file),
        "truth": {
            key: truth[key] for key in ("sent", "accepted", "duplicates", "dead_letters", "discarded", "payout_cents")
        },
        "runs": report.runs,
        "failed_checks": report.failed_checks,
        "verification": verification.to_dict(),
    }
    if as_json:
        _print_json(result)
    else:
        _show_verification(verification)
        print(f"{sent:,} messages to gold in {result['seconds']} s, {report.runs} runs. Home: {settings.root}")
        print(f'Query it: CHART_HOME={settings.root} chart-platform sql "select * from gold.fact_funnel limit 5"')
    sys.exit(0 if verification.ok and not report.failed_checks else 1)


@app.command()
def load(
    files: Annotated[list[str], typer.Argument(help="NDJSON files, .gz too; - reads standard input.")],
    as_json: Json = False,
) -> None:
    """Send existing events, one JSON a line, to Kafka. Bad lines become dead letters with file and line."""
    from chart_platform.stream.load import load as send_lines
    from chart_platform.transform.bronze import Decoder, judge_lines

    settings = get_settings()
    if missing := [name for name in files if name != "-" and not Path(name).is_file()]:
        raise typer.BadParameter(f"no such file: {', '.join(missing)}", param_hint="FILE")
    decoder = Decoder(settings, settings.kafka_topic, datetime.now(UTC).date())
    with _kafka(settings), _bar("load", None, as_json) as advance:
        report = send_lines(settings, files, lambda lines: judge_lines(decoder, lines), advance)
    if as_json:
        _print_json(
            {
                "accepted": report.accepted,
                "rejected": report.rejected,
                "blank": report.blank,
                "refused": report.refused,
                "rejections": report.rejections,
            }
        )
    else:
        print(f"accepted {report.accepted:,}, rejected {report.rejected:,} (now dead letters), blank {report.blank:,}")
        for line in [*report.rejections[:20], *report.refused]:
            print(f"  {line}", file=sys.stderr)
        if len(report.rejections) > 20:
            print(f"  … and {len(report.rejections) - 20} more; --json lists all", file=sys.stderr)
    sys.exit(1 if report.refused else 0)


@app.command()
def ingest(
    until_current: Annotated[
        bool, typer.Option("--until-current", help="Run until nothing is left, then exit.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Run the pipeline headless, from Kafka to gold, until the lake is level with Kafka."""
    from chart_platform.pipeline import run_until_current

    settings = get_settings()
    with _kafka(settings), _bar("ingest to gold", None, as_json) as advance:
        report = run_until_current(
            settings, lambda r, _left: advance(r.messages), most_runs=None if until_current else 1
        )
    if as_json:
        _print_json({"runs": report.runs, "messages": report.messages, "failed_checks": report.failed_checks})
    else:
        print(
            f"{report.messages:,} messages in {report.runs} runs; failed checks: {', '.join(report.failed_checks) or 'none'}"
        )
    sys.exit(1 if report.failed_checks else 0)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help='For example: "select * from gold.fact_funnel limit 5"')],
    output: Annotated[str, typer.Option("--format", help="table, csv or json (a list of row objects).")] = "table",
) -> None:
    """Query bronze.*, silver.* and gold.* as they are now."""
    from chart_platform.lakehouse.duck import connect, create_views
    from chart_platform.lakehouse.lake import Lake

    if output not in ("table", "csv", "json"):
        raise typer.BadParameter(f"{output!r} is none of table, csv, json", param_hint="--format")
    settings = get_settings()
    connection = connect(settings)
    create_views(connection, Lake(settings))
    result = connection.sql(query)
    if result is None:
        raise typer.BadParameter("it gives no rows; only queries have something to print", param_hint="QUERY")
    names = _told_apart(result.columns)
    found = [tuple(value.hex() if isinstance(value, bytes) else value for value in row) for row in result.fetchall()]
    if output == "json":
        _print_json([dict(zip(names, row, strict=True)) for row in found])
    elif output == "csv":
        import csv

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(found)
    else:
        _print_rows(names, found)


def _told_apart(names: list[str]) -> list[str]:
    """``a, a`` becomes ``a, a_1``: an object of JSON would keep only one of them."""
    taken: list[str] = []
    for name in names:
        candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(1)))
        taken.append(next(candidate for candidate in candidates if candidate not in taken))
    return taken


def _print_rows(names: list[str], found: list[tuple[Any, ...]]) -> None:
    # Text and not str: what visitors typed must not be taken for markup.
    view = RichTable()
    for name in names:
        view.add_column(Text(name))
    for row in found:
        view.add_row(*(Text("" if value is None else str(value)) for value in row))
    console = Console()
    if not console.is_terminal:
        # No line of a file or pipe ends at 80 characters; cut values would be lost.
        unbounded = console.options.update(max_width=1_000_000)
        console.width = max(console.width, console.measure(view, options=unbounded).maximum)
    console.print(view)
    print(f"{len(found):,} rows")


@app.command()
def verify(as_json: Json = False) -> None:
    """Recount from Kafka to gold, independently of the checks. Exit code 1 if anything is lost, doubled or unexplained."""
    from chart_platform.lakehouse.lake import Lake
    from chart_platform.quality.verify import verify as recount

    settings = get_settings()
    with _kafka(settings), _bar("verify", None, as_json) as advance:
        verification = recount(Lake(settings), lambda done, _total: advance(done))
    if as_json:
        _print_json(verification.to_dict())
    else:
        _show_verification(verification)
    sys.exit(0 if verification.ok else 1)


def _show_verification(verification: Any) -> None:
    console = Console()
    layers = RichTable("layer", "figure", "count")
    for layer, figures in verification.layers.items():
        for name, count in figures.items():
            layers.add_row(layer, name, f"{count:,}")
    for name, count in verification.explained.items():
        layers.add_row("explained", name, f"{count:,}")
    console.print(layers)
    money = RichTable("event day", "kafka", "bronze", "silver", "gold", title="payout_cents")
    for day, sums in verification.payout_cents_by_day.items():
        money.add_row(day, *(f"{sums.get(layer, 0):,}" for layer in ("kafka", "bronze", "silver", "gold")))
    console.print(money)
    if verification.ok:
        console.print("[green]Every message is accounted for.[/green]")
    for difference in verification.differences:
        print(f"DIFFERENCE: {difference}")


@app.command()
def simulate(
    events: Annotated[int, typer.Option(min=1, help="Distinct events.")] = 10_000,
    days: Annotated[int, typer.Option(min=1, max=365, help="Days of history.")] = 1,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 1,
    faults: Annotated[bool, typer.Option("--faults/--no-faults", help="Add labelled faults.")] = False,
    truth: Annotated[Path | None, typer.Option(help="Write the ground truth here (NDJSON).")] = None,
    through: Through = None,
    as_json: Json = False,
) -> None:
    """Send simulated history, through the collector or straight to Kafka, and nothing else; run `ingest` afterwards."""
    from chart_platform.simulator import FaultRates, GroundTruthWriter, SimulationConfig, generate

    settings = get_settings()
    rates = FaultRates.default() if faults else FaultRates.none()
    way = through or settings.simulate_through
    config = SimulationConfig(
        seed=seed,
        events=events,
        days=days,
        end=datetime.now(UTC).date(),
        faults=rates,
        form="client" if way == "collector" else "topic",
    )
    target = truth or settings.root / "truth" / f"seed{seed}-{events}.ndjson"
    target.parent.mkdir(parents=True, exist_ok=True)
    with _kafka(settings), GroundTruthWriter(target) as writer, _bar("simulate", events, as_json) as advance:
        sent = _send_simulated(settings, way, writer.recorded(generate(config)), advance)
        summary = writer.summary()
    if as_json:
        _print_json({"sent": sent, "truth_file": str(target), "truth": summary})
    else:
        print(f"sent {sent:,} messages; ground truth in {target}")


@app.command()
def replay(
    first: Annotated[str, typer.Option("--from", metavar="DAY", help="First ingestion day of the dead letters, UTC.")],
    last: Annotated[str, typer.Option("--to", metavar="DAY", help="Last ingestion day, included.")],
    reason: Annotated[
        list[str] | None, typer.Option(help="Only letters with this reason code; may be given several times.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Only what the edge refused (edge), or only what ingestion refused (stream).")
    ] = None,
    patch: Annotated[
        Path | None,
        typer.Option(help="JSON Patch (RFC 6902) to apply first; where a `test` in it fails, none of it is."),
    ] = None,
    rate: Annotated[float, typer.Option(min=0, help="Most events to send per second; 0 is no limit.")] = 500.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge and count, but send nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Judge dead letters again and send what is accepted now. Exit code 1 if some are still refused.

    May be repeated at any time: what was replayed before isn't sent again, and what is refused stays where it is.
    """
    from chart_platform.edge.replay import Selection, read_patch
    from chart_platform.edge.replay import replay as send_again

    if source not in (None, "edge", "stream"):
        raise typer.BadParameter(f"{source!r} is none of edge, stream", param_hint="--source")
    days = _day(first, "--from"), _day(last, "--to")
    if days[0] > days[1]:
        raise typer.BadParameter(f"{last} is before {first}", param_hint="--to")
    selection = Selection(*days, frozenset(reason or ()), source)  # type: ignore[arg-type]
    operations = read_patch(patch) if patch is not None else []
    settings = get_settings()
    with _kafka(settings), _bar("replay", None, as_json) as advance:
        report = send_again(settings, selection, operations, rate, dry_run, advance)
    if as_json:
        _print_json(asdict(report))
    else:
        _show_replay(report)
    sys.exit(1 if report.still_refused else 0)


def _day(text: str, option: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no day such as 2026-11-01", param_hint=option) from None


def _show_replay(report: Any) -> None:
    counts = RichTable("dead letters", "count")
    counts.add_row("selected", f"{report.selected:,}")
    for code, count in report.by_reason.most_common():
        counts.add_row(Text(f"  for {code}"), f"{count:,}")
    counts.add_row("replayed before", f"{report.already_replayed:,}")
    counts.add_row("sent before and not yet in bronze", f"{report.in_flight:,}")
    counts.add_row("changed by the patch", f"{report.patched:,}")
    counts.add_row("would be sent" if report.dry_run else "sent", f"{report.accepted:,}")
    for why, count in report.discarded.most_common():
        counts.add_row(Text(f"not wanted by the visitor: {why}"), f"{count:,}")
    counts.add_row("still refused", f"{report.still_refused:,}")
    for code, count in report.refused.most_common():
        counts.add_row(Text(f"  for {code}"), f"{count:,}")
    Console().print(counts)
    if report.dry_run:
        for one in report.sample:
            now = f": {', '.join(one['is'])}" if one["is"] else ""
            print(f"{one['letter']} ({', '.join(one['was'])}) {one['outcome']}{now}")
    elif report.accepted:
        print("Run `chart-platform ingest`, or leave it to the sensor, to carry them to gold.")


@app.command()
def collect() -> None:
    """Run the collector: take events over HTTP into Kafka, or onto the disk while Kafka is away. Ctrl-C ends it in order."""
    from chart_platform.edge.serve import serve

    sys.exit(serve(get_settings()))


@segments.command("check")
def segments_check(
    file: Annotated[
        Path | None, typer.Argument(help="A file of rules. [default: CHART_SEGMENT_RULES, or the packaged one]")
    ] = None,
) -> None:
    """Check a file of segment rules: list them, or name the line that is wrong."""
    from chart_platform.transform.segments import load_rules

    shown = RichTable("segment", "from", "before", "owner", "predicate", box=None)
    for rule in load_rules(file or get_settings().segment_rules):
        until = str(rule.valid_until or "")
        shown.add_row(rule.name, str(rule.valid_from), until, rule.owner, Text(" ".join(rule.predicate.split())))
    Console().print(shown)


@schemas.command("check")
def schemas_check() -> None:
    """Check that every event schema version still accepts what the versions before it accepted."""
    from chart_platform.contracts.compatibility import check_schema_files
    from chart_platform.contracts.events import SCHEMA_FOLDER, schema_files

    violations = check_schema_files(SCHEMA_FOLDER)
    for violation in violations:
        print(violation)
    if violations:
        sys.exit(1)
    print(f"{len(schema_files())} versions, all backward compatible")


@schemas.command("generate")
def schemas_generate(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; fail when a file is not level.")] = False,
) -> None:
    """Write what follows from the declarations of the tables: dbt's property files and docs/dictionary.md."""
    from chart_platform.contracts import dictionary
    from chart_platform.transform import dbt_files

    if not check:
        changed = [str(path) for path in dbt_files.write()] + [str(dictionary.PAGE)] * dictionary.write()
        print("\n".join(changed) or "All files are level with the declarations.")
        return
    unlevel = [str(path) for path in dbt_files.unlevel()] + [str(dictionary.PAGE)] * (not dictionary.is_level())
    if unlevel:
        raise RuntimeError(
            f"Not level with chart_platform/contracts/tables: {', '.join(unlevel)}. Run chart-platform schemas generate."
        )
