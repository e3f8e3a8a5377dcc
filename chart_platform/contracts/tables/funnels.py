"""How visits come through the funnel from comparison to affiliate click, counted by day and by hour."""

from __future__ import annotations

import pyarrow as pa

from chart_platform.contracts.tables.declare import EVENT_DT, TIMESTAMP, Column, I, S, Source, Table

F = pa.float64()
DIMENSIONS: tuple[str, ...] = ("segment", "geo_country", "device", "channel", "ab_variant")
FUNNEL_CUTS: tuple[str, ...] = ("(all)", *DIMENSIONS, *(f"{name}+ab_variant" for name in DIMENSIONS[:-1]))
HOURLY_FUNNEL_CUTS: tuple[str, ...] = ("(all)", "device", "channel", "ab_variant")
_OF_DIMENSION = {
    "segment": "Segment that the visitor was in when the visit began; one in several counts in each.",
    "geo_country": "ISO 3166-1 alpha-2 country.",
    "device": "Class of the client.",
    "channel": "Default channel group of the visit by GA4's rules.",
    "ab_variant": "Experiment variant.",
}


def _columns(cuts: tuple[str, ...]) -> tuple[Column, ...]:
    return (
        Column(
            "cut",
            S,
            "Which dimensions the row is of, (all) for none. Rows of different cuts count the same visits: choose one.",
            required=True,
            allowed=cuts,
        ),
        *(
            Column(name, S, f"{meaning} (all) where the cut is not by it, (none) for visits without.", required=True)
            for name, meaning in _OF_DIMENSION.items()
        ),
        Column("visits", I, "Visits.", required=True, minimum=0),
        Column("saw_comparison", I, "Visits that saw a comparison page.", required=True, minimum=0),
        Column("interacted_chart", I, "Of these, visits that used the chart afterwards.", required=True, minimum=0),
        Column(
            "clicked_affiliate",
            I,
            "Of these, visits that then left through an affiliate link.",
            required=True,
            minimum=0,
        ),
        Column("lost_before_comparison", I, "visits - saw_comparison.", required=True, minimum=0),
        Column("lost_before_interaction", I, "saw_comparison - interacted_chart.", required=True, minimum=0),
        Column("lost_before_click", I, "interacted_chart - clicked_affiliate.", required=True, minimum=0),
        Column("comparison_rate", F, "saw_comparison / visits.", minimum=0),
        Column("interaction_rate", F, "interacted_chart / saw_comparison; null without any.", minimum=0),
        Column("click_rate", F, "clicked_affiliate / interacted_chart; null without any.", minimum=0),
        Column("conversion_rate", F, "clicked_affiliate / saw_comparison; null without any.", minimum=0),
        *(
            Column(f"{prefix}_{name}", I, f"{word} of the time {span}, ms; null without any.", minimum=0)
            for name, span in (
                ("to_interaction_ms", "from the comparison to the use of the chart"),
                ("to_click_ms", "from the use of the chart to the click"),
                ("convert_ms", "from the comparison to the click"),
            )
            for prefix, word in (("median", "Exact median"), ("p90", "Exact 90th percentile"))
        ),
        Column(
            "payout_cents",
            I,
            "Expected payout of all clicks of the visits, whatever came before them, cents.",
            required=True,
            sensitivity="financial",
            minimum=0,
        ),
    )


_FUNNEL = "gold.fact_funnel"
_SEEN: list[Source] = [(_FUNNEL, "comparison_ts")]
_USED: list[Source] = [*_SEEN, (_FUNNEL, "interaction_ts"), ("gold.fact_chart_interactions", "ts")]
_LEFT: list[Source] = [*_USED, (_FUNNEL, "click_ts"), ("gold.fact_affiliate_clicks", "ts")]
_VISIT: list[Source] = [(_FUNNEL, "session_id")]
_MADE_FROM: dict[str, list[Source]] = {
    "cut": [(_FUNNEL, name) for name in ("segments", *DIMENSIONS[1:])],
    "segment": [(_FUNNEL, "segments")],
    "visits": _VISIT,
    "saw_comparison": _SEEN,
    "interacted_chart": _USED,
    "clicked_affiliate": _LEFT,
    "lost_before_comparison": _VISIT + _SEEN,
    "lost_before_interaction": _USED,
    "lost_before_click": _LEFT,
    "comparison_rate": _VISIT + _SEEN,
    "interaction_rate": _USED,
    "click_rate": _LEFT,
    "conversion_rate": _LEFT,
    **{f"{of}_to_interaction_ms": _USED for of in ("median", "p90")},
    **{f"{of}_{name}": _LEFT for of in ("median", "p90") for name in ("to_click_ms", "convert_ms")},
}

FUNNEL_DAILY = Table(
    namespace="gold",
    name="funnel_daily",
    description="How far the visits of each day came, from comparison to chart to affiliate click, in this order. One row a "
    "cut and value: as a whole, by each dimension, and by each dimension and experiment variant.",
    columns=(EVENT_DT, *_columns(FUNNEL_CUTS)),
    partition_by=("event_dt",),
    key=("event_dt", "cut", *DIMENSIONS),
    day_column="event_dt",
    sort_by=("cut", *DIMENSIONS),
    owner="growth@chart-platform.example",
    upstream=_FUNNEL,
    made_from=_MADE_FROM,
)

FUNNEL_HOURLY = Table(
    namespace="gold",
    name="funnel_hourly",
    description="The funnel of each hour in which visits began: as a whole and by device, channel and experiment variant.",
    columns=(
        EVENT_DT,
        Column("hour_ts", TIMESTAMP, "Hour in which the visits began, UTC.", required=True),
        *_columns(HOURLY_FUNNEL_CUTS),
    ),
    partition_by=("event_dt",),
    key=("hour_ts", "cut", *DIMENSIONS),
    day_column="event_dt",
    sort_by=("hour_ts", "cut", *DIMENSIONS),
    owner="growth@chart-platform.example",
    upstream=_FUNNEL,
    made_from=_MADE_FROM | {"hour_ts": [(_FUNNEL, "session_start_ts")]},
)
