"""What the marts say is what plain Python counts in the visits and facts; hours add up to days; dimensions hold every row."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from hashlib import md5
from typing import Any

import pyarrow as pa
import pytest

from chart_platform.contracts.tables import (
    AFFILIATE_PERFORMANCE_DAILY,
    AFFILIATE_PERFORMANCE_HOURLY,
    CAMPAIGN_DAILY,
    DIM_AFFILIATE_LINK,
    DIM_CAMPAIGN,
    DIM_DATE,
    DIM_PRODUCT,
    ENGAGEMENT_DAILY,
    ENGAGEMENT_HOURLY,
    FACT_AFFILIATE_CLICKS,
    FACT_CHART_INTERACTIONS,
    FACT_CONVERSIONS,
    FACT_PAGE_VIEWS,
    RETURNING_VISITORS_DAILY,
    SESSION_QUALITY_DAILY,
    SILVER_SESSIONS,
    Table,
)
from chart_platform.lakehouse.lake import Change
from chart_platform.quality.marts import COMPARED, balance_mart
from chart_platform.quality.schemas import audit
from chart_platform.transform import marts
from chart_platform.transform.dimensions import RegisteredLink, note_links, update_dimensions
from chart_platform.transform.visitors import update_visitors
from chart_platform_tests.transform.fixtures import NewHome, dbt_cache, new_home
from chart_platform_tests.transform.homes import DAY, Home, at, event

__all__ = ["dbt_cache", "new_home"]

Row = dict[str, Any]
DAYS = [DAY + timedelta(days=n) for n in range(3)]
LINKS = (
    RegisteredLink("top", "kettle", "north", "https://kettle.example/a", 500),
    RegisteredLink("table", "kettle", "south", "https://kettle.example/b", 300, position=2),
    RegisteredLink("new", "toaster", "south", "https://toaster.example/", 70),
)
UTMS = [None, None, {"source": "News", "medium": "email", "campaign": "Autumn"}, {"source": "google", "medium": "cpc"}]
PAGES = ["https://x.example/", "https://x.example/compare/kettles", "https://x.example/compare/toasters?utm_source=y"]
ACTIONS = ["toggle", "sort", "filter", "compare_expand", "compare_collapse"]


def visit(rng: random.Random, number: int) -> list[Row]:
    """Some events of one visitor, from any time of the days; the last visits go on over midnight."""
    ts = at(rng.choice(DAYS), "00:00:00") + rng.randrange(86_400_000)
    visitor = rng.choice([None, "a", "b", "c", "d"])
    about: Row = {
        "ab_variant": rng.choice([None, "A", "B"]),
        "geo_country": rng.choice([None, "DE"]),
        "device": rng.choice([None, "mobile"]),
    }
    found: list[Row] = []
    page_view = page = None
    for step in range(rng.randrange(1, 7)):
        ts += rng.randrange(20_000)
        kind = "page_view" if step == 0 else rng.choice(["page_view", "chart_interaction", "affiliate_click"])
        if kind == "page_view":
            page, page_view = rng.choice(PAGES), f"00000000-0000-7000-8000-{number:06d}{step:06d}"
        ctx = {"page_url": page} | {name: value for name, value in about.items() if value is not None}
        members: Row = {"ctx": ctx, "page_view_id": page_view}
        if kind == "chart_interaction":
            members["chart"] = {"action": rng.choice(ACTIONS)}
        if kind == "affiliate_click":
            link = rng.choice(["top", "table", "lost", None])
            members["affiliate"] = {"target": "https://kettle.example", "payout_cents": rng.choice([0, 70, 300])}
            members["affiliate"] |= {"link_id": link} if link else {}
        found.append(event(number * 100 + step, ts, kind, session=f"s{number}", visitor=visitor, **members))
    utm = rng.choice(UTMS)
    if utm:
        found[0]["session"]["utm"] = utm
    return found


def convert(home: Home) -> None:
    """Conversions of some clicks, of no click, and in another currency."""
    clicks = sorted(home.rows(FACT_AFFILIATE_CLICKS), key=lambda c: c["event_id"])[::3]
    now = datetime.fromisoformat(f"{DAYS[-1]}T12:00")
    rows = [conversion(n, now, click) for n, click in enumerate(clicks)] + [conversion(900, now, None)]
    home.lake.commit(
        FACT_CONVERSIONS,
        lambda current: Change(add=home.lake.write(current, pa.Table.from_pylist(rows, schema=FACT_CONVERSIONS.arrow))),
    )


def conversion(number: int, now: datetime, click: Row | None) -> Row:
    status = ("pending", "approved", "paid", "reversed")[number % 4]
    found: Row = {
        "network": "north",
        "transaction_id": f"t{number}",
        "status": status,
        "event_ts": now,
        "currency": "EUR" if number % 5 == 1 else "USD",
        "commission_cents": 40 + number,
        "due_cents": 0 if status == "reversed" else 40 + number,
        "reversed_cents": 40 + number if status == "reversed" else 0,
        "match": "matched" if click else "no_click_id",
        "first_seen_at": now,
        "last_seen_at": now,
        "reports": 1,
        "history": [],
        "event_dt": now.date(),
    }
    if click:
        of_click = {"click_dt": click["event_dt"], "click_event_id": click["event_id"], "click_ts": click["ts"]}
        found |= of_click | {name: click[name] for name in ("affiliate_link_id", "session_id", "ab_variant")}
    return found


def expect(
    home: Home,
    mart: Table,
    rows: Iterable[Row],
    by: Callable[[Row], tuple[Any, ...]],
    columns: dict[str, Callable[[list[Row]], Any]],
) -> None:
    """Hold the columns of a mart, row by row, against functions of the rows in each group."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[by(row)].append(row)
    found = {tuple(row[name] for name in mart.key): row for row in home.rows(mart)}
    for name, of in columns.items():
        want = {key: of(group) for key, group in groups.items()}
        assert {key: row[name] for key, row in found.items()} == want, name


def distinct(name: str) -> Callable[[list[Row]], int]:
    return lambda rows: len({row[name] for row in rows} - {None})


def total(name: str) -> Callable[[list[Row]], int]:
    return lambda rows: sum(row[name] or 0 for row in rows)


def count(which: Callable[[Row], Any]) -> Callable[[list[Row]], int]:
    return lambda rows: sum(1 for row in rows if which(row))


def at_least(fraction: float, values: list[int]) -> int | None:
    """The smallest of the values that a fraction of them doesn't exceed."""
    values = sorted(values)
    return next((v for n, v in enumerate(values, 1) if n >= fraction * len(values)), None)


def none(value: str | None) -> str:
    return value or "(none)"


def length(row: Row) -> int:
    return int((row["session_end_ts"] - row["session_start_ts"]) / timedelta(milliseconds=1))


def hour(row: Row) -> datetime:
    return row["ts"].replace(minute=0, second=0, microsecond=0)


def held_against_visits(home: Home) -> None:
    visits = home.rows(SILVER_SESSIONS)
    quality: dict[str, Callable[[list[Row]], Any]] = {
        "visits": len,
        "visitors": distinct("user_id_hash"),
        "bounces": count(lambda v: not v["engaged"]),
        "page_views": total("pageviews"),
        "clicking_visits": count(lambda v: v["affiliate_clicks"]),
        "duration_ms": lambda rows: sum(map(length, rows)),
        "p25_duration_ms": lambda rows: at_least(0.25, [*map(length, rows)]),
        "median_duration_ms": lambda rows: at_least(0.5, [*map(length, rows)]),
        "p90_duration_ms": lambda rows: at_least(0.9, [*map(length, rows)]),
        "pages_per_visit": lambda rows: sum(v["pageviews"] for v in rows) / len(rows),
        "bounce_rate": lambda rows: sum(not v["engaged"] for v in rows) / len(rows),
    }
    expect(
        home, SESSION_QUALITY_DAILY, visits, lambda v: (v["event_dt"], none(v["channel"]), none(v["device"])), quality
    )

    first = {}
    for row in sorted(visits, key=lambda v: (v["session_start_ts"], v["session_id"])):
        if row["user_id_hash"] is not None:
            first.setdefault(row["user_id_hash"], row)

    def came_from(row: Row) -> tuple[Any, ...]:
        source = (row["utm_source"] or "(direct)").lower()
        return (
            row["event_dt"],
            row["channel"],
            source,
            row["utm_medium"] or "(none)",
            row["utm_campaign"] or "(not set)",
        )

    campaigns: dict[str, Callable[[list[Row]], Any]] = {
        "visits": len,
        "new_visitors": count(lambda v: v in first.values()),
        "engaged_visits": count(lambda v: v["engaged"]),
        "interactions": total("chart_interactions"),
        "clicks": total("affiliate_clicks"),
        "payout_cents": total("payout_cents"),
        "conversion_rate": lambda rows: sum(v["affiliate_clicks"] > 0 for v in rows) / len(rows),
    }
    expect(home, CAMPAIGN_DAILY, visits, came_from, campaigns)

    def kind(row: Row) -> str:
        if row["user_id_hash"] is None:
            return "(unknown)"
        return "new" if first[row["user_id_hash"]]["event_dt"] == row["event_dt"] else "returning"

    returning = {"visitors": distinct("user_id_hash"), "visits": len, "payout_cents": total("payout_cents")}
    expect(home, RETURNING_VISITORS_DAILY, visits, lambda v: (v["event_dt"], kind(v)), returning)


def held_against_pages(home: Home) -> None:
    views = [row | {"is_view": True} for row in home.rows(FACT_PAGE_VIEWS)]
    uses = [row | {"is_view": False, "is_comparison": False} for row in home.rows(FACT_CHART_INTERACTIONS)]
    columns: dict[str, Callable[[list[Row]], Any]] = {
        "page_views": count(lambda r: r["is_view"]),
        "comparison_views": count(lambda r: r["is_comparison"]),
        "interacting_views": count(lambda r: r["is_comparison"] and r["chart_interactions"]),
        "visits": distinct("session_id"),
        "visitors": distinct("user_id_hash"),
        "interactions": count(lambda r: not r["is_view"]),
        "sorts": count(lambda r: r.get("chart_action") == "sort"),
        "collapses": count(lambda r: r.get("chart_action") == "compare_collapse"),
        "dwell_ms": lambda rows: sum(r["dwell_ms"] for r in rows if r["is_view"]),
        "median_comparison_dwell_ms": lambda rows: at_least(0.5, [r["dwell_ms"] for r in rows if r["is_comparison"]]),
    }

    def who(row: Row) -> tuple[str, ...]:
        return none(row["ab_variant"]), none(row["device"]), none(row["geo_country"])

    expect(home, ENGAGEMENT_DAILY, [*views, *uses], lambda r: (r["event_dt"], *who(r)), columns)
    expect(home, ENGAGEMENT_HOURLY, [*views, *uses], lambda r: (hour(r), *who(r)), columns)


def held_against_clicks(home: Home) -> None:
    clicks, conversions = home.rows(FACT_AFFILIATE_CLICKS), home.rows(FACT_CONVERSIONS)
    registry = {link.affiliate_link_id: link for link in LINKS}

    def link(row: Row) -> tuple[Any, ...]:
        known = registry.get(row["affiliate_link_id"])
        network = known.network if known else "(unknown)"
        return (
            row["affiliate_link_id"] or "(unknown)",
            known.product_id if known else "(unknown)",
            network,
            0,
            none(row["ab_variant"]),
        )

    money = {"clicks": len, "payout_cents": total("payout_cents"), "clicking_visits": distinct("session_id")}
    expect(home, AFFILIATE_PERFORMANCE_HOURLY, clicks, lambda c: (hour(c), *link(c)), money)
    of = {click["event_id"]: click for click in clicks}
    lines = [{"day": c["event_dt"], "link": link(c), "clicks": 1, "cents": c["payout_cents"]} for c in clicks]
    for conversion in conversions:
        click = of.get(conversion["click_event_id"])
        what = link(click) if click else ("(unknown)", "(unknown)", "north", 0, "(none)")
        ours = conversion["currency"] == "USD"
        lines.append({"day": conversion["click_dt"] or conversion["event_dt"], "link": what, "conversions": 1, "foreign": not ours}
                     | ({conversion["status"]: conversion["due_cents"], "lost": conversion["reversed_cents"]} if ours else {}))  # fmt: skip

    def summed(name: str) -> Callable[[list[Row]], int]:
        return lambda rows: sum(row.get(name) or 0 for row in rows)

    columns = {"clicks": "clicks", "payout_cents": "cents", "conversions": "conversions", "pending_cents": "pending"}
    columns |= {
        "approved_cents": "approved",
        "paid_cents": "paid",
        "reversed_cents": "lost",
        "other_currency_conversions": "foreign",
    }
    by = {name: summed(line) for name, line in columns.items()}
    expect(home, AFFILIATE_PERFORMANCE_DAILY, lines, lambda x: (x["day"], *x["link"]), by)
    pages = {
        (v["session_id"], v["page_view_id"], v["event_dt"]) for v in home.rows(FACT_PAGE_VIEWS) if v["is_comparison"]
    }
    seen = Counter((v["event_dt"], none(v["ab_variant"])) for v in home.rows(FACT_PAGE_VIEWS) if v["is_comparison"])
    there = Counter(
        (c["event_dt"], link(c)) for c in clicks if (c["session_id"], c["page_view_id"], c["event_dt"]) in pages
    )
    for row in home.rows(AFFILIATE_PERFORMANCE_DAILY):
        key = tuple(row[name] for name in AFFILIATE_PERFORMANCE_DAILY.key)
        views = seen[row["event_dt"], row["ab_variant"]]
        assert row["comparison_clicks"] == there[row["event_dt"], key[1:]]
        assert row["click_through_rate"] == (row["comparison_clicks"] / views if views else None)
        assert row["epc_cents"] == (row["payout_cents"] / row["clicks"] if row["clicks"] else None)


def held_by_dimensions(home: Home) -> None:
    links = {row["affiliate_link_id"]: row for row in home.rows(DIM_AFFILIATE_LINK)}
    assert {name: (row["state"], row["product_id"]) for name, row in links.items()} == {
        "top": ("registered", "kettle"),
        "table": ("registered", "kettle"),
        "new": ("registered", "toaster"),
        "lost": ("unknown", None),
    }
    clicks = [row for row in home.rows(FACT_AFFILIATE_CLICKS) if row["affiliate_link_id"]]
    assert {name: row["clicks"] for name, row in links.items() if row["clicks"]} == Counter(
        c["affiliate_link_id"] for c in clicks
    )
    assert {row["product_id"]: (row["networks"], row["links"]) for row in home.rows(DIM_PRODUCT)} == {
        "kettle": (["north", "south"], 2),
        "toaster": (["south"], 1),
    }
    keys = {row["campaign_key"]: row for row in home.rows(DIM_CAMPAIGN)}
    for row in home.rows(CAMPAIGN_DAILY):
        text = "".join(f"{row[name]}\n" for name in ("channel", "source", "medium", "campaign"))
        known = keys[md5(text.encode()).hexdigest()]
        assert known["first_seen_dt"] <= row["event_dt"] <= known["last_seen_dt"]
    assert sum(row["visits"] for row in keys.values()) == len(home.rows(SILVER_SESSIONS))
    assert [row["date_dt"] for row in home.rows(DIM_DATE)] == [date(2026, 1, 1) + timedelta(days=n) for n in range(365)]


@pytest.mark.slow
def test_marts_say_what_visits_and_facts_say(new_home: NewHome) -> None:
    home, rng = new_home(), random.Random(7)
    sent = [message for number in range(90) for message in visit(rng, number)]
    assert home.send(DAYS[-1], sent).dead_letters == 0
    home.advance()
    convert(home)
    assert note_links(home.lake, audit, LINKS, datetime.fromisoformat("2026-11-05T12:00")) == len(LINKS)
    update_visitors(home.lake, audit)
    marts.run(home.lake, audit)
    update_dimensions(home.lake, audit)
    held_against_visits(home)
    held_against_pages(home)
    held_against_clicks(home)
    held_by_dimensions(home)
    for mart in COMPARED:
        totals = balance_mart(home.lake, mart, DAYS, as_recorded=True)
        assert len(totals) == len(DAYS) and all(t.ok for t in totals)
    # A link that gets another product, long after its clicks, makes their days again.
    moved = RegisteredLink("top", "mixer", "north", "https://mixer.example/", 500)
    assert note_links(home.lake, audit, [moved, *LINKS[1:]], datetime.fromisoformat("2026-11-06T12:00")) == 1
    assert not marts.up_to_date(home.lake)
    marts.run(home.lake, audit)
    products = {r["product_id"] for r in home.rows(AFFILIATE_PERFORMANCE_DAILY) if r["affiliate_link_id"] == "top"}
    assert products == {"mixer"}


@pytest.mark.slow
def test_a_mart_that_lost_money_is_out_of_balance(new_home: NewHome) -> None:
    home = new_home()
    home.send(DAY, [event(1, at(DAY, "10:00:00"), "affiliate_click", session="a")])
    home.advance()
    (totals,) = balance_mart(home.lake, AFFILIATE_PERFORMANCE_DAILY, [DAY], as_recorded=True)
    assert not totals.ok and totals.source == {"clicks": 1, "payout_cents": 100}
