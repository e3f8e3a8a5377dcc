"""What is made of events by visit and visitor: sessions, SCD2 segments and the atomic facts of gold."""

from __future__ import annotations

import pyarrow as pa

from chart_platform.contracts.tables.declare import (
    CLICK,
    COUNTRY,
    EVENT_DT,
    PAYOUT,
    TEXTS,
    TIMESTAMP,
    USER,
    VARIANT,
    B,
    Column,
    D,
    I,
    S,
    Table,
)

SILVER_SESSIONS = Table(
    namespace="silver",
    name="sessions",
    description="One row a visit. Belongs to the day of its first event and spans midnight whole.",
    columns=(
        Column(
            "session_id",
            S,
            "Visit: as sent, or derived from the visitor and an inactivity gap.",
            required=True,
            sensitivity="personal",
        ),
        USER,
        Column("session_start_ts", TIMESTAMP, "First event, UTC.", required=True),
        Column("session_end_ts", TIMESTAMP, "Last event, UTC.", required=True),
        Column("pageviews", pa.int32(), "Page views.", required=True, minimum=0),
        Column("chart_interactions", pa.int32(), "Chart interactions.", required=True, minimum=0),
        Column("affiliate_clicks", pa.int32(), "Affiliate clicks.", required=True, minimum=0),
        Column("first_page_url", S, "First page.", sensitivity="personal"),
        Column("last_page_url", S, "Last page.", sensitivity="personal"),
        VARIANT,
        COUNTRY,
        Column("event_dt", D, "Day of the first event, UTC.", required=True),
    ),
    partition_by=("event_dt",),
    key=("session_id", "session_start_ts"),
    day_column="event_dt",
    sort_by=("session_start_ts", "session_id"),
    rows_per_file=100_000,
    upstream="silver.events",
    made_from={
        "session_id": [("silver.events", "session_id"), ("silver.events", "user_id_hash"), ("silver.events", "ts")],
        "session_start_ts": [("silver.events", "ts")],
        "session_end_ts": [("silver.events", "ts")],
        **{name: [("silver.events", "event_type")] for name in ("pageviews", "chart_interactions", "affiliate_clicks")},
        "first_page_url": [("silver.events", "page_url"), ("silver.events", "ts")],
        "last_page_url": [("silver.events", "page_url"), ("silver.events", "ts")],
        "event_dt": [("silver.events", "ts")],
    },
)

SILVER_USER_SEGMENTS = Table(
    namespace="silver",
    name="user_segments",
    description="SCD2: which segment a visitor was in from when to when, by the rules in segment_rules.yml.",
    columns=(
        Column("user_id_hash", S, "Pseudonymous visitor.", required=True, sensitivity="personal"),
        Column("segment_key", S, "Segment.", required=True),
        Column("as_of_ts", TIMESTAMP, "Evaluation that opened the row, UTC.", required=True),
        Column("valid_from", TIMESTAMP, "Start of membership, UTC, inclusive.", required=True),
        Column("valid_to", TIMESTAMP, "End of membership, UTC, exclusive; null while it lasts."),
    ),
    partition_by=("segment_key",),
    key=("user_id_hash", "segment_key", "valid_from"),
    sort_by=("user_id_hash", "valid_from"),
    upstream="silver.sessions",
    made_from={
        "segment_key": [
            ("silver.sessions", name) for name in ("pageviews", "chart_interactions", "affiliate_clicks", "event_dt")
        ],
        "as_of_ts": [("silver.sessions", "event_dt")],
        "valid_from": [("silver.sessions", "event_dt")],
        "valid_to": [("silver.sessions", "event_dt")],
    },
)

FACT_FUNNEL = Table(
    namespace="gold",
    name="fact_funnel",
    description="One row a visit: did it see a comparison, use the chart, leave through an affiliate link, and for what payout.",
    columns=(
        Column("session_id", S, "Visit.", required=True, sensitivity="personal"),
        USER,
        Column("session_start_ts", TIMESTAMP, "First event, UTC.", required=True),
        Column("saw_comparison", B, "A page view of a comparison page.", required=True),
        Column("interacted_chart", B, "A chart interaction.", required=True),
        Column("clicked_affiliate", B, "An affiliate click.", required=True),
        Column("affiliate_target", S, "Target of the first affiliate click."),
        Column(
            "payout_cents",
            I,
            "Sum over the visit's clicks, cents; 0 without a click.",
            required=True,
            sensitivity="financial",
            minimum=0,
        ),
        Column(
            "segments", TEXTS, "Segments of the visitor at session start, sorted; empty without any.", required=True
        ),
        VARIANT,
        COUNTRY,
        Column("event_dt", D, "Day of the visit's first event, UTC.", required=True),
    ),
    partition_by=("event_dt",),
    key=("session_id", "session_start_ts"),
    day_column="event_dt",
    sort_by=("session_start_ts", "session_id"),
    rows_per_file=100_000,
    upstream="silver.sessions",
    made_from={
        "saw_comparison": [("silver.events", "page_url"), ("silver.events", "event_type")],
        "interacted_chart": [("silver.events", "event_type")],
        "clicked_affiliate": [("silver.events", "event_type")],
        "affiliate_target": [("silver.events", "affiliate_target"), ("silver.events", "ts")],
        "payout_cents": [("silver.events", "payout_cents")],
        "segments": [
            ("silver.user_segments", "segment_key"),
            ("silver.user_segments", "valid_from"),
            ("silver.user_segments", "valid_to"),
        ],
    },
)

FACT_AFFILIATE_CLICKS = Table(
    namespace="gold",
    name="fact_affiliate_clicks",
    description="One row an affiliate click: what is to be paid.",
    columns=(
        Column("event_id", S, "Identity of the click event.", required=True),
        Column("ts", TIMESTAMP, "When, UTC.", required=True),
        Column(
            "session_id",
            S,
            "Visit it belongs to; null when neither visit nor visitor is known.",
            sensitivity="personal",
        ),
        USER,
        Column("affiliate_link_id", S, "Link."),
        Column("affiliate_target", S, "Where it leads."),
        PAYOUT,
        VARIANT,
        COUNTRY,
        Column("page_view_id", S, "Page view that the click was made on."),
        *CLICK,
        EVENT_DT,
    ),
    partition_by=("event_dt",),
    key=("event_id", "event_dt"),
    day_column="event_dt",
    sort_by=("ts", "event_id"),
    upstream="silver.events",
    made_from={"session_id": [("silver.sessions", "session_id")]},
)
