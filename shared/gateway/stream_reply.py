"""A streamed answer, as the gateway hands it on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from shared.admission.permit import Permit
from shared.errors import GatewayError
from shared.gemini import wire
from shared.gemini.errors import UpstreamFailure
from shared.generation import JsonObject, Reply


class Attempts(Protocol):
    """What the gateway keeps of the request."""

    def reply(self, lease: Permit, body: JsonObject) -> Reply: ...

    def measure(self) -> None: ...

    def learn(self, failure: UpstreamFailure, lease: Permit) -> None: ...

    def error(self, failure: UpstreamFailure, lease: Permit) -> GatewayError: ...

    def complete(self, lease: Permit) -> None: ...


class StreamReply:
    """Frames as Gemini sends them. `head` is complete but for its body; `usage` is what the frames said so far."""

    def __init__(self, attempts: Attempts, lease: Permit, first: JsonObject, frames: AsyncIterator[JsonObject]) -> None:
        self.head = attempts.reply(lease, first)
        self.usage = self.head.usage
        self._counts = wire.merge_counts(None, first)
        self._attempts, self._lease = attempts, lease
        self._first: JsonObject | None = first
        self._frames = frames

    def __aiter__(self) -> StreamReply:
        return self

    async def __anext__(self) -> JsonObject:
        """Raises GatewayError when the stream breaks."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        try:
            frame = await anext(self._frames)
        except StopAsyncIteration:
            self._attempts.complete(self._lease)
            raise
        except UpstreamFailure as failure:
            self._attempts.learn(failure, self._lease)
            raise self._attempts.error(failure, self._lease) from failure
        if "usageMetadata" in frame:
            self._counts = wire.merge_counts(self._counts, frame)
            self.usage = wire.usage({"usageMetadata": self._counts})
        self._attempts.measure()
        return frame
