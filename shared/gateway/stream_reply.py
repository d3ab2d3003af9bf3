"""A streamed answer: Gemini's frames, and the token counts so far."""

from __future__ import annotations

from collections.abc import AsyncIterator

from shared.gemini import wire
from shared.generation import JsonObject, Reply


class StreamReply:
    """Iterates over the frames as Gemini sent them, the first one included, which is `head.body`. `usage` holds the counts of
    all frames so far. Iterating raises GatewayError when the stream breaks."""

    def __init__(self, head: Reply, frames: AsyncIterator[JsonObject]) -> None:
        """`frames` are those after the first one."""
        self.head = head
        self.usage = head.usage
        self._counts = wire.merge_counts(None, head.body)
        self._first: JsonObject | None = head.body
        self._frames = frames

    def __aiter__(self) -> StreamReply:
        return self

    async def __anext__(self) -> JsonObject:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        frame = await anext(self._frames)
        if "usageMetadata" in frame:
            self._counts = wire.merge_counts(self._counts, frame)
            self.usage = wire.usage({"usageMetadata": self._counts})
        return frame
