"""What judging and completing one event costs at the edge, beside having the whole schema judge each.

    .venv/bin/python -m bench.admission

CPU microseconds an event, the best of several rounds over distinct events of one session each.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import msgspec
import orjson

from chart_platform.contracts import events
from chart_platform.edge import privacy
from chart_platform.edge.admission import Admission
from chart_platform.edge.links import Links
from chart_platform.edge.records import Client
from chart_platform.settings import Settings

_EVENTS, _ROUNDS = 20_000, 5
_NOON_MS = 1_793_620_800_000
_CLIENT = Client(_NOON_MS, "k1", "browser", "web", False, "DE", "203.0.113.0/24", "desktop", "Firefox", "Linux")
_PAGE = "https://www.builderchart.example/compare/website-builders?utm_source=google&utm_medium=cpc&utm_campaign=brand"
_KINDS: dict[str, dict[str, Any]] = {
    "page_view": {},
    "chart_interaction": {
        "chart": {"product_ids": ["sitesmith"], "action": "filter", "control_id": "max-price", "control_value": 12.5}
    },
    "affiliate_click": {
        "affiliate": {"link_id": "sitesmith-basic-top", "target": "https://www.sitesmith.example/basic", "position": 2}
    },
}


def _event(number: int, kind: str, page: str) -> dict[str, Any]:
    return {
        "schema_version": events.schema_version(),
        "event_type": kind,
        "event_id": f"019a44c8-5a00-7000-8000-{number:012d}",
        "ts": f"2026-11-02T11:{number // 1000 % 60:02d}:{number % 60:02d}.{number % 1000:03d}Z",
        "user": {"user_id_hash": "9f86d081884c7d659a2feaa0c55ad015", "consent": {"analytics": True, "ads": False}},
        "session": {"session_id": "019a44c8-5a00", "utm": {"source": "google", "medium": "cpc", "campaign": "brand"}},
        "ctx": {"page_url": page, "referrer": "https://www.google.com/", "locale": "en-US", "ab_variant": "B"},
        "metadata": {"sdk_version": "0.4.2"},
        "sent_at": f"2026-11-02T11:59:00.{number // 100 % 1000:03d}Z",
        "seq": number % 100,
        "page_view_id": "019a44c8-5a01",
    } | _KINDS[kind]


def _texts(kind: str, page: Callable[[int], str] = lambda _: _PAGE, **more: Any) -> list[bytes]:
    return [orjson.dumps(_event(number, kind, page(number)) | more) for number in range(_EVENTS)]


def _measure(name: str, work: Callable[[bytes], Any], texts: list[bytes]) -> None:
    best = float("inf")
    for _ in range(_ROUNDS):
        privacy._known_url.cache_clear()
        start = time.process_time()
        for text in texts:
            work(text)
        best = min(best, time.process_time() - start)
    print(f"{name:52} {best / len(texts) * 1e6:6.2f} µs   {sum(map(len, texts)) // len(texts)} B")


def main() -> None:
    """Print the table."""
    admission = Admission(Settings(), Links.load())
    validator = jsonschema_rs.Draft202012Validator(events.ingest_schema(), validate_formats=True)
    decode, encode = msgspec.json.Decoder(events.ingest_type()).decode, msgspec.json.Encoder().encode
    interactions = _texts("chart_interaction")
    _measure("parse: msgspec struct of the contract", decode, interactions)
    _measure("  … with ids, times and conditions checked", lambda text: admission._surely(decode(text)), interactions)
    _measure(
        "parse: orjson + jsonschema-rs is_valid", lambda text: validator.is_valid(orjson.loads(text)), interactions
    )
    _measure("  … the dict alone", orjson.loads, interactions)
    _measure("parse and write: struct", lambda text: encode(decode(text)), interactions)
    _measure("parse and write: dict", lambda text: orjson.dumps(orjson.loads(text)), interactions)
    for kind in _KINDS:
        _measure(f"admit {kind}", lambda text: admission.admit(text, _CLIENT), _texts(kind))
    distinct = _texts("page_view", lambda number: f"{_PAGE}&page={number}")
    _measure("admit page_view, each with a page of its own", lambda text: admission.admit(text, _CLIENT), distinct)
    unknown = [
        orjson.dumps(json.loads(text) | {"user": {**json.loads(text)["user"], "plan": 1}}) for text in interactions
    ]
    _measure("admit with an unknown member", lambda text: admission.admit(text, _CLIENT), unknown)
    wrong = _texts("page_view", seq="none")
    _measure("refuse", lambda text: admission.admit(text, _CLIENT), wrong)


if __name__ == "__main__":
    main()
