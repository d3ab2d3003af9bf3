"""Keywords of OpenAPI 3.0 and draft 4: checked as they are meant, and rewritten as JSON Schema for Gemini."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator

from shared.structured.json_schema import check_schema
from tests.unit.structured.json_schema_cases import DRAFT_7

NULL = {"type": "null"}

NULLABLE = [
    ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
    ({"type": ["string", "integer"], "nullable": True}, {"type": ["string", "integer", "null"]}),
    ({"type": ["string", "null"], "nullable": True}, {"type": ["string", "null"]}),
    ({"type": "string", "nullable": False}, {"type": "string"}),
    ({"type": "string", "enum": ["a"], "nullable": True}, {"type": ["string", "null"], "enum": ["a", None]}),
    ({"enum": ["a", None], "nullable": True}, {"enum": ["a", None]}),
    ({"const": "a", "nullable": True}, {"enum": ["a", None]}),
    ({"const": None, "nullable": True}, {"const": None}),
    ({"type": "string", "const": "a", "nullable": True}, {"type": ["string", "null"], "enum": ["a", None]}),
    ({"const": "a", "enum": ["a", "b"], "nullable": True}, {"enum": ["a", None]}),
    (
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "nullable": True},
        {"type": ["object", "null"], "properties": {"a": {"type": "string"}}, "required": ["a"]},
    ),
    ({"nullable": True, "description": "Any."}, {"description": "Any."}),
    (
        {"$ref": "#/$defs/A", "nullable": True, "description": "An A."},
        {"description": "An A.", "anyOf": [{"$ref": "#/$defs/A"}, NULL]},
    ),
    ({"allOf": [{"$ref": "#/$defs/A"}], "nullable": True}, {"anyOf": [{"$ref": "#/$defs/A"}, NULL]}),
    ({"allOf": [{}, {}], "nullable": True}, {"anyOf": [{"allOf": [{}, {}]}, NULL]}),
    ({"anyOf": [{"type": "string"}], "nullable": True}, {"anyOf": [{"type": "string"}, NULL]}),
    ({"anyOf": [{"type": "string"}, NULL], "nullable": True}, {"anyOf": [{"type": "string"}, NULL]}),
    ({"oneOf": [{"type": "string"}], "nullable": True}, {"oneOf": [{"type": "string"}, NULL]}),
    ({"oneOf": [{"type": "string"}, NULL], "nullable": True}, {"anyOf": [{"oneOf": [{"type": "string"}, NULL]}, NULL]}),
    ({"oneOf": [{"$ref": "#/$defs/A"}], "nullable": True}, {"anyOf": [{"oneOf": [{"$ref": "#/$defs/A"}]}, NULL]}),
    (
        {"properties": {"a": {}}, "nullable": True},
        {"anyOf": [{"properties": {"a": {}}}, NULL]},
    ),
    (
        {"type": "string", "not": {"const": "a"}, "nullable": True},
        {"anyOf": [{"type": "string", "not": {"const": "a"}}, NULL]},
    ),
]


def sent(schema: dict[str, Any]) -> Any:
    return check_schema(schema).document


@pytest.mark.parametrize(("schema", "expected"), NULLABLE, ids=lambda item: str(item)[:60])
@pytest.mark.parametrize("place", ["root", "property", "definition", "list", "components", "draft-07"])
def test_nullable_admits_null(schema: dict[str, Any], expected: dict[str, Any], place: str) -> None:
    """It is checked here, and Gemini gets JSON Schema of the same meaning, wherever the schema stands."""
    definitions = {"$defs": {"A": {"type": "integer"}}}

    def placed(inner: dict[str, Any]) -> dict[str, Any]:
        return {
            "root": {**inner, **definitions},
            "property": {"properties": {"x": inner}, **definitions},
            "definition": {"$defs": {**definitions["$defs"], "X": inner}, "items": {"$ref": "#/$defs/X"}},
            "list": {"prefixItems": [inner, inner], **definitions},
            "components": {"components": {"X": inner}, "not": {"not": {"$ref": "#/components/X"}}, **definitions},
            "draft-07": {"$schema": DRAFT_7, "additionalProperties": {"items": [inner]}, **definitions},
        }[place]

    before = orjson.dumps(placed(schema))
    given_schema = placed(schema)
    checked = check_schema(given_schema)
    assert checked.document == placed(expected)
    assert orjson.dumps(given_schema) == before, "the caller's document is not changed"
    null: Any = {"root": None, "property": {"x": None}, "definition": [None], "list": [None, None]}.get(place)
    null = {"x": [None]} if place == "draft-07" else null
    if schema["nullable"]:
        assert checked.problems(null) == []
    else:
        assert place == "draft-07" or checked.problems(null)


def test_nullable_is_a_keyword_only_where_schemas_are() -> None:
    schema = {
        "properties": {"nullable": {"type": "boolean"}},
        "enum": [{"nullable": True}],
        "default": {"nullable": True},
    }
    assert check_schema(schema).document is schema
    assert check_schema(schema).problems(None)


def test_the_order_of_properties_stays() -> None:
    schema = {"type": "object", "properties": {"b": {"type": "string", "nullable": True}, "a": {}}, "title": "T"}
    assert list(sent(schema)) == ["type", "properties", "title"]
    assert list(sent(schema)["properties"]) == ["b", "a"]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"minimum": 0, "exclusiveMinimum": True}, {"minimum": 0, "exclusiveMinimum": 0}),
        ({"maximum": 9, "exclusiveMaximum": True}, {"maximum": 9, "exclusiveMaximum": 9}),
        ({"minimum": 0, "exclusiveMinimum": False}, {"minimum": 0}),
        ({"exclusiveMaximum": True}, {}),
        ({"minimum": 0, "exclusiveMinimum": 1}, {"minimum": 0, "exclusiveMinimum": 1}),
    ],
)
def test_exclusive_flags_of_draft_4_are_bounds(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    assert sent(schema) == expected
    for value in (-1, 0, 0.5, 1, 8, 9, 10, "a"):
        assert (check_schema(schema).problems(value) == []) == Draft202012Validator(expected).is_valid(value)


def test_dependencies_hold_in_2020_12_too() -> None:
    schema = check_schema({"dependencies": {"a": ["b"], "c": {"required": ["d"]}}})
    assert [bool(schema.problems(value)) for value in ({"a": 1}, {"a": 1, "b": 1}, {"c": 1}, {"c": 1, "d": 1}, {})] == [
        True, False, True, False, False,
    ]  # fmt: skip


REMARKS = {
    "format": "enum", "propertyOrdering": ["a"], "example": 1, "id": "Person", "xml": {}, "discriminator": {"x": 1},
    "externalDocs": {}, "x-order": 1, "deprecated": True, "$comment": "x", "contentEncoding": "base64",
}  # fmt: skip


@pytest.mark.parametrize("word", REMARKS)
def test_remarks_are_sent_as_they_are(word: str) -> None:
    schema = {"type": "string", word: REMARKS[word]}
    assert sent(schema) is schema
    assert check_schema(schema).problems("a") == []


def test_references_into_a_moved_schema_follow_it() -> None:
    """A reference by pointer, as zod writes it, leads to the same schema after `nullable` has moved that."""
    schema = {
        "$defs": {"A": {"type": "object"}, "B": {"$ref": "#/properties/a/allOf/1/properties/b%7Ec"}},
        "properties": {
            "a": {
                "allOf": [
                    {"$ref": "#/$defs/A"},
                    {"properties": {"b~c": {"type": "integer"}, "n": {"$ref": "#/$defs/B"}}},
                ],
                "nullable": True,
            },
            "c": {"$ref": "#/properties/a"},
            "d": {"$ref": "#/properties/a/allOf/1", "nullable": True},
            "e": {
                "allOf": [{"properties": {"x": {"allOf": [{}, {"type": "string"}], "nullable": True}}}],
                "nullable": True,
            },
            "f": {"$ref": "#/properties/e/allOf/0/properties/x/allOf/1"},
        },
    }
    schema["$defs"]["B"]["$ref"] = "#/properties/a/allOf/1/properties/b~0c"
    document = sent(schema)
    assert document["$defs"]["B"] == {"$ref": "#/properties/a/anyOf/0/allOf/1/properties/b~0c"}
    assert document["properties"]["c"] == {"$ref": "#/properties/a"}
    assert document["properties"]["d"] == {"anyOf": [{"$ref": "#/properties/a/anyOf/0/allOf/1"}, NULL]}
    assert document["properties"]["f"] == {"$ref": "#/properties/e/anyOf/0/properties/x/anyOf/0/allOf/1"}
    for value in (
        {"a": {"b~c": 1, "n": "x"}},
        {"a": {"n": 1}, "c": None, "d": None, "e": {"x": None}, "f": None},
        {"f": 1},
    ):
        assert (check_schema(schema).problems(value) == []) == Draft202012Validator(document).is_valid(value)


def test_references_relative_to_an_id_follow_too() -> None:
    schema = {
        "$id": "https://example.com/root",
        "$defs": {
            "inner": {
                "$id": "inner",
                "properties": {"a": {"allOf": [{}, {"type": "string"}], "nullable": True}},
                "additionalProperties": {"$ref": "#/properties/a/allOf/1"},
            }
        },
        "$ref": "inner",
    }
    document = sent(schema)
    assert document["$defs"]["inner"]["additionalProperties"] == {"$ref": "#/properties/a/anyOf/0/allOf/1"}
    validator = Draft202012Validator(document)
    for value in ({"a": None}, {"a": 1}, {"b": "x"}, {"b": None}):
        assert (check_schema(schema).problems(value) == []) == validator.is_valid(value)


LEAVES = st.sampled_from(
    [
        {}, {"type": "string"}, {"type": ["integer", "string"]}, {"enum": ["a", 1]}, {"const": "a"}, {"const": None},
        {"type": "string", "enum": ["a"]}, {"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}, {"type": "null"},
        {"minimum": 0, "exclusiveMinimum": True}, {"$ref": "#/$defs/B/properties/c"},
    ]
)  # fmt: skip


def with_flag(schema: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(
        lambda s, flag: {**s, **flag}, schema, st.sampled_from([{}, {"nullable": True}, {"nullable": False}])
    )


SCHEMAS = st.recursive(
    with_flag(LEAVES),
    lambda inner: with_flag(
        st.fixed_dictionaries(
            {},
            optional={
                "type": st.sampled_from(["object", "string", ["object", "null"]]),
                "properties": st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
                "anyOf": st.lists(inner, min_size=1, max_size=2),
                "oneOf": st.lists(inner, min_size=1, max_size=2),
                "allOf": st.lists(inner, min_size=1, max_size=2),
                "not": inner,
                "unevaluatedProperties": st.just(False),
                "enum": st.just([{"a": None}, "a"]),
            },
        )
    ),
    max_leaves=5,
)
VALUES = st.recursive(
    st.sampled_from([None, "a", 1, 0, "b"]),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=600, deadline=None, database=None)
@given(schema=SCHEMAS, second=SCHEMAS, value=VALUES, draft=st.sampled_from([{}, {"$schema": DRAFT_7}]))
def test_what_is_sent_means_what_is_checked(schema: Any, second: Any, value: Any, draft: Any) -> None:
    definitions = {"A": {"type": "integer", "nullable": True}, "B": {"properties": {"c": second}}}
    if "#/$defs/B" in str(second) or (draft and "unevaluated" in str([schema, second])):
        return
    document = {**draft, **schema, "$defs": definitions}
    checked = check_schema(document)
    # Draft-07 knows no $defs: one that nothing refers to is no schema there.
    assert draft or "nullable" not in str(checked.document)
    of_draft = Draft7Validator if draft else Draft202012Validator
    assert (checked.problems(value) == []) == of_draft(checked.document).is_valid(value)
