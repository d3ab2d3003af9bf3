"""The reply that a stream's caller reads: what it adds to Gemini's frames."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

from shared.gateway import StreamReply
from shared.gemini import wire
from shared.generation import JsonObject, Usage


def counted(**counts: int) -> JsonObject:
    return {"usageMetadata": counts}


async def test_a_count_that_the_last_frame_does_not_repeat_is_kept() -> None:
    async def frames() -> AsyncIterator[JsonObject]:
        yield counted(promptTokenCount=8, thoughtsTokenCount=50, totalTokenCount=58)
        yield counted(promptTokenCount=8, candidatesTokenCount=3, totalTokenCount=61)

    attempts = SimpleNamespace(reply=lambda _, first: SimpleNamespace(usage=wire.usage(first)), measure=lambda: None)
    first = counted(promptTokenCount=8, totalTokenCount=8)
    reply = StreamReply(cast(Any, attempts), cast(Any, None), first, frames())
    passed_on = [frame async for frame in reply]
    assert len(passed_on) == 3
    assert reply.usage == Usage(8, 3, 50, 61)
