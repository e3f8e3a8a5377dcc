"""What is counted by day from visits and facts: the marts that dashboards and reports read."""

from __future__ import annotations

import pyarrow as pa

from chart_platform.contracts.tables.declare import EVENT_DT, Column, I, S, Table

F = pa.float64()
_CHANNEL = Column("channel", S, "Default channel group of the visit by GA4's rules; (none) without one.", required=True)
_DEVICE = Column("device", S, "Class of the client; (none) when it isn't known.", required=True)

SESSION_QUALITY_DAILY = Table(
    namespace="gold",
    name="session_quality_daily",
    description="How good the visits of a day were: engagement, bounces and duration, by channel and device.",
    columns=(
        EVENT_DT,
        _CHANNEL,
        _DEVICE,
        Column("visits", I, "Visits.", required=True, minimum=0),
        Column(
            "visitors", I, "Different visitors; those of visits without one aren't counted.", required=True, minimum=0
        ),
        Column("engaged_visits", I, "Engaged visits.", required=True, minimum=0),
        Column("bounces", I, "Visits that were not engaged.", required=True, minimum=0),
        Column("page_views", I, "Page views.", required=True, minimum=0),
        Column("duration_ms", I, "Sum of the time from first to last event, ms.", required=True, minimum=0),
        Column("median_duration_ms", I, "Median of that time, ms.", required=True, minimum=0),
        Column("bounce_rate", F, "bounces / visits.", required=True),
    ),
    partition_by=("event_dt",),
    key=("event_dt", "channel", "device"),
    day_column="event_dt",
    sort_by=("channel", "device"),
    owner="growth@chart-platform.example",
    rows_per_file=100_000,
    upstream="silver.sessions",
    made_from={
        "visits": [("silver.sessions", "session_id")],
        "visitors": [("silver.sessions", "user_id_hash")],
        "engaged_visits": [("silver.sessions", "engaged")],
        "bounces": [("silver.sessions", "engaged")],
        "page_views": [("silver.sessions", "pageviews")],
        **{
            name: [("silver.sessions", "session_start_ts"), ("silver.sessions", "session_end_ts")]
            for name in ("duration_ms", "median_duration_ms")
        },
        "bounce_rate": [("silver.sessions", "engaged")],
    },
)
