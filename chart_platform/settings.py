"""The one typed settings object, read lazily from ``CHART_*`` environment variables.

Belongs here: names, types, defaults and the paths derived from ``CHART_HOME``.
Does not belong here: clients built from settings (see ``stream``, ``lakehouse``) or any I/O.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Every knob of the platform. ``CHART_HOME=/srv/chart`` sets :attr:`home`, and so on.

    Defaults run the whole platform on embedded parts: Kafka from ``CHART_HOME``, a SQLite Iceberg
    catalog, local files. Times are UTC, durations carry their unit in the name.
    """

    model_config = SettingsConfigDict(env_prefix="CHART_", extra="ignore")

    home: Path = Field(default=Path(".chart"), description="Where all state of this instance lives.")

    # Kafka. With no bootstrap servers the embedded broker of `home` is used.
    kafka_bootstrap_servers: str | None = Field(
        default=None,
        description="Another Kafka cluster, host:port,…; without it the embedded broker of `home` is used.",
    )
    kafka_port: int = Field(default=19092, description="Port of the embedded broker (controller: port + 1).")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How to talk to the cluster."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, description="SASL mechanism, with the SASL protocols."
    )
    kafka_sasl_username: str | None = Field(default=None, description="SASL user.")
    kafka_sasl_password: SecretStr | None = Field(default=None, description="SASL password.")
    kafka_ssl_ca_location: Path | None = Field(
        default=None, description="PEM file of the authority that signed the brokers."
    )
    kafka_topic: str = Field(default="chart.events", description="Topic of events.")
    kafka_dlq_topic: str = Field(default="chart.events.dlq", description="Topic of events that the edge refused.")
    kafka_partitions: int = Field(default=6, ge=1, description="Partitions of a topic that is created.")
    kafka_replication_factor: int = Field(default=1, ge=1, description="Copies of a topic that is created.")
    kafka_retention_hours: int = Field(
        default=24 * 14, ge=24 * 7, description="How long Kafka keeps messages: what a backfill of bronze can reach."
    )
    maven_repository_url: str = Field(
        default="https://repo.maven.apache.org/maven2", description="Where the jars of the embedded broker come from."
    )

    # Iceberg catalog and storage.
    catalog_type: Literal["sql", "glue"] = Field(
        default="sql", description="Iceberg catalog: SQLite (or another database) through SQLAlchemy, or AWS Glue."
    )
    catalog_uri: str | None = Field(default=None, description="SQL catalog only; default: SQLite in `home`.")
    warehouse: str | None = Field(default=None, description="file:// or s3:// root; default: `home`/warehouse.")
    namespace_prefix: str = Field(default="", description="Put before bronze/silver/gold, for shared catalogs.")
    aws_region: str = Field(default="us-east-1", description="Region of Glue and S3.")
    glue_endpoint: str | None = Field(default=None, description="Endpoint of Glue, if not that of AWS.")
    s3_endpoint: str | None = Field(default=None, description="Endpoint of S3, if not that of AWS.")

    # Exact path.
    first_day: date = Field(default=date(2020, 1, 1), description="First Dagster partition, and the oldest ts taken.")
    max_future_hours: int = Field(default=24, ge=0, description="A ts further ahead of the broker is dead-lettered.")
    batch_max_messages: int = Field(default=500_000, ge=1, description="Messages one run takes from Kafka at most.")
    duckdb_memory_limit: str = Field(
        default="2GB", description="Memory a DuckDB connection may take before it spills to `home`/tmp."
    )
    duckdb_threads: int = Field(default=2, ge=1, description="Threads of a DuckDB connection.")

    snapshot_retention_hours: int = Field(
        default=24, ge=1, description="How long replaced files and old snapshots stay readable."
    )

    # Model.
    comparison_path_segment: str = Field(
        default="compare", description="A page is a comparison page iff its path has it."
    )
    session_timeout_minutes: int = Field(
        default=30, ge=1, description="A derived visit ends after a silence longer than this."
    )
    session_cap_hours: int = Field(default=24, ge=1, description="Longest visit; what follows is a new one.")
    segment_rules: Path | None = Field(default=None, description="YAML of segment rules; default: the packaged one.")

    # Conversions: what affiliate networks report.
    conversions_drop: str | None = Field(
        default=None,
        description="Folder, local or s3://, with one folder a network for its reports; default: `home`/drop/conversions.",
    )
    conversions_networks: Path | None = Field(
        default=None, description="YAML of how each network writes its reports; default: the demo's."
    )
    conversions_click_window_days: int = Field(
        default=120, ge=1, description="A conversion is matched with clicks of so many days before it."
    )
    conversions_max_unmatched: float = Field(
        default=0.2, ge=0, le=1, description="Share of conversions without a click above which a check warns."
    )
    marts_interval_seconds: int = Field(default=60, ge=1, description="Marts follow gold at most so often, seconds.")
    marts_history_days: int = Field(
        default=30, ge=1, description="How many days before a mart's day its models can read, e.g. for attribution."
    )
    attribution_lookback_days: int = Field(
        default=30, ge=1, description="Visits that began so many days before a click, or fewer, are its touchpoints."
    )
    attribution_collapse: Literal["none", "consecutive", "unique"] = Field(
        default="none",
        description="Of neighbouring touchpoints of one channel only the last stays (consecutive), or of all of them (unique).",
    )
    attribution_half_life_days: float = Field(
        default=7.0,
        gt=0,
        description="Time decay halves a touchpoint's weight for each so many days before the last one.",
    )
    attribution_training_days: int = Field(
        default=30, ge=1, description="Days of journeys that weigh the channels, up to and with the day itself."
    )
    payout_currency: str = Field(
        default="USD", pattern="^[A-Z]{3}$", description="Currency of payouts in the link registry, ISO 4217."
    )

    # Experiments.
    experiments: Path | None = Field(default=None, description="YAML of the experiments; default: the demo's.")
    experiments_pre_days: int = Field(
        default=14, ge=0, le=90, description="Days before a visitor's exposure that CUPED takes account of."
    )

    # Company data: user profiles.
    profiles_dsn: SecretStr | None = Field(
        default=None, description="PostgreSQL with the user profiles; without it, files of `profiles_drop` are read."
    )
    profiles_table: str = Field(
        default="user_profiles", description="Table or view of the profiles there, schema-qualified if need be."
    )
    profiles_query: str | None = Field(default=None, description="SQL that gives the profiles, instead of the table.")
    profiles_drop: str | None = Field(
        default=None,
        description="Folder, local or s3://, of profile files (Parquet or CSV); default: `home`/drop/profiles.",
    )
    profiles_stale_hours: float = Field(
        default=48.0, gt=0, description="Profiles of a moment longer ago than this are stale."
    )

    # Dagster and alerts.
    dagster_port: int = Field(default=3000, description="Port of the Dagster UI.")
    dagster_url: str | None = Field(
        default=None, description="Base of links in alerts; default: http://127.0.0.1:<port>."
    )
    sensor_interval_seconds: int = Field(default=5, ge=1, description="Least time between two looks at Kafka.")
    slack_webhook_url: SecretStr | None = Field(
        default=None, description="Incoming webhook for alerts; or use a token."
    )
    slack_token: SecretStr | None = Field(default=None, description="Bot token for alerts (chat:write).")
    slack_channel: str = Field(default="#chart-platform", description="Default channel of alerts sent with the token.")
    slack_api_url: str = Field(default="https://slack.com/api/", description="Base of the Slack API.")

    # Edge: collector and affiliate redirect.
    edge_host: str = Field(default="127.0.0.1", description="Address the collector listens on.")
    edge_port: int = Field(default=8700, description="Port of the collector.")
    edge_url: str | None = Field(
        default=None, description="Base URL by which browsers reach the collector; default: http://127.0.0.1:<port>."
    )
    edge_workers: int = Field(default=1, ge=1, description="Processes of the collector; they share its port.")
    edge_keys: Path | None = Field(
        default=None, description="YAML of write keys, hashed; default: `home`/edge/write-keys.yml."
    )
    edge_links: Path | None = Field(
        default=None, description="YAML of affiliate links (the only targets of a redirect); default: the demo's."
    )
    edge_link_secrets: SecretStr | None = Field(
        default=None,
        description="Secrets for signed link contexts, comma-separated: the first signs, all verify; "
        "default: generated in `home`/edge.",
    )
    edge_trusted_proxies: str = Field(
        default="", description="Networks (CIDR, comma-separated) whose X-Forwarded-For is believed."
    )
    edge_geo_database: Path | None = Field(
        default=None, description="MaxMind-format country database (.mmdb); without it the country stays null."
    )
    edge_keep_user_agent: bool = Field(
        default=False, description="Keep the raw user agent beside the class that is derived from it."
    )
    edge_honour_gpc: bool = Field(
        default=True, description="Discard events of browsers that send Sec-GPC: 1, as the tracer does."
    )
    edge_max_body_bytes: int = Field(
        default=1024 * 1024, ge=1024, description="Largest request body, before and after decompression."
    )
    edge_max_batch_events: int = Field(default=1_000, ge=1, description="Most events in one request.")
    edge_body_timeout_seconds: float = Field(default=10.0, gt=0, description="How long a body may take to arrive.")
    edge_head_timeout_seconds: float = Field(
        default=10.0, gt=0, description="How long the head of a request may take to arrive."
    )
    edge_rate_per_key: float = Field(
        default=20_000.0, ge=0, description="Events per second of one write key; 0 is no limit."
    )
    edge_rate_per_ip: float = Field(
        default=200.0, ge=0, description="Events per second of one address (IPv6: /64) for browser keys; 0 is no limit."
    )
    edge_delivery_timeout_ms: int = Field(
        default=3_000, ge=100, description="How long Kafka may take to confirm before events go to the local spill."
    )
    edge_unready_seconds: float = Field(
        default=1.0,
        ge=0,
        description="How long a collector that ends is not ready before it takes no more connections.",
    )
    edge_spill_max_bytes: int = Field(
        default=1024**3, ge=1024**2, description="Disk that the spill of one collector process may take."
    )
    demo_port: int = Field(default=8701, description="Port of the demo comparison page of `up`.")

    # Live traffic of `up`.
    simulate_rate: float = Field(
        default=20.0, ge=0, description="Simulated events per second of `up`; 0 turns the simulator off."
    )
    simulate_through: Literal["collector", "kafka"] = Field(
        default="collector", description="Whether simulated events enter over HTTP, as real ones do, or at the topic."
    )

    simulate_conversions: float = Field(
        default=0.15,
        ge=0,
        le=1,
        description="Share of the clicks that the demo's simulated networks report as bought; 0 turns them off.",
    )

    @property
    def root(self) -> Path:
        """`home`, absolute, so that every process of an instance means the same folder."""
        return self.home.expanduser().absolute()

    @property
    def bootstrap_servers(self) -> str:
        return self.kafka_bootstrap_servers or f"127.0.0.1:{self.kafka_port}"

    @property
    def embedded_kafka(self) -> bool:
        return self.kafka_bootstrap_servers is None

    @property
    def warehouse_url(self) -> str:
        return (self.warehouse or f"file://{self.root / 'warehouse'}").rstrip("/")

    @property
    def sql_catalog_uri(self) -> str:
        return self.catalog_uri or f"sqlite:///{self.root / 'catalog.db'}"

    @property
    def conversions_drop_url(self) -> str:
        return (self.conversions_drop or f"{self.root / 'drop' / 'conversions'}").rstrip("/")

    @property
    def profiles_drop_url(self) -> str:
        return (self.profiles_drop or f"{self.root / 'drop' / 'profiles'}").rstrip("/")

    @property
    def edge_base_url(self) -> str:
        return (self.edge_url or f"http://127.0.0.1:{self.edge_port}").rstrip("/")

    @property
    def edge_home(self) -> Path:
        """Where the collector keeps its spill, keys and secrets."""
        return self.root / "edge"

    @property
    def dagster_base_url(self) -> str:
        return (self.dagster_url or f"http://127.0.0.1:{self.dagster_port}").rstrip("/")


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The process's settings, read once. Tests call ``get_settings.cache_clear()`` after changing the environment."""
    return Settings()
