"""What is made of events by visit and visitor: sessions, SCD2 segments and the atomic facts of gold."""

from __future__ import annotations

import pyarrow as pa

from chart_platform.contracts.tables.declare import (
    CHANNEL,
    CLICK,
    COUNTRY,
    DEVICE,
    EVENT_DT,
    PAYOUT,
    TEXTS,
    TIMESTAMP,
    USER,
    UTM,
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
        DEVICE,
        Column("browser", S, "Browser family."),
        Column("os", S, "Operating system family."),
        Column("referrer", S, "Page before, by the first event that has one.", sensitivity="personal"),
        *(
            Column(f"utm_{name}", S, f"Campaign parameter utm_{name}, by the first event that has any of them.")
            for name in UTM
        ),
        CHANNEL,
        Column("comparison_views", pa.int32(), "Page views of comparison pages.", required=True, minimum=0),
        Column("toggles", pa.int32(), "Chart interactions that toggled.", required=True, minimum=0),
        Column("sorts", pa.int32(), "Chart interactions that sorted.", required=True, minimum=0),
        Column("filters", pa.int32(), "Chart interactions that filtered.", required=True, minimum=0),
        Column("expands", pa.int32(), "Chart interactions that expanded a feature.", required=True, minimum=0),
        Column(
            "price_interactions", pa.int32(), "Chart interactions with a control of price.", required=True, minimum=0
        ),
        Column(
            "deal_interactions",
            pa.int32(),
            "Chart interactions with a control or value of deals, discounts, coupons or trials.",
            required=True,
            minimum=0,
        ),
        Column(
            "engaged",
            B,
            "GA4's engaged session: 10 s or longer, two page views or more, or an affiliate click.",
            required=True,
        ),
        Column("affiliate_target", S, "Target of the first affiliate click."),
        Column(
            "payout_cents",
            I,
            "Expected payout of the visit's clicks, cents; 0 without a click.",
            required=True,
            sensitivity="financial",
            minimum=0,
        ),
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
        "channel": [
            *(("silver.events", f"utm_{name}") for name in ("source", "medium", "campaign")),
            ("silver.events", "referrer"),
            ("silver.events", "page_url"),
        ],
        "comparison_views": [("silver.events", "page_url"), ("silver.events", "event_type")],
        **{name: [("silver.events", "chart_action")] for name in ("toggles", "sorts", "filters", "expands")},
        "price_interactions": [("silver.events", "chart_control_id")],
        "deal_interactions": [("silver.events", "chart_control_id"), ("silver.events", "chart_control_value")],
        "engaged": [("silver.events", "ts"), ("silver.events", "event_type")],
        "affiliate_target": [("silver.events", "affiliate_target"), ("silver.events", "ts")],
        "event_dt": [("silver.events", "ts")],
    },
)

_JUDGED = ("device", "engaged", "affiliate_target", "payout_cents", "event_dt")
"""What segment rules can ask of visits, besides counts."""

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
            *(
                ("silver.sessions", column.name)
                for column in SILVER_SESSIONS.columns
                if column.type == pa.int32() or column.name in _JUDGED
            ),
            ("gold.dim_user", "crm_tier"),
        ],
        **{
            name: [("silver.sessions", "event_dt"), ("gold.dim_user", "valid_from"), ("gold.dim_user", "valid_to")]
            for name in ("as_of_ts", "valid_from", "valid_to")
        },
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
        DEVICE,
        CHANNEL,
        Column("comparison_ts", TIMESTAMP, "First page view of a comparison page, UTC."),
        Column("interaction_ts", TIMESTAMP, "First chart interaction, UTC."),
        Column("click_ts", TIMESTAMP, "First affiliate click, UTC."),
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
        "comparison_ts": [("silver.events", "ts"), ("silver.events", "page_url")],
        "interaction_ts": [("silver.events", "ts"), ("silver.events", "event_type")],
        "click_ts": [("silver.events", "ts"), ("silver.events", "event_type")],
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

_VISIT = Column(
    "session_id", S, "Visit it belongs to; null when neither visit nor visitor is known.", sensitivity="personal"
)

FACT_CHART_INTERACTIONS = Table(
    namespace="gold",
    name="fact_chart_interactions",
    description="One row a use of the chart: toggle, sort, filter, expand or collapse.",
    columns=(
        Column("event_id", S, "Identity of the event.", required=True),
        Column("ts", TIMESTAMP, "When, UTC.", required=True),
        _VISIT,
        USER,
        Column("page_view_id", S, "Page view that it happened on."),
        Column("chart_action", S, "toggle, sort, filter, compare_expand or compare_collapse."),
        Column("chart_control_id", S, "Control that was used."),
        Column("chart_control_value", S, "Value it was set to, as text."),
        Column("product_ids", TEXTS, "Products on the chart."),
        Column("page_url", S, "Page.", sensitivity="personal"),
        VARIANT,
        COUNTRY,
        DEVICE,
        EVENT_DT,
    ),
    partition_by=("event_dt",),
    key=("event_id", "event_dt"),
    day_column="event_dt",
    sort_by=("ts", "event_id"),
    upstream="silver.events",
    made_from={"session_id": [("silver.sessions", "session_id")]},
)

FACT_PAGE_VIEWS = Table(
    namespace="gold",
    name="fact_page_views",
    description="One row a page view of a visit, with how long the page was used and what was done on it.",
    columns=(
        Column(
            "event_id", S, "Identity of the page_view event, the first one where several share an id.", required=True
        ),
        Column("page_view_id", S, "Id that the page's other events carry; null when the client sent none."),
        _VISIT,
        USER,
        Column("ts", TIMESTAMP, "When the page was seen first, UTC.", required=True),
        Column("last_ts", TIMESTAMP, "Last event on the page, UTC.", required=True),
        Column("dwell_ms", I, "From the page view to the last event on the page, ms.", required=True, minimum=0),
        Column("page_url", S, "Page.", sensitivity="personal"),
        Column("referrer", S, "Page before, by the browser.", sensitivity="personal"),
        Column("is_comparison", B, "Whether it is a comparison page.", required=True),
        Column("chart_interactions", pa.int32(), "Chart interactions on the page.", required=True, minimum=0),
        Column("affiliate_clicks", pa.int32(), "Affiliate clicks on the page.", required=True, minimum=0),
        VARIANT,
        COUNTRY,
        DEVICE,
        Column("experiment_keys", TEXTS, "Experiments that the page view was exposed to."),
        EVENT_DT,
    ),
    partition_by=("event_dt",),
    key=("event_id", "event_dt"),
    day_column="event_dt",
    sort_by=("ts", "event_id"),
    upstream="silver.events",
    made_from={
        "session_id": [("silver.sessions", "session_id")],
        "last_ts": [("silver.events", "ts"), ("silver.events", "page_view_id")],
        "dwell_ms": [("silver.events", "ts"), ("silver.events", "page_view_id")],
        "is_comparison": [("silver.events", "page_url"), ("silver.events", "event_type")],
        "chart_interactions": [("silver.events", "event_type"), ("silver.events", "page_view_id")],
        "affiliate_clicks": [("silver.events", "event_type"), ("silver.events", "page_view_id")],
    },
)
