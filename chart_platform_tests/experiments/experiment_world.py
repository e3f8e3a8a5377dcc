"""A lake with events and visits put straight into their tables, and in plain Python what experiments should make of them.

Belongs here: that world and its oracle. Does not belong here: which worlds are worth trying (the tests).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from chart_platform.contracts.tables import (
    EXPERIMENT_EXPOSURES,
    EXPERIMENT_VISITOR_DAYS,
    FACT_AFFILIATE_CLICKS,
    FACT_CHART_INTERACTIONS,
    FACT_FUNNEL,
    SILVER_EVENTS,
    SILVER_SESSIONS,
    Table,
)
from chart_platform.experiments.follow import Made
from chart_platform.experiments.gold import TABLES, update
from chart_platform.experiments.metrics import COUNTS, METRICS
from chart_platform.experiments.registry import Experiment, Registry
from chart_platform.experiments.results import Totals, conclude, rows_of
from chart_platform.experiments.statistics import Sums
from chart_platform.lakehouse.lake import Change, Lake
from chart_platform.quality.schemas import audit
from chart_platform.settings import Settings
from chart_platform_tests.transform.homes import arrow, multiset

DAY = date(2026, 11, 2)
PRE_DAYS = 3


@dataclass(frozen=True)
class Event:
    """One event. ``kind`` is page, compare, interact or click; ``session`` and ``visitor`` are ids."""

    number: int
    ts: datetime
    visitor: str | None
    session: str
    kind: str = "page"
    variant: str | None = None
    keys: tuple[str, ...] | None = None
    payout: int = 100


@dataclass(frozen=True)
class Visit:
    """What the model makes of the events of one session id."""

    session: str
    visitor: str | None
    start: datetime
    end: datetime
    events: tuple[Event, ...]

    def of(self, kind: str, since: datetime = datetime.min) -> list[Event]:
        return [e for e in self.events if e.kind == kind and e.ts >= since]

    @property
    def device(self) -> str:
        return f"device of {self.session}"


def visits_of(events: Iterable[Event]) -> list[Visit]:
    by_session = defaultdict(list)
    for event in sorted(events, key=lambda e: (e.ts, e.number)):
        by_session[event.session].append(event)
    return [
        Visit(session, next((e.visitor for e in es if e.visitor), None), es[0].ts, es[-1].ts, tuple(es))
        for session, es in by_session.items()
    ]


_KINDS = {"page": "page_view", "compare": "page_view", "interact": "chart_interaction", "click": "affiliate_click"}
_ZEROS: dict[pa.DataType, Any] = {pa.string(): "", pa.bool_(): False, pa.timestamp("us"): datetime(2026, 1, 1)}


def _rows(table: Table, given: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows of a table of which only what matters is given."""
    usual = {c.name: _ZEROS.get(c.type, 0) if c.required else None for c in table.columns}
    usual |= {"event_hour": "00", "event_type": "page_view"} if table is SILVER_EVENTS else {}
    made = [usual | dict(row) for row in given]
    return pa.Table.from_pylist([{n: row[n] for n in table.arrow.names} for row in made], schema=table.arrow)


def lake_rows(events: Sequence[Event]) -> dict[Table, pa.Table]:
    """The tables that the model makes of ``events``."""
    visits = visits_of(events)
    of_events = [
        {
            "event_id": f"e{e.number}", "event_type": _KINDS[e.kind], "ts": e.ts, "user_id_hash": e.visitor,
            "session_id": e.session, "ab_variant": e.variant, "event_dt": e.ts.date(), "event_hour": f"{e.ts:%H}",
            "experiment_keys": list(e.keys) if e.keys is not None else None,
        }
        for e in events
    ]  # fmt: skip
    key = [
        {"session_id": v.session, "user_id_hash": v.visitor, "session_start_ts": v.start, "event_dt": v.start.date()}
        for v in visits
    ]
    sessions = [
        k | {
            "session_end_ts": v.end, "affiliate_clicks": len(v.of("click")), "chart_interactions": len(v.of("interact")),
            "payout_cents": sum(e.payout for e in v.of("click")), "device": v.device, "channel": "Direct",
        }
        for k, v in zip(key, visits, strict=True)
    ]  # fmt: skip
    funnel = [
        k | {
            "comparison_ts": min((e.ts for e in v.of("compare")), default=None),
            "click_ts": min((e.ts for e in v.of("click")), default=None),
            "segments": [],
        }
        for k, v in zip(key, visits, strict=True)
    ]  # fmt: skip
    facts = {
        kind: [
            {
                "event_id": f"e{e.number}", "ts": e.ts, "session_id": v.session, "user_id_hash": e.visitor,
                "payout_cents": e.payout, "event_dt": e.ts.date(),
            }
            for v in visits
            for e in v.of(kind)
        ]
        for kind in ("click", "interact")
    }  # fmt: skip
    given = {
        SILVER_EVENTS: of_events, SILVER_SESSIONS: sessions, FACT_FUNNEL: funnel,
        FACT_AFFILIATE_CLICKS: facts["click"], FACT_CHART_INTERACTIONS: facts["interact"],
    }  # fmt: skip
    return {table: _rows(table, rows) for table, rows in given.items()}


class World:
    """One lake. ``events`` is what it holds; the tables of experiments follow when told to."""

    def __init__(self, root: Path, registry: Registry | None = None) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.lake = Lake(Settings(home=root, experiments_pre_days=PRE_DAYS))
        self.registry = registry or Registry()
        self.events: list[Event] = []

    def hold(self, events: Sequence[Event]) -> None:
        """Make the sources what the model makes of ``events``. Files of days without a change stay as they are."""
        before, after = lake_rows(self.events), lake_rows(events)
        self.events = list(events)
        for table, rows in after.items():
            old, new = (Counter((row["event_dt"], repr(row)) for row in of.to_pylist()) for of in (before[table], rows))
            days = {day for day, _ in (old - new) + (new - old)}
            if days:
                self._replace(table, rows, days)

    def _replace(self, table: Table, rows: pa.Table, days: set[date]) -> None:
        fresh = pa.Table.from_pylist([r for r in rows.to_pylist() if r["event_dt"] in days], schema=table.arrow)
        ordinals = {(day - date(1970, 1, 1)).days for day in days}

        def decide(current: Any) -> Change:
            gone = [file for file in self.lake.files(current) if file.partition[0] in ordinals]
            return Change(add=self.lake.write(current, fresh), remove=gone)

        self.lake.commit(table, decide)

    def add(self, *events: Event) -> None:
        self.hold([*self.events, *events])

    def follow(self, days: Sequence[date] | None = None) -> dict[str, Made]:
        return update(self.lake, audit, self.registry, days)

    def rows(self, table: Table) -> list[dict[str, Any]]:
        return self.arrow(table).to_pylist()

    def arrow(self, table: Table) -> pa.Table:
        return arrow(self.lake, table)

    @property
    def settings(self) -> Settings:
        return self.lake.settings

    def contents(self) -> dict[str, Counter[str]]:
        return {table.full_name: multiset(self.rows(table)) for table in TABLES}

    def exposure(self, key: str, visitor: str) -> dict[str, Any] | None:
        found = [
            r for r in self.rows(EXPERIMENT_EXPOSURES) if (r["experiment_key"], r["user_id_hash"]) == (key, visitor)
        ]
        assert len(found) <= 1
        return found[0] if found else None

    def counted(self, key: str, visitor: str) -> dict[date, dict[str, int]]:
        """What the visitor's days count, without what is zero."""
        return {
            r["event_dt"]: {n: r[n] for p in ("", "pre_") for n in (f"{p}{c}" for c in COUNTS) if r[n]}
            for r in self.rows(EXPERIMENT_VISITOR_DAYS)
            if (r["experiment_key"], r["user_id_hash"]) == (key, visitor)
        }


def expected(events: Sequence[Event], registry: Registry) -> dict[str, Counter[str]]:
    """What the four tables should hold, visitor by visitor and day by day."""
    visits = visits_of(events)
    exposures = _exposures(events, visits, registry)
    visitor_days = _visitor_days(exposures, visits, registry)
    sums, results = _sums_and_results(exposures, visitor_days, registry)
    found = zip(TABLES, (exposures, visitor_days, sums, results), strict=True)
    return {table.full_name: multiset({n: row[n] for n in table.arrow.names} for row in rows) for table, rows in found}


def _named(event: Event) -> list[tuple[str, str]]:
    """Experiments and variants that an event tells."""
    if not event.keys:
        return [("(page)", event.variant)] if event.variant else []
    told = []
    for name in event.keys:
        key, _, variant = name.partition(":")
        if key and (variant or event.variant):
            told.append((key, variant or event.variant or ""))
    return told


def _within(registry: Registry, key: str, ts: datetime) -> bool:
    experiment = registry.experiments.get(key)
    start, end = experiment.window if experiment else (None, None)
    return (start is None or ts >= start) and (end is None or ts < end)


def _exposures(events: Sequence[Event], visits: Sequence[Visit], registry: Registry) -> list[dict[str, Any]]:
    sights: dict[tuple[str, str], list[tuple[datetime, str]]] = defaultdict(list)
    for event in events:
        for key, variant in _named(event):
            if event.visitor and _within(registry, key, event.ts):
                sights[key, event.visitor].append((event.ts, variant))
    rows = []
    for (key, visitor), seen in sights.items():
        ts, variant = min(seen)
        other = min((s for s in seen if s[1] != variant), default=(None, None))
        at = [v for v in visits if v.visitor == visitor and v.start <= ts <= v.end]
        visit = max(at, key=lambda v: (v.start, v.session), default=None)
        rows.append(
            {
                "experiment_key": key, "user_id_hash": visitor, "variant": variant, "first_exposure_ts": ts,
                "crossover_ts": other[0], "crossover_variant": other[1], "device": visit.device if visit else None,
                "geo_country": None, "channel": "Direct" if visit else None, "event_dt": ts.date(),
            }
        )  # fmt: skip
    return rows


def _counts(visit: Visit, since: datetime) -> dict[str, int]:
    clicks, compared = visit.of("click", since), visit.of("compare")
    return {
        "sessions": 1,
        "converted_sessions": int(bool(clicks)),
        "clicks": len(clicks),
        "payout_cents": sum(e.payout for e in clicks),
        "chart_interactions": len(visit.of("interact", since)),
        "comparison_sessions": int(bool(compared)),
        "comparison_clicks": int(bool(clicks and compared and compared[0].ts <= clicks[0].ts)),
    }


def _visitor_days(
    exposures: Sequence[dict[str, Any]], visits: Sequence[Visit], registry: Registry
) -> list[dict[str, Any]]:
    rows = []
    for x in exposures:
        first: datetime = x["first_exposure_ts"]
        days: dict[date, Counter[str]] = defaultdict(Counter)
        days[first.date()].update()
        experiment = registry.experiments.get(x["experiment_key"])
        end = (experiment.window[1] if experiment else None) or datetime.max
        for visit in visits:
            if visit.visitor != x["user_id_hash"] or visit.start >= end:
                continue
            if visit.end >= first:
                days[max(visit.start, first).date()].update(_counts(visit, first))
            elif visit.start >= first - timedelta(days=PRE_DAYS):
                days[first.date()].update({f"pre_{n}": c for n, c in _counts(visit, datetime.min).items()})
        for day, counted in days.items():
            counts = {n: counted[n] for p in ("", "pre_") for n in (f"{p}{c}" for c in COUNTS)}
            rows.append({k: x[k] for k in ("experiment_key", "user_id_hash")} | counts | {"event_dt": day})
    return rows


def _numbers(metric: str, c: Mapping[str, int]) -> tuple[int, int, int, int]:
    def pair(p: str) -> tuple[int, int]:
        match metric:
            case "click_through":
                return c[f"{p}converted_sessions"], c[f"{p}sessions"]
            case "comparison_click_through":
                return c[f"{p}comparison_clicks"], c[f"{p}comparison_sessions"]
            case "conversion":
                return int(c[f"{p}clicks"] > 0), 0
        return c[f"{p}{metric}"], 0

    return *pair(""), *pair("pre_")


def _sums_and_results(
    exposures: Sequence[dict[str, Any]], visitor_days: Sequence[dict[str, Any]], registry: Registry
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    sums, results = [], []
    for key in {x["experiment_key"] for x in exposures}:
        mine = [x for x in exposures if x["experiment_key"] == key]
        rows = [r for r in visitor_days if r["experiment_key"] == key]
        crossed = {x["crossover_ts"].date() for x in mine if x["crossover_ts"]}
        by_day: list[tuple[date, Totals]] = []
        before: dict[tuple[str, str], Sums] = {}
        for day in sorted({*(r["event_dt"] for r in rows), *crossed}):
            state = _state(mine, rows, day)
            on_day = _touched_variants(mine, rows, day)
            crossing = Counter(x["variant"] for x in mine if x["crossover_ts"] and x["crossover_ts"].date() == day)
            for metric in METRICS:
                for variant in on_day:
                    now, then = state.get((metric.name, variant), Sums()), before.get((metric.name, variant), Sums())
                    added = {n: getattr(now, n) - getattr(then, n) for n in Sums.__slots__}
                    sums.append(
                        {"experiment_key": key, "variant": variant, "metric": metric.name, "event_dt": day,
                         "crossovers": crossing[variant], **added}
                    )  # fmt: skip
            before = state
            totals: dict[str, dict[str, Sums]] = {m.name: {} for m in METRICS}
            for (name, variant), found in state.items():
                totals[name][variant] = found
            by_day.append((day, Totals(totals)))
        for conclusion in conclude(registry, key, by_day):
            results += rows_of(conclusion)
    return sums, results


def _touched_variants(exposures: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]], day: date) -> set[str]:
    """Variants with a visitor who counted, or ceased to, on the day."""
    here = {r["user_id_hash"] for r in rows if r["event_dt"] == day}
    found = set()
    for x in exposures:
        crossed = x["crossover_ts"].date() if x["crossover_ts"] else date.max
        if crossed == day or (x["user_id_hash"] in here and day < crossed):
            found.add(x["variant"])
    return found


def _state(
    exposures: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]], day: date
) -> dict[tuple[str, str], Sums]:
    """The sums over all visitors who count by the end of ``day``."""
    state: dict[tuple[str, str], Sums] = {}
    for x in exposures:
        crossed = x["crossover_ts"].date() if x["crossover_ts"] else date.max
        if x["event_dt"] > day or crossed <= day:
            continue
        counted: Counter[str] = Counter()
        for r in rows:
            if r["user_id_hash"] == x["user_id_hash"] and r["event_dt"] <= day:
                counted.update({n: r[n] for p in ("", "pre_") for n in (f"{p}{c}" for c in COUNTS)})
        for metric in METRICS:
            sides = dict(zip("xypq", _numbers(metric.name, counted), strict=True))
            one = {n: sides[n[0]] * (sides[n[1]] if len(n) == 2 else 1) for n in Sums.__slots__ if n != "visitors"}
            place = (metric.name, x["variant"])
            state[place] = state.get(place, Sums()) + Sums(visitors=1, **one)
    return state


def registered(key: str = "exp", **given: Any) -> Experiment:
    usual = {"key": key, "owner": "o", "hypothesis": "h", "variants": {"A": 0.5, "B": 0.5}, "control": "A",
             "primary": "conversion", "secondary": ("clicks", "payout_cents"), "tightest_at": 100}  # fmt: skip
    return Experiment.model_validate(usual | given)
