"""What the tables must hold, computed from the messages in plain Python: no SQL, no batches, no scope, no files.

Belongs here: the model's rules, written a second time in the most obvious way.
Does not belong here: anything imported from ``chart_platform.transform``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

Row = dict[str, Any]
DAY_MS = 86_400_000

SILVER_COLUMNS = [
    "event_id",
    "event_type",
    "ts",
    "ingest_ts",
    "session_id",
    "user_id_hash",
    "geo_country",
    "page_url",
    "referrer",
    "locale",
    "user_agent",
    "ab_variant",
    "chart_action",
    "chart_control_id",
    "chart_control_value",
    "product_ids",
    "affiliate_link_id",
    "affiliate_target",
    "payout_cents",
    "source",
    "schema_version",
    "source_ip_anonymized",
    "page_view_id",
    "seq",
    "utm_source",
    "utm_medium",
    "utm_campaign",
    "utm_term",
    "utm_content",
    "device",
    "browser",
    "os",
    "experiment_keys",
    "ads_consent",
    "click_id",
    "affiliate_network",
    "affiliate_position",
    "affiliate_context",
    "key_id",
    "replayed_from",
    "event_dt",
    "event_hour",
]


Features = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """A version of a segment rule as SQL, and the same as a function of the features. ``of_profiles``: the predicate
    names what only the company's profile tells."""

    name: str
    predicate: str
    holds: Callable[[Features], bool]
    valid_from: date = date(2020, 1, 1)
    of_profiles: bool = False


@dataclass(frozen=True)
class Profile:
    """A row of gold.dim_user."""

    user: str
    tier: str | None
    valid_from: datetime
    valid_to: datetime | None = None


@dataclass(frozen=True)
class Expected:
    """Rows of each table, in any order."""

    events: list[Row]
    sessions: list[Row]
    segments: list[Row]
    funnel: list[Row]
    clicks: list[Row]
    interactions: list[Row]
    page_views: list[Row]


def _moment(ts_ms: int) -> datetime:
    return datetime(1970, 1, 1) + timedelta(milliseconds=ts_ms)


def _ms(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1)) // timedelta(milliseconds=1)


def silver_row(sent: Row, kafka_ms: int) -> Row:
    """One valid message, flattened."""

    def of(member: str, name: str) -> Any:
        value = (sent.get(member) or {}).get(name)
        return None if value == "" else value

    moment = datetime.fromisoformat(sent["ts"].replace("Z", "+00:00")).astimezone(UTC).replace(tzinfo=None)
    ingest_ts = sent.get("ingest_ts")
    products, experiments = of("chart", "product_ids"), of("metadata", "experiment_keys")
    utm = (sent.get("session") or {}).get("utm") or {}
    consent = sent["user"].get("consent") or {}
    return {
        "event_id": sent["event_id"],
        "event_type": sent["event_type"],
        "ts": moment,
        "ingest_ts": kafka_ms if ingest_ts is None else ingest_ts,
        "session_id": of("session", "session_id"),
        "user_id_hash": of("user", "user_id_hash"),
        "geo_country": of("user", "geo_country"),
        **{name: of("ctx", name) for name in ("page_url", "referrer", "locale", "user_agent", "ab_variant")},
        "chart_action": of("chart", "action"),
        "chart_control_id": of("chart", "control_id"),
        "chart_control_value": of("chart", "control_value"),
        "product_ids": None if products is None else [p for p in products if p != ""],
        "affiliate_link_id": of("affiliate", "link_id"),
        "affiliate_target": of("affiliate", "target"),
        "payout_cents": of("affiliate", "payout_cents"),
        "source": sent.get("source") or None,
        "schema_version": sent.get("schema_version") or None,
        "source_ip_anonymized": of("privacy", "source_ip_anonymized"),
        "page_view_id": sent.get("page_view_id") or None,
        "seq": sent.get("seq"),
        **{f"utm_{name}": utm.get(name) or None for name in ("source", "medium", "campaign", "term", "content")},
        **{name: of("ctx", name) for name in ("device", "browser", "os")},
        "experiment_keys": None if experiments is None else [key for key in experiments if key != ""],
        "ads_consent": of("privacy", "ads") if of("privacy", "ads") is not None else consent.get("ads"),
        "click_id": sent.get("click_id") or None,
        **{f"affiliate_{name}": of("affiliate", name) for name in ("network", "position", "context")},
        **{name: of("metadata", name) for name in ("key_id", "replayed_from")},
        "event_dt": moment.date(),
        "event_hour": f"{moment.hour:02d}",
    }


def _deduplicate(rows: Iterable[Row]) -> list[Row]:
    order = ["ingest_ts", "ts", *(c for c in SILVER_COLUMNS if c not in ("ingest_ts", "ts"))]

    def rank(row: Row) -> list[Any]:
        return [(row[c] is None, row[c]) if row[c] is not None else (True, 0) for c in order]

    first: dict[tuple[str, date], Row] = {}
    for row in rows:
        key = row["event_id"], row["event_dt"]
        if key not in first or rank(row) < rank(first[key]):
            first[key] = row
    return list(first.values())


def visits(events: Iterable[Row], timeout: timedelta, cap: timedelta) -> list[tuple[str, list[Row]]]:
    """Events by visit. A sent id is cut by the cap only; without one, a visitor's events are cut by silence, too."""
    by_key: dict[tuple[str, str], list[Row]] = {}
    for row in events:
        if row["session_id"] is not None:
            by_key.setdefault(("sent", row["session_id"].replace("#", "##")), []).append(row)
        elif row["user_id_hash"] is not None:
            by_key.setdefault(("derived", row["user_id_hash"].replace("#", "##")), []).append(row)
    found = []
    for (origin, key), members in by_key.items():
        members.sort(key=lambda r: (r["ts"], r["event_id"]))
        piece, current, last = 0, [], None
        silence = cap if origin == "sent" else timeout
        for row in members:
            broken = last is not None and row["ts"] - last > silence
            if last is None or broken or row["ts"] - current[0]["ts"] > cap:
                # Within a run of events without a silence pieces are numbered; after one a sent id begins anew.
                piece = 1 if last is None or broken else piece + 1
                current = []
                name = f"{key}#{piece}" if piece > 1 else key
                found.append((name if origin == "sent" else f"#:{key}#{_ms(row['ts'])}", current))
            current.append(row)
            last = row["ts"]
    return found


def _first(rows: Sequence[Row], column: str) -> Any:
    return next((row[column] for row in rows if row[column] is not None), None)


def _is_comparison(url: str | None) -> bool:
    return url is not None and "compare" in urlsplit(url).path.split("/")


UTM = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")
CHANNELS = {("google", "cpc"): "Paid Search", ("weekly", "email"): "Email"}
"""Of the campaigns that stories have; the rules themselves are tested with the macro."""


def _campaign(rows: Sequence[Row]) -> Row:
    """Campaign parameters and channel of a visit."""
    named = next((r for r in rows if any(r[name] is not None for name in UTM)), None)
    utm = {name: named[name] if named else None for name in UTM}
    channel = CHANNELS[utm["utm_source"], utm["utm_medium"]] if named else "Direct"
    return utm | {"channel": channel}


def _used(rows: Sequence[Row]) -> Row:
    """How the chart was used in a visit."""
    actions = {"toggles": "toggle", "sorts": "sort", "filters": "filter", "expands": "compare_expand"}

    def said(row: Row) -> str:
        return f"{row['chart_control_id'] or ''} {row['chart_control_value'] or ''}".lower()

    return {
        **{name: sum(r["chart_action"] == action for r in rows) for name, action in actions.items()},
        "price_interactions": sum("price" in (r["chart_control_id"] or "").lower() for r in rows),
        "deal_interactions": sum(any(w in said(r) for w in ("deal", "discount", "coupon", "trial")) for r in rows),
    }


def _page_views(visits_found: Sequence[tuple[str | None, list[Row]]]) -> list[Row]:
    """One row a page view: the events of a visit that carry one page view's id, if it was seen at all."""
    found = []
    for session_id, rows in visits_found:
        pages: dict[str, list[Row]] = {}
        for row in rows:
            own = session_id is None or row["page_view_id"] is None
            pages.setdefault(row["event_id"] if own else row["page_view_id"], []).append(row)
        for members in pages.values():
            seen = [r for r in members if r["event_type"] == "page_view"]
            if not seen:
                continue
            found.append(
                {
                    "event_id": seen[0]["event_id"],
                    "page_view_id": members[0]["page_view_id"],
                    "session_id": session_id,
                    "ts": seen[0]["ts"],
                    "last_ts": members[-1]["ts"],
                    "dwell_ms": _ms(members[-1]["ts"]) - _ms(seen[0]["ts"]),
                    **{name: _first(seen, name) for name in ("page_url", "referrer", "experiment_keys")},
                    **{name: _first(members, name) for name in ("user_id_hash", "ab_variant", "geo_country", "device")},
                    "is_comparison": any(_is_comparison(r["page_url"]) for r in seen),
                    "chart_interactions": sum(r["event_type"] == "chart_interaction" for r in members),
                    "affiliate_clicks": sum(r["event_type"] == "affiliate_click" for r in members),
                    "event_dt": seen[0]["ts"].date(),
                }
            )
    return found


def _windows(visits_before: Sequence[Row], day: date) -> Features:
    """Counts of the visits in the 1, 7 and 30 days before the day."""
    sums = ("pageviews", "comparison_views", "chart_interactions", "toggles", "sorts", "filters", "expands")
    more = ("price_interactions", "deal_interactions", "affiliate_clicks", "payout_cents")
    found: Features = {}
    for days in (1, 7, 30):
        window = [s for s in visits_before if day - timedelta(days=days) <= s["event_dt"] < day]
        shops = {urlsplit(s["affiliate_target"] or "").hostname for s in window} - {None}
        counts = {
            "sessions": len(window),
            "days_active": len({s["event_dt"] for s in window}),
            "mobile_sessions": sum(s["device"] == "mobile" for s in window),
            "engaged_sessions": sum(s["engaged"] for s in window),
            "shops_clicked": len(shops),
            **{name: sum(s[name] for s in window) for name in (*sums, *more)},
        }
        found |= {f"{name}_{days}d": count for name, count in counts.items()}
    return found


def features(visits_of_user: Sequence[Row], profiles: Sequence[Profile], day: date) -> Features:
    """What rules can ask of a visitor on a day, given all of their visits and profiles."""
    midnight = datetime.combine(day, datetime.min.time())
    now = [p for p in profiles if p.valid_from <= midnight and (p.valid_to is None or midnight < p.valid_to)]
    since = [
        (day - s["event_dt"]).days for s in visits_of_user if timedelta() < day - s["event_dt"] <= timedelta(days=30)
    ]
    return {
        **_windows(visits_of_user, day),
        "days_since_last_visit": min(since, default=None),
        "has_profile": bool(now),
        "crm_tier": now[0].tier if now else None,
    }


def _memberships(
    sessions: Sequence[Row], rules: Sequence[Rule], horizon: date, profiles: Sequence[Profile]
) -> dict[tuple[str, str], set[date]]:
    member: dict[tuple[str, str], set[date]] = {}
    for user in {s["user_id_hash"] for s in sessions} - {None} | {p.user for p in profiles}:
        visits_of_user = [s for s in sessions if s["user_id_hash"] == user]
        profiles_of_user = [p for p in profiles if p.user == user]
        days = [s["event_dt"] for s in visits_of_user] + [p.valid_from.date() for p in profiles_of_user]
        for day in (min(days) + timedelta(days=n) for n in range((horizon - min(days)).days + 1)):
            known = features(visits_of_user, profiles_of_user, day)
            for name in {rule.name for rule in rules}:
                versions = [rule for rule in rules if rule.name == name and rule.valid_from <= day]
                rule = max(versions, key=lambda r: r.valid_from, default=None)
                judged = known["days_since_last_visit"] is not None or (
                    rule and rule.of_profiles and known["has_profile"]
                )
                if rule and judged and rule.holds(known):
                    member.setdefault((user, name), set()).add(day)
    return member


def _segment_rows(member: dict[tuple[str, str], set[date]], horizon: date) -> list[Row]:
    rows = []
    midnight = datetime.min.time()
    for (user, name), days in member.items():
        for day in sorted(days):
            if day - timedelta(days=1) in days:
                continue
            last = day
            while last + timedelta(days=1) in days:
                last += timedelta(days=1)
            begin = datetime.combine(day, midnight)
            end = datetime.combine(last + timedelta(days=1), midnight) if last < horizon else None
            rows.append(
                {"user_id_hash": user, "segment_key": name, "as_of_ts": begin, "valid_from": begin, "valid_to": end}
            )
    return rows


def expected(
    messages: Iterable[tuple[Row, int]],
    rules: Sequence[Rule],
    horizon: date,
    timeout: timedelta = timedelta(minutes=30),
    cap: timedelta = timedelta(hours=24),
    profiles: Sequence[Profile] = (),
) -> Expected:
    """The tables of these valid messages (with their append times), ``horizon`` being the newest ingestion day."""
    events = _deduplicate(silver_row(sent, kafka_ms) for sent, kafka_ms in messages)
    found = visits(events, timeout, cap)
    sessions, funnel, visit_of = [], [], {}
    for session_id, rows in found:
        of = {
            kind: [r for r in rows if r["event_type"] == kind]
            for kind in ("page_view", "chart_interaction", "affiliate_click")
        }
        shared = {
            "session_id": session_id,
            "user_id_hash": _first(rows, "user_id_hash"),
            "session_start_ts": rows[0]["ts"],
            "ab_variant": _first(rows, "ab_variant"),
            "geo_country": _first(rows, "geo_country"),
            "device": _first(rows, "device"),
            "channel": _campaign(rows)["channel"],
            "payout_cents": sum(r["payout_cents"] or 0 for r in of["affiliate_click"]),
            "event_dt": rows[0]["ts"].date(),
        }
        compared = [r for r in of["page_view"] if _is_comparison(r["page_url"])]
        sessions.append(
            shared
            | {
                "session_end_ts": rows[-1]["ts"],
                "pageviews": len(of["page_view"]),
                "chart_interactions": len(of["chart_interaction"]),
                "affiliate_clicks": len(of["affiliate_click"]),
                "first_page_url": _first(rows, "page_url"),
                "last_page_url": _first(rows[::-1], "page_url"),
                **{name: _first(rows, name) for name in ("browser", "os", "referrer")},
                **_campaign(rows),
                **_used(rows),
                "comparison_views": len(compared),
                "affiliate_target": _first(of["affiliate_click"], "affiliate_target"),
                "engaged": rows[-1]["ts"] - rows[0]["ts"] >= timedelta(seconds=10)
                or len(of["page_view"]) >= 2
                or bool(of["affiliate_click"]),
            }
        )
        funnel.append(
            shared
            | {
                "saw_comparison": bool(compared),
                "interacted_chart": bool(of["chart_interaction"]),
                "clicked_affiliate": bool(of["affiliate_click"]),
                "affiliate_target": _first(of["affiliate_click"], "affiliate_target"),
                "comparison_ts": _first(compared, "ts"),
                "interaction_ts": _first(of["chart_interaction"], "ts"),
                "click_ts": _first(of["affiliate_click"], "ts"),
            }
        )
        visit_of.update({(r["event_id"], r["event_dt"]): session_id for r in rows})
    segments = _segment_rows(_memberships(sessions, rules, horizon, profiles), horizon)
    for row in funnel:
        row["segments"] = sorted(
            s["segment_key"]
            for s in segments
            if s["user_id_hash"] == row["user_id_hash"]
            and s["valid_from"] <= row["session_start_ts"]
            and (s["valid_to"] is None or row["session_start_ts"] < s["valid_to"])
        )
    columns = ("event_id", "ts", "user_id_hash", "affiliate_link_id", "affiliate_target", "payout_cents", "ab_variant")
    by_redirect = ("page_view_id", "click_id", "affiliate_network", "affiliate_position", "affiliate_context")
    clicks = [
        {c: r[c] for c in (*columns, *by_redirect, "geo_country", "event_dt")}
        | {"session_id": visit_of.get((r["event_id"], r["event_dt"]))}
        for r in events
        if r["event_type"] == "affiliate_click"
    ]
    interacted = ("event_id", "ts", "user_id_hash", "page_view_id", "chart_action", "chart_control_id")
    also = ("chart_control_value", "product_ids", "page_url", "ab_variant", "geo_country", "device", "event_dt")
    interactions = [
        {c: r[c] for c in (*interacted, *also)} | {"session_id": visit_of.get((r["event_id"], r["event_dt"]))}
        for r in events
        if r["event_type"] == "chart_interaction"
    ]
    nobodys = [(None, [r]) for r in events if (r["event_id"], r["event_dt"]) not in visit_of]
    return Expected(events, sessions, segments, funnel, clicks, interactions, _page_views([*found, *nobodys]))
