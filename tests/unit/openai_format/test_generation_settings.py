"""Sampling, reasoning and the answer's format as generationConfig."""

from __future__ import annotations

from typing import Any

import pytest

from shared.gemini.models import MODELS, info_of
from shared.http.bodies import read
from shared.openai_format.chat_body import ChatBody
from shared.openai_format.generation_settings import nearest_level
from shared.openai_format.translation import Resolved, translate
from tests.support.openai_chat import HELLO, refused, sent, settings

OBJECT = {"type": "object", "properties": {"a": {"type": "integer", "nullable": True}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("name", "value", "native"),
    [
        ("max_completion_tokens", 9, {"maxOutputTokens": 9}),
        ("max_tokens", 9, {"maxOutputTokens": 9}),
        ("temperature", 0, {"temperature": 0}),
        ("top_p", 0.5, {"topP": 0.5}),
        ("top_k", 4, {"topK": 4}),
        ("presence_penalty", -1, {"presencePenalty": -1}),
        ("frequency_penalty", 1.5, {"frequencyPenalty": 1.5}),
        ("stop", "END.", {"stopSequences": ["END."]}),
        ("stop", ["a", "b"], {"stopSequences": ["a", "b"]}),
        ("stop", [], {}),
        ("seed", -5, {"seed": -5}),
        ("seed", 2**31 - 1, {"seed": 2**31 - 1}),
        ("seed", 2**40 + 5, {"seed": 5}),
        ("seed", -(2**63), {"seed": 0}),
        ("modalities", ["text"], {"responseModalities": ["TEXT"]}),
        ("reasoning_effort", "low", {"thinkingConfig": {"thinkingLevel": "LOW"}}),
        ("response_format", {"type": "text"}, {}),
        ("response_format", {"type": "json_object"}, {"responseMimeType": "application/json"}),
        ("temperature", None, {}),
    ],
)
def test_parameter_is_a_setting(name: str, value: Any, native: dict[str, Any]) -> None:
    assert settings(**{name: value}) == native


def test_both_limits_may_be_sent_when_equal() -> None:
    assert settings(max_tokens=9, max_completion_tokens=9) == {"maxOutputTokens": 9}


def test_images_may_be_asked_for() -> None:
    found = settings(model="gemini-3-pro-image", modalities=["image", "text"])
    assert found == {"responseModalities": ["IMAGE", "TEXT"]}


# -- reasoning ---------------------------------------------------------------------------------------------------------

CHATTY = ("pro", "flash", "flash_lite", "open")
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (("low", "medium", "high"), ["low", "low", "low", "medium", "high", "high", "high"]),
        (("minimal", "low", "medium", "high"), ["minimal", "minimal", "low", "medium", "high", "high", "high"]),
        (("low", "medium", "high", "xhigh"), ["low", "low", "low", "medium", "high", "xhigh", "xhigh"]),
        (("low", "high"), ["low", "low", "low", "low", "high", "high", "high"]),
    ],
)
def test_effort_is_the_nearest_level(levels: tuple[str, ...], expected: list[str]) -> None:
    assert [nearest_level(effort, levels) for effort in EFFORTS] == expected


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("model", sorted(one.id for one in MODELS.values() if one.kind in CHATTY))
def test_every_text_model_takes_every_effort(model: str, effort: str) -> None:
    """The offline Gemini rejects a level that a model does not have."""
    thinking = settings(model=model, reasoning_effort=effort).get("thinkingConfig")
    assert (thinking is None) == (info_of(model).thinking_levels == ())  # type: ignore[union-attr]


def test_unknown_model_gets_a_level_that_all_have() -> None:
    body = read(ChatBody, {"messages": [HELLO], "model": "gemini-9", "reasoning_effort": "max"})
    assert translate(body, Resolved()).body["generationConfig"] == {"thinkingConfig": {"thinkingLevel": "HIGH"}}


@pytest.mark.parametrize("nested", [False, True])
def test_google_options(nested: bool) -> None:
    """`extra_body={"google": ...}` puts them at the top; some clients send `extra_body` itself."""
    options = {"google": {"thinking_config": {"include_thoughts": True, "thinkingLevel": "high"}}}
    translated = sent({"extra_body": options} if nested else options)
    thinking = {"includeThoughts": True, "thinkingLevel": "HIGH"}
    assert translated.body["generationConfig"] == {"thinkingConfig": thinking}
    assert translated.reasoning is True
    assert sent({"reasoning_effort": "high"}).reasoning is False


def test_cached_content_is_named() -> None:
    body = read(ChatBody, {"messages": [HELLO], "google": {"cached_content": "cachedContents/x"}})
    assert translate(body, Resolved()).body["cachedContent"] == "cachedContents/x"


# -- the answer's format -----------------------------------------------------------------------------------------------


def asked(schema: Any = OBJECT, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema, **more}}


def test_strict_schema_is_sent_and_checked() -> None:
    """In the dialect that Gemini reads."""
    translated = sent({"response_format": asked(strict=True)})
    config = translated.body["generationConfig"]
    assert config["responseMimeType"] == "application/json"
    assert config["responseJsonSchema"]["properties"] == {"a": {"type": ["integer", "null"]}}
    assert translated.schema is not None
    assert translated.schema.problems({"a": None}) == []
    assert translated.schema.problems({}) != []
    assert translated.json_only is False


def test_other_schema_is_only_sent() -> None:
    translated = sent({"response_format": asked()})
    assert "responseJsonSchema" in translated.body["generationConfig"]
    assert (translated.schema, translated.json_only) == (None, False)


def test_format_without_schema_is_json() -> None:
    for wanted in ({"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "thing"}}):
        translated = sent({"response_format": wanted})
        assert (translated.schema, translated.json_only) == (None, True)
    assert sent({}).json_only is False


# -- refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "field", "says"),
    [
        ({"temperature": 2.1}, "temperature", "from 0 to 2"),
        ({"top_p": "1"}, "top_p", "from 0 to 1"),
        ({"max_tokens": 0}, "max_tokens", "from 1"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens", "differ"),
        ({"seed": 2**63}, "seed", "whole number"),
        ({"stop": ["a"] * 6}, "stop", "at most 5 entries"),
        ({"stop": ""}, "stop", "is empty"),
        ({"stop": [""]}, "stop[0]", "is empty"),
        ({"stop": 1}, "stop", "a text or a list of texts, not a number"),
        ({"reasoning_effort": "huge"}, "reasoning_effort", "'none'"),
        ({"modalities": ["audio"]}, "modalities", "speech"),
        ({"modalities": []}, "modalities", '["text"]'),
        ({"response_format": {"type": "xml"}}, "response_format.type", "'json_schema'"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "is required"),
        (
            {"response_format": {"type": "json_object", "json_schema": {"name": "x"}}},
            "response_format.json_schema",
            "absent",
        ),
        ({"response_format": asked({"type": "objekt"})}, "response_format.json_schema.schema", "/type"),
        ({"response_format": asked([])}, "response_format.json_schema.schema", "an object"),
        (
            {"reasoning_effort": "low", "google": {"thinking_config": {}}},
            "reasoning_effort",
            "mutually exclusive",
        ),
        ({"google": {}, "extra_body": {"google": {}}}, "google", "mutually exclusive"),
        ({"google": {"safety_settings": []}}, "google.safety_settings", "Unknown field"),
    ],
)
def test_wrong_setting_is_refused(values: dict[str, Any], field: str, says: str) -> None:
    named, message = refused(values)
    assert named == field
    assert says in message
