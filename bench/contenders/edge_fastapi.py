"""What one would write: FastAPI, a Pydantic model of the event, and a producer that is not waited for.

Belongs here: the common way, well done (one producer, compression, no blocking). It answers before Kafka has the event, so
a kill loses answered events; it knows no keys, limits, consent or privacy.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import Literal
from uuid import UUID

from confluent_kafka import Producer
from fastapi import FastAPI
from pydantic import BaseModel


class Consent(BaseModel):
    analytics: bool
    ads: bool | None = None


class User(BaseModel):
    user_id_hash: str | None = None
    consent: Consent


class Session(BaseModel):
    session_id: str | None = None
    utm: dict[str, str | None] | None = None


class Context(BaseModel):
    page_url: str | None = None
    referrer: str | None = None
    locale: str | None = None
    ab_variant: str | None = None


class Chart(BaseModel):
    product_ids: list[str] | None = None
    action: Literal["toggle", "sort", "filter", "compare_expand", "compare_collapse"] | None = None
    control_id: str | None = None
    control_value: str | float | bool | None = None


class Affiliate(BaseModel):
    link_id: str | None = None
    target: str | None = None
    payout_cents: int | None = None
    position: int | None = None


class Metadata(BaseModel):
    sdk_version: str | None = None


class Event(BaseModel):
    schema_version: str = "1.2.0"
    event_type: Literal["page_view", "chart_interaction", "affiliate_click"]
    event_id: UUID
    ts: datetime
    user: User
    session: Session | None = None
    ctx: Context | None = None
    chart: Chart | None = None
    affiliate: Affiliate | None = None
    metadata: Metadata | None = None
    sent_at: datetime | None = None
    seq: int | None = None
    page_view_id: str | None = None


app = FastAPI()
producer = Producer(
    {
        "bootstrap.servers": os.environ["CHART_KAFKA_BOOTSTRAP_SERVERS"],
        "compression.type": "lz4",
        "linger.ms": 5,
        "queue.buffering.max.messages": 1_000_000,
    }
)
topic = os.environ["CHART_KAFKA_TOPIC"]


@app.post("/v1/events", status_code=202)
async def take(events: Event | list[Event]) -> dict[str, int]:
    listed = events if isinstance(events, list) else [events]
    for event in listed:
        key = event.session.session_id if event.session and event.session.session_id else str(event.event_id)
        producer.produce(topic, event.model_dump_json(exclude_unset=True), key)
    producer.poll(0)
    return {"accepted": len(listed)}
