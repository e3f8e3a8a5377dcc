"""What rows of facts and marts are joined with by name: products, affiliate links, campaigns, dates."""

from __future__ import annotations

from chart_platform.contracts.tables.declare import TEXTS, TIMESTAMP, B, Column, D, I, S, Table
from chart_platform.contracts.tables.marts import CAMPAIGN

_GROWTH, _REVENUE = "growth@chart-platform.example", "revenue@chart-platform.example"
_PERFORMANCE = "gold.affiliate_performance_daily"
_LINK_CHANGES = "bronze.link_changes"

_LINK = (
    Column("product_id", S, "Product that the link sells."),
    Column("network", S, "Network that pays."),
    Column("target", S, "Where the redirect leads, without the click id."),
    Column("payout_cents", I, "Expected payout of a click, cents.", sensitivity="financial", minimum=0),
    Column(
        "position", I, "Place on the chart by the registry, from 1 at the top; null where it doesn't say.", minimum=1
    ),
)

LINK_CHANGES = Table(
    namespace="bronze",
    name="link_changes",
    description="What each change of the link registry changed, as the platform saw it. Immutable.",
    columns=(
        Column("affiliate_link_id", S, "Link.", required=True),
        Column("as_of", TIMESTAMP, "When the platform first saw the change, UTC.", required=True),
        Column(
            "change",
            S,
            "upsert (new or changed) or delete (gone from the registry; the attributes are its last).",
            required=True,
            allowed=("upsert", "delete"),
        ),
        *_LINK,
        Column("as_of_dt", D, "Day of as_of, UTC.", required=True),
    ),
    partition_by=("as_of_dt",),
    key=("affiliate_link_id", "as_of"),
    day_column="as_of_dt",
    sort_by=("affiliate_link_id", "as_of"),
    owner=_REVENUE,
)

LINK_STATES: tuple[str, ...] = ("registered", "retired", "unknown")

DIM_AFFILIATE_LINK = Table(
    namespace="gold",
    name="dim_affiliate_link",
    description=(
        "SCD2: what the registry said of a link from when to when. Links that clicks name and no registry ever did have a row "
        "of state unknown. At any time every link has one row, so joins by time lose no click."
    ),
    columns=(
        Column("affiliate_link_id", S, "Link.", required=True),
        *_LINK,
        Column("target_host", S, "Host of the target."),
        Column(
            "state",
            S,
            "Of the link as it is now: registered, retired (gone from the registry), unknown (never there).",
            required=True,
            allowed=LINK_STATES,
        ),
        Column("retired_at", TIMESTAMP, "When the version was seen to be gone from the registry, UTC; null otherwise."),
        Column("first_click_dt", D, "Day of the link's first click or conversion, UTC; null without any."),
        Column("last_click_dt", D, "Day of the link's last click or conversion, UTC; null without any."),
        Column("clicks", I, "Affiliate clicks of the link, ever.", required=True, minimum=0),
        Column(
            "valid_from",
            TIMESTAMP,
            "When the version was first seen, UTC, inclusive; 1970-01-01 of the first one, as clicks may be older.",
            required=True,
        ),
        Column("valid_to", TIMESTAMP, "When the next version was first seen, UTC, exclusive; null of the last one."),
        Column("is_current", B, "Whether it is the last version: each link has one.", required=True),
    ),
    partition_by=("is_current",),
    key=("affiliate_link_id", "valid_from"),
    sort_by=("affiliate_link_id", "valid_from"),
    owner=_REVENUE,
    upstream=_LINK_CHANGES,
    made_from={
        "affiliate_link_id": [(_LINK_CHANGES, "affiliate_link_id"), (_PERFORMANCE, "affiliate_link_id")],
        "network": [(_LINK_CHANGES, "network"), (_PERFORMANCE, "network")],
        "target_host": [(_LINK_CHANGES, "target")],
        "state": [(_LINK_CHANGES, "change"), (_PERFORMANCE, "affiliate_link_id")],
        "retired_at": [(_LINK_CHANGES, "change"), (_LINK_CHANGES, "as_of")],
        "first_click_dt": [(_PERFORMANCE, "event_dt")],
        "last_click_dt": [(_PERFORMANCE, "event_dt")],
        "clicks": [(_PERFORMANCE, "clicks")],
        **{name: [(_LINK_CHANGES, "as_of")] for name in ("valid_from", "valid_to", "is_current")},
    },
)

_DIM_LINK = "gold.dim_affiliate_link"

DIM_PRODUCT = Table(
    namespace="gold",
    name="dim_product",
    description="One row a product that the link registry names or has named.",
    columns=(
        Column("product_id", S, "Product.", required=True),
        Column("state", S, "registered while a link of it is, else retired.", required=True, allowed=LINK_STATES[:2]),
        Column("networks", TEXTS, "Networks of its links as they are now, sorted; of a retired product, its last.", required=True),
        Column("links", I, "Links of it in the registry.", required=True, minimum=0),
        Column("lowest_payout_cents", I, "Smallest expected payout of a click on one of its links, cents.",
               sensitivity="financial", minimum=0),
        Column("highest_payout_cents", I, "Largest expected payout of a click on one of its links, cents.",
               sensitivity="financial", minimum=0),
        Column("first_click_dt", D, "Day of the first click or conversion of its links, UTC; null without any."),
        Column("last_click_dt", D, "Day of the last click or conversion of its links, UTC; null without any."),
        Column("clicks", I, "Affiliate clicks of its links, ever.", required=True, minimum=0),
    ),
    partition_by=("state",),
    key=("product_id",),
    sort_by=("product_id",),
    owner=_REVENUE,
    upstream=_DIM_LINK,
    made_from={
        "networks": [(_DIM_LINK, "network")],
        "links": [(_DIM_LINK, "affiliate_link_id"), (_DIM_LINK, "state")],
        "lowest_payout_cents": [(_DIM_LINK, "payout_cents")],
        "highest_payout_cents": [(_DIM_LINK, "payout_cents")],
    },
)  # fmt: skip

_CAMPAIGNS = "gold.campaign_daily"

DIM_CAMPAIGN = Table(
    namespace="gold",
    name="dim_campaign",
    description="One row a combination of channel, source, medium and campaign that brought a visit.",
    columns=(
        Column("campaign_key", S, "md5 of channel, source, medium and campaign, each ended by a line feed, in hex.", required=True),
        *CAMPAIGN,
        Column("is_tagged", B, "Whether it carries a campaign name, so that somebody set it up.", required=True),
        Column("first_seen_dt", D, "Day of the first visit, UTC.", required=True),
        Column("last_seen_dt", D, "Day of the last visit, UTC.", required=True),
        Column("visits", I, "Visits, ever.", required=True, minimum=1),
    ),
    partition_by=("channel",),
    key=("campaign_key",),
    sort_by=("source", "medium", "campaign"),
    owner=_GROWTH,
    upstream=_CAMPAIGNS,
    made_from={
        "campaign_key": [(_CAMPAIGNS, column.name) for column in CAMPAIGN],
        "is_tagged": [(_CAMPAIGNS, "campaign")],
        "first_seen_dt": [(_CAMPAIGNS, "event_dt")],
        "last_seen_dt": [(_CAMPAIGNS, "event_dt")],
    },
)  # fmt: skip

_CALENDAR = (
    Column("date_dt", D, "Day.", required=True),
    Column("year", I, "Year.", required=True),
    Column("quarter", I, "Quarter, 1 to 4.", required=True, minimum=1),
    Column("month", I, "Month, 1 to 12.", required=True, minimum=1),
    Column("month_name", S, "Month, in English.", required=True),
    Column("month_start_dt", D, "First day of the month.", required=True),
    Column("quarter_start_dt", D, "First day of the quarter.", required=True),
    Column("iso_year", I, "Year that the ISO week belongs to.", required=True),
    Column("iso_week", I, "ISO week, 1 to 53.", required=True, minimum=1),
    Column("week_start_dt", D, "Monday of the week.", required=True),
    Column("day_of_month", I, "Day of the month, from 1.", required=True, minimum=1),
    Column("day_of_year", I, "Day of the year, from 1.", required=True, minimum=1),
    Column("weekday", I, "Day of the week, 1 (Monday) to 7.", required=True, minimum=1),
    Column("weekday_name", S, "Day of the week, in English.", required=True),
    Column("is_weekend", B, "Saturday or Sunday.", required=True),
)

DIM_DATE = Table(
    namespace="gold",
    name="dim_date",
    description="One row a day of every year in which a visit or conversion was, with its place in the calendar (ISO 8601, UTC).",
    columns=_CALENDAR,
    partition_by=("year",),
    key=("date_dt",),
    sort_by=("date_dt",),
    owner=_GROWTH,
    upstream="silver.sessions",
    made_from={c.name: [("silver.sessions", "event_dt"), ("gold.fact_conversions", "event_dt")] for c in _CALENDAR},
)
