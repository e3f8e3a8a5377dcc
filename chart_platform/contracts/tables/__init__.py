"""Every table of the lakehouse, declared once: columns, types, meaning, lineage, partitioning and allowed values.

Iceberg tables are created from it (``lakehouse.catalog``), Pandera schemas from its checks (``quality.schemas``), dbt's
contracts and the data dictionary are generated from it. Belongs here: the declarations, a module a subject.
"""

from __future__ import annotations

from chart_platform.contracts.tables.attribution import (
    ATTRIBUTION_DAILY,
    ATTRIBUTION_JOURNEYS,
    ATTRIBUTION_MODELS,
    ATTRIBUTION_WEIGHTS,
    FACT_ATTRIBUTION,
)
from chart_platform.contracts.tables.conversions import (
    CONVERSION_EXPLANATIONS,
    CONVERSION_FILES,
    CONVERSION_MATCHES,
    CONVERSION_RECONCILIATION,
    CONVERSION_REJECTS,
    CONVERSION_REPORTS,
    CONVERSION_STATUSES,
    FACT_CONVERSIONS,
)
from chart_platform.contracts.tables.declare import EVENT_TYPES, TEXTS, TIMESTAMP, UTM, Column, Sensitivity, Table
from chart_platform.contracts.tables.dimensions import (
    DIM_AFFILIATE_LINK,
    DIM_CAMPAIGN,
    DIM_DATE,
    DIM_PRODUCT,
    LINK_CHANGES,
)
from chart_platform.contracts.tables.events import BRONZE_DEAD_LETTERS, BRONZE_EVENTS, SILVER_EVENTS
from chart_platform.contracts.tables.experiments import (
    EXPERIMENT_EXPOSURES,
    EXPERIMENT_RESULTS,
    EXPERIMENT_ROLES,
    EXPERIMENT_SUMS,
    EXPERIMENT_VISITOR_DAYS,
)
from chart_platform.contracts.tables.funnels import FUNNEL_DAILY, FUNNEL_HOURLY
from chart_platform.contracts.tables.marts import (
    AFFILIATE_PERFORMANCE_DAILY,
    AFFILIATE_PERFORMANCE_HOURLY,
    CAMPAIGN_DAILY,
    ENGAGEMENT_DAILY,
    ENGAGEMENT_HOURLY,
    RETENTION_DAILY,
    RETURNING_VISITORS_DAILY,
    SESSION_QUALITY_DAILY,
    VISITORS,
)
from chart_platform.contracts.tables.profiles import DIM_USER, PROFILE_CHANGES, PROFILE_SNAPSHOTS
from chart_platform.contracts.tables.visits import (
    FACT_AFFILIATE_CLICKS,
    FACT_CHART_INTERACTIONS,
    FACT_FUNNEL,
    FACT_PAGE_VIEWS,
    SILVER_SESSIONS,
    SILVER_USER_SEGMENTS,
)

__all__ = [
    "AFFILIATE_PERFORMANCE_DAILY",
    "AFFILIATE_PERFORMANCE_HOURLY",
    "ATTRIBUTION_DAILY",
    "ATTRIBUTION_JOURNEYS",
    "ATTRIBUTION_MODELS",
    "ATTRIBUTION_WEIGHTS",
    "BRONZE_DEAD_LETTERS",
    "BRONZE_EVENTS",
    "CAMPAIGN_DAILY",
    "CONVERSION_EXPLANATIONS",
    "CONVERSION_FILES",
    "CONVERSION_MATCHES",
    "CONVERSION_RECONCILIATION",
    "CONVERSION_REJECTS",
    "CONVERSION_REPORTS",
    "CONVERSION_STATUSES",
    "DIM_AFFILIATE_LINK",
    "DIM_CAMPAIGN",
    "DIM_DATE",
    "DIM_PRODUCT",
    "DIM_USER",
    "ENGAGEMENT_DAILY",
    "ENGAGEMENT_HOURLY",
    "EVENT_TYPES",
    "EXPERIMENT_EXPOSURES",
    "EXPERIMENT_RESULTS",
    "EXPERIMENT_ROLES",
    "EXPERIMENT_SUMS",
    "EXPERIMENT_VISITOR_DAYS",
    "FACT_AFFILIATE_CLICKS",
    "FACT_ATTRIBUTION",
    "FACT_CHART_INTERACTIONS",
    "FACT_CONVERSIONS",
    "FACT_FUNNEL",
    "FACT_PAGE_VIEWS",
    "FUNNEL_DAILY",
    "FUNNEL_HOURLY",
    "LINK_CHANGES",
    "PROFILE_CHANGES",
    "PROFILE_SNAPSHOTS",
    "RETENTION_DAILY",
    "RETURNING_VISITORS_DAILY",
    "SESSION_QUALITY_DAILY",
    "SILVER_EVENTS",
    "SILVER_SESSIONS",
    "SILVER_USER_SEGMENTS",
    "TABLES",
    "TEXTS",
    "TIMESTAMP",
    "UTM",
    "VISITORS",
    "Column",
    "Sensitivity",
    "Table",
    "table",
]

TABLES: tuple[Table, ...] = (
    BRONZE_EVENTS,
    BRONZE_DEAD_LETTERS,
    SILVER_EVENTS,
    SILVER_SESSIONS,
    SILVER_USER_SEGMENTS,
    FACT_FUNNEL,
    FACT_AFFILIATE_CLICKS,
    FACT_CHART_INTERACTIONS,
    FACT_PAGE_VIEWS,
    CONVERSION_FILES,
    CONVERSION_REPORTS,
    CONVERSION_REJECTS,
    FACT_CONVERSIONS,
    CONVERSION_RECONCILIATION,
    ATTRIBUTION_JOURNEYS,
    ATTRIBUTION_WEIGHTS,
    FACT_ATTRIBUTION,
    ATTRIBUTION_DAILY,
    FUNNEL_DAILY,
    FUNNEL_HOURLY,
    PROFILE_SNAPSHOTS,
    PROFILE_CHANGES,
    DIM_USER,
    LINK_CHANGES,
    DIM_PRODUCT,
    DIM_AFFILIATE_LINK,
    DIM_CAMPAIGN,
    DIM_DATE,
    VISITORS,
    RETENTION_DAILY,
    RETURNING_VISITORS_DAILY,
    SESSION_QUALITY_DAILY,
    ENGAGEMENT_DAILY,
    ENGAGEMENT_HOURLY,
    AFFILIATE_PERFORMANCE_DAILY,
    AFFILIATE_PERFORMANCE_HOURLY,
    CAMPAIGN_DAILY,
    EXPERIMENT_EXPOSURES,
    EXPERIMENT_VISITOR_DAYS,
    EXPERIMENT_SUMS,
    EXPERIMENT_RESULTS,
)


def table(full_name: str) -> Table:
    """The declaration of ``namespace.name``. Raises ``KeyError`` naming the tables there are."""
    for declared in TABLES:
        if declared.full_name == full_name:
            return declared
    raise KeyError(f"No table {full_name!r}; there are {', '.join(t.full_name for t in TABLES)}.")
