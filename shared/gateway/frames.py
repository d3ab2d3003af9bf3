"""The frames of a stream after the first one, as they settle the exchange."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from shared.admission.permit import Permit
from shared.gateway.learning import learn
from shared.gemini.errors import UpstreamFailure
from shared.generation import JsonObject

if TYPE_CHECKING:
    from shared.gateway.attempts import Attempts


class Frames:
    """Each frame extends the exchange's time; the last one completes the exchange, and a failure is recorded and raised as the
    caller's error."""

    __slots__ = ("_attempts", "_frames", "_permit")

    def __init__(self, attempts: Attempts, permit: Permit, frames: AsyncIterator[JsonObject]) -> None:
        self._attempts, self._permit, self._frames = attempts, permit, frames

    def __aiter__(self) -> Frames:
        return self

    async def __anext__(self) -> JsonObject:
        attempts, permit = self._attempts, self._permit
        try:
            frame = await anext(self._frames)
        except StopAsyncIteration:
            attempts.complete(permit)
            await attempts.placement.record(permit.account)
            raise
        except UpstreamFailure as failure:
            learn(attempts, failure, permit)
            raise attempts.error(failure, permit) from failure
        attempts.measure()
        await attempts.noted(permit, frame)
        return frame
