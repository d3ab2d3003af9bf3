"""The text of an answer, and the errors that an answer without text means."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import EmptyResponse, GatewayError, PromptBlocked, ResponseBlocked
from shared.gemini.answer_text import answer_text
from tests.support.edge import native


def test_text_excludes_thoughts() -> None:
    parts = [
        {"text": "Hmm.", "thought": True},
        {"text": "Yes"},
        {"text": "", "thoughtSignature": "x"},
        {"text": "!"},
    ]
    assert answer_text({"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]}) == "Yes!"


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        ({"promptFeedback": {"blockReason": "SAFETY"}}, PromptBlocked, "SAFETY"),
        ({"promptFeedback": {"blockReason": "OTHER", "blockReasonMessage": "Skipped."}}, PromptBlocked, "Skipped"),
        ({"promptFeedback": {"blockReason": "OTHER", "blockReasonMessage": 5}}, PromptBlocked, "safety_settings.$"),
        (native("", "MAX_TOKENS"), EmptyResponse, "max_output_tokens"),
        (
            {"candidates": [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}]},
            EmptyResponse,
            "MAX_TOKENS",
        ),
        (native("", "STOP"), EmptyResponse, "STOP"),
        ({}, EmptyResponse, "missing"),
        ({"candidates": []}, EmptyResponse, "missing"),
        ({"candidates": [{"finishReason": "RECITATION"}]}, ResponseBlocked, "RECITATION"),
        (native("", "SAFETY"), ResponseBlocked, "SAFETY"),
    ],
)
def test_error_names_the_reason_for_missing_text(body: dict[str, Any], error: type[GatewayError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        answer_text(body)
    assert caught.value.details is not None
