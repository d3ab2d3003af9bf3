"""More calls at once than the limit allows: the gateway lets them wait, so that neither Gemini nor the SDK's retries see more."""

from __future__ import annotations

import asyncio

import openai
import pytest

from tests.openai_sdk.gateway import ADMIN_KEY, Gateway, served

CALLS = 200
RPM = 60
WINDOW_S = 2
"""The length of the minute, for the gateway and for the offline Gemini."""
MAX_PER_CALL = 1.2
PATH = "/v1/chat/completions"
SETTINGS = {
    "LEDGER_WINDOW_SECONDS": str(WINDOW_S),
    "GEMINI_TIER": "tier2",
    "GEMINI_RPM": str(RPM),
    "GEMINI_CONCURRENCY_LIMIT": "50",
    "EMULATOR_RPM": str(RPM),
    "EMULATOR_LATENCY_MS": "50",
}


async def outcomes(gateway: Gateway) -> list[object]:
    """Of all calls at once, with the SDK's own timeout and retries."""

    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=ADMIN_KEY) as client:

        def call(number: int) -> object:
            content = f"Hello {number}"
            return client.chat.completions.create(
                model="gemini-3.8-flash", messages=[{"role": "user", "content": content}]
            )

        return list(await asyncio.gather(*(call(n) for n in range(CALLS)), return_exceptions=True))  # type: ignore[call-overload]


def refused(gateway: Gateway) -> int:
    return sum(gateway.stats()["refused"].values())


async def test_calls_wait_for_the_limit() -> None:
    with served(**SETTINGS) as gateway:
        answers = await outcomes(gateway)
        assert [answer for answer in answers if isinstance(answer, BaseException)] == []
        assert refused(gateway) == 0
        assert len(gateway.requests(PATH)) <= MAX_PER_CALL * CALLS


@pytest.mark.heavy
async def test_calls_beyond_the_deadline_come_once_more() -> None:
    """With a deadline of two minutes about half of the calls are served. The others are rejected at once, with the time at which
    each can be served, so that its next request succeeds."""
    with served(**SETTINGS, REQUEST_TIMEOUT_SECONDS=str(2 * WINDOW_S)) as gateway:
        answers = await outcomes(gateway)
        assert [answer for answer in answers if isinstance(answer, BaseException)] == []
        assert refused(gateway) == 0
        assert CALLS < len(gateway.requests(PATH)) < 2 * CALLS
