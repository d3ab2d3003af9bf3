"""A streamed answer: Gemini's frames, and the token counts so far."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from shared.gemini import wire
from shared.gemini.errors import UpstreamFailure
from shared.generation import JsonObject, Reply

if TYPE_CHECKING:
    from shared.admission.permit import Permit
    from shared.gateway.attempts import Attempts


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


class Frames:
    """The frames of a stream after the first one. Each extends the exchange's time; the last one completes the exchange, and
    a failure is recorded and raised as the caller's error."""

    __slots__ = ("_attempts", "_frames", "_permit")

    def __init__(self, attempts: Attempts, permit: Permit, frames: AsyncIterator[JsonObject]) -> None:
        self._attempts, self._permit, self._frames = attempts, permit, frames

    def __aiter__(self) -> Frames:
        return self

    async def __anext__(self) -> JsonObject:
        try:
            frame = await anext(self._frames)
        except StopAsyncIteration:
            self._attempts.complete(self._permit)
            raise
        except UpstreamFailure as failure:
            self._attempts.learn(failure, self._permit)
            raise self._attempts.error(failure, self._permit) from failure
        self._attempts.measure()
        return frame
