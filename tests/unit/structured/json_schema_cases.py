"""Schemas as callers write them, with values that conform and values that do not, and where those are wrong."""

from __future__ import annotations

from typing import Any, NamedTuple


class Case(NamedTuple):
    name: str
    schema: dict[str, Any]
    right: list[Any]
    wrong: list[tuple[Any, str]]
    """(value, JSON pointer of its first problem)"""


TEXT = {"type": "string"}
WHOLE = {"type": "integer"}
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"

TREE = {
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {"value": WHOLE, "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
            "required": ["value"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/Node",
}
SHAPES = {
    "oneOf": [
        {
            "type": "object",
            "properties": {"kind": {"const": "circle"}, "radius": {"type": "number", "exclusiveMinimum": 0}},
            "required": ["kind", "radius"],
        },
        {
            "type": "object",
            "properties": {"kind": {"const": "square"}, "side": {"type": "number", "exclusiveMinimum": 0}},
            "required": ["kind", "side"],
        },
    ]
}
PYDANTIC = {
    "$defs": {
        "Address": {
            "properties": {"street": {"title": "Street", **TEXT}, "zip": {"title": "Zip", **TEXT}},
            "required": ["street", "zip"],
            "title": "Address",
            "type": "object",
        }
    },
    "properties": {
        "name": {"title": "Name", **TEXT},
        "age": {"anyOf": [{"minimum": 0, **WHOLE}, {"type": "null"}], "default": None, "title": "Age"},
        "address": {"$ref": "#/$defs/Address"},
    },
    "required": ["name", "address"],
    "title": "Person",
    "type": "object",
}
ZOD = {
    "$ref": "#/definitions/Order",
    "definitions": {
        "Order": {
            "type": "object",
            "properties": {
                "items": {"type": "array", "items": {"$ref": "#/definitions/Order/properties/first"}},
                "first": {"type": "object", "properties": {"price": {"type": "number"}}, "required": ["price"]},
            },
            "required": ["items"],
            "additionalProperties": False,
        }
    },
    "$schema": DRAFT_7,
}
SHIPPING = {
    "type": "object",
    "properties": {"country": {"enum": ["US", "NL"]}, "zip": TEXT},
    "required": ["country"],
    "if": {"properties": {"country": {"const": "US"}}},
    "then": {"required": ["zip"], "properties": {"zip": {"pattern": "^[0-9]{5}$", "examples": ["10115"]}}},
    "else": {"properties": {"zip": {"maxLength": 7}}},
}
DYNAMIC_TREE = {
    "$id": "https://example.com/strict",
    "$dynamicAnchor": "node",
    "$ref": "tree",
    "unevaluatedProperties": False,
    "$defs": {
        "tree": {
            "$id": "tree",
            "$dynamicAnchor": "node",
            "type": "object",
            "properties": {"data": TEXT, "children": {"type": "array", "items": {"$dynamicRef": "#node"}}},
            "required": ["data"],
        }
    },
}


def an_object(required: bool = True, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties) if required else []}


def a_list(items: Any, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


CASES = [
    Case("a text", TEXT, ["", "ü"], [(1, ""), (None, "")]),
    Case("a whole number", WHOLE, [0, 1.0], [(1.5, ""), (True, ""), ("1", "")]),
    Case("a number", {"type": "number"}, [0, 1.5], [(False, ""), ("1", "")]),
    Case("a flag", {"type": "boolean"}, [True], [(0, ""), ("true", "")]),
    Case("null only", {"type": "null"}, [None], [(0, ""), ({}, "")]),
    Case("a list of types", {"type": ["string", "null"], "maxLength": 100}, ["a", None], [(1, ""), ([], "")]),
    Case("nothing is asked", {}, [1, "a", {"a": []}, None], []),
    Case(
        "an object",
        an_object(name=TEXT, age=WHOLE),
        [{"name": "a", "age": 1}, {"name": "a", "age": 1, "more": 2}],
        [({"name": "a"}, ""), ({"name": "a", "age": "1"}, "/age"), ([], "")],
    ),
    Case(
        "no other properties",
        {**an_object(a=TEXT), "additionalProperties": False},
        [{"a": "x"}],
        [({"a": "x", "b": 1}, "/b"), ({"b": 1}, "")],
    ),
    Case(
        "other properties by a schema",
        {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
        [{}, {"a": 1, "b": 0.5}],
        [({"a": 1, "b": -1}, "/b"), ({"a": "1"}, "/a")],
    ),
    Case("an optional property", an_object(False, note=TEXT), [{}, {"note": "a"}], [({"note": None}, "/note")]),
    Case("a list", a_list(WHOLE), [[], [1, 2]], [([1, "2"], "/1"), ({}, "")]),
    Case(
        "a list of bounded length", a_list(TEXT, minItems=2, maxItems=3), [["a", "b"]], [(["a"], ""), (["a"] * 4, "")]
    ),
    Case(
        "different items",
        a_list({"type": "integer", "minimum": 1, "maximum": 9}, uniqueItems=True, minItems=2),
        [[1, 2]],
        [([1, 2, 1.0], ""), ([1, 1], "")],
    ),
    Case(
        "different objects",
        a_list(an_object(a=WHOLE), uniqueItems=True),
        [[{"a": 1}, {"a": 2}]],
        [([{"a": 1}, {"a": 1}], "")],
    ),
    Case(
        "a tuple",
        {"type": "array", "prefixItems": [TEXT, WHOLE], "items": False, "minItems": 2},
        [["a", 1]],
        [(["a", "b"], "/1"), (["a", 1, 2], "/2"), (["a"], "")],
    ),
    Case(
        "a tuple with a tail",
        {"type": "array", "prefixItems": [{"const": "sum"}], "items": WHOLE},
        [["sum"], ["sum", 1, 2]],
        [(["sum", 1, "2"], "/2"), (["difference"], "/0")],
    ),
    Case(
        "an item that must be there",
        {"type": "array", "contains": {"const": "required"}, "items": TEXT},
        [["a", "required"]],
        [(["a", "b"], ""), ([], "")],
    ),
    Case(
        "between two and three of them",
        {"type": "array", "contains": {"type": "integer", "minimum": 5}, "minContains": 2, "maxContains": 3},
        [[5, "a", 6]],
        [([5, 1], ""), ([5, 6, 7, 8], "")],
    ),
    Case("an enum", {"enum": ["red", "green", 3, None]}, ["red", 3, 3.0, None], [("blue", ""), (True, "")]),
    Case(
        "an enum of objects",
        {"enum": [{"a": [1, 2]}, [True]]},
        [{"a": [1.0, 2]}, [True]],
        [({"a": [2, 1]}, ""), ([1], "")],
    ),
    Case("a constant", {"const": {"v": [1, True]}}, [{"v": [1, True]}], [({"v": [1, 1]}, ""), ({}, "")]),
    Case("from and to", {"type": "integer", "minimum": 1, "maximum": 5}, [1, 5], [(0, ""), (6, "")]),
    Case(
        "between, exclusively",
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        [0.5],
        [(0, ""), (1, "")],
    ),
    Case(
        "cents",
        {"type": "number", "multipleOf": 0.01, "minimum": 0},
        [19.99, 0.07, 1.1, 4.35, 3],
        [(19.999, ""), (0.005, "")],
    ),
    Case("sevens", {"type": "integer", "multipleOf": 7, "minimum": 50}, [56, 63.0], [(57, ""), (7, "")]),
    Case(
        "a text of bounded length",
        {"type": "string", "minLength": 2, "maxLength": 4},
        ["äöü", "😀😀"],
        [("a", ""), ("abcde", "")],
    ),
    Case(
        "a pattern",
        {"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$", "examples": ["AB-1"]},
        ["AB-12"],
        [("ab-12", ""), ("AB-", "")],
    ),
    Case("a text that is not blank", {"type": "string", "pattern": r"\S"}, ["a "], [("  ", ""), ("", "")]),
    Case("a date", {"type": "string", "format": "date"}, ["2026-02-28"], [("2026-02-30", ""), ("28.2.2026", "")]),
    Case(
        "a moment",
        {"type": "string", "format": "date-time"},
        ["2026-11-21T12:30:00Z", "2026-11-21T12:30:00.5+01:00"],
        [("2026-11-21", ""), ("2026-11-31T12:30:00Z", ""), ("2026-11-21T25:00:00Z", "")],
    ),
    Case("a time", {"type": "string", "format": "time"}, ["12:30:00Z"], [("12:30", ""), ("noon", "")]),
    Case(
        "a duration",
        {"type": "string", "format": "duration"},
        ["PT5M", "P1DT2H"],
        [("5 minutes", ""), ("P", ""), ("PT", "")],
    ),
    Case("an address of mail", {"type": "string", "format": "email"}, ["ada@example.com"], [("ada", "")]),
    Case("a uuid", {"type": "string", "format": "uuid"}, ["f81d4fae-7dec-11d0-a765-00a0c91e6bf6"], [("f81d4fae", "")]),
    Case(
        "an address of a host", {"type": "string", "format": "ipv4"}, ["192.0.2.1"], [("192.0.2.256", ""), ("::1", "")]
    ),
    Case(
        "nullable by anyOf",
        an_object(x={"anyOf": [WHOLE, {"type": "null"}]}),
        [{"x": None}, {"x": 1}],
        [({"x": "1"}, "/x")],
    ),
    Case(
        "alternatives with a tag",
        SHAPES,
        [{"kind": "circle", "radius": 1}, {"kind": "square", "side": 0.5}],
        [
            ({"kind": "circle", "radius": "1"}, "/radius"),
            ({"kind": "cube"}, "/kind"),
            ({"kind": "square"}, ""),
            (1, ""),
        ],
    ),
    Case(
        "exactly one",
        {"type": "integer", "oneOf": [{"multipleOf": 3}, {"multipleOf": 5}], "maximum": 14},
        [3, 5, 9],
        [(15, ""), (7, "")],
    ),
    Case(
        "parts",
        {"allOf": [an_object(id=WHOLE), an_object(name=TEXT)], "maxProperties": 3},
        [{"id": 1, "name": "a"}],
        [({"id": 1}, ""), ({"id": "1", "name": "a"}, "/id")],
    ),
    Case(
        "parts and nothing else",
        {"allOf": [an_object(id=WHOLE)], **an_object(name=TEXT), "unevaluatedProperties": False},
        [{"id": 1, "name": "a"}],
        [({"id": 1, "name": "a", "x": 1}, "/x")],
    ),
    Case(
        "no unevaluated items",
        {
            "type": "array",
            "prefixItems": [TEXT],
            "minItems": 2,
            "allOf": [{"prefixItems": [True, WHOLE]}],
            "unevaluatedItems": False,
        },
        [["a", 1]],
        [(["a", 1, 2], "/2"), (["a", "b"], "/1")],
    ),
    Case(
        "not this",
        {"type": "string", "not": {"enum": ["", "unknown"]}, "minLength": 1},
        ["known"],
        [("unknown", ""), ("", "")],
    ),
    Case(
        "if, then, else",
        SHIPPING,
        [{"country": "US", "zip": "10115"}, {"country": "NL"}, {"country": "NL", "zip": "1011 AB"}],
        [
            ({"country": "US"}, ""),
            ({"country": "US", "zip": "1"}, "/zip"),
            ({"country": "NL", "zip": "too long a code"}, "/zip"),
        ],
    ),
    Case(
        "one property needs another",
        {**an_object(False, card=TEXT, address=TEXT), "dependentRequired": {"card": ["address"]}, "minProperties": 1},
        [{"address": "x"}, {"card": "1", "address": "x"}],
        [({"card": "1"}, ""), ({}, "")],
    ),
    Case(
        "one property brings a schema",
        {
            **an_object(False, card=TEXT),
            "dependentSchemas": {"card": an_object(cvc={"type": "string", "minLength": 3})},
        },
        [{}, {"card": "1", "cvc": "123"}],
        [({"card": "1"}, ""), ({"card": "1", "cvc": "1"}, "/cvc")],
    ),
    Case(
        "properties by pattern",
        {"type": "object", "patternProperties": {"^n_": WHOLE, "_t$": TEXT}, "additionalProperties": False},
        [{}, {"n_a": 1, "b_t": "x"}],
        [({"n_a": "1"}, "/n_a"), ({"other": 1}, "/other")],
    ),
    Case(
        "names of properties",
        {
            "type": "object",
            "propertyNames": {"pattern": "^[a-z_0-9]+$", "maxLength": 20},
            "additionalProperties": WHOLE,
        },
        [{"good_name": 1}],
        [({"Bad": 1}, ""), ({"x" * 30: 1}, "")],
    ),
    Case(
        "names in any script",
        {**an_object(**{"größe": WHOLE, "名前": TEXT, "a/b": TEXT, "m~n": TEXT}), "additionalProperties": False},
        [{"größe": 1, "名前": "x", "a/b": "", "m~n": ""}],
        [
            ({"größe": "1", "名前": "x", "a/b": "", "m~n": ""}, "/größe"),
            ({"größe": 1, "名前": "x", "a/b": 1, "m~n": ""}, "/a~1b"),
            ({"größe": 1, "名前": "x", "a/b": "", "m~n": 1}, "/m~0n"),
        ],
    ),
    Case(
        "a tree",
        TREE,
        [{"value": 1}, {"value": 1, "children": [{"value": 2, "children": []}]}],
        [({"value": 1, "children": [{"value": 2}, {"value": "3"}]}, "/children/1/value"), ({"children": []}, "")],
    ),
    Case(
        "a list with an end",
        {
            "$defs": {"L": {**an_object(head=WHOLE, tail={"anyOf": [{"$ref": "#/$defs/L"}, {"type": "null"}]})}},
            "$ref": "#/$defs/L",
        },
        [{"head": 1, "tail": {"head": 2, "tail": None}}],
        [({"head": 1}, ""), ({"head": 1, "tail": {"head": "2", "tail": None}}, "/tail/head")],
    ),
    Case(
        "an anchor",
        {"$defs": {"Name": {"$anchor": "name", "type": "string", "minLength": 1}}, **a_list({"$ref": "#name"})},
        [["a"]],
        [(["a", ""], "/1")],
    ),
    Case(
        "an id within",
        {
            "$id": "https://example.com/order.json",
            "$defs": {"price": {"$id": "/price.json", "type": "number", "minimum": 0}},
            **an_object(price={"$ref": "https://example.com/price.json"}, again={"$ref": "price.json"}),
        },
        [{"price": 1, "again": 2}],
        [({"price": -1, "again": 2}, "/price"), ({"price": 1, "again": -2}, "/again")],
    ),
    Case(
        "a dynamic reference",
        DYNAMIC_TREE,
        [{"data": "a", "children": [{"data": "b"}]}],
        [({"data": "a", "children": [{"data": "b", "daat": 1}]}, "/children/0/daat"), ({"data": 1}, "/data")],
    ),
    Case(
        "as pydantic writes it",
        PYDANTIC,
        [
            {"name": "Ada", "address": {"street": "x", "zip": "1"}},
            {"name": "A", "age": 3, "address": {"street": "", "zip": ""}},
        ],
        [
            ({"name": "Ada", "age": -1, "address": {"street": "x", "zip": "1"}}, "/age"),
            ({"name": "Ada", "address": {"zip": "1"}}, "/address"),
        ],
    ),
    Case(
        "as zod writes it (draft-07)",
        ZOD,
        [{"items": [{"price": 1}]}],
        [({"items": [{"price": 1}, {"price": "2"}, {}]}, "/items/2"), ({"items": [], "x": 1}, "/x")],
    ),
    Case(
        "a tuple of draft-07",
        {"$schema": DRAFT_7, "type": "array", "items": [TEXT, WHOLE], "additionalItems": False, "minItems": 2},
        [["a", 1]],
        [(["a", 1, 2], "/2"), ([1, 1], "/0")],
    ),
    Case(
        "dependencies of draft-07",
        {
            "$schema": DRAFT_7,
            **an_object(False, a=TEXT, b=TEXT),
            "dependencies": {"a": ["b"], "b": {"maxProperties": 2}},
        },
        [{"b": "x"}, {"a": "", "b": ""}],
        [({"a": ""}, ""), ({"a": "", "b": "", "c": 1}, "")],
    ),
    Case(
        "invoices",
        {
            "$schema": DRAFT_2020,
            **an_object(
                number={"type": "string", "minLength": 3},
                total={"type": "number", "minimum": 0},
                currency={"enum": ["EUR", "USD"]},
                lines=a_list(
                    {**an_object(text=TEXT, quantity={"type": "integer", "minimum": 1}, price={"type": "number"})},
                    minItems=1,
                ),
            ),
            "additionalProperties": False,
        },
        [{"number": "A-1", "total": 2, "currency": "EUR", "lines": [{"text": "x", "quantity": 1, "price": 2}]}],
        [
            (
                {"number": "A-1", "total": 2, "currency": "EUR", "lines": [{"text": "x", "quantity": 0, "price": 2}]},
                "/lines/0/quantity",
            ),
            ({"number": "A-1", "total": 2, "currency": "GBP", "lines": []}, "/currency"),
        ],
    ),
]
