"""Who earned the money: journeys, what channels weigh, and every conversion divided among the visits before it."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from chart_platform.contracts.tables.declare import TIMESTAMP, USER, Column, D, I, S, Source, Table

ATTRIBUTION_MODELS: tuple[str, ...] = (
    "first_touch",
    "last_touch",
    "last_non_direct",
    "linear",
    "position_based",
    "time_decay",
    "markov",
    "shapley",
)
ATTRIBUTION_KINDS: tuple[str, ...] = ("click", "report")
_OWNER = "growth@chart-platform.example"
_REVENUE = "revenue@chart-platform.example"
_CLICKS, _CONVERSIONS, _SESSIONS = "gold.fact_affiliate_clicks", "gold.fact_conversions", "silver.sessions"
_JOURNEYS, _WEIGHTS, _FACT = "gold.attribution_journeys", "gold.attribution_weights", "gold.fact_attribution"

ATTRIBUTION_JOURNEYS = Table(
    namespace="gold",
    name="attribution_journeys",
    description=(
        "How often each path of channels was travelled, and led to a click. A journey is a visitor's day: the channels of "
        "the visits within the lookback before the day's first affiliate click, or without one before the day's end."
    ),
    columns=(
        Column(
            "path",
            S,
            "Channels in order, joined by ' > '; of neighbours of the same channel one. '(unknown)' is no part of it.",
            required=True,
        ),
        Column("journeys", I, "Visitors who travelled it on this day.", required=True, minimum=1),
        Column("converted", I, "Those of them who clicked an affiliate link.", required=True, minimum=0),
        Column("event_dt", D, "Day of the journey's end, UTC.", required=True),
    ),
    partition_by=("event_dt",),
    key=("event_dt", "path"),
    day_column="event_dt",
    sort_by=("path",),
    owner=_OWNER,
    upstream=_SESSIONS,
    made_from={
        "path": [(_SESSIONS, "channel"), (_SESSIONS, "session_start_ts")],
        "journeys": [(_SESSIONS, "user_id_hash"), (_SESSIONS, "session_id")],
        "converted": [(_CLICKS, "event_id"), (_CLICKS, "session_id"), (_CLICKS, "ts")],
    },
)

ATTRIBUTION_WEIGHTS = Table(
    namespace="gold",
    name="attribution_weights",
    description="What each channel weighs on a day in the data-driven models, from the journeys of the training window.",
    columns=(
        Column("model", S, "markov or shapley.", required=True, allowed=("markov", "shapley")),
        Column("channel", S, "Channel.", required=True),
        Column(
            "weight_ppb", I, "Weight in billionths; those of a day and model sum to 10^9.", required=True, minimum=0
        ),
        Column(
            "effect_ppb",
            I,
            "Share of the window's conversions that the model gives to the channel, billionths. markov: lost without the "
            "channel, so that shares overlap. shapley: its value, negative where it lowers the rate.",
            required=True,
        ),
        Column("journeys", I, "Journeys of the window with the channel.", required=True, minimum=1),
        Column("converted", I, "Those of them that converted.", required=True, minimum=0),
        Column("event_dt", D, "Last day of the training window, UTC.", required=True),
    ),
    partition_by=("event_dt",),
    key=("event_dt", "model", "channel"),
    day_column="event_dt",
    sort_by=("model", "channel"),
    owner=_OWNER,
    upstream=_JOURNEYS,
    made_from={
        **{name: [(_JOURNEYS, n) for n in ("path", "journeys", "converted")] for name in ("weight_ppb", "effect_ppb")},
        **{name: [(_JOURNEYS, "path")] for name in ("model", "channel")},
    },
)

_WHAT_A_MODEL_DOES = {
    "first_touch": "all to the first touchpoint",
    "last_touch": "all to the last touchpoint",
    "last_non_direct": "all to the last touchpoint that isn't Direct, to the last one if all are",
    "linear": "the same to each touchpoint",
    "position_based": "40 % to the first, 40 % to the last, 20 % to those between; half each of two",
    "time_decay": "halved for each half-life that a touchpoint lies before the last one",
    "markov": "by removal effects of channels",
    "shapley": "by Shapley values of channels",
}


def _credits() -> Iterator[Column]:
    for model, rule in _WHAT_A_MODEL_DOES.items():
        yield Column(
            f"{model}_cents",
            I,
            f"Part of amount_cents: {rule}.",
            required=True,
            sensitivity="financial",
        )
    for model, rule in _WHAT_A_MODEL_DOES.items():
        yield Column(f"{model}_share", I, f"Part of the conversion in millionths: {rule}.", required=True, minimum=0)


def _credits_from(kind: str) -> dict[str, list[Source]]:
    amounts: list[Source] = [(_CLICKS, "payout_cents"), (_CONVERSIONS, "due_cents")] if kind == "cents" else []
    path: list[Source] = [(_SESSIONS, "session_start_ts"), (_SESSIONS, "channel")]
    return {
        f"{model}_{kind}": [
            *amounts,
            *path[: 2 if model in ("last_non_direct", "markov", "shapley") else 1],
            *([(_WEIGHTS, "weight_ppb")] if model in ("markov", "shapley") else []),
        ]
        for model in ATTRIBUTION_MODELS
    }


FACT_ATTRIBUTION = Table(
    namespace="gold",
    name="fact_attribution",
    description=(
        "One row a conversion and touchpoint: what each model of attribution gives to that visit. In every model the cents "
        "of a conversion sum to its amount and its shares to a million."
    ),
    columns=(
        Column(
            "kind",
            S,
            "click: an affiliate click, with the payout it expects. report: a conversion that a network reported and that "
            "was matched to a click, with the commission due.",
            required=True,
            allowed=ATTRIBUTION_KINDS,
        ),
        Column("conversion_id", S, "click: event id of the click. report: network/transaction_id.", required=True),
        Column("touch", pa.int32(), "Place of the touchpoint on the path, from 1.", required=True, minimum=1),
        Column("touches", pa.int32(), "Touchpoints of the conversion.", required=True, minimum=1),
        Column("conversion_ts", TIMESTAMP, "When the click happened, UTC: the end of the path.", required=True),
        Column(
            "amount_cents",
            I,
            "click: expected payout, 0 when unknown. report: commission due, 0 once reversed. Cents of the currency.",
            required=True,
            sensitivity="financial",
        ),
        Column("currency", S, "ISO 4217 code of the amounts.", required=True),
        Column("affiliate_network", S, "Network that pays for the link."),
        Column("affiliate_link_id", S, "Link of the click."),
        USER,
        Column("session_id", S, "Visit that is the touchpoint; null where none is known.", sensitivity="personal"),
        Column("session_start_ts", TIMESTAMP, "When that visit began, UTC."),
        Column("channel", S, "Default channel group of that visit; (unknown) where none is known.", required=True),
        Column("source", S, "Source of that visit: utm_source, or the host of the referrer.", required=True),
        Column("medium", S, "Medium of that visit: utm_medium, or what the referrer says.", required=True),
        Column("campaign", S, "utm_campaign of that visit; (not set) without one.", required=True),
        *_credits(),
        Column("event_dt", D, "Day of the click, UTC.", required=True),
    ),
    partition_by=("event_dt",),
    key=("event_dt", "kind", "conversion_id", "touch"),
    day_column="event_dt",
    sort_by=("conversion_ts", "kind", "conversion_id", "touch"),
    owner=_REVENUE,
    upstream=_CLICKS,
    made_from={
        "kind": [(_CLICKS, "event_id"), (_CONVERSIONS, "transaction_id")],
        "conversion_id": [(_CLICKS, "event_id"), (_CONVERSIONS, "network"), (_CONVERSIONS, "transaction_id")],
        "touch": [(_SESSIONS, "session_start_ts"), (_SESSIONS, "user_id_hash")],
        "touches": [(_SESSIONS, "session_start_ts"), (_SESSIONS, "user_id_hash")],
        "conversion_ts": [(_CLICKS, "ts")],
        "amount_cents": [(_CLICKS, "payout_cents"), (_CONVERSIONS, "due_cents")],
        "currency": [(_CONVERSIONS, "currency")],
        **{name: [(_SESSIONS, name)] for name in ("user_id_hash", "session_id", "session_start_ts", "channel")},
        "source": [(_SESSIONS, "utm_source"), (_SESSIONS, "referrer"), (_SESSIONS, "first_page_url")],
        "medium": [(_SESSIONS, "utm_medium"), (_SESSIONS, "referrer"), (_SESSIONS, "first_page_url")],
        "campaign": [(_SESSIONS, "utm_campaign")],
        **_credits_from("cents"),
        **_credits_from("share"),
    },
)

ATTRIBUTION_DAILY = Table(
    namespace="gold",
    name="attribution_daily",
    description="What each model of attribution gives to channels, sources and campaigns, by day of the click. One row a model.",
    columns=(
        Column("kind", S, "click or report, as in gold.fact_attribution.", required=True, allowed=ATTRIBUTION_KINDS),
        Column("model", S, "Model of attribution.", required=True, allowed=ATTRIBUTION_MODELS),
        Column("channel", S, "Default channel group; (unknown) where no visit is known.", required=True),
        Column("source", S, "Source.", required=True),
        Column("medium", S, "Medium.", required=True),
        Column("campaign", S, "Campaign; (not set) without one.", required=True),
        Column("currency", S, "ISO 4217 code of the amounts.", required=True),
        Column(
            "conversions_millionths",
            I,
            "Conversions that the model gives, millionths; over all rows of a model a million times the conversions.",
            required=True,
            minimum=0,
        ),
        Column("amount_cents", I, "Money that the model gives, cents.", required=True, sensitivity="financial"),
        Column("event_dt", D, "Day of the click, UTC.", required=True),
    ),
    partition_by=("event_dt",),
    key=("event_dt", "kind", "model", "channel", "source", "medium", "campaign", "currency"),
    day_column="event_dt",
    sort_by=("kind", "model", "channel", "source", "medium", "campaign", "currency"),
    owner=_REVENUE,
    upstream=_FACT,
    made_from={
        **{
            name: [(_FACT, f"{model}_share") for model in ATTRIBUTION_MODELS]
            for name in ("model", "conversions_millionths")
        },
        "amount_cents": [(_FACT, f"{model}_cents") for model in ATTRIBUTION_MODELS],
    },
)
