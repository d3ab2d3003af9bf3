"""Bodies of POST /chat: what they become for Gemini, and which field an error names."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from shared.chat.request import MAX_TURNS, NativeRequest, Request
from shared.errors import BadRequest
from shared.http.bodies import read

USER_TURN = {"role": "user", "parts": [{"text": "Hello"}]}
SAFETY = {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}
SCHEMA = jsonschema.Draft202012Validator(Request.model_json_schema())

ACCEPTED: list[dict[str, Any]] = [
    {"prompt": "Hello", "contents": None, "history": None, "stream": None, "credentials": {"other": 1}},
    {"prompt": "Hello", "history": [{"role": "user", "content": "a"}, {"role": "model", "parts": [{}]}]},
    {"prompt": "Hello", "history": [{"role": "assistant", "text": "a", "content": None, "parts": None}]},
    {"contents": [{}], "prompt": None, "history": None},
    {"prompt": "Hello", "generation_config": {"top_k": 40.0, "candidate_count": 1, "response_modalities": ["Text"]}},
    {"prompt": "Hello", "safety_settings": [{**SAFETY, "method": 1}]},
    {"prompt": "Hello", "message": None, "session_id": None},
    {"message": "Hello"},
    {"message": "Hello", "session_id": "new", "credentials": {}, "prompt": None, "model": None},
]
REJECTED: list[tuple[dict[str, Any], str]] = [
    ({}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": " \n\t"}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"prompt": ["x"]}, "prompt"),
    ({"prompt": "x", "system_prompt": 5}, "system_prompt"),
    ({"prompt": "x", "model": []}, "model"),
    ({"prompt": "x", "stream": "yes"}, "stream"),
    ({"prompt": "x", "stream": 1}, "stream"),
    ({"prompt": "x", "history": {}}, "history"),
    ({"prompt": "x", "history": ["Hello"]}, "history[0]"),
    ({"prompt": "x", "history": [{"role": "user", "content": "a"}, {"content": "b"}]}, "history[1].role"),
    ({"prompt": "x", "history": [{"role": "user", "content": "a"}] * (MAX_TURNS + 1)}, "history"),
    ({"contents": [USER_TURN] * (MAX_TURNS + 1)}, "contents"),
    ({"prompt": "x", "history": [{"role": "robot", "content": "a"}]}, "history[0].role"),
    ({"prompt": "x", "history": [{"role": None, "content": "a"}]}, "history[0].role"),
    ({"prompt": "x", "history": [{"role": "user"}]}, "history[0].content"),
    ({"prompt": "x", "history": [{"role": "user", "text": "a", "content": "b"}]}, "history[0].content"),
    ({"prompt": "x", "history": [{"role": "user", "content": ""}]}, "history[0].content"),
    ({"prompt": "x", "history": [{"role": "user", "content": ["a"]}]}, "history[0].content"),
    ({"prompt": "x", "history": [{"role": "user", "parts": []}]}, "history[0].parts"),
    ({"prompt": "x", "history": [{"role": "user", "parts": ["a"]}]}, "history[0].parts[0]"),
    ({"prompt": "x", "history": [{"role": "user", "text": "a", "name": "b"}]}, "history[0].name"),
    ({"contents": []}, "contents"),
    ({"contents": "x"}, "contents"),
    ({"contents": ["x"]}, "contents[0]"),
    ({"prompt": "x", "contents": [{}]}, "contents"),
    ({"message": ""}, "message"),
    ({"message": 1}, "message"),
    ({"message": "x", "prompt": "y"}, "message"),
    ({"message": "x", "contents": [{}]}, "message"),
    ({"message": "x", "stream": True}, "message"),
    ({"message": "x", "session_id": 1}, "session_id"),
    ({"prompt": "x", "session_id": "y"}, "session_id"),
    ({"contents": [{}], "session_id": "y"}, "session_id"),
    ({"history": [], "contents": [{}]}, "contents"),
    ({"prompt": "x", "generation_config": 1}, "generation_config"),
    ({"prompt": "x", "generation_config": {"temperature": 3}}, "generation_config.temperature"),
    ({"prompt": "x", "safety_settings": {}}, "safety_settings"),
    ({"prompt": "x", "safety_settings": [None]}, "safety_settings[0]"),
    ({"prompt": "x", "safety_settings": [{"category": "A"}]}, "safety_settings[0].threshold"),
    ({"prompt": "x", "safety_settings": [{**SAFETY, "threshold": ""}]}, "safety_settings[0].threshold"),
    ({"prompt": "x", "message": "y"}, "message"),
    ({"session_id": "x"}, "session_id"),
    ({"promt": "x"}, "promt"),
]


def converted(body: dict[str, Any]) -> NativeRequest:
    return read(Request, body).native()


def rejected(body: dict[str, Any]) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        converted(body)
    return caught.value


class TestNative:
    def test_prompt_alone(self) -> None:
        assert converted({"prompt": "Hello"}) == (None, {"contents": [USER_TURN]}, False)

    def test_prompt_is_unchanged(self) -> None:
        assert converted({"prompt": " Hello\n"}).body["contents"][0]["parts"] == [{"text": " Hello\n"}]

    def test_system_prompt_is_an_instruction(self) -> None:
        """A blank one is left out."""
        body = converted({"prompt": "Hello", "system_prompt": "Be kind."}).body
        assert body["systemInstruction"] == {"parts": [{"text": "Be kind."}]}
        for blank in ("", "  ", None):
            assert "systemInstruction" not in converted({"prompt": "Hello", "system_prompt": blank}).body

    def test_history_precedes_the_prompt(self) -> None:
        """In Gemini's roles."""
        image = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
        history = [
            {"role": "user", "content": "One"},
            {"role": "assistant", "text": "Two"},
            {"role": "model", "parts": [{"text": "Three"}, image]},
        ]
        assert converted({"prompt": "Hello", "history": history}).body["contents"] == [
            {"role": "user", "parts": [{"text": "One"}]},
            {"role": "model", "parts": [{"text": "Two"}]},
            {"role": "model", "parts": [{"text": "Three"}, image]},
            USER_TURN,
        ]

    def test_native_contents_are_unchanged(self) -> None:
        contents = [{"role": "user", "parts": [{"fileData": {"fileUri": "x"}, "newField": 1}]}]
        assert converted({"contents": contents, "stream": True}) == (None, {"contents": contents}, True)

    def test_credentials_are_not_sent(self) -> None:
        request = read(Request, {"prompt": "x", "credentials": {"gemini_api_key": "AQ.secret"}})
        assert "AQ.secret" not in str(request.native()) + repr(request)

    def test_safety_settings_are_unchanged(self) -> None:
        for given in ([SAFETY], [{**SAFETY, "method": {"a": None}}]):
            assert converted({"prompt": "x", "safety_settings": given}).body["safetySettings"] == given
        assert "safetySettings" not in converted({"prompt": "x", "safety_settings": []}).body


class TestRejection:
    @pytest.mark.parametrize(("body", "field"), REJECTED)
    def test_field_is_named(self, body: dict[str, Any], field: str) -> None:
        assert rejected(body).details == {"field": field}

    def test_misplaced_setting_is_redirected(self) -> None:
        for name in ("max_output_tokens", "maxOutputTokens"):
            message = rejected({"prompt": "x", name: 5}).message
            assert (
                message == f'{name} must be inside generation_config, like {{"generation_config": {{"{name}": ...}}}}.'
            )

    def test_instructions_in_history_are_redirected(self) -> None:
        assert "system_prompt" in rejected({"prompt": "x", "history": [{"role": "system", "content": "y"}]}).message

    @pytest.mark.parametrize(
        "more", [{"prompt": "x"}, {"contents": [{}]}, {"stream": False}, {"model": "gemini-3.8-flash"}]
    )
    def test_a_message_stands_alone(self, more: dict[str, Any]) -> None:
        error = rejected({"message": "x", **more})
        assert error.message.startswith(f"message and {next(iter(more))} are mutually exclusive")

    def test_a_session_has_messages_only(self) -> None:
        assert "session_id is for message only" in rejected({"prompt": "x", "session_id": "y"}).message

    def test_contents_exclude_prompt_and_history(self) -> None:
        assert "contents and history are mutually exclusive" in rejected({"contents": [{}], "history": []}).message
        assert "contents and prompt are mutually exclusive" in rejected({"contents": [{}], "prompt": "x"}).message


class TestSchema:
    """The specification's schema accepts the bodies that the model accepts."""

    @pytest.mark.parametrize("body", ACCEPTED)
    def test_accepts(self, body: dict[str, Any]) -> None:
        assert SCHEMA.is_valid(body)
        read(Request, body)

    @pytest.mark.parametrize("body", [body for body, _ in REJECTED])
    def test_rejects(self, body: dict[str, Any]) -> None:
        assert not SCHEMA.is_valid(body)
