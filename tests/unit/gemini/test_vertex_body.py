"""A request of the Gemini API as Vertex takes it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from shared.gemini.vertex_body import vertex_body

HI = {"parts": [{"text": "Hi"}]}
USER = {"parts": [{"text": "Hi"}], "role": "user"}


def converted(message: dict[str, Any], verb: str = "generateContent") -> Any:
    """Parsed here and by the caller: the same."""
    body = orjson.dumps(message)
    ours, theirs = vertex_body(verb, body, None), vertex_body(verb, body, message)
    assert ours == theirs
    return None if ours is None else orjson.loads(ours)


@pytest.mark.parametrize(
    "message",
    [
        {"contents": [USER, {"role": "model", "parts": []}]},
        {"contents": [USER], "generationConfig": {"temperature": 1}, "serviceTier": "FLEX", "labels": {"store": "x"}},
        # What is not of the documented type is Vertex's to reject.
        {"contents": "Hi"},
        {"contents": ["Hi", 1, None]},
        {"contents": [{"role": "user", "parts": "Hi"}, {"role": "user", "parts": [1, "partMetadata"]}]},
        {"contents": None, "generationConfig": []},
        {"contents": [USER], "tools": [{"fileSearch": {"fileSearchStoreNames": ["a"]}}]},
    ],
)
def test_a_request_that_fits_is_sent_as_it_is(message: dict[str, Any]) -> None:
    assert converted(message) is None


@pytest.mark.parametrize("missing", [HI, {**HI, "role": None}, {**HI, "role": ""}])
def test_a_content_without_a_role_is_the_users(missing: dict[str, Any]) -> None:
    message = {"contents": [missing, {"role": "model", "parts": []}]}
    assert converted(message) == {"contents": [USER, {"role": "model", "parts": []}]}
    assert converted({"contents": missing}) == {"contents": USER}


def test_fields_that_vertex_does_not_know_are_left_out() -> None:
    message = {
        "model": "models/m",
        "store": True,
        "contents": [{"role": "user", "parts": [{"text": "Hi", "partMetadata": {"a": 1}}, "odd"]}],
        "generationConfig": {"temperature": 1, "enableEnhancedCivicAnswers": True},
    }
    assert converted(message) == {
        "contents": [{"role": "user", "parts": [{"text": "Hi"}, "odd"]}],
        "generationConfig": {"temperature": 1},
    }


def test_a_callers_message_stays_unchanged() -> None:
    message: dict[str, Any] = {"contents": [{**HI}], "store": True}
    before = orjson.dumps(message)
    vertex_body("generateContent", before, message)
    assert orjson.dumps(message) == before


def test_count_tokens_gets_the_fields_that_it_takes() -> None:
    request = {
        "model": "models/m",
        "contents": [HI],
        "systemInstruction": HI,
        "tools": [],
        "generationConfig": {},
        "safetySettings": [],
        "toolConfig": {},
    }
    kept = {"contents": [USER], "systemInstruction": HI, "tools": [], "generationConfig": {}}
    assert converted({"generateContentRequest": request}, "countTokens") == kept
    assert converted({"contents": [HI]}, "countTokens") == {"contents": [USER]}
    assert converted({"generateContentRequest": 1}, "countTokens") is None


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1"])
def test_a_body_that_is_no_message_is_left_to_vertex(body: bytes) -> None:
    assert vertex_body("generateContent", body, None) is None
