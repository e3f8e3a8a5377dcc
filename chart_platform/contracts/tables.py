"""Every table of the lakehouse, declared once: columns, types, meaning, partitioning and allowed values.

Belongs here: the declarations, and the Arrow schema of each. Iceberg tables are created from it
(``lakehouse.catalog``), Pandera schemas from its checks (``quality.schemas``), dbt contracts are tested against it.
Does not belong here: SQL, I/O, or how a table is filled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from chart_platform.contracts.events import event_schema

Sensitivity = Literal["public", "internal", "personal", "financial"]

# Iceberg keeps microseconds; the platform's clock is milliseconds, and what it writes is truncated to them.
TIMESTAMP = pa.timestamp("us")
TEXTS = pa.list_(pa.string())
EVENT_TYPES: tuple[str, ...] = tuple(event_schema()["properties"]["event_type"]["enum"])


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``required`` is NOT NULL; ``allowed`` lists its values, ``minimum`` bounds a number from below."""

    name: str
    type: pa.DataType
    description: str
    required: bool = False
    sensitivity: Sensitivity = "internal"
    allowed: tuple[str, ...] | None = None
    minimum: int | None = None


@dataclass(frozen=True)
class Table:
    """A table: ``key`` names the columns that identify a row, ``partition_by`` its identity partition columns,
    ``sort_by`` the order of rows in a file, ``day_column`` the date column that a Dagster partition selects.
    ``rows_per_file`` bounds what a change of one row rewrites, so it is smaller where rows of the day still change."""

    namespace: str
    name: str
    description: str
    columns: tuple[Column, ...]
    partition_by: tuple[str, ...]
    key: tuple[str, ...]
    day_column: str | None = None
    sort_by: tuple[str, ...] = ()
    owner: str = "data-platform@chart-platform.example"
    rows_per_file: int = 500_000
    arrow: pa.Schema = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fields = [pa.field(c.name, c.type, nullable=not c.required) for c in self.columns]
        object.__setattr__(self, "arrow", pa.schema(fields))

    @property
    def full_name(self) -> str:
        return f"{self.namespace}.{self.name}"

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)


def _struct(**fields: pa.DataType) -> pa.DataType:
    return pa.struct([pa.field(name, kind) for name, kind in fields.items()])


S, I, D, B = pa.string(), pa.int64(), pa.date32(), pa.bool_()  # noqa: E741

_KAFKA = (
    Column("kafka_partition", pa.int32(), "Kafka partition the message came from.", required=True, minimum=0),
    Column("kafka_offset", I, "Offset of the message in its Kafka partition.", required=True, minimum=0),
    Column("kafka_ts", TIMESTAMP, "When the broker appended the message, UTC.", required=True),
)
_INGEST_DT = Column(
    "ingest_dt",
    D,
    "Day of ingestion, UTC: the day that owns the message's offset range, not its own clock.",
    required=True,
)

BRONZE_EVENTS = Table(
    namespace="bronze",
    name="events",
    description="Every valid message of the topic, as sent, one row a message (retries and duplicates included). Immutable.",
    columns=(
        Column("schema_version", S, "Contract version the sender wrote to."),
        Column("event_type", S, "What happened.", required=True, allowed=EVENT_TYPES),
        Column("event_id", S, "Identity of the event, fixed at its creation; a retry keeps it.", required=True),
        Column("ts", TIMESTAMP, "When it happened by the client clock, UTC, milliseconds.", required=True),
        Column(
            "ingest_ts", I, "When it was first received, epoch ms: the edge's stamp, else the broker's.", required=True
        ),
        Column("source", S, "Kind of client: web, ios, android, desktop, server."),
        Column(
            "privacy",
            _struct(analytics=B, ads=B, source_ip_anonymized=S, gpc=B),
            "Consent in force and the truncated address; from user.consent where the edge added none.",
            sensitivity="personal",
        ),
        Column(
            "user", _struct(user_id_hash=S, geo_country=S), "Pseudonymous visitor and country.", sensitivity="personal"
        ),
        Column(
            "session",
            _struct(session_id=S, utm=_struct(source=S, medium=S, campaign=S, term=S, content=S)),
            "Visit and its campaign parameters.",
            sensitivity="personal",
        ),
        Column(
            "ctx",
            _struct(page_url=S, referrer=S, locale=S, user_agent=S, ab_variant=S, device=S, browser=S, os=S),
            "Page, client and experiment variant.",
            sensitivity="personal",
        ),
        Column("chart", _struct(product_ids=TEXTS, action=S, control_id=S, control_value=S), "Chart interaction."),
        Column(
            "affiliate",
            _struct(link_id=S, target=S, payout_cents=I, position=I, network=S, context=S),
            "Affiliate click; payout in cents.",
            sensitivity="financial",
        ),
        Column(
            "metadata",
            _struct(sdk_version=S, experiment_keys=TEXTS, schema_hash=S, key_id=S, replayed_from=S),
            "About the sender.",
        ),
        Column("sent_at", TIMESTAMP, "When this attempt was sent by the client clock, UTC."),
        Column("seq", I, "Counter of events in the session.", minimum=0),
        Column("page_view_id", S, "Ties interactions and clicks to their page view."),
        Column("click_id", S, "Identity of the click handed to the affiliate network."),
        Column("extra", S, "JSON of members that the contract allows and no column holds; null when there are none."),
        *_KAFKA,
        _INGEST_DT,
        Column("hour", S, "Hour (00-23) of kafka_ts, UTC.", required=True),
    ),
    partition_by=("event_type", "ingest_dt", "hour"),
    key=("kafka_partition", "kafka_offset"),
    day_column="ingest_dt",
    sort_by=("kafka_partition", "kafka_offset"),
)

BRONZE_DEAD_LETTERS = Table(
    namespace="bronze",
    name="dead_letters",
    description="Every message that is no event, with its bytes and every reason. bronze.events plus this is the topic.",
    columns=(
        Column(
            "source",
            S,
            "Who refused it: stream (validation on ingestion) or edge (the collector).",
            required=True,
            allowed=("stream", "edge"),
        ),
        Column("topic", S, "Kafka topic of the message.", required=True),
        *_KAFKA,
        Column("message_key", pa.binary(), "Kafka key of the message, as bytes.", sensitivity="personal"),
        Column(
            "raw", pa.binary(), "The message, byte for byte; null for a message without value.", sensitivity="personal"
        ),
        Column(
            "reasons",
            pa.list_(_struct(code=S, pointer=S, message=S)),
            "Every reason: stable code, JSON pointer, text for people.",
            required=True,
            sensitivity="personal",
        ),
        Column("schema_version", S, "Contract version that refused it.", required=True),
        Column("origin", S, "File and line, for messages of `chart-platform load`."),
        Column("headers", S, "JSON of the message headers: attempt and replay lineage."),
        _INGEST_DT,
    ),
    partition_by=("ingest_dt",),
    key=("topic", "kafka_partition", "kafka_offset"),
    day_column="ingest_dt",
    sort_by=("kafka_partition", "kafka_offset"),
)

_EVENT_DT = Column("event_dt", D, "Event day, UTC.", required=True)
_USER = Column("user_id_hash", S, "Pseudonymous visitor.", sensitivity="personal")
_VARIANT = Column("ab_variant", S, "Experiment variant.")
_COUNTRY = Column("geo_country", S, "ISO 3166-1 alpha-2 country.")
UTM: tuple[str, ...] = tuple(event_schema()["properties"]["session"]["properties"]["utm"]["properties"])
_CLICK = (
    Column("click_id", S, "Identity of the click handed to the affiliate network as its sub-id."),
    Column("affiliate_network", S, "Network that pays for the link."),
    Column("affiliate_position", I, "Place of the link on the chart, from 1 at the top.", minimum=0),
    Column(
        "affiliate_context",
        S,
        "What vouches for visit, page view, variant and position of a redirected click: signed, expired, invalid or "
        "absent; null for a click that did not come by the redirect.",
    ),
)
_PAYOUT = Column("payout_cents", I, "Expected affiliate payout, cents.", sensitivity="financial", minimum=0)

SILVER_EVENTS = Table(
    namespace="silver",
    name="events",
    description="One row an event: deduplicated on event_id within its day (first received wins), flattened, empty text is null.",
    columns=(
        Column("event_id", S, "Identity of the event.", required=True),
        Column("event_type", S, "What happened.", required=True, allowed=EVENT_TYPES),
        Column("ts", TIMESTAMP, "When it happened by the client clock, UTC, milliseconds.", required=True),
        Column("ingest_ts", I, "When it was first received, epoch ms.", required=True),
        Column("session_id", S, "Visit as sent; null when the client had none.", sensitivity="personal"),
        _USER,
        _COUNTRY,
        Column("page_url", S, "Page.", sensitivity="personal"),
        Column("referrer", S, "Page before, by the browser.", sensitivity="personal"),
        Column("locale", S, "BCP 47 locale."),
        Column("user_agent", S, "User agent as sent.", sensitivity="personal"),
        _VARIANT,
        Column("chart_action", S, "toggle, sort, filter, compare_expand or compare_collapse."),
        Column("chart_control_id", S, "Control that was used."),
        Column("chart_control_value", S, "Value it was set to, as text."),
        Column("product_ids", TEXTS, "Products on the chart."),
        Column("affiliate_link_id", S, "Link that was followed."),
        Column("affiliate_target", S, "Where the link leads."),
        _PAYOUT,
        Column("source", S, "Kind of client."),
        Column("schema_version", S, "Contract version of the sender."),
        Column("source_ip_anonymized", S, "Truncated address.", sensitivity="personal"),
        Column("page_view_id", S, "Ties interactions and clicks to their page view."),
        Column("seq", I, "Counter of events in the session.", minimum=0),
        *(Column(f"utm_{name}", S, f"Campaign parameter utm_{name}.") for name in UTM),
        Column("device", S, "Class of the client: desktop, mobile, tablet, tv, bot or other."),
        Column("browser", S, "Browser family."),
        Column("os", S, "Operating system family."),
        Column("experiment_keys", TEXTS, "Experiments the event was exposed to."),
        Column("ads_consent", B, "Consent to advertising; null when it was not told."),
        *_CLICK,
        Column("key_id", S, "Public id of the write key it came with."),
        Column("replayed_from", S, "topic/partition/offset of the dead letter it was replayed from."),
        _EVENT_DT,
        Column("event_hour", S, "Hour (00-23) of ts, UTC.", required=True),
    ),
    partition_by=("event_dt", "event_hour", "event_type"),
    key=("event_id", "event_dt"),
    day_column="event_dt",
    # In order of arrival: sorting rows this wide costs as much as reading them, and queries prune by partition.
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
        _USER,
        Column("session_start_ts", TIMESTAMP, "First event, UTC.", required=True),
        Column("session_end_ts", TIMESTAMP, "Last event, UTC.", required=True),
        Column("pageviews", pa.int32(), "Page views.", required=True, minimum=0),
        Column("chart_interactions", pa.int32(), "Chart interactions.", required=True, minimum=0),
        Column("affiliate_clicks", pa.int32(), "Affiliate clicks.", required=True, minimum=0),
        Column("first_page_url", S, "First page.", sensitivity="personal"),
        Column("last_page_url", S, "Last page.", sensitivity="personal"),
        _VARIANT,
        _COUNTRY,
        Column("event_dt", D, "Day of the first event, UTC.", required=True),
    ),
    partition_by=("event_dt",),
    key=("session_id", "session_start_ts"),
    day_column="event_dt",
    sort_by=("session_start_ts", "session_id"),
    rows_per_file=100_000,
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
)

FACT_FUNNEL = Table(
    namespace="gold",
    name="fact_funnel",
    description="One row a visit: did it see a comparison, use the chart, leave through an affiliate link, and for what payout.",
    columns=(
        Column("session_id", S, "Visit.", required=True, sensitivity="personal"),
        _USER,
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
        _VARIANT,
        _COUNTRY,
        Column("event_dt", D, "Day of the visit's first event, UTC.", required=True),
    ),
    partition_by=("event_dt",),
    key=("session_id", "session_start_ts"),
    day_column="event_dt",
    sort_by=("session_start_ts", "session_id"),
    rows_per_file=100_000,
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
        _USER,
        Column("affiliate_link_id", S, "Link."),
        Column("affiliate_target", S, "Where it leads."),
        _PAYOUT,
        _VARIANT,
        _COUNTRY,
        Column("page_view_id", S, "Page view that the click was made on."),
        *_CLICK,
        _EVENT_DT,
    ),
    partition_by=("event_dt",),
    key=("event_id", "event_dt"),
    day_column="event_dt",
    sort_by=("ts", "event_id"),
)

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
            pa.list_(_struct(code=S, column=S, message=S)),
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
_PRODUCT = Column("product_id", S, "Product of the link, by the link registry.")
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
        _PRODUCT,
        Column(
            "expected_payout_cents",
            I,
            "Payout that the click expected, cents of the registry's currency.",
            sensitivity="financial",
            minimum=0,
        ),
        Column("session_id", S, "Visit of the click.", sensitivity="personal"),
        _VARIANT,
        Column("first_seen_at", TIMESTAMP, "When the first report of it was received, UTC.", required=True),
        Column("last_seen_at", TIMESTAMP, "When the report of its latest state was received, UTC.", required=True),
        Column("reports", I, "Reports received of it.", required=True, minimum=1),
        Column(
            "history",
            pa.list_(
                _struct(status=S, commission_cents=I, sale_amount_cents=I, updated_ts=TIMESTAMP, received_at=TIMESTAMP)
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
        _PRODUCT,
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
)

_PROFILE = (
    Column("crm_tier", S, "Tier that the CRM puts the customer in."),
    Column("country", S, "Country of the customer by the CRM, ISO 3166-1 alpha-2.", sensitivity="personal"),
    Column("signup_date", D, "Day of the customer's registration.", sensitivity="personal"),
    Column("marketing_email", B, "Whether marketing may write e-mail."),
    Column("marketing_ads", B, "Whether marketing may use the profile for advertising."),
)
_PROFILE_UPDATED = Column("updated_at", TIMESTAMP, "When the source last changed the profile, UTC.")

PROFILE_SNAPSHOTS = Table(
    namespace="bronze",
    name="profile_snapshots",
    description="Every look at the company's user profiles: what was found and what came of it.",
    columns=(
        Column("looked_at", TIMESTAMP, "When the platform looked, UTC.", required=True),
        Column("source", S, "Where: a PostgreSQL table or a file. No credentials.", required=True),
        Column("as_of", TIMESTAMP, "The moment that the source speaks of, UTC; null when it could not be read."),
        Column("snapshot_hash", S, "sha256 of the profiles, whatever their order; null when they could not be read."),
        Column(
            "outcome",
            S,
            "changed; same; outdated (a newer one was taken before); refused (columns or keys are wrong); unreachable.",
            required=True,
            allowed=("changed", "same", "outdated", "refused", "unreachable"),
        ),
        Column("profiles", I, "Profiles in the snapshot.", required=True, minimum=0),
        Column("upserted", I, "Profiles that are new or have changed.", required=True, minimum=0),
        Column("deleted", I, "Profiles that are gone.", required=True, minimum=0),
        Column("detail", S, "Why it was refused or could not be reached; columns that were ignored."),
        Column("looked_dt", D, "Day of looked_at, UTC.", required=True),
    ),
    partition_by=("looked_dt",),
    key=("looked_at", "source"),
    day_column="looked_dt",
    sort_by=("looked_at",),
)

PROFILE_CHANGES = Table(
    namespace="bronze",
    name="profile_changes",
    description="What each snapshot of the user profiles changed against the one before. Immutable; gold.dim_user is its fold.",
    columns=(
        Column("user_id_hash", S, "Pseudonymous visitor.", required=True, sensitivity="personal"),
        Column("as_of", TIMESTAMP, "Moment of the snapshot that has the change, UTC.", required=True),
        Column(
            "change",
            S,
            "upsert (new or changed) or delete (gone from the source).",
            required=True,
            allowed=("upsert", "delete"),
        ),
        *_PROFILE,
        _PROFILE_UPDATED,
        Column("as_of_dt", D, "Day of as_of, UTC.", required=True),
    ),
    partition_by=("as_of_dt",),
    key=("user_id_hash", "as_of"),
    day_column="as_of_dt",
    sort_by=("user_id_hash", "as_of"),
)

DIM_USER = Table(
    namespace="gold",
    name="dim_user",
    description="SCD2: what the company knew of a user from when to when. A deleted profile closes its row, a return opens one.",
    columns=(
        Column("user_id_hash", S, "Pseudonymous visitor.", required=True, sensitivity="personal"),
        *_PROFILE,
        _PROFILE_UPDATED,
        Column("valid_from", TIMESTAMP, "First snapshot with this state, UTC, inclusive.", required=True),
        Column("valid_to", TIMESTAMP, "First snapshot without it, UTC, exclusive; null while it lasts."),
        Column("is_current", B, "Whether the state lasts.", required=True),
    ),
    partition_by=("is_current",),
    key=("user_id_hash", "valid_from"),
    sort_by=("user_id_hash", "valid_from"),
)

TABLES: tuple[Table, ...] = (
    BRONZE_EVENTS,
    BRONZE_DEAD_LETTERS,
    SILVER_EVENTS,
    SILVER_SESSIONS,
    SILVER_USER_SEGMENTS,
    FACT_FUNNEL,
    FACT_AFFILIATE_CLICKS,
    CONVERSION_FILES,
    CONVERSION_REPORTS,
    CONVERSION_REJECTS,
    FACT_CONVERSIONS,
    CONVERSION_RECONCILIATION,
    PROFILE_SNAPSHOTS,
    PROFILE_CHANGES,
    DIM_USER,
)


def table(full_name: str) -> Table:
    """The declaration of ``namespace.name``. Raises ``KeyError`` naming the tables there are."""
    for declared in TABLES:
        if declared.full_name == full_name:
            return declared
    raise KeyError(f"No table {full_name!r}; there are {', '.join(t.full_name for t in TABLES)}.")
