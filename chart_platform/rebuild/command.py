"""``chart-platform rebuild`` on the command line.

Belongs here: arguments, the order of the parts, what is printed. Does not belong here: the parts.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable

from chart_platform.settings import Settings, get_settings

if TYPE_CHECKING:
    from chart_platform.rebuild.compare import Compared
    from chart_platform.rebuild.plan import Plan

_err = Console(stderr=True)
_MOST_LINES = 60
_DIGITS = 12


def rebuild(
    first: Annotated[str, typer.Option("--from", metavar="DAY", help="First event day, UTC.")],
    last: Annotated[str, typer.Option("--to", metavar="DAY", help="Last event day, included.")],
    only: Annotated[
        list[str] | None, typer.Option(help="Only this table, e.g. gold.fact_funnel; may be given several times.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be rebuilt, and do nothing.")] = False,
    accept: Annotated[
        bool, typer.Option("--accept", help="Exit with 0 also if rows are different: the rebuild was to change them.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print figures as JSON on standard output.")] = False,
) -> None:
    """Compute days of silver and gold again from bronze, and tell which rows that changed.

    Exit code 1 if it changed rows for which there is no reason: as incremental runs and rebuilds give the same rows, that
    is a finding, unless a model or a rule was changed on purpose (--accept). May be repeated at any time, also after a
    kill, and while the pipeline runs.
    """
    days = _day(first, "--from"), _day(last, "--to")
    settings = get_settings()
    from chart_platform.rebuild.plan import CannotRebuild, check_range, chosen, instance_of, plan

    try:
        check_range(settings, *days)
        tables = chosen(only or ())
    except CannotRebuild as error:
        raise typer.BadParameter(str(error)) from None
    wanted = plan(instance_of(settings), *days, tables)
    if not as_json:
        _show_plan(wanted)
    if dry_run:
        if as_json:
            _print({"days": _texts(wanted.days), "tables": [one.full_name for one in wanted.tables], "dry_run": True})
        return
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("nobody is there to be asked; confirm with --yes", param_hint="--yes")
        typer.confirm("Rebuild?", abort=True)
    report = _rebuild(settings, wanted, quiet=as_json)
    unexplained = [one for one in report.compared if one.verdict == "different"]
    if as_json:
        _print(report.to_dict(wanted))
    else:
        _show(report)
    sys.exit(1 if report.failed_checks or (unexplained and not accept) else 0)


class _Report:
    """What a rebuild did."""

    def __init__(self, id: str, where: str, compared: list[Compared], failed_checks: list[str], resumed: bool) -> None:
        self.id, self.where, self.compared, self.failed_checks, self.resumed = (
            id,
            where,
            compared,
            failed_checks,
            resumed,
        )

    def to_dict(self, plan: Plan) -> dict[str, Any]:
        return {
            "backfill": self.id,
            "executed_by": self.where,
            "resumed": self.resumed,
            "days": _texts(plan.days),
            "failed_checks": self.failed_checks,
            "tables": [
                {
                    "table": one.table,
                    "day": one.day.isoformat() if one.day else None,
                    "verdict": one.verdict,
                    "rows_before": one.before.rows,
                    "rows_after": one.after.rows,
                    "digest_before": one.before.digest,
                    "digest_after": one.after.digest,
                    "different_rows": one.different,
                    "why": one.why,
                }
                for one in self.compared
            ],
        }


def _rebuild(settings: Settings, wanted: Plan, quiet: bool) -> _Report:
    from chart_platform.lakehouse.lake import Lake
    from chart_platform.local.supervisor import status
    from chart_platform.rebuild import backfill, compare, journal

    lake = Lake(settings)
    processes = status(settings)["processes"]
    has_daemon = any(one["name"] == "daemon" and one["state"] == "running" for one in processes)
    with journal.alone(settings) as log, backfill.instance_of(settings) as instance:
        begun = log.unfinished(wanted)
        under_way = begun is not None and backfill.is_under_way(instance, begun.id)
        if begun is not None:
            before = compare.State.from_json(begun.before)
            _err.print(f"{begun.id} of these days was not brought to its end: compared with what was before it.")
        else:
            with _bar("read the tables", len(wanted.tables), quiet) as advance:
                before = compare.look(lake, wanted, advance)
        entry = journal.Entry(
            begun.id if begun is not None and under_way else backfill.new_id(),
            journal.about(wanted),
            before.to_json(),
            done=False,
        )
        log.begin(entry)
        where = "daemon" if has_daemon or under_way else "this process"
        with _bar(f"rebuild, by {where}", len(wanted.tables) * len(wanted.days), quiet) as advance:
            if where == "daemon":
                if not under_way:
                    backfill.submit(instance, wanted, entry.id)
                    _err.print(f"Backfill {entry.id}: {settings.dagster_base_url}/runs/b/{entry.id}")
                try:
                    done = backfill.watch(instance, entry.id, advance)
                except KeyboardInterrupt:
                    _err.print("It goes on in the daemon; run the same command again to see what comes of it.")
                    raise
            else:
                done = backfill.execute(instance, wanted, entry.id, advance)
        with _bar("compare", len(wanted.tables), quiet) as advance:
            compared = compare.compare(lake, wanted, before, advance)
        backfill.publish(instance)
        log.end(entry)
    return _Report(entry.id, where, compared, sorted(done.failed_checks), begun is not None)


@contextmanager
def _bar(title: str, total: int, quiet: bool) -> Iterator[Callable[..., None]]:
    columns = [SpinnerColumn(), TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    columns.append(TextColumn("{task.fields[doing]}"))
    with Progress(*columns, console=_err, disable=quiet or not _err.is_terminal, transient=True) as progress:
        task = progress.add_task(title, total=total, doing="")
        yield lambda done, doing="": progress.update(task, completed=done, doing=doing)


def _day(text: str, option: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no day such as 2026-11-01", param_hint=option) from None


def _texts(days: Sequence[date]) -> list[str]:
    return [day.isoformat() for day in days]


def _show_plan(wanted: Plan) -> None:
    days = f"{wanted.days[0]} to {wanted.days[-1]}" if len(wanted.days) > 1 else f"{wanted.days[0]}"
    view = RichTable("table, in this order", "days with rows", "rows now", title=f"{len(wanted.days)} days: {days}")
    for declared in wanted.tables:
        found = {day: rows for (one, day), rows in wanted.rows.items() if one == declared}
        with_days = declared.day_column is not None
        rows = sum(found.values())
        view.add_row(declared.full_name, f"{len(found)}" if with_days else "all of it", f"{rows:,}")
    Console().print(view)


def _show(report: _Report) -> None:
    by_table: dict[str, list[Compared]] = defaultdict(list)
    for one in report.compared:
        by_table[one.table].append(one)
    view = RichTable("table", "day", "rows", "digest", "", title=f"Backfill {report.id}")
    for table, found in by_table.items():
        same = [one for one in found if one.verdict == "same"]
        other = [one for one in found if one.verdict != "same"]
        if same:
            day = f"{len(same)} days" if len(same) > 1 else _name(same[0])
            digest = same[0].after.digest if len(same) == 1 else ""
            view.add_row(table, day, f"{sum(one.after.rows for one in same):,}", digest[:_DIGITS], "same")
        for one in other[:_MOST_LINES]:
            rows = f"{one.before.rows:,} → {one.after.rows:,}"
            digests = f"{one.before.digest[:_DIGITS]} → {one.after.digest[:_DIGITS]}"
            view.add_row(table, _name(one), rows, digests, _said(one))
        if len(other) > _MOST_LINES:
            view.add_row(table, f"{len(other) - _MOST_LINES} more", "", "", "see --json")
    console = Console()
    if not console.is_terminal:
        # No line of a file or pipe ends at 80 characters.
        console.width = 200
    console.print(view)
    for name in report.failed_checks:
        print(f"FAILED CHECK: {name}")
    verdicts = {one.verdict for one in report.compared}
    if "different" in verdicts:
        found = [one for one in report.compared if one.verdict == "different"]
        tables = ", ".join(dict.fromkeys(one.table for one in found))
        print(f"DIFFERENCE: the rebuild changed rows of {tables}, and no new data is the reason.")
    else:
        print("Only new data made a difference." if "news" in verdicts else "Every row is the same.")


def _name(one: Compared) -> str:
    return str(one.day) if one.day is not None else "all"


def _said(one: Compared) -> str:
    count = "different" if one.different is None else f"different: {one.different:,} rows"
    return f"[red]{count}[/red]" if one.verdict == "different" else f"{count}, as {one.why}"


def _print(value: Any) -> None:
    print(json.dumps(value))
