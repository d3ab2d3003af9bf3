"""Thought signatures of the offline Gemini: each backend rejects the other one's."""

from __future__ import annotations

from typing import Any

import pytest

from shared.emulator.errors import GoogleError
from shared.emulator.signatures import Backend, check_signatures, signed

from .conftest import Asker

TOOLS = {
    "tools": [{"functionDeclarations": [{"name": "f"}, {"name": "g"}, {"name": "other"}]}],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
}


@pytest.mark.parametrize(
    ("made_by", "read_by", "message"),
    [
        ("vertex", "gemini", "Corrupted thought signature."),
        ("gemini", "vertex", "Invalid thought signature."),
        ("gemini", "gemini", None),
        ("vertex", "vertex", None),
    ],
)
def test_a_signature_is_valid_where_it_was_made(made_by: Backend, read_by: Backend, message: str | None) -> None:
    contents = [{"parts": [{"text": "x"}]}, {"parts": [{"text": "", "thoughtSignature": signed(7, made_by)}]}]
    if message is None:
        check_signatures(contents, read_by)
    else:
        with pytest.raises(GoogleError, match=message) as raised:
            check_signatures(contents, read_by)
        assert raised.value.code == 400


@pytest.mark.parametrize("method", ["generateContent", "streamGenerateContent"])
async def test_of_parallel_calls_the_first_one_is_signed(ask: Asker, method: str) -> None:
    """Functions that the prompt names are called together, and again after their results in mode ANY."""
    contents: list[dict[str, Any]] = [{"role": "user", "parts": [{"text": "Use f and g."}]}]
    for _ in range(2):
        status, answer = await ask.ask(body={"contents": contents, **TOOLS}, method=method)
        assert status == 200
        frames = [answer] if isinstance(answer, dict) else answer
        parts = [part for frame in frames for part in frame["candidates"][0]["content"].get("parts", ())]
        calls = [part for part in parts if "functionCall" in part]
        assert [part["functionCall"]["name"] for part in calls] == ["f", "g"]
        assert [bool(part.get("thoughtSignature")) for part in calls] == [True, False]
        results = [{"functionResponse": {"name": name, "response": {}}} for name in "fg"]
        contents += [{"role": "model", "parts": calls}, {"role": "user", "parts": results}]


async def test_a_foreign_signature_is_rejected_by_the_method(ask: Asker) -> None:
    said = {"role": "model", "parts": [{"text": "x", "thoughtSignature": signed(7, "vertex")}]}
    user = {"role": "user", "parts": [{"text": "Hi"}]}
    assert await ask.message(body={"contents": [user, said, user]}) == "Corrupted thought signature."
