"""Bronze and the one cleaned table of events: messages as they came, dead letters, silver.events."""

from __future__ import annotations

import pyarrow as pa

from chart_platform.contracts.tables.declare import (
    CLICK,
    COUNTRY,
    EVENT_DT,
    EVENT_TYPES,
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
    struct,
)

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
            struct(analytics=B, ads=B, source_ip_anonymized=S, gpc=B),
            "Consent in force and the truncated address; from user.consent where the edge added none.",
            sensitivity="personal",
        ),
        Column(
            "user", struct(user_id_hash=S, geo_country=S), "Pseudonymous visitor and country.", sensitivity="personal"
        ),
        Column(
            "session",
            struct(session_id=S, utm=struct(source=S, medium=S, campaign=S, term=S, content=S)),
            "Visit and its campaign parameters.",
            sensitivity="personal",
        ),
        Column(
            "ctx",
            struct(page_url=S, referrer=S, locale=S, user_agent=S, ab_variant=S, device=S, browser=S, os=S),
            "Page, client and experiment variant.",
            sensitivity="personal",
        ),
        Column("chart", struct(product_ids=TEXTS, action=S, control_id=S, control_value=S), "Chart interaction."),
        Column(
            "affiliate",
            struct(link_id=S, target=S, payout_cents=I, position=I, network=S, context=S),
            "Affiliate click; payout in cents.",
            sensitivity="financial",
        ),
        Column(
            "metadata",
            struct(sdk_version=S, experiment_keys=TEXTS, schema_hash=S, key_id=S, replayed_from=S),
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
            pa.list_(struct(code=S, pointer=S, message=S)),
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
        USER,
        COUNTRY,
        Column("page_url", S, "Page.", sensitivity="personal"),
        Column("referrer", S, "Page before, by the browser.", sensitivity="personal"),
        Column("locale", S, "BCP 47 locale."),
        Column("user_agent", S, "User agent as sent.", sensitivity="personal"),
        VARIANT,
        Column("chart_action", S, "toggle, sort, filter, compare_expand or compare_collapse."),
        Column("chart_control_id", S, "Control that was used."),
        Column("chart_control_value", S, "Value it was set to, as text."),
        Column("product_ids", TEXTS, "Products on the chart."),
        Column("affiliate_link_id", S, "Link that was followed."),
        Column("affiliate_target", S, "Where the link leads."),
        PAYOUT,
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
        *CLICK,
        Column("key_id", S, "Public id of the write key it came with."),
        Column("replayed_from", S, "topic/partition/offset of the dead letter it was replayed from."),
        EVENT_DT,
        Column("event_hour", S, "Hour (00-23) of ts, UTC.", required=True),
    ),
    partition_by=("event_dt", "event_hour", "event_type"),
    key=("event_id", "event_dt"),
    day_column="event_dt",
    # In order of arrival: sorting rows this wide costs as much as reading them, and queries prune by partition.
    upstream="bronze.events",
    made_from={
        "session_id": [("bronze.events", "session")],
        "user_id_hash": [("bronze.events", "user")],
        "geo_country": [("bronze.events", "user")],
        **{
            name: [("bronze.events", "ctx")]
            for name in ("page_url", "referrer", "locale", "user_agent", "ab_variant", "device", "browser", "os")
        },
        **{f"utm_{name}": [("bronze.events", "session")] for name in UTM},
        **{name: [("bronze.events", "metadata")] for name in ("experiment_keys", "key_id", "replayed_from")},
        **{f"affiliate_{name}": [("bronze.events", "affiliate")] for name in ("network", "position", "context")},
        "ads_consent": [("bronze.events", "privacy")],
        **{
            name: [("bronze.events", "chart")]
            for name in ("chart_action", "chart_control_id", "chart_control_value", "product_ids")
        },
        **{
            name: [("bronze.events", "affiliate")] for name in ("affiliate_link_id", "affiliate_target", "payout_cents")
        },
        "source_ip_anonymized": [("bronze.events", "privacy")],
        "event_dt": [("bronze.events", "ts")],
        "event_hour": [("bronze.events", "ts")],
    },
)
