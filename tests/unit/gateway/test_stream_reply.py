"""The reply that a stream's caller reads: Gemini's frames, and their token counts."""

from __future__ import annotations

from collections.abc import AsyncIterator

from shared.gateway.stream_reply import StreamReply
from shared.gemini import wire
from shared.generation import JsonObject, Reply, Usage


def counted(**counts: int) -> JsonObject:
    return {"usageMetadata": counts}


async def test_usage_keeps_counts_that_later_frames_omit() -> None:
    async def frames() -> AsyncIterator[JsonObject]:
        yield counted(promptTokenCount=8, thoughtsTokenCount=50, totalTokenCount=58)
        yield counted(promptTokenCount=8, candidatesTokenCount=3, totalTokenCount=61)

    first = counted(promptTokenCount=8, totalTokenCount=8)
    reply = StreamReply(Reply(first, "m", "m", "account", wire.usage(first)), frames())
    received = [frame async for frame in reply]
    assert len(received) == 3 and received[0] is first
    assert reply.usage == Usage(8, 3, 50, 61)
