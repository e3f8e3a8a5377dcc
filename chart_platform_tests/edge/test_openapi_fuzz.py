"""The OpenAPI document is valid, and the collector does what it says, whatever a generated client sends."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from jsonschema.validators import Draft202012Validator
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from chart_platform.contracts.events import ingest_schema
from chart_platform.edge.links import Links
from chart_platform.edge.openapi import document
from chart_platform.settings import Settings
from chart_platform_tests.edge.collecting import ORIGIN, Collecting, encoded, event

pytestmark = pytest.mark.kafka

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)


@pytest.fixture(scope="module")
def described(collector: Collecting) -> dict[str, Any]:
    found: dict[str, Any] = collector.client.get("/openapi.json").json()
    return found


def conforms(described: dict[str, Any], path: str, method: str, status: int, answer: Any) -> None:
    response = described["paths"][path][method]["responses"][str(status)]
    schema = response["content"]["application/json"]["schema"]
    jsonschema.validate(answer, {**schema, "components": described["components"]}, cls=Draft202012Validator)


def test_the_document_holds_the_contract_as_clients_may_use_it() -> None:
    event_schema = document(Settings())["components"]["schemas"]["Event"]
    Draft202012Validator.check_schema(event_schema)
    assert event_schema["properties"] == ingest_schema()["properties"]
    assert "ingest_ts" not in event_schema["properties"] and event_schema["properties"]["user"]["required"] == [
        "consent"
    ]


def test_every_schema_of_the_document_is_one(described: dict[str, Any]) -> None:
    assert described["openapi"] == "3.1.0"
    for schema in described["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_answers_are_as_the_document_says(collector: Collecting, described: dict[str, Any]) -> None:
    denied = event(user={"consent": {"analytics": False}})
    cases = {
        "accepted, rejected, discarded": (collector.post([event(), {}, denied]), 202),
        "unreadable": (collector.post(b"{"), 400),
        "no key": (collector.post(event(), key="x"), 401),
        "origin": (collector.post(event(), origin="https://evil.example"), 403),
        "type": (collector.post(event(), content_type="text/html"), 415),
        "size": (collector.post([1] * 1001), 413),
    }
    for name, (answer, status) in cases.items():
        assert answer.status_code == status, name
        conforms(described, "/v1/events", "post", status, answer.json())
    link = next(iter(Links.load()))
    asked = {"consent": {"analytics": True}, "links": [{"link_id": link.link_id}, {"link_id": "x"}]}
    path = f"/v1/links?key={collector.browser_key}"
    signed = collector.client.post(path, content=encoded(asked), headers={"origin": ORIGIN})
    conforms(described, "/v1/links", "post", 200, signed.json())
    conforms(described, "/readyz", "get", 200, collector.client.get("/readyz").json())
    conforms(described, "/healthz", "get", 200, collector.client.get("/healthz").json())


@pytest.mark.slow
def test_no_generated_request_is_a_defect_or_answered_otherwise_than_described(
    collector: Collecting, described: dict[str, Any]
) -> None:
    api = schemathesis.openapi.from_dict(described)
    tried: set[str] = set()
    statuses: set[int] = set()
    for result in api.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=80,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        )
        @schemathesis_given(operation)
        def check(case: Any) -> None:
            headers = {"x-write-key": collector.server_key}
            if "network" in case.operation.path:
                # With the right key and a network that there is, or none of its tries would get any further.
                headers = {"x-write-key": collector.network_key}
                case.path_parameters = {"network": "brightpath"}
            response = case.call(base_url=collector.url, headers=headers, allow_redirects=False)
            case.validate_response(response, checks=CHECKS)
            tried.add(case.operation.label)
            statuses.add(response.status_code)

        check()
    assert tried == {f"{method.upper()} {path}" for path, item in described["paths"].items() for method in item}
    assert {202, 200, 404} <= statuses
    assert collector.figures()["chart_edge_internal_errors_total"] == 0


def schemathesis_given(operation: Any) -> Any:
    """Generate cases of one operation, valid ones and others."""
    from hypothesis import given
    from hypothesis import strategies as st
    from schemathesis import GenerationMode

    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    return given(case=st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in modes)))
