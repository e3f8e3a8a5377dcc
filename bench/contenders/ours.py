"""The platform: plan, read, validate, audit and commit exactly once, as a run of its asset does."""

from __future__ import annotations

from typing import Any

from bench.contenders.common import Job
from chart_platform.contracts.feeds import events_feed
from chart_platform.lakehouse.lake import Lake
from chart_platform.quality.schemas import audit
from chart_platform.settings import Settings
from chart_platform.transform import source


def settings_of(job: Job) -> Settings:
    """A fresh home in the job's folder, fed by the job's topic."""
    return Settings(
        home=job.folder,
        kafka_bootstrap_servers=job.bootstrap_servers,
        kafka_topic=job.topic,
        kafka_dlq_topic=f"{job.topic}.dlq",
    )


def take_in(argument: dict[str, Any]) -> int:
    """Everything unread, in as many commits as the batch size asks for."""
    job = Job.of(argument)
    lake = Lake(settings_of(job))
    rows = 0
    feed = events_feed(lake.settings)
    while batches := source.unread(lake, feed).batches:
        rows += sum(source.take_in(lake, feed, batch, audit).events for batch in batches)
    return rows
