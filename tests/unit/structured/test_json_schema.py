"""A caller's schema is refused where it is wrong, and an answer is judged as jsonschema would, briefly and within bounds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator
from jsonschema.exceptions import SchemaError

from shared.errors import BadRequest
from shared.structured.json_schema import MAX_BYTES, MAX_DEPTH, MAX_PROBLEMS, Problem, Schema, _compiled, check_schema
from shared.structured.json_schema.document import Document
from shared.structured.json_schema.formats import checker
from shared.structured.json_schema.run import MAX_WORK, Run, TooCostly
from shared.structured.json_schema.validation import Validation
from tests.unit.structured.json_schema_cases import CASES, DRAFT_7, DRAFT_2020, SHAPES, TREE, Case

ROOT = Path(__file__).parents[3]


def refused(schema: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        check_schema(schema)
    assert caught.value.details is not None and caught.value.details["field"] == "json_schema"
    return caught.value


def asserting(schema: Any) -> Schema:
    """A schema that checks formats too, as `plain` does."""
    return check_schema(schema, assert_formats=True)


def plain(schema: dict[str, Any]) -> Any:
    of_draft = Draft7Validator if schema.get("$schema") == DRAFT_7 else Draft202012Validator
    return of_draft(schema, format_checker=checker())


# --- what conforms and what does not


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_problems_are_where_the_value_is_wrong(case: Case) -> None:
    schema = asserting(case.schema)
    for value in case.right:
        assert schema.problems(value) == []
    for value, path in case.wrong:
        problems = schema.problems(value)
        assert problems and problems[0].path == path, problems
        assert all(0 < len(problem.message) <= 200 for problem in problems)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_document_goes_upstream_as_it_was_given(case: Case) -> None:
    before = orjson.dumps(case.schema)
    assert check_schema(case.schema).document is case.schema
    assert orjson.dumps(case.schema) == before


def test_property_order_makes_another_document() -> None:
    one, other = {"type": "string", "minLength": 1}, {"minLength": 1, "type": "string"}
    assert list(check_schema(one).document) == ["type", "minLength"]
    assert list(check_schema(other).document) == ["minLength", "type"]


MESSAGES = [
    ({"type": "string"}, 5, "", "must be a string, not 5"),
    ({"type": ["integer", "null"]}, 1.5, "", "must be a whole number or null, not 1.5"),
    ({"type": "string"}, {"a": 1}, "", "must be a string, not an object"),
    ({"enum": ["a", "b"]}, "c", "", 'must be one of "a", "b", not "c"'),
    ({"const": 1}, True, "", "must be 1, not true"),
    ({"required": ["price"]}, {}, "", 'lacks the required property "price"'),
    ({"minimum": 0}, -1, "", "must be at least 0, not -1"),
    ({"minLength": 1}, "", "", "must have at least 1 character, not 0"),
    ({"maxItems": 2}, [1, 2, 3], "", "must have at most 2 items, not 3"),
    ({"minProperties": 2}, {"a": 1}, "", "must have at least 2 properties, not 1"),
    ({"multipleOf": 0.01}, 0.001, "", "must be a multiple of 0.01, not 0.001"),
    ({"format": "date"}, "x", "", 'must be in the format "date", not "x"'),
    ({"pattern": "^a"}, "x", "", 'must match the pattern "^a", not "x"'),
    ({"properties": {"a": False}}, {"a": 1}, "/a", "is not allowed here"),
    ({"additionalProperties": False}, {"a": 1}, "/a", "is not allowed here"),
    ({"uniqueItems": True}, [1, 2, 1], "", "must have unique items; item 2 equals item 0"),
    ({"not": {"type": "string"}}, "a", "", "must not match the schema under not, but does"),
    (
        {"propertyNames": {"maxLength": 1}},
        {"ab": 1},
        "",
        'has a property named "ab"; the name must have at most 1 character, not 2',
    ),
    ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, "", 'lacks the property "b", which "a" requires'),
    ({"contains": {"const": 1}}, [2], "", "must contain at least 1 item matching the schema under contains, not 0"),
    ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 5, "", "must be a string or null, not 5"),
    (
        SHAPES,
        {"kind": "circle", "radius": "1"},
        "/radius",
        'must be a number, not "1" (in the nearest of 2 alternatives)',
    ),
    (SHAPES, {"kind": "cube"}, "/kind", 'must be one of "circle", "square", not "cube"'),
    (
        {"oneOf": [{"minimum": 1}, {"minimum": 2}]},
        3,
        "",
        "must match exactly one schema under oneOf, but matches 2 (numbers 0, 1)",
    ),
    ({"enum": []}, 1, "", "must be absent: the enum allows no value, not 1"),
]


@pytest.mark.parametrize(("schema", "value", "path", "message"), MESSAGES, ids=lambda item: str(item)[:40])
def test_problem_names_the_allowed_value(schema: dict[str, Any], value: Any, path: str, message: str) -> None:
    assert asserting(schema).problems(value) == [Problem(path, message)]


def test_problems_are_few_short_and_the_nearest_first() -> None:
    schema = check_schema({"properties": {"list": {"items": {"type": "string"}}}, "required": ["name"]})
    problems = schema.problems({"list": [{"x" * 1000: "y" * 100_000}] * 50})
    assert len(problems) == MAX_PROBLEMS
    assert problems[0] == Problem("", 'lacks the required property "name"')
    assert problems[1] == Problem("/list/0", "must be a string, not an object")


@pytest.mark.parametrize("word", ["const", "enum", "pattern", "format", "maxLength", "type", "not", "anyOf"])
def test_no_message_quotes_a_large_value_or_a_large_schema(word: str) -> None:
    huge = "😀" * 50_000
    schema = {"const": "x" * 9_999, "enum": ["x" * 9_999], "pattern": "x" * 3_000, "format": "date", "maxLength": 1}
    schema |= {"type": "integer", "not": {"type": "string"}, "anyOf": [{"const": "x" * 9_999}, {"maxLength": 1}]}
    (problem,) = asserting({word: schema[word]}).problems(huge)
    assert len(problem.message) <= 200


def test_a_path_is_cut_before_a_step_of_absurd_length() -> None:
    assert (
        check_schema({"additionalProperties": {"items": {"type": "string"}}}).problems({"k" * 5000: [1]})[0].path == ""
    )


# --- judged as jsonschema judges


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(-9, 9, allow_nan=False)
    | st.text("ab/~ä😀", max_size=4)
    | st.sampled_from(["2026-01-31", "12"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "b", "ä/ß", "long_name"]) | st.text("ab_", max_size=3), inner, max_size=3
        )
    ),
    max_leaves=8,
)


def generated_schemas() -> st.SearchStrategy[dict[str, Any]]:
    """Any nesting of the keywords, with references to two definitions; satisfiable or not."""
    small = st.integers(0, 4)
    names = st.sampled_from(["a", "b", "ä/ß", "long_name"])
    scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "2026-01-31"]) | st.just(0.5)
    leaf: st.SearchStrategy[Any] = st.one_of(
        st.sampled_from([{}, True, {"$ref": "#/$defs/text"}, {"$ref": "#/$defs/tree"}, {"format": "date"}]),
        st.builds(
            lambda t: {"type": t},
            st.sampled_from(["string", "integer", "number", "boolean", "null", "object", "array"]),
        ),
        st.builds(
            lambda t: {"type": t}, st.lists(st.sampled_from(["string", "integer", "null"]), min_size=1, unique=True)
        ),
        st.builds(
            lambda low, width: {"type": "integer", "minimum": low, "exclusiveMaximum": low + width + 1},
            st.integers(-9, 9),
            small,
        ),
        st.builds(lambda step: {"type": "integer", "multipleOf": step}, st.integers(1, 3)),
        st.builds(lambda low, width: {"type": "string", "minLength": low, "maxLength": low + width}, small, small),
        st.builds(
            lambda pattern: {"type": "string", "pattern": pattern}, st.sampled_from(["^a", "[0-9]{2}", "b", "a|b"])
        ),
        st.builds(lambda values: {"enum": values}, st.lists(scalars, min_size=1, max_size=4)),
        st.builds(lambda value: {"const": value}, scalars),
    )

    def larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        several = st.lists(inner, min_size=1, max_size=3)
        some = st.dictionaries(names, inner, max_size=3)
        an_object = st.fixed_dictionaries(
            {"type": st.just("object"), "properties": some},
            optional={
                "required": st.lists(names, unique=True, max_size=2),
                "additionalProperties": inner | st.just(False),
                "patternProperties": st.dictionaries(st.sampled_from(["^a", "_"]), inner, max_size=1),
                "propertyNames": st.just({"maxLength": 5}),
                "minProperties": st.integers(0, 2),
                "dependentRequired": st.just({"a": ["b"]}),
                "unevaluatedProperties": inner | st.just(False),
            },
        )
        a_list = st.fixed_dictionaries(
            {"type": st.just("array")},
            optional={
                "items": inner,
                "prefixItems": several,
                "contains": inner,
                "minItems": st.integers(0, 2),
                "uniqueItems": st.booleans(),
                "unevaluatedItems": inner | st.just(False),
            },
        )
        logic = st.fixed_dictionaries(
            {},
            optional={
                "anyOf": several,
                "oneOf": several,
                "allOf": several,
                "not": inner,
                "if": inner,
                "then": inner,
                "else": inner,
            },
        )
        return an_object | a_list | logic

    definitions = {
        "text": {"type": "string", "minLength": 1},
        "tree": {"type": "object", "additionalProperties": {"$ref": "#/$defs/tree"}},
    }
    return st.recursive(leaf, larger, max_leaves=10).map(
        lambda schema: {"$defs": definitions, **schema} if isinstance(schema, dict) else {"$defs": definitions}
    )


GENEROUS = settings(
    max_examples=200,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@GENEROUS
@given(schema=generated_schemas(), value=JSON)
def test_ours_and_the_plain_validator_agree_on_any_value(schema: dict[str, Any], value: Any) -> None:
    assert (asserting(schema).problems(value) == []) == plain(schema).is_valid(value)


@st.composite
def schemas_of(draw: st.DrawFn, value: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """A schema that is true of a value, in a form that callers use; what it refers to is added to the definitions."""
    schema = draw(facts(value, definitions))
    name = f"x {len(definitions)}"
    definitions[name] = {"$anchor": name.replace(" ", ""), **schema}
    other = {"type": "null"} if value is not None else {"type": "string"}
    impossible = {"allOf": [other, {"not": other}]}
    return draw(
        st.sampled_from(
            [
                schema,
                {"anyOf": [other, schema]},
                {"oneOf": [impossible, schema]},
                {"allOf": [schema, {}]},
                {"not": {"not": schema}},
                {"if": schema, "then": schema, "else": False},
                {"if": impossible, "then": False, "else": schema},
                {"$ref": "#/$defs/" + name.replace(" ", "%20")},
                {"allOf": [{"$ref": "#" + name.replace(" ", "")}]},
            ]
        )
    )


def facts(value: Any, definitions: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Keywords that are true of a value, some of them."""
    optional: dict[str, st.SearchStrategy[Any]] = {"const": st.just(value), "enum": st.just([value, "other"])}
    match value:
        case bool() | None:
            kinds = "null" if value is None else "boolean"
        case int() | float():
            kinds = "integer" if float(value).is_integer() else "number"
            optional |= {"minimum": st.just(value), "exclusiveMaximum": st.just(value + 1), "maximum": st.just(value)}
        case str():
            kinds = "string"
            optional |= {"minLength": st.just(len(value)), "maxLength": st.just(len(value)), "pattern": st.just("")}
        case list():
            kinds = "array"
            items = [schemas_of(item, definitions) for item in value]
            optional |= {"minItems": st.just(len(value)), "maxItems": st.just(len(value))}
            if items:
                optional |= {
                    "prefixItems": st.tuples(*items).map(list),
                    "contains": items[-1],
                    "unevaluatedItems": st.just({}),
                }
                optional["items"] = st.tuples(*items).map(lambda each: {"anyOf": list(each)})
        case _:
            kinds = "object"
            properties = st.fixed_dictionaries({name: schemas_of(item, definitions) for name, item in value.items()})
            optional = {
                "properties": properties,
                "required": st.just(sorted(value)),
                "propertyNames": st.just({"enum": list(value)}),
                "minProperties": st.just(len(value)),
                "dependentRequired": st.just({name: list(value) for name in value}),
                "unevaluatedProperties": st.just({}),
            }
    return st.fixed_dictionaries({"type": st.just(kinds)}, optional=optional)


@GENEROUS
@given(data=st.data(), value=JSON, others=st.lists(JSON, max_size=4))
def test_problems_agree_with_jsonschema(data: st.DataObject, value: Any, others: list[Any]) -> None:
    definitions: dict[str, Any] = {}
    schema = {"allOf": [data.draw(schemas_of(value, definitions))], "$defs": definitions}
    ours, theirs = asserting(schema), plain(schema)
    assert ours.problems(value) == []
    for other in (*others, [value], {"a": value}, None):
        assert (ours.problems(other) == []) == theirs.is_valid(other)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@settings(max_examples=20, deadline=None, database=None)
@given(value=JSON)
def test_on_the_schemas_of_callers_too(case: Case, value: Any) -> None:
    validator = plain(case.schema)
    ours = asserting(case.schema)
    for each in (value, *case.right, *(wrong for wrong, _ in case.wrong)):
        # Floats are divided there; see `cents`.
        if case.name != "cents":
            assert (ours.problems(each) == []) == validator.is_valid(each)


# --- what is refused

DEEP: dict[str, Any] = {}
for _ in range(MAX_DEPTH):
    DEEP = {"not": DEEP}
CHAIN = {"$ref": "#/$defs/0", "$defs": {f"{at}": {"$ref": f"#/$defs/{at + 1}"} for at in range(1000)} | {"1000": {}}}
REFUSED = [
    ([], "", "which is an object"),
    ("string", "", "which is an object"),
    (True, "", "which is an object"),
    (None, "", "which is an object"),
    ({"type": "STRING"}, "/type", "array, boolean, integer, null, number, object, string, in lower case"),
    ({"type": []}, "/type", "or a list of unique ones"),
    ({"type": ["string", "string"]}, "/type", "unique"),
    ({"properties": {"a": {"type": "str"}}}, "/properties/a/type", "must be one of"),
    ({"properties": {"a/b": 5}}, "/properties/a~1b", "must be a schema (an object, true or false), not a number"),
    ({"properties": []}, "/properties", "must be an object whose values are schemas"),
    ({"items": [{}]}, "/items", "must be a schema (an object, true or false), not a list"),
    ({"prefixItems": []}, "/prefixItems", "must be a list of at least one schema"),
    ({"anyOf": {}}, "/anyOf", "must be a list of at least one schema"),
    ({"allOf": [{}, None]}, "/allOf/1", "not null"),
    ({"required": "a"}, "/required", "must be a list of unique strings"),
    ({"required": ["a", "a"]}, "/required", "must be a list of unique strings"),
    ({"enum": "a"}, "/enum", "must be a list"),
    ({"minLength": -1}, "/minLength", "must be a whole number from 0"),
    ({"maxItems": 1.5}, "/maxItems", "must be a whole number from 0"),
    ({"minimum": "0"}, "/minimum", "must be a number"),
    ({"minimum": True}, "/minimum", "must be a number"),
    ({"multipleOf": 0}, "/multipleOf", "must be a number above 0"),
    ({"uniqueItems": 1}, "/uniqueItems", "must be true or false"),
    ({"description": 5}, "/description", "must be a string"),
    ({"dependentRequired": {"a": "b"}}, "/dependentRequired", "lists of unique strings"),
    ({"items": [{}], "$schema": DRAFT_2020}, "/items", "use prefixItems, or name draft-07 in $schema"),
    ({"properties": {"a": {"required": True}}}, "/properties/a/required", "on the object that has them"),
    ({"exclusiveMinimum": "0"}, "/exclusiveMinimum", "must be a number"),
    ({"nullable": "yes"}, "/nullable", "must be true or false"),
    ({"properties": {"a": {"nullable": 1}}}, "/properties/a/nullable", "must be true or false"),
    ({"$anchor": "1 2"}, "/$anchor", "must be a name"),
    ({"$id": "#frag"}, "/$id", "must be a URI"),
    ({"$id": "http://["}, "/$id", "must be a URI"),
    ({"$ref": 5}, "/$ref", "must be a string"),
    ({"$ref": "http://["}, "/$ref", "must be a URI"),
    (
        {"$ref": "https://example.com/person.json"},
        "/$ref",
        "remote references are not fetched; put the schema under $defs",
    ),
    ({"$ref": "person.json"}, "/$ref", "remote references are not fetched"),
    ({"$ref": "https://json-schema.org/draft/2020-12/schema"}, "/$ref", "remote references are not fetched"),
    ({"items": {"$dynamicRef": "other#node"}}, "/items/$dynamicRef", "remote references are not fetched"),
    ({"items": {"$ref": "#/$defs/missing"}}, "/items/$ref", "points to nothing"),
    ({"$ref": "#missing"}, "/$ref", "points to nothing"),
    ({"$dynamicRef": "#missing"}, "/$dynamicRef", "points to nothing"),
    ({"anyOf": [{}], "not": {"$ref": "#/anyOf/x"}}, "/not/$ref", "points to nothing"),
    ({"title": "x", "not": {"$ref": "#/title"}}, "/not/$ref", "must point to a schema, not to a string"),
    ({"x": {"type": "str"}, "not": {"$ref": "#/x"}}, "/x/type", "must be one of"),
    ({"$schema": "http://json-schema.org/draft-04/schema#"}, "/$schema", "leave it out (2020-12)"),
    ({"$schema": "https://json-schema.org/draft/2019-09/schema"}, "/$schema", "leave it out (2020-12)"),
    ({"not": {"$schema": DRAFT_7}}, "/not/$schema", "names a different draft"),
    ({"$schema": DRAFT_7, "items": []}, "/items", "must be a list of at least one schema"),
    ({"$schema": DRAFT_7, "dependencies": {"a": [1]}}, "/dependencies/a", "a schema or a list of unique strings"),
    (DEEP, "", f"more than {MAX_DEPTH} levels"),
    ({"description": "x" * MAX_BYTES}, "", f"the maximum is {MAX_BYTES}"),
    ({"$ref": "#"}, "/$ref", "is in a cycle of references"),
    ({"anyOf": [{"$ref": "#"}, {"type": "null"}]}, "/anyOf/0/$ref", "is in a cycle of references"),
    ({"$dynamicAnchor": "a", "if": {"$dynamicRef": "#a"}}, "/if/$dynamicRef", "is in a cycle of references"),
    (
        {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a/allOf/0"}}},
        "/$defs/a/allOf/0/$ref",
        "is in a cycle of references",
    ),
    (CHAIN, "", "has too long a chain of references"),
]


@pytest.mark.parametrize(("schema", "pointer", "words"), REFUSED, ids=lambda item: str(item)[:60])
def test_invalid_schema_error_has_pointer_and_hint(schema: Any, pointer: str, words: str) -> None:
    error = refused(schema)
    assert error.details == {"field": "json_schema", "pointer": pointer}
    assert error.message.startswith("json_schema") and words in error.message
    assert len(error.message) < 400


def test_the_refusal_names_the_field_it_was_given() -> None:
    with pytest.raises(BadRequest, match=r"^generation_config.response_schema at /type must"):
        check_schema({"type": "x"}, "generation_config.response_schema")


ENDING = [
    {"type": "object", "properties": {"a": {"$ref": "#"}}},
    {"type": ["object", "null"], "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    {"properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    {"type": "array", "items": {"$ref": "#"}},
    {"type": "object", "properties": {"a": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["a"]},
    {"type": "array", "prefixItems": [{}], "items": {"$ref": "#"}, "minItems": 1},
    {"type": "object", "enum": [{}], "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    {"propertyNames": {"$ref": "#"}},
]


@pytest.mark.parametrize("schema", ENDING, ids=str)
def test_a_recursion_that_can_end_is_taken(schema: dict[str, Any]) -> None:
    check_schema(schema)


WORDS = st.sampled_from(
    [
        "type", "properties", "items", "required", "enum", "anyOf", "not", "minLength", "minimum", "multipleOf", "title",
        "prefixItems", "additionalItems", "dependencies", "dependentRequired", "uniqueItems", "$comment", "$anchor", "$defs",
        "definitions", "minContains", "contentSchema", "examples", "readOnly", "deprecated", "unevaluatedItems", "if", "x-own",
    ]
)  # fmt: skip


@settings(max_examples=400, deadline=None, database=None)
@given(
    schema=st.recursive(
        st.none() | st.booleans() | st.integers(-1, 2) | st.sampled_from([0.5, 2.0, "string", "a", []]),
        lambda inner: st.dictionaries(WORDS, inner, max_size=2) | st.lists(inner, max_size=2),
        max_leaves=6,
    ),
    of_draft=st.sampled_from([(Draft202012Validator, {}), (Draft7Validator, {"$schema": DRAFT_7})]),
)
def test_schema_is_valid_iff_its_metaschema_accepts_it(schema: Any, of_draft: Any) -> None:
    of_class, extra = of_draft
    document = {**extra, **schema} if isinstance(schema, dict) else {**extra, "not": schema}
    try:
        of_class.check_schema(document, format_checker=None)
    except SchemaError:
        refused(document)
    else:
        check_schema(document)


# --- what it may cost


def work(schema: dict[str, Any], value: Any, assert_formats: bool = False) -> tuple[int, str]:
    """What a validation spent, and why it did not end, if so."""
    from shared.structured.json_schema import validation

    runs: list[Run] = []

    def recorded(*arguments: Any) -> Run:
        runs.append(Run(*arguments))
        return runs[-1]

    ready = Validation(Document(orjson.loads(orjson.dumps(schema))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "Run", recorded)
        try:
            problems = ready.problems(value, MAX_PROBLEMS, assert_formats)
        except TooCostly:
            return runs[-1].work, "too costly to check"
    return runs[-1].work, "".join(message for _, message in problems if "nested too deeply" in message)


def chain(step: Any, last: Any, length: int = 30) -> dict[str, Any]:
    """Each definition leads to the next one twice."""
    definitions = {f"d{index}": step(f"d{index + 1}") for index in range(length)}
    return {"$defs": {**definitions, f"d{length}": last}, "$ref": "#/$defs/d0"}


def nested(levels: int, leaf: Any) -> Any:
    for _ in range(levels):
        leaf = [leaf]
    return leaf


def test_references_that_double_at_each_step_are_followed_once() -> None:
    laughs = chain(lambda name: {"allOf": [{"$ref": f"#/$defs/{name}"}] * 2}, {"type": "string"})
    assert work(laughs, "a")[0] < 1_000
    assert check_schema(laughs).problems("a") == []
    assert check_schema(laughs).problems(1) == [Problem("", "must be a string, not 1")]


def test_nested_alternatives_cost_linear_work() -> None:
    kinds = [{"type": "array", "items": {"$ref": "#"}, "minItems": least} for least in (0, 1, 1, 1)]
    schema = {"anyOf": [*reversed(kinds), {"type": "number"}]}
    assert work(schema, nested(40, 1))[0] < 2_000
    assert work(schema, nested(40, "x"))[0] < 20_000


HOSTILE: list[tuple[str, dict[str, Any], Any]] = [
    (
        "dynamic references that double",
        chain(lambda name: {"$dynamicAnchor": name + "x", "allOf": [{"$dynamicRef": f"#/$defs/{name}"}] * 2}, {}),
        "a",
    ),
    (
        "what is evaluated, asked through references that double",
        {**chain(lambda name: {"allOf": [{"$ref": f"#/$defs/{name}"}] * 2}, {}), "unevaluatedProperties": {}},
        {"a": 1},
    ),
    ("many keywords for many values", {"items": {"allOf": [{"minimum": 0}] * 5_000}}, list(range(20_000))),
    ("empty schemas", {"items": {"allOf": [{}] * 9_000}}, list(range(20_000))),
    ("wide properties", {"items": {"properties": {f"p{n}": {} for n in range(5_000)}}}, [{}] * 20_000),
    (
        "long required",
        {
            "items": {"anyOf": [{}, {"required": [f"p{n}" for n in range(5_000)]}]},
            "not": {"items": {"required": [f"p{n}" for n in range(5_000)]}},
        },
        [{f"p{n}": 1 for n in range(5_000)}] * 500,
    ),
    ("a large value compared often", {"allOf": [{"not": {"const": [0]}}] * 100}, list(range(9_000))),
    (
        "patterns for names",
        {"patternProperties": {f"^{n}$": {} for n in range(90)}},
        {f"k{n}": 1 for n in range(3_000)},
    ),
]


@pytest.mark.parametrize(("schema", "value"), [item[1:] for item in HOSTILE], ids=[item[0] for item in HOSTILE])
def test_work_without_end_is_given_up(schema: dict[str, Any], value: Any) -> None:
    spent, fault = work(schema, value)
    assert "too costly to check" in fault
    # What one keyword spends at once is all that it can be over.
    assert spent < 5 * MAX_WORK
    (problem,) = check_schema(schema).problems(value)
    assert problem.path == "" and "too costly to check" in problem.message


def test_different_items_cost_what_reading_them_costs() -> None:
    items = [{"id": number} for number in range(20_000)]
    assert work({"uniqueItems": True}, items) == (1 + 20_000 + 2 * 20_000, "")


def test_an_enum_is_read_once_for_all_items() -> None:
    words = [f"w{number}" for number in range(2_000)]
    assert work({"items": {"enum": words}}, words * 5)[0] < 25_000


def test_many_impossible_alternatives_quote_nothing() -> None:
    spent, fault = work({"allOf": [False] * 4_000}, ["x" * 100] * 2_500)
    assert not fault and spent < 50_000


@pytest.mark.parametrize(
    "pattern",
    [r"(a|aa)+$", r"^(\w|\w\w)*!$", r"^(([a-z]|[a-z][a-z])+.)+[A-Z]$", "[x]" * 3_000, "[ab]*a[ab]{900}", "^a{1000}$"],
    ids=lambda pattern: pattern[:20],
)
@pytest.mark.parametrize("place", ["pattern", "patternProperties", "propertyNames"])
def test_a_search_costs_no_more_than_its_pattern_times_the_text(pattern: str, place: str) -> None:
    """Each of these takes years, or minutes, where it is searched by trying."""
    text = "ab" * 500 + "a" * 500 + " "
    schema = {
        "pattern": {"items": {"pattern": pattern}},
        "patternProperties": {"patternProperties": {pattern: {}}},
        "propertyNames": {"propertyNames": {"pattern": pattern}},
    }[place]
    spent, fault = work(schema, [text] * 10 if place == "pattern" else {text: 1})
    assert not fault and spent < 10 * 3 * len(text) * max(len(pattern), 1_000) / 500


def test_a_large_text_is_given_up_before_a_costly_search() -> None:
    (problem,) = check_schema({"pattern": "[ab]*a[ab]{900}"}).problems("ab" * 500_000)
    assert "too costly to check" in problem.message
    assert check_schema({"pattern": "^[A-Z]{2}-[0-9]+$"}).problems("AB-" + "1" * 1_000_000) == []


def test_a_value_too_deep_to_check_is_a_problem() -> None:
    expected = [Problem("", "is nested too deeply to be checked")]
    assert check_schema({"items": {"$ref": "#"}}).problems(nested(1_000, 0)) == expected
    assert check_schema({"uniqueItems": True}).problems(nested(1_000, 0)) == expected


def test_chains_of_references_for_one_value_are_bounded() -> None:
    long = {f"d{index}": {"$ref": f"#/$defs/d{index + 1}"} for index in range(3_000)}
    assert "too long a chain" in refused({"$defs": {**long, "d3000": {}}, "$ref": "#/$defs/d0"}).message
    short = {f"d{index}": {"$ref": f"#/$defs/d{index + 1}"} for index in range(60)}
    assert check_schema({"$defs": {**short, "d60": {"type": "null"}}, "$ref": "#/$defs/d0"}).problems(None) == []


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, {}),
        ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, [[]]),
        ({"items": {"$defs": {"A": {"not": {"$ref": "#/items/$defs/A"}}}, "$ref": "#/items/$defs/A"}}, [1]),
    ],
    ids=["a property", "an item", "the same item"],
)
def test_an_endless_schema_accepts_nothing(schema: dict[str, Any], value: Any) -> None:
    """What one object does not show when the schema is checked, each answer shows."""
    assert check_schema(schema).problems(value)


# --- how it is used


def test_only_valid_schemas_are_cached() -> None:
    _compiled.cache_clear()
    check_schema(TREE)
    check_schema(orjson.loads(orjson.dumps(TREE)))
    assert _compiled.cache_info().hits == 1
    for _ in range(2):
        refused({"type": "x"})
    assert _compiled.cache_info().currsize == 1


def test_the_cache_is_bounded_and_large_schemas_are_not_in_it() -> None:
    _compiled.cache_clear()
    for number in range(100):
        check_schema({"minimum": number})
    check_schema({"description": "x" * 40_000})
    assert _compiled.cache_info().currsize == 64


def test_cache_is_safe_from_changed_documents() -> None:
    document = {"type": "object", "properties": {"a": {"type": "string"}}}
    first = check_schema(document)
    document["properties"]["a"]["type"] = "integer"  # type: ignore[index]
    assert first.problems({"a": "x"}) == []
    assert check_schema(document).problems({"a": "x"}) == [Problem("/a", 'must be a whole number, not "x"')]


def test_importing_it_does_not_load_the_libraries() -> None:
    code = (
        "import sys, shared.structured.json_schema, shared.structured.output\n"
        "print([m for m in ('jsonschema', 'referencing', 're2', 'regress') if m in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert loaded.stdout.strip() == "[]"


def test_nothing_is_fetched() -> None:
    """Whatever opens a socket fails here, and a reference to a server that is there is refused all the same."""
    code = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise SystemExit('a socket was opened')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from shared.structured.json_schema import check_schema\n"
        "from shared.errors import BadRequest\n"
        "for schema in ({'$ref': 'http://127.0.0.1:1/x'}, {'$id': 'http://127.0.0.1:1/', 'items': {'$ref': 'y#/z'}}):\n"
        "    try: check_schema(schema).problems([1])\n"
        "    except BadRequest as error: print(error.details['pointer'])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.split() == ["/$ref", "/items/$ref"]
