"""`prompts`, as clients of the program before this one send them."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.support.image_samples import written
from tests.support.openai_chat import refused, sent

PNG = base64.b64encode(written("PNG")).decode()
INLINE = {"inlineData": {"mimeType": "image/png", "data": PNG}}


@pytest.mark.parametrize("data", [f"data:image/png;base64,{PNG}", PNG])
def test_image_beside_a_text(data: str) -> None:
    prompt = {"role": "user", "text": "What is it?", "files": [{"data": data, "type": "image"}]}
    body = sent({"model": "gemini-3.8-flash", "prompts": [prompt]}).body
    assert body == {"contents": [{"role": "user", "parts": [{"text": "What is it?"}, INLINE]}]}


def test_conversation_with_an_instruction() -> None:
    prompts = [
        {"role": "system", "text": "Be brief."},
        {"role": "user", "text": "Hello"},
        {"role": "assistant", "text": "Hi"},
        {"role": "user", "files": [{"data": PNG}]},
    ]
    body = sent({"prompts": prompts, "safe_mode": False}).body
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert [one["role"] for one in body["contents"]] == ["user", "model", "user"]
    assert body["contents"][2]["parts"] == [INLINE]


def test_instruction_alone_is_a_user_turn() -> None:
    body = sent({"prompts": [{"role": "system", "text": "Write a poem."}]}).body
    assert body == {"contents": [{"role": "user", "parts": [{"text": "Write a poem."}]}]}


@pytest.mark.parametrize(
    ("prompt", "field", "says"),
    [
        ({"role": "user"}, "prompts[0].text", "is required"),
        ({"role": "robot", "text": "x"}, "prompts[0].role", "must be one of"),
        ({"text": "x", "files": [{"data": "=="}]}, "prompts[0].files[0].data", "base64"),
        ({"text": "x", "files": [{}]}, "prompts[0].files[0].data", "is required"),
        ({"role": "system", "text": "x", "files": [{"data": PNG}]}, "prompts[0].files", "role user"),
    ],
)
def test_wrong_prompt_is_refused(prompt: dict[str, Any], field: str, says: str) -> None:
    named, message = refused({"prompts": [prompt]})
    assert named == field
    assert says in message
