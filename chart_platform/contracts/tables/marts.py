"""What is counted by day and hour from visits and facts: the marts that dashboards and reports read, and visitors.

Rates stand beside the counts they are made of: of several rows, add the counts and divide again. Counts of visitors and
visits are of different ones, so they don't add up over days or hours. A rate is null where nothing could be divided by.
"""

from __future__ import annotations

import pyarrow as pa

from chart_platform.contracts.tables.declare import EVENT_DT, TIMESTAMP, Column, D, I, S, Sensitivity, Source, Table

F = pa.float64()
_GROWTH, _REVENUE = "growth@chart-platform.example", "revenue@chart-platform.example"

_SESSIONS = "silver.sessions"
_PAGE_VIEWS = "gold.fact_page_views"
_INTERACTIONS = "gold.fact_chart_interactions"
_CLICKS = "gold.fact_affiliate_clicks"
_CONVERSIONS = "gold.fact_conversions"
_VISITORS = "gold.visitors"
_LINKS = "bronze.link_changes"

_VISIT_DT = Column("event_dt", D, "Day of the visits' first events, UTC.", required=True)
_HOUR = Column("event_hour", TIMESTAMP, "Start of the hour, UTC.", required=True)
_CHANNEL = Column("channel", S, "Default channel group of the visit by GA4's rules; (none) without one.", required=True)
_DEVICE = Column("device", S, "Class of the client; (none) when it isn't known.", required=True)
_COUNTRY = Column("geo_country", S, "ISO 3166-1 alpha-2 country; (none) when it isn't known.", required=True)
_VARIANT = Column("ab_variant", S, "Experiment variant; (none) without one.", required=True)
_VISITORS_COUNT = "Different visitors; events of nobody known aren't counted."


def _count(name: str, description: str, sensitivity: Sensitivity = "internal") -> Column:
    return Column(name, I, description, required=True, minimum=0, sensitivity=sensitivity)


def _cents(name: str, description: str) -> Column:
    return _count(name, description, "financial")


def _rate(name: str, description: str, sensitivity: Sensitivity = "internal") -> Column:
    return Column(name, F, description, sensitivity=sensitivity)


def _of(table: str, *columns: str) -> list[Source]:
    return [(table, column) for column in columns]


_DURATION = _of(_SESSIONS, "session_start_ts", "session_end_ts")
_PERCENTILES = (25, 50, 75, 90, 95)

SESSION_QUALITY_DAILY = Table(
    namespace="gold",
    name="session_quality_daily",
    description="How good the visits of a day were: engagement, bounces, pages and duration, by channel and device.",
    columns=(
        _VISIT_DT,
        _CHANNEL,
        _DEVICE,
        _count("visits", "Visits."),
        _count("visitors", "Different visitors; those of visits without one aren't counted."),
        _count("engaged_visits", "Engaged visits by GA4: 10 s or longer, two page views or more, or an affiliate click."),
        _count("bounces", "Visits that were not engaged."),
        _count("page_views", "Page views."),
        _count("interacting_visits", "Visits with a chart interaction."),
        _count("clicking_visits", "Visits with an affiliate click."),
        _count("duration_ms", "Sum of the time from first to last event, ms."),
        *(
            _count(f"p{p}_duration_ms" if p != 50 else "median_duration_ms",
                   f"{'Median' if p == 50 else f'{p}th percentile'} of that time, ms: the smallest one that {p} % don't exceed.")
            for p in _PERCENTILES
        ),
        _rate("engagement_rate", "engaged_visits / visits."),
        _rate("bounce_rate", "bounces / visits."),
        _rate("pages_per_visit", "page_views / visits."),
        _rate("mean_duration_ms", "duration_ms / visits, ms."),
    ),
    partition_by=("event_dt",),
    key=("event_dt", "channel", "device"),
    day_column="event_dt",
    sort_by=("channel", "device"),
    owner=_GROWTH,
    rows_per_file=100_000,
    upstream=_SESSIONS,
    made_from={
        "visits": _of(_SESSIONS, "session_id"),
        "visitors": _of(_SESSIONS, "user_id_hash"),
        **{name: _of(_SESSIONS, "engaged") for name in ("engaged_visits", "bounces", "engagement_rate", "bounce_rate")},
        "page_views": _of(_SESSIONS, "pageviews"),
        "interacting_visits": _of(_SESSIONS, "chart_interactions"),
        "clicking_visits": _of(_SESSIONS, "affiliate_clicks"),
        "pages_per_visit": _of(_SESSIONS, "pageviews"),
        **dict.fromkeys(("duration_ms", "median_duration_ms", "mean_duration_ms", *(f"p{p}_duration_ms" for p in _PERCENTILES if p != 50)), _DURATION),
    },
)  # fmt: skip

_ENGAGEMENT = (
    _VARIANT,
    _DEVICE,
    _COUNTRY,
    _count("page_views", "Page views."),
    _count("comparison_views", "Page views of comparison pages."),
    _count("interacting_views", "Page views of comparison pages with a chart interaction."),
    _count("clicking_views", "Page views of comparison pages with an affiliate click."),
    _count("visits", "Different visits with a page view or chart interaction; events of no visit aren't counted."),
    _count("visitors", _VISITORS_COUNT),
    _count("interactions", "Chart interactions."),
    *(
        _count(name, f"Chart interactions that {what}.")
        for name, what in (
            ("toggles", "toggled"),
            ("sorts", "sorted"),
            ("filters", "filtered"),
            ("expands", "expanded a feature or product"),
            ("collapses", "collapsed one again"),
        )
    ),
    _count("dwell_ms", "Sum over page views of the time to the last event on the page, ms."),
    _count("comparison_dwell_ms", "That sum for comparison pages, ms."),
    Column("median_comparison_dwell_ms", I, "Median of that time, ms; null without a page view of a comparison page."),
    _rate("interaction_rate", "interacting_views / comparison_views."),
    _rate("click_rate", "clicking_views / comparison_views."),
)
_ENGAGEMENT_FROM = {
    **{name: [(_PAGE_VIEWS, name), (_INTERACTIONS, name)] for name in ("ab_variant", "device", "geo_country")},
    "page_views": _of(_PAGE_VIEWS, "event_id"),
    "comparison_views": _of(_PAGE_VIEWS, "is_comparison"),
    "interacting_views": _of(_PAGE_VIEWS, "is_comparison", "chart_interactions"),
    "clicking_views": _of(_PAGE_VIEWS, "is_comparison", "affiliate_clicks"),
    "visits": [(_PAGE_VIEWS, "session_id"), (_INTERACTIONS, "session_id")],
    "visitors": [(_PAGE_VIEWS, "user_id_hash"), (_INTERACTIONS, "user_id_hash")],
    "interactions": _of(_INTERACTIONS, "event_id"),
    **{name: _of(_INTERACTIONS, "chart_action") for name in ("toggles", "sorts", "filters", "expands", "collapses")},
    "comparison_dwell_ms": _of(_PAGE_VIEWS, "is_comparison", "dwell_ms"),
    "median_comparison_dwell_ms": _of(_PAGE_VIEWS, "is_comparison", "dwell_ms"),
    "interaction_rate": _of(_PAGE_VIEWS, "is_comparison", "chart_interactions"),
    "click_rate": _of(_PAGE_VIEWS, "is_comparison", "affiliate_clicks"),
}
_HOUR_OF_USE = {"event_hour": [(_PAGE_VIEWS, "ts"), (_INTERACTIONS, "ts")]}

ENGAGEMENT_DAILY = Table(
    namespace="gold",
    name="engagement_daily",
    description="How pages and charts were used, by day, variant, device and country. Each event counts at its own time.",
    columns=(EVENT_DT, *_ENGAGEMENT),
    partition_by=("event_dt",),
    key=("event_dt", "ab_variant", "device", "geo_country"),
    day_column="event_dt",
    sort_by=("ab_variant", "device", "geo_country"),
    owner=_GROWTH,
    rows_per_file=100_000,
    upstream=_PAGE_VIEWS,
    made_from=_ENGAGEMENT_FROM,
)

ENGAGEMENT_HOURLY = Table(
    namespace="gold",
    name="engagement_hourly",
    description="How pages and charts were used, by hour, variant, device and country. Each event counts at its own time.",
    columns=(EVENT_DT, _HOUR, *_ENGAGEMENT),
    partition_by=("event_dt",),
    key=("event_hour", "ab_variant", "device", "geo_country"),
    day_column="event_dt",
    sort_by=("event_hour", "ab_variant", "device", "geo_country"),
    owner=_GROWTH,
    rows_per_file=100_000,
    upstream=_PAGE_VIEWS,
    made_from=_ENGAGEMENT_FROM | _HOUR_OF_USE,
)

_LINK_OF_CLICK = (
    Column("affiliate_link_id", S, "Link; (unknown) of what names none.", required=True),
    Column("product_id", S, "Product of the link by the registry as it is now, or was when the link left it; (unknown) if "
           "it never was there.", required=True),
    Column("network", S, "Network that pays: of the click, else of the conversion, else of the link; (unknown) if none tells.",
           required=True),
    Column("position", I, "Place on the chart, from 1 at the top; 0 when the click doesn't tell it.", required=True, minimum=0),
    _VARIANT,
)  # fmt: skip
_CLICKED = (
    _count("clicks", "Affiliate clicks."),
    _count("clicking_visits", "Different visits with such a click."),
    _cents("payout_cents", "Payout that the clicks are expected to bring, cents; clicks without one count 0."),
    _count("comparison_clicks", "Clicks on comparison pages, known by the page view of the same day and its id."),
    _count(
        "comparison_views",
        "Page views of comparison pages of the same time and variant, each taken to show every link: how often it could "
        "have been clicked there. The same number in all rows of a time and variant, so never to be added up over links.",
    ),
    _rate("click_through_rate", "comparison_clicks / comparison_views."),
    _rate("epc_cents", "Expected earnings per click: payout_cents / clicks.", "financial"),
)
_CLICKED_FROM = {
    "affiliate_link_id": [(_CLICKS, "affiliate_link_id"), (_CONVERSIONS, "affiliate_link_id")],
    "product_id": _of(_LINKS, "product_id"),
    "network": [(_CLICKS, "affiliate_network"), (_CONVERSIONS, "network"), (_LINKS, "network")],
    "position": _of(_CLICKS, "affiliate_position"),
    "clicks": _of(_CLICKS, "event_id"),
    "clicking_visits": _of(_CLICKS, "session_id"),
    "comparison_views": _of(_PAGE_VIEWS, "is_comparison"),
    "comparison_clicks": [(_CLICKS, "page_view_id"), *_of(_PAGE_VIEWS, "page_view_id", "is_comparison")],
    "click_through_rate": [(_CLICKS, "page_view_id"), *_of(_PAGE_VIEWS, "page_view_id", "is_comparison")],
    "epc_cents": _of(_CLICKS, "payout_cents"),
}

AFFILIATE_PERFORMANCE_DAILY = Table(
    namespace="gold",
    name="affiliate_performance_daily",
    description=(
        "What links earned by day of the click: clicks, expected payout and what networks reported of it, by link, "
        "product, network, position and variant."
    ),
    columns=(
        Column("event_dt", D, "Day of the click, or of the conversion without a known one, UTC.", required=True),
        *_LINK_OF_CLICK,
        *_CLICKED,
        _count("conversions", "Conversions that the network reported of these clicks, whatever their state."),
        *(
            Column(f"{status}_cents", I, f"Commission {what}, cents of the registry's currency.", required=True,
                   sensitivity="financial")
            for status, what in (
                ("pending", "still pending"),
                ("approved", "approved and not yet paid"),
                ("paid", "paid"),
                ("reversed", "lost by reversals"),
            )
        ),
        _count("other_currency_conversions", "Conversions in another currency, whose money is in none of these sums."),
        _rate("conversion_rate", "conversions / clicks."),
        _rate("reported_epc_cents", "Reported earnings per click: (pending + approved + paid) / clicks.", "financial"),
    ),
    partition_by=("event_dt",),
    key=("event_dt", "affiliate_link_id", "product_id", "network", "position", "ab_variant"),
    day_column="event_dt",
    sort_by=("affiliate_link_id", "network", "position", "ab_variant"),
    owner=_REVENUE,
    rows_per_file=100_000,
    upstream=_CLICKS,
    made_from=_CLICKED_FROM
    | {
        "event_dt": [(_CLICKS, "event_dt"), *_of(_CONVERSIONS, "click_dt", "event_dt")],
        "ab_variant": [(_CLICKS, "ab_variant"), (_CONVERSIONS, "ab_variant")],
        "conversions": _of(_CONVERSIONS, "transaction_id"),
        **{f"{name}_cents": _of(_CONVERSIONS, "due_cents", "status") for name in ("pending", "approved", "paid")},
        "reversed_cents": _of(_CONVERSIONS, "reversed_cents"),
        "other_currency_conversions": _of(_CONVERSIONS, "currency"),
        "conversion_rate": [(_CONVERSIONS, "transaction_id"), (_CLICKS, "event_id")],
        "reported_epc_cents": [*_of(_CONVERSIONS, "due_cents", "status"), (_CLICKS, "event_id")],
    },
)  # fmt: skip

AFFILIATE_PERFORMANCE_HOURLY = Table(
    namespace="gold",
    name="affiliate_performance_hourly",
    description="What links earned by hour of the click: clicks and expected payout, by link, product, network, position and variant.",
    columns=(EVENT_DT, _HOUR, *_LINK_OF_CLICK, *_CLICKED),
    partition_by=("event_dt",),
    key=("event_hour", "affiliate_link_id", "product_id", "network", "position", "ab_variant"),
    day_column="event_dt",
    sort_by=("event_hour", "affiliate_link_id", "network", "position", "ab_variant"),
    owner=_REVENUE,
    rows_per_file=100_000,
    upstream=_CLICKS,
    made_from=_CLICKED_FROM
    | {
        "event_hour": _of(_CLICKS, "ts"),
        "affiliate_link_id": _of(_CLICKS, "affiliate_link_id"),
        "network": [(_CLICKS, "affiliate_network"), (_LINKS, "network")],
    },
)

_SOURCE_ARGUMENTS = _of(_SESSIONS, "utm_source", "utm_medium", "utm_campaign", "referrer", "first_page_url")
CAMPAIGN = (
    _CHANNEL,
    Column("source", S, "GA4's session source, lower case: utm_source, else the referring site; (direct), (not set).", required=True),
    Column("medium", S, "GA4's session medium, lower case: utm_medium, else organic, referral, …; (none), (not set).", required=True),
    Column("campaign", S, "utm_campaign as sent; (not set) without one.", required=True),
)  # fmt: skip

CAMPAIGN_DAILY = Table(
    namespace="gold",
    name="campaign_daily",
    description="What campaigns brought: visits of a day by channel, source, medium and campaign, and what these visits earned.",
    columns=(
        _VISIT_DT,
        *CAMPAIGN,
        _count("visits", "Visits."),
        _count("visitors", "Different visitors; those of visits without one aren't counted."),
        _count("new_visitors", "Visitors whose first visit ever this was."),
        _count(
            "engaged_visits", "Engaged visits by GA4: 10 s or longer, two page views or more, or an affiliate click."
        ),
        _count("page_views", "Page views."),
        _count("comparison_views", "Page views of comparison pages."),
        _count("interactions", "Chart interactions."),
        _count("interacting_visits", "Visits with a chart interaction."),
        _count("clicks", "Affiliate clicks."),
        _count("clicking_visits", "Visits with an affiliate click: the conversions of a comparison site."),
        _cents("payout_cents", "Payout that the clicks are expected to bring, cents."),
        _rate("engagement_rate", "engaged_visits / visits."),
        _rate("conversion_rate", "clicking_visits / visits."),
        _rate("epc_cents", "Expected earnings per click: payout_cents / clicks.", "financial"),
        _rate("payout_cents_per_visit", "payout_cents / visits.", "financial"),
    ),
    partition_by=("event_dt",),
    key=("event_dt", "channel", "source", "medium", "campaign"),
    day_column="event_dt",
    sort_by=("channel", "source", "medium", "campaign"),
    owner=_GROWTH,
    rows_per_file=100_000,
    upstream=_SESSIONS,
    made_from={
        "source": _SOURCE_ARGUMENTS,
        "medium": _SOURCE_ARGUMENTS,
        "campaign": _of(_SESSIONS, "utm_campaign"),
        "visits": _of(_SESSIONS, "session_id"),
        "visitors": _of(_SESSIONS, "user_id_hash"),
        "new_visitors": _of(_VISITORS, "first_session_id", "first_seen_ts"),
        "engaged_visits": _of(_SESSIONS, "engaged"),
        "page_views": _of(_SESSIONS, "pageviews"),
        "interactions": _of(_SESSIONS, "chart_interactions"),
        "interacting_visits": _of(_SESSIONS, "chart_interactions"),
        "clicks": _of(_SESSIONS, "affiliate_clicks"),
        "clicking_visits": _of(_SESSIONS, "affiliate_clicks"),
        "engagement_rate": _of(_SESSIONS, "engaged"),
        "conversion_rate": _of(_SESSIONS, "affiliate_clicks"),
        "epc_cents": _of(_SESSIONS, "payout_cents", "affiliate_clicks"),
        "payout_cents_per_visit": _of(_SESSIONS, "payout_cents"),
    },
)

VISITOR_TYPES: tuple[str, ...] = ("new", "returning", "(unknown)")
_USE = (
    _count("visits", "Visits."),
    _count("page_views", "Page views."),
    _count("interactions", "Chart interactions."),
    _count("clicks", "Affiliate clicks."),
    _cents("payout_cents", "Payout that the clicks are expected to bring, cents."),
)
_USE_FROM = {
    "visits": _of(_SESSIONS, "session_id"),
    "page_views": _of(_SESSIONS, "pageviews"),
    "interactions": _of(_SESSIONS, "chart_interactions"),
    "clicks": _of(_SESSIONS, "affiliate_clicks"),
}

RETURNING_VISITORS_DAILY = Table(
    namespace="gold",
    name="returning_visitors_daily",
    description="New and returning visitors of a day, and what they did.",
    columns=(
        _VISIT_DT,
        Column(
            "visitor_type",
            S,
            "new: the first visit ever was on this day; returning: it was before; (unknown): visits without a visitor.",
            required=True,
            allowed=VISITOR_TYPES,
        ),
        _count("visitors", "Different visitors; 0 of (unknown)."),
        *_USE,
    ),
    partition_by=("event_dt",),
    key=("event_dt", "visitor_type"),
    day_column="event_dt",
    sort_by=("visitor_type",),
    owner=_GROWTH,
    rows_per_file=100_000,
    upstream=_SESSIONS,
    made_from=_USE_FROM
    | {
        "visitor_type": [(_SESSIONS, "user_id_hash"), (_VISITORS, "cohort_dt")],
        "visitors": _of(_SESSIONS, "user_id_hash"),
    },
)

RETENTION_DAILY = Table(
    namespace="gold",
    name="retention_daily",
    description=(
        "Visitors by day and cohort: who was first there on cohort_dt and came (again) on event_dt. The row with "
        "days_since 0 has the size of the cohort."
    ),
    columns=(
        _VISIT_DT,
        Column("cohort_dt", D, "Day of the visitors' first visit, UTC.", required=True),
        _count("days_since", "Days from cohort_dt to event_dt."),
        _count("visitors", "Different visitors of the cohort that were there on event_dt."),
        *_USE,
    ),
    partition_by=("event_dt",),
    key=("event_dt", "cohort_dt"),
    day_column="event_dt",
    sort_by=("cohort_dt",),
    owner=_GROWTH,
    rows_per_file=100_000,
    upstream=_SESSIONS,
    made_from=_USE_FROM
    | {
        "cohort_dt": _of(_VISITORS, "cohort_dt"),
        "days_since": [(_SESSIONS, "event_dt"), (_VISITORS, "cohort_dt")],
        "visitors": _of(_SESSIONS, "user_id_hash"),
    },
)

_FIRST = "By the first visit"
_FIRST_FROM = {
    "first_channel": "channel",
    "first_utm_source": "utm_source",
    "first_utm_medium": "utm_medium",
    "first_utm_campaign": "utm_campaign",
    "first_referrer": "referrer",
    "landing_page_url": "first_page_url",
    "first_country": "geo_country",
    "first_device": "device",
    "first_ab_variant": "ab_variant",
    "first_session_id": "session_id",
    "first_seen_ts": "session_start_ts",
    "cohort_dt": "event_dt",
}

VISITORS = Table(
    namespace="gold",
    name="visitors",
    description="One row a visitor: all visits together, and where the first one came from.",
    columns=(
        Column("user_id_hash", S, "Pseudonymous visitor.", required=True, sensitivity="personal"),
        Column("cohort_dt", D, "Day of the first visit, UTC.", required=True),
        Column("first_seen_ts", TIMESTAMP, "Start of the first visit, UTC.", required=True),
        Column("last_seen_ts", TIMESTAMP, "Last event of the visit that ended last, UTC.", required=True),
        Column("first_session_id", S, "The first visit.", required=True, sensitivity="personal"),
        Column("first_channel", S, f"{_FIRST}: default channel group by GA4's rules."),
        Column("first_utm_source", S, f"{_FIRST}: campaign parameter utm_source."),
        Column("first_utm_medium", S, f"{_FIRST}: campaign parameter utm_medium."),
        Column("first_utm_campaign", S, f"{_FIRST}: campaign parameter utm_campaign."),
        Column("first_referrer", S, f"{_FIRST}: page before.", sensitivity="personal"),
        Column("landing_page_url", S, f"{_FIRST}: first page.", sensitivity="personal"),
        Column("first_country", S, f"{_FIRST}: ISO 3166-1 alpha-2 country."),
        Column("first_device", S, f"{_FIRST}: class of the client."),
        Column("first_ab_variant", S, f"{_FIRST}: experiment variant."),
        Column("visits", I, "Visits.", required=True, minimum=1),
        _count("engaged_visits", "Engaged visits."),
        _count("page_views", "Page views."),
        _count("comparison_views", "Page views of comparison pages."),
        _count("interactions", "Chart interactions."),
        _count("clicks", "Affiliate clicks."),
        _cents("payout_cents", "Expected payout of the clicks, cents."),
    ),
    partition_by=("cohort_dt",),
    key=("user_id_hash",),
    day_column="cohort_dt",
    sort_by=("user_id_hash",),
    owner=_GROWTH,
    # A visitor who returns rewrites a file of the cohort.
    rows_per_file=20_000,
    upstream=_SESSIONS,
    made_from=_USE_FROM
    | {name: _of(_SESSIONS, column) for name, column in _FIRST_FROM.items()}
    | {"last_seen_ts": _of(_SESSIONS, "session_end_ts"), "engaged_visits": _of(_SESSIONS, "engaged")},
)
