"""``chart-platform rebuild`` from end to end on real tables: it changes nothing, or mends what was changed and says so."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus
from typer.testing import CliRunner

from chart_platform.cli import app
from chart_platform.contracts.tables import (
    CONVERSION_RECONCILIATION,
    FACT_AFFILIATE_CLICKS,
    FACT_CONVERSIONS,
    FACT_FUNNEL,
    FACT_PAGE_VIEWS,
    SILVER_EVENTS,
    SILVER_SESSIONS,
    SILVER_USER_SEGMENTS,
    Table,
)
from chart_platform.conversions.gold import update_facts, update_reconciliation
from chart_platform.conversions.intake import take_in
from chart_platform.definitions import defs
from chart_platform.defs.marts import GROUP, JOB_NAME
from chart_platform.defs.modes import INCREMENTAL, MODE_TAG, RANGES
from chart_platform.edge.links import Links
from chart_platform.lakehouse.duck import connect, relation
from chart_platform.lakehouse.rewrite import replace_rows
from chart_platform.quality.schemas import audit
from chart_platform.rebuild.plan import derived
from chart_platform.settings import get_settings
from chart_platform.simulator import FaultRates, SimulationConfig, generate
from chart_platform.simulator.networks import Click, Habits, simulate
from chart_platform_tests.command_line import COMMAND, environment
from chart_platform_tests.edge.collecting import until
from chart_platform_tests.transform.fixtures import NewHome, examples
from chart_platform_tests.transform.homes import Home, Kept, at, event

END = datetime.now(UTC).date()
FILLED_WITH = 7
"""The seed of the home that tests share."""
FIRST, LAST = END - timedelta(days=3), END - timedelta(days=1)


def filled(home: Home, seed: int, batches: int = 3, events: int = 400) -> Home:
    """Three days of faulty traffic that came in batches, and what the networks reported of its clicks."""
    config = SimulationConfig(seed=seed, events=events, days=3, end=END, faults=FaultRates.default())
    messages = sorted(generate(config), key=lambda message: message.arrival_ms)
    size = max(1, len(messages) // batches)
    for day, arrived in itertools.groupby(messages, key=lambda message: _day(message.arrival_ms)):
        of_day = list(arrived)
        for start in range(0, len(of_day), size):
            part = of_day[start : start + size]
            ends = {p: len(home.log.get(p, [])) for p in range(2)}
            for message in part:
                home.append(hash(message.key) % 2, message.value, message.arrival_ms)
            home.take(day, {p: (end, len(home.log.get(p, []))) for p, end in ends.items()})
            home.advance()
    clicks = home.rows(FACT_AFFILIATE_CLICKS)
    known = [Click(f"k{n}", "harborlink", row["ts"], row["payout_cents"]) for n, row in enumerate(clicks)]
    for file in simulate(known, END, Habits(conversion=0.5, decision_days=(0, 1)), seed).files:
        path = Path(home.settings.conversions_drop_url) / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
    take_in(home.lake, audit, datetime.now(UTC).replace(tzinfo=None) + timedelta(minutes=1))
    products = {link.link_id: link.product_id for link in Links.load()}
    update_facts(home.lake, audit, products)
    update_reconciliation(home.lake, audit, products)
    graph = defs.resolve_asset_graph()
    keys = [dg.AssetKey([table.namespace, table.name]) for table in derived()]
    marts = [key for key in keys if graph.get(key).group_name == GROUP]
    made = defs.resolve_job_def(JOB_NAME).execute_in_process(
        asset_selection=marts, partition_key=END.isoformat(), tags={MODE_TAG: INCREMENTAL}, raise_on_error=False
    )
    assert made.success
    return home


def _day(ms: int) -> date:
    return datetime.fromtimestamp(ms / 1000, UTC).date()


class Asked:
    """What the command answered: exit code and figures by table and day."""

    def __init__(self, code: int, out: str) -> None:
        self.code, self.out = code, out

    @property
    def figures(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def changed(self) -> dict[tuple[str, str | None], tuple[str, int]]:
        return {
            (one["table"], one["day"]): (one["verdict"], one["different_rows"])
            for one in self.figures["tables"]
            if one["verdict"] != "same"
        }


@contextmanager
def used(home: Home) -> Iterator[None]:
    """Commands and jobs of this process are about that home."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CHART_HOME", "DAGSTER_HOME"):
            patch.delenv(name, raising=False)
        patch.setenv("CHART_HOME", str(home.settings.root))
        get_settings.cache_clear()
        try:
            yield
        finally:
            get_settings.cache_clear()


def ask(*arguments: str, first: date = FIRST, last: date = LAST) -> Asked:
    days = ["--from", str(first), "--to", str(last)]
    result = CliRunner().invoke(app, ["rebuild", *days, *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Asked(result.exit_code, result.stdout if result.exit_code != 2 else result.output)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, dbt_cache: Path) -> Kept:
    home = Home(tmp_path_factory.mktemp("homes") / "filled", dbt_cache)
    with used(home):
        return Kept(filled(home, FILLED_WITH))


@pytest.fixture
def empty(new_home: NewHome) -> Iterator[Home]:
    """A home in use that nothing was put into yet."""
    home = new_home()
    with used(home):
        yield home


@pytest.fixture
def home(kept: Kept) -> Iterator[Home]:
    """A home in use that is filled, and the test's own."""
    home = kept.again()
    with used(home):
        yield home


def drift(home: Home, table: Table, doomed: str, altered: str | None = None) -> int:
    """Alter rows of a table behind everybody's back, or delete them; how many."""
    connection = connect(home.settings)
    current = home.lake.load(table)
    source = relation(current, table, home.lake.files(current))
    connection.execute(f"create temp table hit as select * from {source} as t where {doomed}")
    connection.execute(f"create temp table fresh as select {altered or '*'} from hit where {altered is not None}")
    ((rows,),) = connection.sql("select count(*) from hit").fetchall()
    home.lake.commit(table, lambda now: replace_rows(connection, now, table, home.lake.files(now), doomed, "fresh"))
    connection.close()
    return int(rows)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(FILLED_WITH, FILLED_WITH + examples(1, 40)))
def test_a_rebuild_of_days_that_came_in_batches_with_faults_changes_no_row_of_any_table(
    seed: int, kept: Kept, new_home: NewHome
) -> None:
    home = kept.again() if seed == FILLED_WITH else new_home()
    with used(home):
        if seed != FILLED_WITH:
            filled(home, seed, batches=1 + seed % 5)
        before = {table.full_name: home.multiset(table) for table in derived()}
        found = ask("--yes", "--json")
    assert found.changed == {} and found.code == 0, found.out
    assert {table.full_name: home.multiset(table) for table in derived()} == before
    listed = {one["table"] for one in found.figures["tables"]}
    assert listed == {table.full_name for table in derived() if before[table.full_name]} and len(listed) > 8


@pytest.mark.slow
def test_rows_that_somebody_changed_are_mended_and_reported_by_table_and_day(home: Home) -> None:
    truth = {table.full_name: home.multiset(table) for table in derived()}
    day = FIRST + timedelta(days=1)
    of_day = f"t.event_dt = date '{day}'"
    alterations: dict[tuple[Table, date | None], tuple[str, str | None]] = {
        (SILVER_EVENTS, day): (f"{of_day} and t.event_type = 'page_view' and hash(t.event_id) % 3 = 0", None),
        (SILVER_SESSIONS, day): (of_day, "* replace (payout_cents + 1 as payout_cents)"),
        (SILVER_USER_SEGMENTS, None): ("hash(t.user_id_hash) % 3 = 0", None),
        (FACT_PAGE_VIEWS, LAST): (f"t.event_dt = date '{LAST}'", None),
        (FACT_FUNNEL, day): (of_day, "* replace ('drifted' as ab_variant)"),
        (FACT_CONVERSIONS, day): (of_day, "* replace (commission_cents + 1 as commission_cents)"),
        (CONVERSION_RECONCILIATION, day): (of_day, "* replace (clicks + 1 as clicks)"),
    }
    wanted = {
        (table.full_name, str(when) if when else None): ("different", drift(home, table, *how))
        for (table, when), how in alterations.items()
    }
    found = ask("--yes", "--json", first=day)
    assert found.code == 1
    assert found.changed == wanted and all(rows for _, rows in wanted.values())
    assert {table.full_name: home.multiset(table) for table in derived()} == truth


@pytest.mark.slow
def test_new_data_is_no_finding_and_accepted_differences_are_none(home: Home) -> None:
    late = at(FIRST, "12:00:00")
    home.send(END, [event(1, late, session="late", visitor="late")])
    found = ask("--yes", "--json", "--only", "silver.events", "--only", "silver.sessions")
    assert found.code == 0
    assert found.changed == {
        ("silver.events", str(FIRST)): ("news", 1),
        ("silver.sessions", str(FIRST)): ("news", 1),
    }
    home.advance()
    assert drift(home, SILVER_SESSIONS, f"t.event_dt = date '{LAST}'") > 0
    accepted = ask("--yes", "--json", "--accept", "--only", "silver.sessions", first=LAST)
    assert accepted.code == 0 and [verdict for verdict, _ in accepted.changed.values()] == ["different"]


@pytest.mark.slow
def test_a_rebuild_that_was_killed_is_told_from_what_was_before_it_when_it_is_run_again(home: Home) -> None:
    asked = ["--yes", "--only", "silver.events", "--only", "silver.sessions"]
    rows = drift(home, SILVER_EVENTS, "hash(t.event_id) % 5 = 0", None)
    began = home.lake.load(SILVER_EVENTS).current_snapshot()
    assert began is not None
    process = subprocess.Popen(
        [COMMAND, "rebuild", "--from", str(FIRST), "--to", str(LAST), *asked], env=environment(home.settings)
    )
    try:
        assert until(lambda: _head(home) != began.snapshot_id, within=120)
    finally:
        process.kill()
        process.wait()
    with _instance(home) as instance:
        (cut,) = instance.get_backfills()
        assert cut.status == BulkActionStatus.FAILED, "no daemon may take it up"
    found = ask(*asked, "--json")
    assert found.code == 1 and found.figures["resumed"]
    silver = {key: told for key, told in found.changed.items() if key[0] == "silver.events"}
    assert sum(count for _, count in silver.values()) == rows
    with _instance(home) as instance:
        assert {one.status for one in instance.get_backfills()} == {
            BulkActionStatus.FAILED,
            BulkActionStatus.COMPLETED_SUCCESS,
        }
        statuses = [run.status for run in instance.get_runs()]
        assert dg.DagsterRunStatus.FAILURE in statuses and dg.DagsterRunStatus.STARTED not in statuses
    again = ask(*asked, "--json")
    assert again.code == 0 and again.changed == {} and not again.figures["resumed"]


def _head(home: Home) -> int | None:
    head = home.lake.load(SILVER_EVENTS).current_snapshot()
    return head.snapshot_id if head is not None else None


def _instance(home: Home) -> Any:
    return dg.DagsterInstance.from_config(str(home.settings.root / "dagster"))


@pytest.mark.slow
def test_what_cannot_be_rebuilt_is_refused_before_anything_is_done(empty: Home) -> None:
    tomorrow = END + timedelta(days=1)
    for arguments, days, problem in [
        ([], (LAST, FIRST), "the other way round"),
        ([], (FIRST, tomorrow), f"{tomorrow} is in the future"),
        ([], (date(2019, 1, 1), LAST), "CHART_FIRST_DAY"),
        (["--only", "gold.none"], (FIRST, LAST), "no derived table"),
    ]:
        refused = ask(*arguments, first=days[0], last=days[1])
        assert refused.code == 2 and problem in " ".join(refused.out.replace("│", " ").split()), problem
    with pytest.raises(ValueError, match="There is no instance in"):
        ask("--yes")
    empty.send(END, [event(1, at(FIRST, "12:00:00"))])
    empty.advance()
    with pytest.raises(ValueError, match=f"bronze.events has {FIRST} to {FIRST}"):
        ask("--yes", first=FIRST - timedelta(days=9), last=FIRST - timedelta(days=8))
    unconfirmed = ask()
    assert unconfirmed.code == 2 and "--yes" in unconfirmed.out
    assert not (empty.settings.root / "rebuilds").exists()
    dry = ask("--dry-run", "--json")
    assert dry.code == 0 and dry.figures["days"] == [str(FIRST)]


def test_every_derived_table_can_be_rebuilt_over_a_range_in_one_run() -> None:
    graph = defs.resolve_asset_graph()
    policies = {
        table.full_name: graph.get(dg.AssetKey([table.namespace, table.name])).backfill_policy for table in derived()
    }
    assert set(policies.values()) == {RANGES}
    assert {"silver.events", "gold.fact_funnel", "gold.conversion_reconciliation"} <= set(policies)
    assert not {"gold.dim_user", "bronze.events"} & set(policies)
