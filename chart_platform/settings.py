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
    kafka_bootstrap_servers: str | None = None
    kafka_port: int = Field(default=19092, description="Port of the embedded broker (controller: port + 1).")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_ca_location: Path | None = None
    kafka_topic: str = "chart.events"
    kafka_dlq_topic: str = "chart.events.dlq"
    kafka_partitions: int = Field(default=6, ge=1)
    kafka_replication_factor: int = Field(default=1, ge=1)
    kafka_retention_hours: int = Field(default=24 * 14, ge=24 * 7)
    maven_repository_url: str = "https://repo.maven.apache.org/maven2"

    # Iceberg catalog and storage.
    catalog_type: Literal["sql", "glue"] = "sql"
    catalog_uri: str | None = Field(default=None, description="SQL catalog only; default: SQLite in `home`.")
    warehouse: str | None = Field(default=None, description="file:// or s3:// root; default: `home`/warehouse.")
    namespace_prefix: str = Field(default="", description="Put before bronze/silver/gold, for shared catalogs.")
    aws_region: str = "us-east-1"
    glue_endpoint: str | None = None
    s3_endpoint: str | None = None

    # Exact path.
    first_day: date = Field(default=date(2020, 1, 1), description="First Dagster partition, and the oldest ts taken.")
    max_future_hours: int = Field(default=24, ge=0, description="A ts further ahead of the broker is dead-lettered.")
    batch_max_messages: int = Field(default=500_000, ge=1, description="Messages one run takes from Kafka at most.")
    duckdb_memory_limit: str = "2GB"
    duckdb_threads: int = Field(default=2, ge=1)

    snapshot_retention_hours: int = Field(
        default=24, ge=1, description="How long replaced files and old snapshots stay readable."
    )

    # Model.
    comparison_path_segment: str = Field(
        default="compare", description="A page is a comparison page iff its path has it."
    )
    session_timeout_minutes: int = Field(default=30, ge=1)
    session_cap_hours: int = Field(default=24, ge=1)
    segment_rules: Path | None = Field(default=None, description="YAML of segment rules; default: the packaged one.")

    # Dagster and alerts.
    dagster_port: int = 3000
    dagster_url: str | None = Field(
        default=None, description="Base of links in alerts; default: http://127.0.0.1:<port>."
    )
    sensor_interval_seconds: int = Field(default=5, ge=1)
    slack_webhook_url: SecretStr | None = None
    slack_token: SecretStr | None = None
    slack_channel: str = "#chart-platform"
    slack_api_url: str = "https://slack.com/api/"

    # Live traffic of `up`.
    simulate_rate: float = Field(default=20.0, ge=0, description="Events per second; 0 turns the simulator off.")

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
    def dagster_base_url(self) -> str:
        return (self.dagster_url or f"http://127.0.0.1:{self.dagster_port}").rstrip("/")


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The process's settings, read once. Tests call ``get_settings.cache_clear()`` after changing the environment."""
    return Settings()
