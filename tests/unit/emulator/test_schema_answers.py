"""JSON that the offline Gemini writes conforms to the schema it was given, as jsonschema judges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from shared.emulator.schema_answers import TooComplex, from_openapi, value_for
from shared.emulator.schema_merging import Unsatisfiable
from shared.structured.json_schema import check_schema
from tests.unit.structured.json_schema_cases import CASES, Case
from tests.unit.structured.test_json_schema import generated_schemas

TREE = {
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "left": {"$ref": "#/$defs/Node"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
            },
            "required": ["value", "children"],
        }
    },
    "$ref": "#/$defs/Node",
}
SCHEMAS: list[dict[str, Any]] = [
    TREE,
    {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["b"]},
    {"type": "object", "properties": {"a": True}, "required": ["a", "not declared"], "additionalProperties": True},
    {"type": "object", "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1}},
    {"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": False, "required": ["a"]},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 3, "maxItems": 3},
    {"type": "array", "items": {"type": "string"}, "maxItems": 0},
    {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 4}, "minItems": 4, "uniqueItems": True},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False},
    {"type": "array", "prefixItems": [{"const": 1}], "items": {"type": "string"}, "minItems": 3},
    {"type": "integer", "minimum": 2.5, "maximum": 3.5},
    {"type": "integer", "exclusiveMinimum": 2, "exclusiveMaximum": 4},
    {"type": "integer", "multipleOf": 7, "minimum": 50},
    {"type": "number", "minimum": 0.001, "maximum": 0.002},
    {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    {"type": "number", "maximum": -5},
    {"type": "string", "minLength": 100},
    {"type": "string", "maxLength": 3},
    {"type": ["string", "null"]},
    {"type": ["null", "integer"], "minimum": 7},
    {"enum": ["red", 2, None]},
    {"const": {"fixed": [1, 2]}},
    {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}]},
    {"oneOf": [{"type": "string", "maxLength": 5}, {"type": "integer", "minimum": 3}]},
    {
        "type": "object",
        "properties": {"kind": {"type": "string"}, "size": {"type": "integer"}},
        "required": ["kind"],
        "anyOf": [{"required": ["size"]}, {"properties": {"kind": {"const": "none"}}}],
    },
    {"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}}, {"required": ["a"]}]},
    {"properties": {"untyped": {"items": {"type": "integer"}}}, "required": ["untyped"]},
    {"$defs": {"Name": {"$anchor": "name", "type": "string"}}, "type": "array", "items": {"$ref": "#name"}},
    {"definitions": {"a/b": {"type": "integer"}}, "$ref": "#/definitions/a~1b"},
    {},
    *({"type": "string", "format": form} for form in ("date-time", "date", "email", "uri", "uuid", "ipv4", "ipv6")),
]


def conforms(schema: dict[str, Any], value: Any) -> None:
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(value)


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: str(schema)[:60])
def test_the_answer_conforms_whatever_the_seed(schema: dict[str, Any]) -> None:
    for seed in range(25):
        conforms(schema, value_for(schema, seed, "the topic"))


def schemas() -> st.SearchStrategy[dict[str, Any]]:
    """Any nesting of what Gemini's structured output supports."""
    leaf: st.SearchStrategy[dict[str, Any]] = st.one_of(
        st.sampled_from([{"type": name} for name in ("string", "integer", "number", "boolean", "null")]),
        st.builds(lambda low, width: {"type": "integer", "minimum": low, "maximum": low + width}, INTS, SMALL),
        st.builds(lambda low, width: {"type": "number", "minimum": low, "maximum": low + width}, FLOATS, SMALL),
        st.builds(lambda options: {"enum": options}, st.lists(INTS | NAMES, min_size=1, max_size=4)),
        st.sampled_from([{"type": "string", "format": form} for form in ("date-time", "date", "time")]),
        st.just({"type": ["string", "null"]}),
        st.just({"$ref": "#/$defs/Leaf"}),
    )
    return st.recursive(leaf, _larger, max_leaves=12)


INTS = st.integers(-1000, 1000)
FLOATS = st.floats(-1000, 1000, allow_nan=False)
SMALL = st.integers(0, 20)
NAMES = st.sampled_from(["a", "b", "long_name", "with space", "ünïcode"])


def _larger(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def an_object(properties: dict[str, Any], extra: Any, every: bool) -> dict[str, Any]:
        required = list(properties)[: None if every else 1]
        ordering = list(reversed(properties))
        return {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": extra,
            "propertyOrdering": ordering,
        }

    def an_array(items: dict[str, Any], least: int, width: int) -> dict[str, Any]:
        return {"type": "array", "items": items, "minItems": least, "maxItems": least + width}

    properties = st.dictionaries(NAMES, inner, max_size=3)
    return st.one_of(
        st.builds(an_object, properties, st.booleans() | inner, st.booleans()),
        st.builds(an_array, inner, st.integers(0, 3), st.integers(0, 3)),
        st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda items: {"type": "array", "prefixItems": items, "items": False}, st.lists(inner, max_size=3)),
    )


@settings(max_examples=150, deadline=None, database=None)
@given(schema=schemas(), seed=st.integers(0, 2**32 - 1))
def test_the_answer_conforms_to_any_supported_schema(schema: dict[str, Any], seed: int) -> None:
    whole = {"$defs": {"Leaf": {"type": "string"}}, "type": "array", "items": schema, "minItems": 1}
    conforms(whole, value_for(whole, seed, "topic"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_answer_conforms_to_schemas_as_callers_write_them(case: Case) -> None:
    schema = check_schema(case.schema)
    for seed in range(10):
        assert schema.problems(value_for(case.schema, seed, "the topic")) == []


NOT_OBEYED = {"oneOf", "not", "if", "pattern", "format", "propertyNames", "patternProperties"}
NOT_OBEYED |= {"unevaluatedProperties", "unevaluatedItems", "contains"}
"""Or in part; README.md tells how far each is."""


def words(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema
    for item in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from words(item)


@settings(max_examples=200, deadline=None, database=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(schema=generated_schemas(), seed=st.integers(0, 2**32 - 1))
def test_answer_conforms_to_the_schema(schema: dict[str, Any], seed: int) -> None:
    assume(NOT_OBEYED.isdisjoint(words(schema)))
    try:
        value = value_for(schema, seed)
    except (Unsatisfiable, TooComplex):
        return
    assert check_schema(schema).problems(value) == []


MERGED = [
    {"anyOf": [{"type": "string"}], "allOf": [{"anyOf": [{"minLength": 50}, {"type": "null"}]}]},
    {"allOf": [{"type": ["integer", "string"]}, {"type": "number"}, {"minimum": 3}, {"minimum": 2, "maximum": 3}]},
    {"allOf": [{"enum": [1, 2, 3]}, {"enum": [True, 3, 4]}]},
    {
        "$defs": {"a": {"required": ["a"]}, "b": {"required": ["b"]}},
        "type": "object",
        "allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}],
    },
    {"allOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"a": {"minLength": 99}}}], "required": ["a"]},
    {"allOf": [{"items": {"type": "integer"}}, {"items": {"minimum": 7}}], "type": "array", "minItems": 2},
    {"anyOf": [{"const": 1}, {"const": 2}], "enum": [2, 3]},
    {
        "allOf": [{"properties": {"a": {"type": "integer"}}}, {"additionalProperties": {"minimum": 500}}],
        "required": ["a"],
    },
    {"allOf": [{"properties": {"a": {}}, "additionalProperties": False}, {"properties": {"b": {}}}], "type": "object"},
]


@pytest.mark.parametrize("schema", MERGED, ids=str)
def test_what_several_schemas_ask_of_one_value_is_all_obeyed(schema: dict[str, Any]) -> None:
    for seed in range(10):
        conforms(schema, value_for(schema, seed))


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": []},
        {"const": 1, "enum": [True]},
        {"const": "a", "type": "integer"},
        {"allOf": [{"const": 1}, {"const": 2}]},
        {"allOf": [{"type": "string"}, {"type": "null"}]},
        {"const": 1, "not": {"const": 1}},
        {"$ref": "there.json"},
        {"type": "array", "prefixItems": [{}], "minItems": 2, "items": False},
    ],
    ids=str,
)
def test_what_contradicts_itself_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(Unsatisfiable):
        value_for(schema, 1)


def test_answer_depends_only_on_the_seed() -> None:
    schema = SCHEMAS[1]
    assert value_for(schema, 7) == value_for(schema, 7)
    assert value_for(schema, 7) != value_for(schema, 8)


def test_a_recursive_answer_has_branches_and_ends() -> None:
    tree = value_for(TREE, 1)
    assert tree["left"]["value"]
    assert "left" not in tree["left"]["children"]


def test_properties_come_in_the_order_asked_for() -> None:
    properties = {name: {"type": "string"} for name in ("a", "b", "c")}
    schema = {"type": "object", "properties": properties, "propertyOrdering": ["c", "a"]}
    assert list(value_for(schema, 1)) == ["c", "a", "b"]


def test_texts_mention_the_topic() -> None:
    assert (
        "three cats"
        in value_for({"type": "object", "properties": {"title": {"type": "string"}}}, 1, "three cats")["title"]
    )


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"type": "whatever"},
        {"$ref": "#/$defs/missing"},
        {"$ref": "https://example.com/other.json"},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"type": "array", "minItems": 2, "maxItems": 1},
        {"anyOf": []},
        {
            "$defs": {"A": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "required": ["a"]}},
            "$ref": "#/$defs/A",
        },
        {"$defs": {"A": {"$ref": "#/$defs/A"}}, "$ref": "#/$defs/A"},
    ],
)
def test_a_schema_that_nothing_conforms_to_is_refused(schema: Any) -> None:
    with pytest.raises(Unsatisfiable):
        value_for(schema, 1)


def test_a_schema_that_would_need_a_huge_answer_is_refused() -> None:
    with pytest.raises(TooComplex):
        value_for({"type": "array", "items": {"type": "string"}, "minItems": 10**9}, 1)


def test_a_wide_recursion_ends_quickly() -> None:
    names = [f"T{number}" for number in range(12)]
    body = {name: {"$ref": f"#/$defs/{name}"} for name in names}
    schema = {"$defs": {name: {"type": "object", "properties": body} for name in names}, "$ref": "#/$defs/T0"}
    conforms(schema, value_for(schema, 3))


def test_unsupported_pattern_uses_the_schemas_examples() -> None:
    letters = {"type": "string", "pattern": "^\\p{L}+$"}
    assert value_for({**letters, "examples": ["Zoë"]}, 1) == "Zoë"
    assert isinstance(value_for(letters, 1), str)
    named = {"type": "object", "required": ["a"], "patternProperties": {"^\\p{L}$": {"type": "integer"}}}
    assert value_for(named, 1).keys() == {"a"}


def test_an_openapi_schema_means_the_same() -> None:
    openapi = {
        "type": "OBJECT",
        "properties": {
            "name": {"type": "STRING", "nullable": True},
            "tags": {"type": "ARRAY", "items": {"type": "STRING", "enum": ["x", "y"]}, "minItems": 2},
            "either": {"anyOf": [{"type": "INTEGER"}, {"type": "BOOLEAN"}]},
        },
        "required": ["name", "tags"],
    }
    schema = from_openapi(openapi)
    assert schema["properties"]["name"] == {"type": ["string", "null"]}
    conforms(schema, value_for(schema, 5))
