"""The other half of the money: what affiliate networks report, and how it agrees with the clicks."""

from __future__ import annotations

import pyarrow as pa

from chart_platform.contracts.tables.declare import PRODUCT, TIMESTAMP, VARIANT, Column, D, I, S, Table, struct

CONVERSION_STATUSES: tuple[str, ...] = ("pending", "approved", "paid", "reversed")
"""What a network says of a conversion, in our words."""

_RECEIVED = (
    Column("file_hash", S, "sha256 of the file's bytes: a file is taken in once, whatever its name.", required=True),
    Column("file", S, "Name of the file in the drop folder, as first seen.", required=True),
    Column("received_at", TIMESTAMP, "When the file was taken in, UTC.", required=True),
    Column("received_dt", D, "Day of received_at, UTC.", required=True),
)
_PLACE = (
    Column(
        "record", I, "Number of the record in the file, from 1; 0 for the file as a whole.", required=True, minimum=0
    ),
    Column("line", I, "Line of the file on which the record starts, from 1.", required=True, minimum=0),
)
_NETWORK = Column("network", S, "Affiliate network.", required=True)
_TRANSACTION = Column("transaction_id", S, "The network's own id of the conversion.", required=True)
_STATUS = Column(
    "status",
    S,
    "State of the conversion: pending, approved, paid or reversed.",
    required=True,
    allowed=CONVERSION_STATUSES,
)
_SUB_ID = Column("click_id", S, "The sub-id that the network gives back: our click_id.")
_CURRENCY = Column("currency", S, "ISO 4217 code; nothing is ever converted.", required=True)
_SALE = Column(
    "sale_amount_cents",
    I,
    "What the customer paid, hundredths of the currency's unit; null when not told.",
    sensitivity="financial",
)
_COMMISSION = Column(
    "commission_cents",
    I,
    "Commission as the network states it, hundredths of the currency's unit; negative when it is taken back.",
    required=True,
    sensitivity="financial",
)

CONVERSION_FILES = Table(
    namespace="bronze",
    name="conversion_files",
    description="Every file of conversions that was taken in, with what became of its records.",
    columns=(
        *_RECEIVED,
        Column("network", S, "Network whose folder the file was in; null for a folder that no mapping names."),
        Column("mapping_hash", S, "sha256 of the mapping that the file was read by.", required=True),
        Column("bytes", I, "Size of the file, bytes.", required=True, minimum=0),
        Column("modified_at", TIMESTAMP, "When the file was last written, UTC.", required=True),
        Column("reports", I, "Records in bronze.conversion_reports.", required=True, minimum=0),
        Column("rejects", I, "Records in bronze.conversion_rejects.", required=True, minimum=0),
    ),
    partition_by=("received_dt",),
    key=("file_hash",),
    day_column="received_dt",
    sort_by=("received_at", "file_hash"),
)

CONVERSION_REPORTS = Table(
    namespace="bronze",
    name="conversion_reports",
    description="Every record of the affiliate networks' reports and postbacks as received, one row a record. Immutable.",
    columns=(
        _NETWORK,
        _TRANSACTION,
        _SUB_ID,
        _STATUS,
        Column("network_status", S, "The state in the network's own word.", required=True),
        Column("event_ts", TIMESTAMP, "When the conversion happened, by the network, UTC.", required=True),
        Column("updated_ts", TIMESTAMP, "When the network last changed it, UTC; null where it doesn't say."),
        _CURRENCY,
        _SALE,
        _COMMISSION,
        *_RECEIVED,
        *_PLACE,
        Column("raw", S, "The record, as it stands in the file.", required=True, sensitivity="personal"),
    ),
    partition_by=("received_dt",),
    key=("file_hash", "record"),
    day_column="received_dt",
    sort_by=("file_hash", "record"),
)

CONVERSION_REJECTS = Table(
    namespace="bronze",
    name="conversion_rejects",
    description="Every record, or whole file, of conversions that could not be read, with its text and every reason.",
    columns=(
        Column("network", S, "Network whose folder the file was in; null for a folder that no mapping names."),
        *_RECEIVED,
        *_PLACE,
        Column(
            "reasons",
            pa.list_(struct(code=S, column=S, message=S)),
            "Every reason: stable code, the network's column, text for people.",
            required=True,
            sensitivity="personal",
        ),
        Column(
            "raw", S, "The record, as it stands in the file; its first line for a whole file.", sensitivity="personal"
        ),
    ),
    partition_by=("received_dt",),
    key=("file_hash", "record"),
    day_column="received_dt",
    sort_by=("file_hash", "record"),
)

CONVERSION_MATCHES: tuple[str, ...] = ("matched", "no_click_id", "unknown_click", "ambiguous")
_CLICK_DT = Column("click_dt", D, "Event day of the click, UTC.")

FACT_CONVERSIONS = Table(
    namespace="gold",
    name="fact_conversions",
    description="One row a conversion: its latest state by the network's own clock, its history, and the click it came from.",
    columns=(
        _NETWORK,
        _TRANSACTION,
        _STATUS,
        Column("event_ts", TIMESTAMP, "When the conversion happened, by the network, UTC.", required=True),
        Column("updated_ts", TIMESTAMP, "When the network last changed it, UTC; null where it doesn't say."),
        _CURRENCY,
        _SALE,
        _COMMISSION,
        Column(
            "due_cents",
            I,
            "Commission that the latest state grants: that of the state, 0 once reversed.",
            required=True,
            sensitivity="financial",
        ),
        Column(
            "reversed_cents",
            I,
            "Commission lost by a reversal: the largest amount ever stated, regardless of sign; 0 if not reversed.",
            required=True,
            sensitivity="financial",
            minimum=0,
        ),
        _SUB_ID,
        Column(
            "match",
            S,
            "matched; no_click_id (none reported); unknown_click (none of this network in the window); ambiguous (several).",
            required=True,
            allowed=CONVERSION_MATCHES,
        ),
        Column("click_event_id", S, "Event id of the click; null unless matched."),
        _CLICK_DT,
        Column("click_ts", TIMESTAMP, "When the click happened, UTC."),
        Column("affiliate_link_id", S, "Link of the click. Of ambiguous clicks: what all of them share."),
        PRODUCT,
        Column(
            "expected_payout_cents",
            I,
            "Payout that the click expected, cents of the registry's currency.",
            sensitivity="financial",
            minimum=0,
        ),
        Column("session_id", S, "Visit of the click.", sensitivity="personal"),
        VARIANT,
        Column("first_seen_at", TIMESTAMP, "When the first report of it was received, UTC.", required=True),
        Column("last_seen_at", TIMESTAMP, "When the report of its latest state was received, UTC.", required=True),
        Column("reports", I, "Reports received of it.", required=True, minimum=1),
        Column(
            "history",
            pa.list_(
                struct(status=S, commission_cents=I, sale_amount_cents=I, updated_ts=TIMESTAMP, received_at=TIMESTAMP)
            ),
            "Its states in order, one entry a change; the last one is the row's own.",
            required=True,
            sensitivity="financial",
        ),
        Column("event_dt", D, "Day of the conversion, UTC.", required=True),
    ),
    partition_by=("event_dt",),
    key=("network", "transaction_id"),
    day_column="event_dt",
    sort_by=("network", "transaction_id"),
    owner="revenue@chart-platform.example",
    rows_per_file=100_000,
    upstream="bronze.conversion_reports",
    made_from={
        "due_cents": [("bronze.conversion_reports", "commission_cents"), ("bronze.conversion_reports", "status")],
        "reversed_cents": [("bronze.conversion_reports", "commission_cents"), ("bronze.conversion_reports", "status")],
        "match": [
            ("bronze.conversion_reports", "click_id"),
            ("gold.fact_affiliate_clicks", "click_id"),
            ("gold.fact_affiliate_clicks", "affiliate_network"),
        ],
        "click_event_id": [("gold.fact_affiliate_clicks", "event_id")],
        "click_dt": [("gold.fact_affiliate_clicks", "event_dt")],
        "click_ts": [("gold.fact_affiliate_clicks", "ts")],
        "product_id": [("gold.fact_affiliate_clicks", "affiliate_link_id")],
        "expected_payout_cents": [("gold.fact_affiliate_clicks", "payout_cents")],
        **{name: [("gold.fact_affiliate_clicks", name)] for name in ("affiliate_link_id", "session_id", "ab_variant")},
        "first_seen_at": [("bronze.conversion_reports", "received_at")],
        "last_seen_at": [("bronze.conversion_reports", "received_at")],
        "reports": [("bronze.conversion_reports", "record")],
        "history": [
            ("bronze.conversion_reports", name)
            for name in ("status", "commission_cents", "sale_amount_cents", "updated_ts", "received_at")
        ],
        "event_dt": [("bronze.conversion_reports", "event_ts")],
    },
)

CONVERSION_EXPLANATIONS: tuple[str, ...] = (
    "agrees",
    "amount_differs",
    "other_currency",
    "reversed",
    "not_reported",
    "untrusted_click",
    "duplicate_click_id",
    "no_click_id",
    "unknown_click",
)

CONVERSION_RECONCILIATION = Table(
    namespace="gold",
    name="conversion_reconciliation",
    description=(
        "Clicked, reported, paid: every click of a day and every conversion, each in one row, with why the expected and "
        "the reported money differ. Conversions count on the day of their click, without one on their own."
    ),
    columns=(
        Column("network", S, "Affiliate network; (unknown) for clicks of links that no registry knew.", required=True),
        Column("affiliate_link_id", S, "Link; (unknown) for conversions without one known click.", required=True),
        PRODUCT,
        Column(
            "currency",
            S,
            "Currency of the reported amounts; of clicks without a report, the registry's.",
            required=True,
        ),
        Column(
            "explanation",
            S,
            "Why: agrees, amount_differs, other_currency, reversed, not_reported (yet), untrusted_click (not reported, and "
            "nothing vouches for the click), duplicate_click_id, no_click_id, unknown_click.",
            required=True,
            allowed=CONVERSION_EXPLANATIONS,
        ),
        Column("clicks", I, "Affiliate clicks.", required=True, minimum=0),
        Column(
            "expected_cents",
            I,
            "Payout that the clicks expected, cents of the registry's currency.",
            required=True,
            sensitivity="financial",
        ),
        Column("conversions", I, "Conversions reported.", required=True, minimum=0),
        *(
            Column(f"{status}_cents", I, f"Commission {what}, hundredths.", required=True, sensitivity="financial")
            for status, what in (
                ("pending", "still pending"),
                ("approved", "approved and not yet paid"),
                ("paid", "paid"),
                ("reversed", "lost by reversals"),
            )
        ),
        Column(
            "difference_cents",
            I,
            "pending + approved + paid - expected; null where the currencies differ.",
            sensitivity="financial",
        ),
        Column("event_dt", D, "Day of the click, or of the conversion without one, UTC.", required=True),
    ),
    partition_by=("event_dt",),
    key=("event_dt", "network", "affiliate_link_id", "currency", "explanation"),
    day_column="event_dt",
    sort_by=("explanation", "network", "affiliate_link_id", "currency"),
    owner="revenue@chart-platform.example",
    rows_per_file=100_000,
    upstream="gold.fact_conversions",
    made_from={
        "network": [("gold.fact_affiliate_clicks", "affiliate_network"), ("gold.fact_conversions", "network")],
        "affiliate_link_id": [
            ("gold.fact_affiliate_clicks", "affiliate_link_id"),
            ("gold.fact_conversions", "affiliate_link_id"),
        ],
        "product_id": [("gold.fact_affiliate_clicks", "affiliate_link_id")],
        "explanation": [
            ("gold.fact_affiliate_clicks", "click_id"),
            ("gold.fact_affiliate_clicks", "affiliate_context"),
            ("gold.fact_affiliate_clicks", "payout_cents"),
            ("gold.fact_conversions", "match"),
            ("gold.fact_conversions", "status"),
            ("gold.fact_conversions", "due_cents"),
        ],
        "clicks": [("gold.fact_affiliate_clicks", "event_id")],
        "expected_cents": [("gold.fact_affiliate_clicks", "payout_cents")],
        "conversions": [("gold.fact_conversions", "transaction_id")],
        **{
            f"{name}_cents": [("gold.fact_conversions", "due_cents"), ("gold.fact_conversions", "status")]
            for name in ("pending", "approved", "paid")
        },
        "reversed_cents": [("gold.fact_conversions", "reversed_cents")],
        "difference_cents": [("gold.fact_conversions", "due_cents"), ("gold.fact_affiliate_clicks", "payout_cents")],
        "event_dt": [
            ("gold.fact_conversions", "click_dt"),
            ("gold.fact_conversions", "event_dt"),
            ("gold.fact_affiliate_clicks", "event_dt"),
        ],
    },
)
