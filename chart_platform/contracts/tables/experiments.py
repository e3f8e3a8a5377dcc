"""Experiments: who saw which variant first, what they did after, the sums of it, and what these say."""

from __future__ import annotations

import pyarrow as pa

from chart_platform.contracts.tables.declare import (
    CHANNEL,
    COUNTRY,
    DEVICE,
    TIMESTAMP,
    B,
    Column,
    D,
    I,
    S,
    Table,
)

F = pa.float64()
_OWNER = "growth@chart-platform.example"

_EXPERIMENT = Column(
    "experiment_key", S, "Experiment; (page) where pages tell a variant and no experiment.", required=True
)
_VISITOR = Column("user_id_hash", S, "Pseudonymous visitor.", required=True, sensitivity="personal")
_VARIANT = Column("variant", S, "Variant.", required=True)

_COUNTED = {
    "sessions": "Visits.",
    "converted_sessions": "Visits with an affiliate click.",
    "clicks": "Affiliate clicks.",
    "payout_cents": "Expected affiliate payout, cents.",
    "chart_interactions": "Chart interactions.",
    "comparison_sessions": "Visits that saw a comparison.",
    "comparison_clicks": "Visits whose first affiliate click came after their first comparison.",
}

EXPERIMENT_EXPOSURES = Table(
    namespace="gold",
    name="experiment_exposures",
    description="One row an experiment and visitor: the first exposure to a variant, and whether another one was seen later.",
    columns=(
        _EXPERIMENT,
        _VISITOR,
        Column("variant", S, "Variant at the first exposure, by which the visitor is judged.", required=True),
        Column(
            "first_exposure_ts", TIMESTAMP, "First event that tells a variant of the experiment, UTC.", required=True
        ),
        Column(
            "crossover_ts",
            TIMESTAMP,
            "First sight of another variant, UTC; from that day on no metric counts the visitor.",
        ),
        Column("crossover_variant", S, "That other variant."),
        DEVICE,
        COUNTRY,
        CHANNEL,
        Column("event_dt", D, "Day of the first exposure, UTC.", required=True),
    ),
    partition_by=("event_dt",),
    key=("experiment_key", "user_id_hash"),
    day_column="event_dt",
    sort_by=("experiment_key", "user_id_hash"),
    owner=_OWNER,
    rows_per_file=200_000,
    upstream="silver.events",
    made_from={
        "experiment_key": [("silver.events", "experiment_keys"), ("silver.events", "ab_variant")],
        "variant": [("silver.events", "ab_variant"), ("silver.events", "experiment_keys")],
        "first_exposure_ts": [("silver.events", "ts")],
        "crossover_ts": [("silver.events", "ts"), ("silver.events", "ab_variant")],
        "crossover_variant": [("silver.events", "ab_variant"), ("silver.events", "experiment_keys")],
        **{name: [("silver.sessions", name)] for name in ("device", "geo_country", "channel")},
        "event_dt": [("silver.events", "ts")],
    },
)

_COUNT_SOURCES = {
    "sessions": [("silver.sessions", "session_id")],
    "converted_sessions": [("silver.sessions", "affiliate_clicks"), ("gold.fact_affiliate_clicks", "ts")],
    "clicks": [("silver.sessions", "affiliate_clicks"), ("gold.fact_affiliate_clicks", "ts")],
    "payout_cents": [("silver.sessions", "payout_cents"), ("gold.fact_affiliate_clicks", "payout_cents")],
    "chart_interactions": [("silver.sessions", "chart_interactions"), ("gold.fact_chart_interactions", "ts")],
    "comparison_sessions": [("gold.fact_funnel", "comparison_ts")],
    "comparison_clicks": [("gold.fact_funnel", "comparison_ts"), ("gold.fact_funnel", "click_ts")],
}

EXPERIMENT_VISITOR_DAYS = Table(
    namespace="gold",
    name="experiment_visitor_days",
    description=(
        "What each visitor in an experiment did on a day, from the first exposure on; on the day of exposure also what they "
        "did in the days before it (CHART_EXPERIMENTS_PRE_DAYS). Visits count on the day they began."
    ),
    columns=(
        _EXPERIMENT,
        _VISITOR,
        *(
            Column(
                name,
                I,
                f"{text} From the exposure on.",
                required=True,
                sensitivity="financial" if name == "payout_cents" else "internal",
                minimum=0,
            )
            for name, text in _COUNTED.items()
        ),
        *(
            Column(
                f"pre_{name}",
                I,
                f"{text} Before the exposure; 0 on other days than that of the exposure.",
                required=True,
                sensitivity="financial" if name == "payout_cents" else "internal",
                minimum=0,
            )
            for name, text in _COUNTED.items()
        ),
        Column("event_dt", D, "Day, UTC: that the visit began, at the earliest that of the exposure.", required=True),
    ),
    partition_by=("event_dt",),
    key=("experiment_key", "user_id_hash", "event_dt"),
    day_column="event_dt",
    sort_by=("experiment_key", "user_id_hash"),
    owner=_OWNER,
    rows_per_file=200_000,
    upstream="gold.experiment_exposures",
    made_from={
        **_COUNT_SOURCES,
        **{f"pre_{name}": sources for name, sources in _COUNT_SOURCES.items()},
        "event_dt": [("silver.sessions", "event_dt"), ("gold.experiment_exposures", "event_dt")],
    },
)

_OF = {
    "x": "the metric's numerator",
    "y": "its denominator (0 for a mean over visitors)",
    "p": "the numerator before the exposure",
    "q": "the denominator before the exposure",
}

EXPERIMENT_SUMS = Table(
    namespace="gold",
    name="experiment_sums",
    description=(
        "What a day adds to the sums of each experiment, variant and metric over visitors. Added up to the end of a day they "
        "are all that statistics need; whole numbers, so that the order of adding does not matter. Visitors who cross over "
        "are taken out on that day, hence negative numbers."
    ),
    columns=(
        _EXPERIMENT,
        _VARIANT,
        Column("metric", S, "Metric.", required=True),
        Column("visitors", I, "Visitors exposed for the first time, less those who crossed over.", required=True),
        Column("crossovers", I, "Visitors seen with another variant.", required=True, minimum=0),
        *(Column(name, I, f"Sum of {text}.", required=True, sensitivity="financial") for name, text in _OF.items()),
        *(
            Column(ab, I, f"Sum of products: {_OF[ab[0]]} times {_OF[ab[1]]}.", required=True, sensitivity="financial")
            for ab in ("xx", "yy", "pp", "qq", "xy", "xp", "xq", "yp", "yq", "pq")
        ),
        Column("event_dt", D, "Day, UTC.", required=True),
    ),
    partition_by=("event_dt",),
    key=("experiment_key", "variant", "metric", "event_dt"),
    day_column="event_dt",
    sort_by=("experiment_key", "variant", "metric"),
    owner=_OWNER,
    rows_per_file=100_000,
    upstream="gold.experiment_exposures",
    made_from={
        "visitors": [("gold.experiment_exposures", "first_exposure_ts"), ("gold.experiment_exposures", "crossover_ts")],
        "crossovers": [("gold.experiment_exposures", "crossover_ts")],
        "metric": [("gold.experiment_visitor_days", name) for name in _COUNTED],
        **{
            name: [("gold.experiment_visitor_days", column) for column in _COUNTED]
            for name in ("x", "y", "xx", "yy", "xy")
        },
        **{
            name: [("gold.experiment_visitor_days", f"pre_{column}") for column in _COUNTED]
            for name in ("p", "q", "pp", "qq", "pq")
        },
        **{
            name: [
                ("gold.experiment_visitor_days", f"{prefix}{column}") for prefix in ("", "pre_") for column in _COUNTED
            ]
            for name in ("xp", "xq", "yp", "yq")
        },
        "event_dt": [("gold.experiment_visitor_days", "event_dt")],
    },
)


def _estimates(prefix: str, of: str) -> tuple[Column, ...]:
    def column(name: str, text: str) -> Column:
        return Column(f"{prefix}{name}", F, f"{text}{of}")

    return (
        column("effect", "Treatment less control, in the metric's unit"),
        column("effect_low", "Lower bound of the effect that holds at one look decided on beforehand"),
        column("effect_high", "Upper bound of the effect that holds at one look decided on beforehand"),
        column("relative", "Treatment / control - 1"),
        column("relative_low", "Lower bound of the relative effect that holds at one look"),
        column("relative_high", "Upper bound of the relative effect that holds at one look"),
        column("p_value", "Two-sided p-value that holds at one look"),
        column("sequential_low", "Lower bound of the effect that holds at all looks together"),
        column("sequential_high", "Upper bound of the effect that holds at all looks together"),
        column("sequential_relative_low", "Lower bound of the relative effect that holds at all looks together"),
        column("sequential_relative_high", "Upper bound of the relative effect that holds at all looks together"),
        column("sequential_p_value", "p-value that holds at all looks together"),
    )


_SUMS = [("gold.experiment_sums", column.name) for column in EXPERIMENT_SUMS.columns if len(column.name) <= 2]
_OF_VISITORS = [("gold.experiment_sums", "visitors")]
_RESULT_SOURCES = {
    "control": [("gold.experiment_sums", "variant")],
    "role": [("gold.experiment_sums", "metric")],
    "registered": [("gold.experiment_sums", "experiment_key")],
    "alpha": [("gold.experiment_sums", "experiment_key")],
    **dict.fromkeys(("control_visitors", "srm_p_value", "srm_sequential_p_value"), _OF_VISITORS),
}

EXPERIMENT_ROLES: tuple[str, ...] = ("primary", "secondary", "guardrail", "other")

EXPERIMENT_RESULTS = Table(
    namespace="gold",
    name="experiment_results",
    description=(
        "Each treatment beside the control, as of the end of each day on which something was counted: means, effects, "
        "intervals and p-values of every metric. Null where there is too little to say."
    ),
    columns=(
        _EXPERIMENT,
        Column("metric", S, "Metric.", required=True),
        Column("variant", S, "Treatment.", required=True),
        Column("control", S, "Variant it is compared with.", required=True),
        Column(
            "role",
            S,
            "What the metric is to the experiment: primary, secondary, guardrail or other.",
            required=True,
            allowed=EXPERIMENT_ROLES,
        ),
        Column(
            "registered", B, "Whether the registry has the experiment; if not, equal shares are assumed.", required=True
        ),
        Column("alpha", F, "Chance of a false positive that is put up with.", required=True),
        Column("visitors", I, "Visitors of the treatment, without crossovers.", required=True, minimum=0),
        Column("control_visitors", I, "Visitors of the control, without crossovers.", required=True, minimum=0),
        Column("mean", F, "The metric of the treatment."),
        Column("control_mean", F, "The metric of the control."),
        *_estimates("", "."),
        Column(
            "p_value_adjusted",
            F,
            "p_value made good for many comparisons: of the primary metric by Holm over the variants, of the others by "
            "Benjamini-Hochberg over metrics and variants.",
        ),
        Column("significant", B, "Whether p_value_adjusted is at most alpha. Holds at one look."),
        *_estimates("cuped_", ", adjusted for the days before the exposure (CUPED)."),
        Column("cuped_variance_reduction", F, "Share of the effect's variance that CUPED takes away."),
        Column(
            "srm_p_value",
            F,
            "Chi-squared test that visitors came in the expected ratio; holds at one look.",
            required=True,
        ),
        Column(
            "srm_sequential_p_value",
            F,
            "Sequential test that visitors came in the expected ratio; holds at all looks.",
            required=True,
        ),
        Column("event_dt", D, "Day, UTC; the row is as of its end.", required=True),
    ),
    partition_by=("event_dt",),
    key=("experiment_key", "metric", "variant", "event_dt"),
    day_column="event_dt",
    sort_by=("experiment_key", "metric", "variant"),
    owner=_OWNER,
    rows_per_file=100_000,
    upstream="gold.experiment_sums",
    made_from={
        **_RESULT_SOURCES,
        "mean": _SUMS,
        "control_mean": _SUMS,
        "p_value_adjusted": _SUMS,
        "significant": _SUMS,
        "cuped_variance_reduction": _SUMS,
        **{column.name: _SUMS for prefix in ("", "cuped_") for column in _estimates(prefix, "")},
    },
)
