"""The proof of schema compatibility: each rule by hand, the whole by mutating the real contract."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from chart_platform.contracts.compatibility import (
    DIALECT,
    LOCK_FILE,
    check_backward_compatible,
    check_schema_files,
    lock_schema_files,
)
from chart_platform.contracts.events import SCHEMA_FOLDER

Schema = dict[str, Any]
V1_0 = json.loads((SCHEMA_FOLDER / "chart_event-1.0.0.json").read_text())
V1_1 = json.loads((SCHEMA_FOLDER / "chart_event-1.1.0.json").read_text())


def rules(old: Schema, new: Schema) -> set[tuple[str, str]]:
    return {(violation.pointer, violation.rule) for violation in check_backward_compatible(old, new)}


def only(**schema: Any) -> Schema:
    """An object with the one property ``x``."""
    return {"type": "object", "properties": {"x": schema}}


# -- The contract itself -----------------------------------------------------------------------------------------------


def test_1_1_0_may_follow_1_0_0() -> None:
    assert check_backward_compatible(V1_0, V1_1) == []


def test_1_0_0_may_not_follow_1_1_0() -> None:
    found = rules(V1_1, V1_0)
    assert ("/properties/user/required", "required") in found
    assert ("/properties/click_id", "property-removed") in found
    assert ("/properties/session/type", "type") in found


def test_the_files_of_the_package_are_in_order_and_as_released() -> None:
    assert check_schema_files(SCHEMA_FOLDER) == []


# -- What may not be ---------------------------------------------------------------------------------------------------

X = "/properties/x"
STRING = {"type": "string"}
A_THEN_X = {"if": {"properties": {"t": {"const": "a"}}}, "then": {"required": ["x"]}}
TAGGED: Schema = {"type": "object", "required": ["t"], "properties": {"t": {"enum": ["a", "b"]}, "x": STRING}}
CLOSED: Schema = {**only(type="string"), "unevaluatedProperties": False}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(only(type="string"), only(type="integer"), {(f"{X}/type", "type"), (X, "retyped")}, id="retyped"),
        pytest.param(only(type="integer"), only(type="string"), {(f"{X}/type", "type"), (X, "retyped")}, id="back"),
        pytest.param(only(type="integer"), only(type="number"), {(X, "retyped")}, id="widened-for-readers"),
        pytest.param(
            only(type="number"), only(type="integer"), {(f"{X}/type", "type"), (X, "retyped")}, id="narrowed-number"
        ),
        pytest.param(only(type=["string", "null"]), only(type="string"), {(f"{X}/type", "type")}, id="null-forbidden"),
        pytest.param(only(type="string"), only(), {(X, "retyped")}, id="type-dropped"),
        pytest.param(
            only(type="string", format="date-time"), only(type="string"), {(X, "retyped")}, id="format-dropped"
        ),
        pytest.param(
            only(type="string"), only(type="string", format="uuid"), {(f"{X}/format", "format")}, id="format-added"
        ),
        pytest.param(
            only(type="string", format="uuid"),
            only(type="string", format="date"),
            {(f"{X}/format", "format"), (X, "retyped")},
            id="format-changed",
        ),
        pytest.param(
            only(type="string"), only(type="string", pattern="^a"), {(f"{X}/pattern", "pattern")}, id="pattern-added"
        ),
        pytest.param(
            only(type="string", pattern="^a"),
            only(type="string", pattern="^b"),
            {(f"{X}/pattern", "pattern")},
            id="pattern-changed",
        ),
        pytest.param(only(enum=["a", "b"]), only(enum=["a"]), {(f"{X}/enum", "enum")}, id="enum-value-removed"),
        pytest.param(only(enum=["a"]), only(enum=["a", 1]), {(X, "retyped")}, id="enum-value-of-another-type"),
        pytest.param(only(const="a"), only(const="b"), {(f"{X}/const", "const")}, id="const-changed"),
        pytest.param(
            only(type="string"), only(type="string", enum=["a"]), {(f"{X}/enum", "enum")}, id="values-now-listed"
        ),
        pytest.param(
            only(type="string"), only(type="string", const="a"), {(f"{X}/const", "const")}, id="value-now-fixed"
        ),
        pytest.param(
            only(type="boolean"), only(type="boolean", const=True), {(f"{X}/const", "const")}, id="boolean-fixed"
        ),
        pytest.param(
            only(type="integer", minimum=0),
            only(type="integer", minimum=1),
            {(f"{X}/minimum", "minimum")},
            id="minimum-raised",
        ),
        pytest.param(
            only(type="integer"), only(type="integer", minimum=0), {(f"{X}/minimum", "minimum")}, id="minimum-added"
        ),
        pytest.param(
            only(type="integer", maximum=9),
            only(type="integer", maximum=8),
            {(f"{X}/maximum", "maximum")},
            id="maximum-lowered",
        ),
        pytest.param(
            only(type="string"),
            only(type="string", maxLength=9),
            {(f"{X}/maxLength", "maxLength")},
            id="length-limited",
        ),
        pytest.param(
            only(type="array", items=STRING),
            only(type="array", items={"type": "integer"}),
            {(f"{X}/items/type", "type"), (f"{X}/items", "retyped")},
            id="items-retyped",
        ),
        pytest.param(
            only(type="array"), only(type="array", items=STRING), {(f"{X}/items/type", "type")}, id="items-limited"
        ),
        pytest.param(
            only(type="array", items=STRING), only(type="array"), {(f"{X}/items", "retyped")}, id="items-dropped"
        ),
        pytest.param(
            only(type="object", properties={"y": STRING}),
            only(type="object"),
            {(f"{X}/properties/y", "property-removed")},
            id="nested-property-removed",
        ),
        pytest.param(
            only(type="string"), {**only(type="string"), "required": ["x"]}, {("/required", "required")}, id="required"
        ),
        pytest.param(
            {"type": "object", "required": ["x"]}, only(type="string"), {(f"{X}/type", "type")}, id="required-first"
        ),
        pytest.param(
            only(type="string"), CLOSED, {("/unevaluatedProperties", "unevaluatedProperties")}, id="object-closed"
        ),
        pytest.param(
            CLOSED,
            {"type": "object", "unevaluatedProperties": False},
            {("/unevaluatedProperties", "unevaluatedProperties"), (X, "property-removed")},
            id="closed-property-removed",
        ),
        pytest.param(TAGGED, TAGGED | {"allOf": [A_THEN_X]}, {("/allOf/0/then/required", "required")}, id="condition"),
        pytest.param(
            TAGGED | {"allOf": [A_THEN_X]},
            TAGGED | {"allOf": [{**A_THEN_X, "if": {"properties": {"t": {"enum": ["a", "b"]}}}}]},
            {("/allOf/0/then/required", "required")},
            id="condition-widened",
        ),
        pytest.param(
            TAGGED | A_THEN_X, TAGGED | {"required": ["t", "x"]}, {("/required", "required")}, id="condition-lifted"
        ),
        pytest.param(
            TAGGED,
            TAGGED | {"if": {"required": ["x"]}, "else": False},
            {("/else", "cannot-judge")},
            id="boolean-schema",
        ),
        pytest.param(
            TAGGED,
            TAGGED | {"if": {"properties": {"t": {"const": "a"}}}, "else": {"required": ["x"]}},
            {("/else/required", "required")},
            id="else-added",
        ),
        pytest.param(only(type="string"), only(anyOf=[STRING]), {(f"{X}/anyOf", "cannot-judge")}, id="unknown-keyword"),
        pytest.param(only(anyOf=[STRING]), only(type="string"), {(f"{X}/anyOf", "cannot-judge")}, id="unknown-in-old"),
        pytest.param(
            CLOSED,
            {**CLOSED, "unevaluatedProperties": STRING},
            {("/unevaluatedProperties", "cannot-judge")},
            id="unevaluated-schema",
        ),
        pytest.param(
            TAGGED,
            TAGGED | {"if": {"required": ["x"]}, "then": {"unevaluatedProperties": False}},
            {("/then/unevaluatedProperties", "cannot-judge")},
            id="unevaluated-in-a-branch",
        ),
        pytest.param(
            TAGGED,
            TAGGED | {"if": {"required": ["x"]}, "then": {"properties": {"y": STRING}}},
            {("/then/properties/y", "cannot-judge")},
            id="declared-in-a-branch-only",
        ),
    ],
)
def test_a_breaking_change_is_named_with_its_place(old: Schema, new: Schema, expected: set[tuple[str, str]]) -> None:
    assert rules(old, new) == expected


# -- What may be -------------------------------------------------------------------------------------------------------

C_NEEDS_X = {"if": {"properties": {"t": {"const": "c"}}}, "then": {"required": ["x"]}}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(only(type="string"), only(type=["null", "string"]), id="a column becomes nullable"),
        pytest.param(only(enum=["a"]), only(enum=["a", "b", None]), id="a value is added"),
        pytest.param(only(enum=["a"]), only(type="string"), id="the list of values is dropped"),
        pytest.param(only(enum=["ab", "ac"]), only(type="string", pattern="^a"), id="listed values match the pattern"),
        pytest.param(only(type="integer", minimum=1), only(type="integer", minimum=0), id="a bound is loosened"),
        pytest.param({**only(), "required": ["x"]}, only(), id="a demand is dropped"),
        pytest.param(CLOSED, {**CLOSED, "properties": {"x": STRING, "y": STRING}}, id="a property is added"),
        pytest.param(CLOSED, only(type="string"), id="the object is opened"),
        pytest.param(only(type="string"), only(type="string", title="X", default="a"), id="annotations come"),
        pytest.param(TAGGED | {"allOf": [A_THEN_X]}, TAGGED, id="a condition is dropped"),
        pytest.param(TAGGED | {"allOf": [A_THEN_X]}, TAGGED | A_THEN_X, id="a condition is written elsewhere"),
        pytest.param(TAGGED | {"required": ["t", "x"]}, TAGGED | A_THEN_X, id="a demand becomes conditional"),
        pytest.param(
            TAGGED,
            TAGGED | {"properties": {"t": {"enum": ["a", "b", "c"]}, "x": STRING}, **C_NEEDS_X},
            id="a new kind of event comes with demands of its own",
        ),
        pytest.param(
            TAGGED | {"if": {"properties": {"t": {"const": "a"}}}, "else": {"required": ["x"]}},
            TAGGED | {"if": {"properties": {"t": {"const": "a"}}}, "else": {"required": ["x"]}},
            id="an else stays",
        ),
    ],
)
def test_an_additive_change_passes(old: Schema, new: Schema) -> None:
    assert check_backward_compatible(old, new) == []


# -- The whole, by mutation --------------------------------------------------------------------------------------------

UUID = "0190f3b2-7c1e-7a3d-9c51-2f6f1f0a7d11"
STRINGS = st.sampled_from(["", "abc", "1.0.0", "1.1.0", "page_view", UUID, "2026-11-21T10:00:00Z", "compare"])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "string": STRINGS,
    "integer": st.integers(-3, 12),
    "number": st.sampled_from([-1.5, 0, 2.0, 7.25]),
}


def instances(schema: Schema) -> st.SearchStrategy[Any]:
    """Values that mostly satisfy ``schema`` and have no property that it does not declare."""
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    types = schema.get("type", list(VALUES))
    return st.one_of([_of_type(name, schema) for name in ([types] if isinstance(types, str) else types)])


def _of_type(name: str, schema: Schema) -> st.SearchStrategy[Any]:
    if name == "array":
        return st.lists(instances(schema.get("items", {})), max_size=2)
    if name == "object":
        properties = {key: instances(child) for key, child in schema.get("properties", {}).items()}
        needed = {key: properties.pop(key) for key in schema.get("required", ()) if key in properties}
        return st.fixed_dictionaries(needed, optional=properties)
    if schema.get("format") == "uuid":
        return st.just(UUID)
    if schema.get("format") == "date-time":
        return st.just("2026-11-21T10:00:00Z")
    return VALUES[name]


BASE: Schema = {
    "type": "object",
    "required": ["kind"],
    "properties": {
        "kind": {"enum": ["view", "click", "sort"]},
        "text": {"type": "string"},
        "id": {"type": "string", "format": "uuid"},
        "count": {"type": "integer", "minimum": 0, "maximum": 9},
        "flag": {"type": ["boolean", "null"]},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
        "click": {"type": ["object", "null"], "properties": {"link": {"type": "string"}, "cents": {"type": "number"}}},
    },
    "allOf": [
        {"if": {"properties": {"kind": {"const": "click"}}}, "then": {"required": ["click"]}},
        {
            "if": {"properties": {"kind": {"const": "sort"}}},
            "then": {"properties": {"count": {"minimum": 2}}},
            "else": {"properties": {"flag": {"const": True}}},
        },
    ],
    "unevaluatedProperties": False,
}


def places(schema: Any) -> list[Schema]:
    """Every subschema, the schema itself first."""
    found = [schema]
    for child in schema.get("properties", {}).values():
        found += places(child)
    for member in schema.get("allOf", ()):
        found += places(member)
    for keyword in ("items", "if", "then", "else"):
        if keyword in schema:
            found += places(schema[keyword])
    return found


def _conditional(draw: Callable[..., Any]) -> Schema:
    condition = {"properties": {"kind": {"const": draw(st.sampled_from(["view", "click", "sort", "new"]))}}}
    demand = draw(
        st.sampled_from(
            [
                {"required": ["text"]},
                {"required": ["click"]},
                {"properties": {"count": {"minimum": 1}}},
                {"properties": {"click": {"type": "object"}}},
                {"properties": {"flag": {"const": True}}},
            ]
        )
    )
    return {"if": condition, draw(st.sampled_from(["then", "else"])): demand}


@st.composite
def mutated(draw: Callable[..., Any], schema: Schema) -> Schema:
    """``schema`` after one to three changes, harmless and harmful ones alike."""
    schema = copy.deepcopy(schema)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(places(schema)))
        match draw(st.sampled_from(["type", "enum", "number", "string", "property", "required", "condition", "drop"])):
            case "type":
                place["type"] = draw(st.lists(st.sampled_from([*VALUES, "object", "array"]), min_size=1, unique=True))
            case "enum":
                values = [*place.get("enum", []), *draw(st.lists(st.sampled_from(["a", "new", None, 1, True])))]
                if unique := list({json.dumps(value): value for value in values}.values())[draw(st.integers(0, 1)) :]:
                    place["enum"] = unique
            case "number":
                place[draw(st.sampled_from(["minimum", "maximum"]))] = draw(st.integers(-1, 10))
            case "string":
                place.update(
                    draw(
                        st.sampled_from(
                            [{"pattern": "^a"}, {"format": "date-time"}, {"minLength": 1}, {"maxLength": 40}]
                        )
                    )
                )
            case "property":
                name = draw(st.sampled_from(["added", "text", "count"]))
                place.setdefault("properties", {})[name] = {"type": draw(st.sampled_from(list(VALUES)))}
            case "required":
                place["required"] = draw(st.lists(st.sampled_from(["kind", "text", "click", "link"]), unique=True))
            case "condition":
                schema["allOf"] = [*schema.get("allOf", ()), _conditional(draw)]
            case "drop":
                if droppable := sorted(place.keys() - {"if"}):
                    place.pop(draw(st.sampled_from(droppable)))
    return schema


def valid(schema: Schema, event: Any) -> bool:
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True).is_valid(event)


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.data())
def test_whatever_was_accepted_is_accepted_by_every_version_that_passes(data: st.DataObject) -> None:
    old = data.draw(st.one_of(st.just(BASE), mutated(BASE)), label="old")
    new = data.draw(mutated(old), label="new")
    assume(not check_backward_compatible(old, new))
    for event in data.draw(st.lists(instances(old), min_size=5, max_size=20), label="events"):
        if valid(old, event):
            assert valid(new, event), event


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.data())
def test_every_event_of_the_first_contract_is_one_of_the_newest(data: st.DataObject) -> None:
    event = data.draw(instances(V1_0))
    assume(valid(V1_0, event))
    assert valid(V1_1, event)


# -- Files and the lock ------------------------------------------------------------------------------------------------


def put(folder: Path, version: str, **schema: Any) -> Path:
    path = folder / f"chart_event-{version}.json"
    path.write_text(json.dumps({"$schema": DIALECT, "$id": f"https://example.org/{path.name}", **schema}))
    return path


def file_rules(folder: Path) -> set[tuple[str, str]]:
    return {(violation.pointer, violation.rule) for violation in check_schema_files(folder)}


def test_a_new_version_must_be_locked_and_then_stays_as_it_is(tmp_path: Path) -> None:
    released = put(tmp_path, "1.0.0", **only(type="string"))
    assert file_rules(tmp_path) == {("chart_event-1.0.0.json", "not-locked")}
    assert lock_schema_files(tmp_path) == ["chart_event-1.0.0.json"]
    assert file_rules(tmp_path) == set()
    assert lock_schema_files(tmp_path) == []

    released.write_text(released.read_text() + "\n")
    assert file_rules(tmp_path) == {("chart_event-1.0.0.json", "released-file-changed")}
    with pytest.raises(ValueError, match=r"chart_event-1\.0\.0\.json"):
        lock_schema_files(tmp_path)

    released.unlink()
    assert file_rules(tmp_path) == {("chart_event-1.0.0.json", "released-file-missing")}


def test_versions_are_ordered_as_numbers_in_the_lock(tmp_path: Path) -> None:
    for version in ("1.10.0", "1.9.0", "1.2.0"):
        put(tmp_path, version, **only(type="string"))
    lock_schema_files(tmp_path)
    names = [line.split()[1] for line in (tmp_path / LOCK_FILE).read_text().splitlines()]
    assert names == [f"chart_event-{version}.json" for version in ("1.2.0", "1.9.0", "1.10.0")]


def test_a_version_is_compared_with_all_earlier_ones_of_its_major(tmp_path: Path) -> None:
    put(tmp_path, "1.0.0", **only(type="string"))
    put(tmp_path, "1.1.0", type="object")
    put(tmp_path, "1.2.0", **only(type="string"))
    put(tmp_path, "1.3.0", **only(type="integer"))
    put(tmp_path, "2.0.0", **only(type="integer"))
    lock_schema_files(tmp_path)
    violations = check_schema_files(tmp_path)
    assert {(v.pointer, v.message.split(":")[0]) for v in violations if v.rule == "retyped"} == {
        ("chart_event-1.3.0.json#/properties/x", "against 1.0.0"),
        ("chart_event-1.3.0.json#/properties/x", "against 1.2.0"),
    }
    assert ("chart_event-1.1.0.json#/properties/x", "property-removed") in file_rules(tmp_path)
    assert not any(v.pointer.startswith("chart_event-2") for v in violations)


def test_a_file_that_is_no_schema_version_is_told(tmp_path: Path) -> None:
    (tmp_path / "chart_event-1.0.json").write_text("{}")
    (tmp_path / "chart_event-1.0.0.json").write_text("{")
    put(tmp_path, "1.1.0", type="text")
    put(tmp_path, "1.2.0", type="string", pattern="(")
    put(tmp_path, "1.3.0", **{"$id": "https://example.org/chart_event-1.2.0.json"})
    put(tmp_path, "1.4.0", **{"$schema": "http://json-schema.org/draft-07/schema#"})
    (tmp_path / "chart_event-1.5.0.json").write_text("[]")
    lock_schema_files(tmp_path)
    assert file_rules(tmp_path) == {
        ("chart_event-1.0.json", "file-name"),
        ("chart_event-1.0.0.json", "not-json"),
        ("chart_event-1.1.0.json#", "metaschema"),
        ("chart_event-1.2.0.json#", "metaschema"),
        ("chart_event-1.3.0.json#/$id", "id"),
        ("chart_event-1.4.0.json#/$schema", "dialect"),
        ("chart_event-1.5.0.json", "metaschema"),
    }


def test_a_broken_lock_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text("nonsense\n")
    with pytest.raises(ValueError, match=r"schemas\.lock, line 1"):
        check_schema_files(tmp_path)
