"""The code location. ``build_definitions`` is the one seam for tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from chart_platform.defs import (
    alerts,
    attribution,
    bronze,
    conversions,
    dbt_tests,
    dimensions,
    experiments,
    gold,
    maintenance,
    marts,
    profiles,
    silver,
    streams,
    visitors,
)
from chart_platform.defs.resources import Platform, analysts_file, object_store


def build_definitions(resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """All of the platform's Dagster objects, with resources swapped by name where a test needs it."""
    return dg.Definitions(
        assets=[
            *bronze.topics,
            bronze.bronze,
            silver.silver_events,
            gold.models,
            gold.analytics_duckdb,
            dimensions.link_registry,
            visitors.visitors,
            marts.marts,
            dimensions.dimensions,
            attribution.attribution,
            experiments.experiments,
            conversions.conversions_drop,
            conversions.conversion_intake,
            conversions.conversion_facts,
            profiles.profile_source,
            profiles.profiles,
            maintenance.housekeeping,
        ],
        asset_checks=[dbt_tests.dbt_tests],
        jobs=[
            streams.events_to_gold,
            marts.gold_to_marts,
            conversions.conversions_to_gold,
            profiles.profiles_to_gold,
            maintenance.maintenance_job,
        ],
        sensors=[streams.kafka_sensor, marts.marts_sensor, conversions.conversions_sensor, *alerts.alert_sensors],
        schedules=[maintenance.maintenance_schedule, conversions.conversions_schedule, profiles.profiles_schedule],
        resources={
            "platform": Platform(),
            "analysts": analysts_file(),
            "s3": object_store(),
            **(resource_overrides or {}),
        },
        executor=dg.in_process_executor,
    )


defs = build_definitions()
