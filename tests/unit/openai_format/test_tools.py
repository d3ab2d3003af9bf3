"""Tools and tool_choice as Gemini's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.openai_chat import refused, sent

SCHEMA = {"type": "object", "properties": {"city": {"type": ["string", "null"]}}, "additionalProperties": False}


def tool(name: str = "weather", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


def calling(**values: Any) -> Any:
    """functionCallingConfig of a request with two tools; None if there is none."""
    body = sent({"tools": [tool(), tool("time")], **values}).body
    return body.get("toolConfig", {}).get("functionCallingConfig")


def declared(**function: Any) -> Any:
    (declaration,) = sent({"tools": [tool(**function)]}).body["tools"][0]["functionDeclarations"]
    return declaration


def test_schema_is_passed_on_as_json_schema() -> None:
    assert declared(description="Looks out.", parameters=SCHEMA, strict=True) == {
        "name": "weather",
        "description": "Looks out.",
        "parametersJsonSchema": SCHEMA,
    }


@pytest.mark.parametrize(
    "parameters",
    [
        None,
        {},
        {"type": "object", "properties": {}},
        {"type": "object", "properties": {}, "additionalProperties": False},
    ],
)
def test_function_without_arguments_has_no_schema(parameters: Any) -> None:
    """Gemini rejects an object type without properties."""
    assert declared(parameters=parameters) == {"name": "weather"}


def test_free_form_object_keeps_its_schema() -> None:
    free = {"type": "object", "additionalProperties": True}
    assert declared(parameters=free)["parametersJsonSchema"] == free


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("auto", None),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "time"}}, {"mode": "ANY", "allowedFunctionNames": ["time"]}),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool("time")]}},
            {"mode": "VALIDATED", "allowedFunctionNames": ["time"]},
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [tool("time"), tool()]}},
            {"mode": "ANY", "allowedFunctionNames": ["time", "weather"]},
        ),
    ],
)
def test_choice_is_a_mode(choice: Any, expected: Any) -> None:
    assert calling(tool_choice=choice) == expected


@pytest.mark.parametrize("choice", [None, "auto"])
def test_strict_function_is_validated(choice: Any) -> None:
    """In this mode Gemini keeps to the schema, and may answer with text."""
    strict = [tool(parameters=SCHEMA, strict=True)]
    assert calling(tools=strict, tool_choice=choice) == {"mode": "VALIDATED"}
    assert calling(tools=strict, tool_choice="required") == {"mode": "ANY"}


@pytest.mark.parametrize("choice", ["none", "auto"])
def test_choice_without_tools_is_nothing(choice: str) -> None:
    body = sent({"tools": [], "tool_choice": choice}).body
    assert "tools" not in body
    assert "toolConfig" not in body


def test_web_search_is_a_tool_of_google() -> None:
    assert sent({"web_search_options": {"search_context_size": "low"}}).body["tools"] == [{"googleSearch": {}}]
    both = sent({"web_search_options": {}, "tools": [tool()]}).body["tools"]
    assert [list(one) for one in both] == [["functionDeclarations"], ["googleSearch"]]


def test_translation_names_the_tools() -> None:
    translated = sent({"tools": [tool(), tool("time")]})
    assert (translated.tool_names, translated.parallel_calls) == (("weather", "time"), True)
    assert sent({"tools": [tool()], "parallel_tool_calls": False}).parallel_calls is False


@pytest.mark.parametrize(
    ("values", "field", "says"),
    [
        ({"tools": [tool(), tool()]}, "tools[1].function.name", "weather a second time"),
        ({"tools": [tool("9lives")]}, "tools[0].function.name", "must start with a letter or _"),
        ({"tools": [tool("two words")]}, "tools[0].function.name", "must start with a letter or _"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "is required"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type", "must be function"),
        ({"tool_choice": "required"}, "tool_choice", "needs tools"),
        ({"tools": [tool()], "tool_choice": "any"}, "tool_choice", "none, auto, required"),
        ({"tools": [tool()], "tool_choice": 1}, "tool_choice", "not a number"),
        ({"tools": [tool()], "tool_choice": {"type": "function"}}, "tool_choice.function", "is required"),
        (
            {"tools": [tool()], "tool_choice": {"type": "function", "function": {"name": "time"}}},
            "tool_choice",
            "names time",
        ),
        (
            {"tools": [tool()], "tool_choice": {"type": "custom", "custom": {"name": "x"}}},
            "tool_choice.type",
            "'function' or 'allowed_tools'",
        ),
    ],
)
def test_wrong_tools_are_refused(values: dict[str, Any], field: str, says: str) -> None:
    named, message = refused(values)
    assert named == field
    assert says in message
