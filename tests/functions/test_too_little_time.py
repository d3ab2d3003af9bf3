"""A request whose caller waits less long than the model's fastest answers take costs no request to Gemini."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.whole_path import WAYS, WholePath, text_of, told, whole_path


async def ten(path: WholePath, prompt: str, way: str) -> list[int]:
    """The statuses of ten requests at once."""
    answers = await asyncio.gather(*(path.ask(f"{prompt} {number}", way=way) for number in range(10)))
    return [answer.status for answer in answers]


@pytest.mark.parametrize("way", WAYS)
async def test_nothing_is_sent_that_cannot_be_answered_in_time(way: str) -> None:
    async with whole_path(REQUEST_TIMEOUT_SECONDS=30) as path:
        assert await ten(path, "[[latency:1000]]", way) == [200] * 10
        sent = path.sent
        answer = await path.ask("Hello", way=way, timeout_s=0.5)
        assert told(answer) == (504, "upstream_timeout")
        assert "fastest" in answer.error["message"]
        assert path.sent == sent
        assert text_of(await path.ask("Hello", way=way, timeout_s=20))


async def test_only_answers_count() -> None:
    """Slow failures tell nothing about how long an answer takes."""
    async with whole_path(REQUEST_TIMEOUT_SECONDS=30) as path:
        assert set(await ten(path, "[[latency:3000]] [[fault:400]]", "chat")) != {200}
        assert text_of(await path.ask("Hello", timeout_s=2.5))
