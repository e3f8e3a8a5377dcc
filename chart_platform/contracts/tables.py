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
    sort_by=("session_id", "ts", "event_id"),
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

TABLES: tuple[Table, ...] = (
    BRONZE_EVENTS,
    BRONZE_DEAD_LETTERS,
    SILVER_EVENTS,
    SILVER_SESSIONS,
    SILVER_USER_SEGMENTS,
    FACT_FUNNEL,
    FACT_AFFILIATE_CLICKS,
)


def table(full_name: str) -> Table:
    """The declaration of ``namespace.name``. Raises ``KeyError`` naming the tables there are."""
    for declared in TABLES:
        if declared.full_name == full_name:
            return declared
    raise KeyError(f"No table {full_name!r}; there are {', '.join(t.full_name for t in TABLES)}.")
