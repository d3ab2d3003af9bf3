"""The body of a chat completion: what is honoured, refused by name, or ignored."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.support.image_samples import written
from tests.support.openai_chat import HELLO, contents, refused, sent

PLAIN = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
CATEGORIES = {"HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT", "CIVIC_INTEGRITY"}
PNG = base64.b64encode(written("PNG")).decode()


def test_body_without_parameters() -> None:
    translated = sent({"model": "gemini-3.8-flash"})
    assert translated.body == PLAIN
    assert (translated.model, translated.stream, translated.include_usage, translated.n) == (
        "gemini-3.8-flash",
        False,
        False,
        1,
    )
    assert sent({}).model is None


def test_stream_and_number_of_answers() -> None:
    translated = sent({"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}, "n": 3})
    assert (translated.stream, translated.include_usage, translated.n) == (True, True, 3)


@pytest.mark.parametrize(
    "values",
    [
        {"metadata": {"a": "b"}},
        {"prediction": {"type": "content", "content": "x"}},
        {"prompt_cache_key": "k", "prompt_cache_retention": "24h", "prompt_cache_options": {"mode": "implicit"}},
        {"safety_identifier": "s", "user": "ada", "verbosity": "low"},
        {"store": False, "logprobs": False, "logit_bias": {}},
        {"store": None, "logprobs": None, "logit_bias": None, "audio": None, "functions": None, "moderation": None},
        {"chat_id": "c", "session_id": "s", "min_p": 0.1, "repeat_penalty": 1.1, "num_ctx": 2048, "num_keep": 1},
        {"service_tier": "auto"},
        {"service_tier": "priority"},
        {"credentials": {"gemini_api_key": "AQ.key"}},
    ],
)
def test_ignored_parameter_changes_nothing(values: dict[str, Any]) -> None:
    assert sent(values).body == PLAIN


def test_safe_mode_blocks_every_category() -> None:
    found = sent({"safe_mode": True}).body["safetySettings"]
    assert {one["category"].removeprefix("HARM_CATEGORY_") for one in found} == CATEGORIES
    assert {one["threshold"] for one in found} == {"BLOCK_LOW_AND_ABOVE"}
    assert sent({"safe_mode": False}).body == PLAIN


@pytest.mark.parametrize(
    ("details", "resolution"),
    [
        (["low"], "MEDIA_RESOLUTION_LOW"),
        (["low", "low"], "MEDIA_RESOLUTION_LOW"),
        (["low", "auto"], None),
        ([None], None),
    ],
)
def test_small_images_are_read_in_low_resolution(details: list[str | None], resolution: str | None) -> None:
    """Gemini has one resolution for a request."""
    url = f"data:image/png;base64,{PNG}"
    parts = [{"type": "image_url", "image_url": {"url": url, "detail": detail}} for detail in details]
    body = sent({"messages": [{"role": "user", "content": parts}]}).body
    assert body.get("generationConfig", {}).get("mediaResolution") == resolution


def test_what_clients_add_to_an_answer_is_ignored() -> None:
    """The SDK returns the whole message; LiteLLM and langchain add fields of their own."""
    function = {"name": "f", "arguments": "{}", "parsed_arguments": {}, "provider_specific_fields": None}
    message = {
        "role": "assistant",
        "content": "Hi",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "reasoning_content": "Hm.",
        "images": [],
        "parsed": None,
        "name": "ada",
        "tool_calls": [{"id": "a", "type": "function", "index": 0, "function": function}],
    }
    found = contents(HELLO, message, {"role": "tool", "tool_call_id": "a", "content": "1", "name": "f"})
    assert [next(iter(part)) for part in found[1]["parts"]] == ["text", "functionCall"]


@pytest.mark.parametrize(
    ("values", "field", "says"),
    [
        ({"messages": None}, "messages", "is required"),
        ({"messages": []}, "messages", "is empty"),
        ({"messages": "Hello"}, "messages", "must be a list"),
        ({"n": 9}, "n", "from 1 to 8"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"store": True}, "store", "must be false"),
        ({"logprobs": True}, "logprobs", "must be false"),
        ({"top_logprobs": 2}, "top_logprobs", "not supported"),
        ({"logit_bias": {"50256": -100}}, "logit_bias", "must be empty"),
        ({"service_tier": "flex"}, "service_tier", "flex"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio", "speech"),
        ({"moderation": {"model": "x"}}, "moderation", "safe_mode"),
        ({"functions": []}, "functions", "send tools"),
        ({"function_call": "auto"}, "function_call", "send tool_choice"),
        ({"temprature": 1}, "temprature", "Did you mean temperature?"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "is required"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role", "must be one of"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "is required"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content", "is required"),
        ({"messages": [{"role": "user", "content": {}}]}, "messages[0].content", "a list of parts, not an object"),
        (
            {"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content",
            "must be text",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", "is required"),
        (
            {"messages": [{"role": "user", "content": "x", "tool_calls": [{"id": "a", "function": {}}]}]},
            "messages[0].tool_calls[0].function.name",
            "is required",
        ),
        ({"messages": [{"role": "user", "content": "x", "surname": "y"}]}, "messages[0].surname", "Unknown field"),
        (
            {"messages": [{"role": "assistant", "function_call": {"name": "f"}}]},
            "messages[0].function_call",
            "send tool_calls",
        ),
        ({"prompts": [{"text": "x"}], "messages": [HELLO]}, "messages", "mutually exclusive"),
    ],
)
def test_wrong_body_is_refused(values: dict[str, Any], field: str, says: str) -> None:
    named, message = refused(values)
    assert named == field
    assert says in message
