"""Every finish reason of Gemini's, as openai-python's users see it, in a whole answer and in a stream."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.openai_sdk.conftest import Client, client_of
from tests.openai_sdk.gateway import PYTHON, served
from tests.openai_sdk.scripted_gemini import scripted_gemini

CREATE = "chat.completions.create"
ENDS = {"STOP": "stop", "MAX_TOKENS": "length", "CONTINUATION": "length"}
NONE = "FINISH_REASON_UNSPECIFIED"
"""Protobuf's zero: no reason at all."""
FAULTS = {
    NONE,
    "MALFORMED_FUNCTION_CALL",
    "MALFORMED_RESPONSE",
    "UNEXPECTED_TOOL_CALL",
    "TOO_MANY_TOOL_CALLS",
    "MISSING_THOUGHT_SIGNATURE",
}
"""Answers that nobody can use: an error. After any other reason the content was filtered."""


@pytest.fixture(scope="module")
def reasons() -> list[str]:
    """Of google-genai, which is in the project's environment."""
    code = "import json; from google.genai.types import FinishReason; print(json.dumps([one.value for one in FinishReason]))"
    done = subprocess.run([str(PYTHON), "-c", code], capture_output=True, check=True, timeout=60)
    found: list[str] = json.loads(done.stdout)
    assert ENDS.keys() | FAULTS < set(found)
    return found


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Of a gateway whose Gemini ends for the reason in the prompt."""
    settings = {"GEMINI_API_KEY": "AQ.key-of-the-script", "GEMINI_RPM": "unlimited", "GEMINI_TIER": "tier2"}
    with scripted_gemini() as gemini, served(GEMINI_BASE_URL=gemini, **settings) as gateway:
        yield gateway.base_url


@pytest.fixture(params=["sync", "async"])
async def client(request: pytest.FixtureRequest, url: str) -> Any:
    async with client_of(request.param, url) as made:
        yield made.with_options(max_retries=0)


def asked(reason: str) -> dict[str, Any]:
    return {
        "model": "gemini-3.8-flash",
        "messages": [{"role": "user", "content": f"[finish:{reason}]"}],
    }


def expected(reason: str) -> str:
    return "error" if reason in FAULTS else ENDS.get(reason, "content_filter")


async def test_whole_answer(client: Client, reasons: list[str]) -> None:
    seen = {}
    for reason in reasons:
        try:
            (choice,) = (await client(CREATE, **asked(reason))).choices
        except openai.InternalServerError as error:
            assert reason in str(error) or reason == NONE
            seen[reason] = "error"
            continue
        seen[reason] = choice.finish_reason
        filtered = choice.finish_reason == "content_filter"
        assert (choice.message.refusal is not None) == filtered
        assert not filtered or reason in choice.message.refusal
        assert filtered or choice.message.content == "Once "
    assert seen == {reason: expected(reason) for reason in reasons}


async def test_stream(client: Client, reasons: list[str]) -> None:
    seen = {}
    for reason in reasons:
        try:
            chunks = await client.events(CREATE, **asked(reason), stream=True)
        except openai.APIError as error:
            assert reason in str(error) or reason == NONE
            seen[reason] = "error"
            continue
        seen[reason] = chunks[-1].choices[0].finish_reason
        refusal = "".join(chunk.choices[0].delta.refusal or "" for chunk in chunks)
        assert (reason in refusal) == (seen[reason] == "content_filter")
    assert seen == {reason: expected(reason) for reason in reasons}


class Answer(BaseModel):
    text: str


@pytest.mark.parametrize(
    ("reason", "kind"),
    [("MAX_TOKENS", openai.LengthFinishReasonError), ("RECITATION", openai.ContentFilterFinishReasonError)],
)
async def test_parsing_an_unfinished_answer_says_why(client: Client, reason: str, kind: Any) -> None:
    with pytest.raises(kind):
        await client("chat.completions.parse", **asked(reason), response_format=Answer)
