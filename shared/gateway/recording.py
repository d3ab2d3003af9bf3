"""The parts of a request that its timeline records: waits in the queue, and exchanges with Gemini, each under a permit.

Classes, because a context manager made of a generator takes several times the calls, and every request has both."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING

from shared.admission.permit import Permit, PermitLapsed
from shared.clock import elapsed_s
from shared.gateway.lessons import learn
from shared.gemini.errors import UpstreamFailure
from shared.generation import Attempt, Timeline, TimeSpan

if TYPE_CHECKING:
    from shared.gateway.attempts import Attempts


class Waiting:
    """`with Waiting(timeline): ...` records the time of the block as a wait in the queue."""

    __slots__ = ("_span",)

    def __init__(self, timeline: Timeline) -> None:
        now_s = elapsed_s()
        self._span = TimeSpan(now_s, now_s)
        timeline.waits.append(self._span)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self._span.ended_s = elapsed_s()


class UnderPermit:
    """`async with UnderPermit(attempts, permit): ...` records one exchange and closes its permit. Exceptions pass through."""

    __slots__ = ("_attempts", "_permit")

    def __init__(self, attempts: Attempts, permit: Permit) -> None:
        self._attempts, self._permit = attempts, permit

    async def __aenter__(self) -> None:
        attempts, now_s = self._attempts, elapsed_s()
        attempts.attempt = Attempt(now_s, now_s, self._permit.account.id)
        attempts.timeline.attempts.append(attempts.attempt)
        attempts.over = False

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        attempts, permit = self._attempts, self._permit
        try:
            if error is not None:
                self._failed(error)
        finally:
            attempts.timeline.dispatched_s = None
            attempts.measure()
            found = not isinstance(error, UpstreamFailure) or error.kind != "not_found"
            attempts.part_of_day.settle(spent=permit.dispatched and found)
            # Tokens that Gemini did not count stay reserved.
            usage = attempts.attempt.usage
            tokens = None if usage is None else usage.prompt_tokens
            await attempts.clearance.give_back(permit, tokens, cancelled=not attempts.over)

    def _failed(self, error: BaseException) -> None:
        attempts, attempt = self._attempts, self._attempts.attempt
        if isinstance(error, PermitLapsed):
            # Nothing was sent: the time counts as waiting for a permit that can be used.
            attempts.timeline.attempts.remove(attempt)
            attempts.timeline.waits.append(attempt)
        elif isinstance(error, UpstreamFailure):
            learn(attempts, error, self._permit)
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            attempt.failure = "cancelled"
