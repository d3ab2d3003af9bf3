"""Each of Gemini's finish reasons has a meaning for OpenAI's clients."""

from __future__ import annotations

from typing import Any

import pytest
from google.genai import types

from shared.errors import EmptyResponse, UpstreamFailed
from shared.generation import JsonObject
from shared.openai_format.finish import ENDS, FAULTS, WITHHELD, Finish, finish_of

GOOGLES = {reason.name for reason in types.FinishReason} - {"FINISH_REASON_UNSPECIFIED"}


def ended(reason: Any, message: str = "") -> JsonObject:
    return {"candidates": [{"finishReason": reason, **({"finishMessage": message} if message else {})}]}


def finish(body: JsonObject, *, content: bool = True, calls: bool = False) -> Finish:
    return finish_of(body, has_content=content, has_calls=calls)


def test_every_reason_of_googles_sdk_has_one_row() -> None:
    assert sorted([*ENDS, *WITHHELD, *FAULTS]) == sorted(GOOGLES)


@pytest.mark.parametrize("reason", sorted(GOOGLES))
def test_a_reason_maps_or_is_an_error(reason: str) -> None:
    if reason in FAULTS:
        with pytest.raises(UpstreamFailed, match=reason):
            finish(ended(reason))
    else:
        found = finish(ended(reason))
        assert found.reason == ("content_filter" if reason in WITHHELD else ENDS[reason])
        assert (found.refusal is not None) == (reason in WITHHELD)
        assert found.refusal is None or reason in found.refusal


@pytest.mark.parametrize(
    ("reason", "expected"), [("STOP", "tool_calls"), ("MAX_TOKENS", "length"), (None, "tool_calls")]
)
def test_tool_calls_end_an_answer_that_ended_by_itself(reason: str | None, expected: str) -> None:
    """After MAX_TOKENS further calls may be missing."""
    assert finish(ended(reason), content=False, calls=True).reason == expected


def test_an_unknown_reason_is_not_taken_for_a_whole_answer() -> None:
    found = finish(ended("BRAND_NEW" * 20, "Something is new."))
    assert found.reason == "content_filter"
    assert found.refusal is not None
    assert "BRAND_NEW" in found.refusal
    assert found.refusal.endswith("Something is new.")
    assert len(found.refusal) < 200


@pytest.mark.parametrize("reason", [reason.name for reason in types.BlockedReason if "UNSPECIFIED" not in reason.name])
def test_a_blocked_prompt_is_filtered_with_its_reason(reason: str) -> None:
    found = finish({"promptFeedback": {"blockReason": reason, "blockReasonMessage": "Not so."}}, content=False)
    assert found == ("content_filter", f"Gemini blocked the prompt ({reason}); change the prompt. Not so.")


@pytest.mark.parametrize("body", [{}, {"candidates": []}, ended(None), ended("FINISH_REASON_UNSPECIFIED")])
def test_neither_content_nor_a_reason_is_an_error(body: JsonObject) -> None:
    with pytest.raises(EmptyResponse):
        finish(body, content=False)
    assert finish(body).reason == "stop"


@pytest.mark.parametrize(("reason", "expected"), [("STOP", "stop"), ("MAX_TOKENS", "length")])
def test_an_empty_answer_keeps_its_reason(reason: str, expected: str) -> None:
    assert finish(ended(reason), content=False) == (expected, None)


def test_only_faults_that_may_pass_are_sent_again() -> None:
    retried = set()
    for reason in FAULTS:
        with pytest.raises(UpstreamFailed) as raised:
            finish(ended(reason, "Malformed: f("))
        assert raised.value.message.endswith("Malformed: f(")
        if not raised.value.headers:
            retried.add(reason)
    assert retried == {"MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL"}
