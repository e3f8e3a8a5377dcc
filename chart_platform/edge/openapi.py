"""The OpenAPI 3.1 document of the collector, with events as the one contract has them.

Belongs here: describing the protocol. Does not belong here: keeping it (``app``); a test compares the two.
"""

from __future__ import annotations

from typing import Any

from chart_platform.contracts import events
from chart_platform.settings import Settings

_STATUSES = {
    "accepted": "It is durable.",
    "duplicate": "It is durable, and this process acknowledged this event_id before: a hint.",
    "rejected": "It is no event, and never will be: it is kept as a dead letter, with the reasons.",
    "discarded": "The visitor doesn't want it kept: nothing was.",
    "retry": "It could not be made durable: send it again.",
}
_ERRORS = {
    400: "The body can't be read. It is kept as a dead letter, and sending it again is of no use.",
    401: "No write key, or none that is valid.",
    403: "The write key is not for this origin.",
    408: "The body took too long.",
    413: "The body has too many bytes, before or after decompression, or too many events: send fewer at once.",
    415: "A content type or content encoding that is not taken.",
    429: "More events per second than the write key or the address may send.",
    503: "Nothing could be made durable: send all of it again.",
}
_WAITING = (429, 503)


def document(settings: Settings) -> dict[str, Any]:
    """The document as it is served at ``/openapi.json``."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "chart-platform collector",
            "version": events.schema_version(),
            "description": "Takes events of product-comparison pages. What it acknowledges is durable.",
        },
        "servers": [{"url": settings.edge_base_url}],
        "paths": {
            "/v1/events": {"post": _post_events(settings)},
            "/v1/links": {"post": _post_links()},
            "/v1/postbacks/{network}": {
                "get": _postback("getPostback", None),
                "post": _postback("sendPostback", {"type": "object", "additionalProperties": True}),
            },
            "/go/{link_id}": {"get": _get_link()},
            "/healthz": {"get": _get("Whether the process lives.", {200: _json("It does.", _ref("Status"))})},
            "/readyz": {
                "get": _get(
                    "Whether events can be made durable, and the collector is not about to end.",
                    {200: _json("They can.", _ref("Status")), 503: _waiting(_json("Not now.", _ref("Status")))},
                )
            },
            "/metrics": {"get": _get("Figures for Prometheus.", {200: _text("text/plain")})},
            "/openapi.json": {"get": _get("This document.", {200: _json("OpenAPI.", {"type": "object"})})},
            "/tracer.js": {
                "get": _get(
                    "The browser SDK.",
                    {200: _text("text/javascript"), 304: {"description": "As it was."}, 404: _error("Not built.")},
                )
            },
        },
        "components": {
            "schemas": _schemas(settings),
            "securitySchemes": {
                "query": {"type": "apiKey", "in": "query", "name": "key"},
                "header": {"type": "apiKey", "in": "header", "name": "X-Write-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _post_events(settings: Settings) -> dict[str, Any]:
    most = f"Up to {settings.edge_max_batch_events} events and {settings.edge_max_body_bytes} bytes, also unpacked."
    body = {"anyOf": [_ref("Event"), _ref("Events"), _ref("Envelope")]}
    accepted = _json("What became of each event.", _ref("Results"))
    accepted["headers"] = {"Retry-After": {**_RETRY_AFTER, "description": "If some events are to be sent again."}}
    unavailable = _waiting(_json(_ERRORS[503], {"anyOf": [_ref("Results"), _ref("Error")]}))
    return {
        "summary": "Send events.",
        "description": f"{most} Content-Encoding: gzip, br or zstd.",
        "operationId": "sendEvents",
        "security": _SECURITY,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": body},
                "text/plain": {"schema": {"type": "string", "contentMediaType": "application/json"}},
            },
        },
        "responses": {"202": accepted, **_errors(400, 401, 403, 408, 413, 415, 429), "503": unavailable},
    }


def _post_links() -> dict[str, Any]:
    return {
        "summary": "Sign the context of a page view for the links on the page.",
        "operationId": "signLinks",
        "security": _SECURITY,
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref("LinksRequest")}}},
        "responses": {
            "200": _json("The links to put on the page.", _ref("Links")),
            **_errors(400, 401, 403, 408, 413, 415, 429, 503),
        },
    }


def _get_link() -> dict[str, Any]:
    path = {"name": "link_id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    token = {"name": "c", "in": "query", "required": False, "schema": {"type": "string"}}
    return {
        "summary": "Follow an affiliate link.",
        "operationId": "followLink",
        "parameters": [path, token],
        "responses": {
            "302": {
                "description": "To the target in the registry.",
                "headers": {"Location": {"required": True, "schema": {"type": "string", "format": "uri"}}},
            },
            "404": {"description": "No such link.", "content": {"text/html": {"schema": {"type": "string"}}}},
            **_errors(429, 503),
        },
    }


def _postback(operation: str, body: dict[str, Any] | None) -> dict[str, Any]:
    sent = {"type": "object", "additionalProperties": {"type": "string"}}
    statuses = (401, 403, 429, 503) if body is None else (401, 403, 408, 413, 415, 429, 503)
    rejected = _closed({"error": _closed({"code": {"type": "string"}, "message": {"type": "string"}}),
                        "reasons": {"type": "array", "items": _ref("Problem"), "minItems": 1}}, "reasons")  # fmt: skip
    described: dict[str, Any] = {
        "summary": "Report a conversion, as an affiliate network.",
        "description": "Parameters have the names of the network's mapping; of others nothing is kept. With a key of kind "
        "network. Repeating a call changes nothing: a conversion is known by the network's transaction id.",
        "operationId": operation,
        "security": _SECURITY,
        "parameters": [
            {"name": "network", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
            {"name": "parameters", "in": "query", "style": "form", "explode": True, "schema": sent},
        ],
        "responses": {
            "200": _json("It is durable.", _closed({"status": {"const": "accepted"}})),
            "400": _json("It can't be read; or, with reasons, it makes no report and is kept as a reject.", rejected),
            "404": _error("There is no mapping for this network."),
            **_errors(*statuses),
        },
    }
    if body is not None:
        content = {"application/json": {"schema": body}, "application/x-www-form-urlencoded": {"schema": sent}}
        described["requestBody"] = {"required": False, "content": content}
    return described


_SECURITY: list[dict[str, list[str]]] = [{"query": []}, {"header": []}, {"bearer": []}]
_RETRY_AFTER = {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}


def _get(summary: str, responses: dict[int, Any]) -> dict[str, Any]:
    return {"summary": summary, "responses": {str(status): response for status, response in responses.items()}}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _text(kind: str) -> dict[str, Any]:
    return {"description": "Text.", "content": {kind: {"schema": {"type": "string"}}}}


def _error(description: str) -> dict[str, Any]:
    return _json(description, _ref("Error"))


def _waiting(response: dict[str, Any]) -> dict[str, Any]:
    return {**response, "headers": {"Retry-After": {"required": True, **_RETRY_AFTER}}}


def _errors(*statuses: int) -> dict[str, Any]:
    found = {str(status): _error(_ERRORS[status]) for status in statuses}
    return {status: _waiting(response) if int(status) in _WAITING else response for status, response in found.items()}


def _closed(properties: dict[str, Any], *optional: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _schemas(settings: Settings) -> dict[str, Any]:
    event = {name: part for name, part in events.ingest_schema().items() if name not in ("$id", "$schema")}
    listed = {"type": "array", "items": _ref("Event"), "maxItems": settings.edge_max_batch_events}
    text, count = {"type": "string"}, {"type": "integer", "minimum": 0}
    maybe_text = {"type": ["string", "null"], "maxLength": 256}
    position = {"type": ["integer", "null"], "minimum": 1, "maximum": 2**53 - 1}
    status = {
        "type": "string",
        "enum": list(_STATUSES),
        "description": " ".join(f"{name}: {meaning}" for name, meaning in _STATUSES.items()),
    }
    utm = dict.fromkeys(("source", "medium", "campaign", "term", "content"), maybe_text)
    return {
        "Event": event,
        "Events": listed,
        "Envelope": {
            "type": "object",
            "description": "Events, and when they were sent by the client's clock: for each that does not say itself.",
            "properties": {"events": listed, "sent_at": {"type": ["string", "null"], "format": "date-time"}},
            "required": ["events"],
        },
        "Problem": _closed({"code": text, "column": {"type": ["string", "null"]}, "message": text}),
        "Reason": _closed({"code": text, "pointer": text, "message": text}),
        "Result": _closed(
            {
                "index": count,
                "event_id": {"type": ["string", "null"]},
                "status": status,
                "reasons": {"type": "array", "items": _ref("Reason"), "minItems": 1},
            },
            "reasons",
        ),
        "Results": _closed({"accepted": count, "results": {"type": "array", "items": _ref("Result")}}),
        "Error": _closed({"error": _closed({"code": text, "message": text})}),
        "Status": _closed({"status": text, "outlet": {"enum": ["kafka", "spill", "full"]}}, "outlet"),
        "LinksRequest": {
            "type": "object",
            "properties": {
                "consent": {
                    "type": "object",
                    "properties": {"analytics": {"type": "boolean"}, "ads": {"type": ["boolean", "null"]}},
                    "required": ["analytics"],
                },
                "links": {
                    "type": "array",
                    "maxItems": 200,
                    "items": {
                        "type": "object",
                        "properties": {"link_id": {"type": "string", "maxLength": 256}, "position": position},
                        "required": ["link_id"],
                    },
                },
                **dict.fromkeys(("session_id", "page_view_id", "ab_variant", "user_id_hash"), maybe_text),
                "utm": {"type": ["object", "null"], "properties": utm},
            },
            "required": ["consent", "links"],
        },
        "Links": _closed(
            {
                "expires_in": {**count, "description": "Seconds."},
                "links": {
                    "type": "array",
                    "items": _closed(
                        {"link_id": text, "url": {"type": "string", "format": "uri"}, "position": position}, "position"
                    ),
                },
                "unknown": {"type": "array", "items": text},
            }
        ),
    }
