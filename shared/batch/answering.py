"""Answers one task of a batch: as soon as the limits allow it, however long that takes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from shared.batch import outcomes
from shared.batch.body import Loading, native
from shared.batch.item import Item, Task
from shared.batch.result import Result
from shared.bounds.pace import Pace
from shared.clock import elapsed_s, unix_s
from shared.errors import GatewayError
from shared.gemini.answer_text import answer_text
from shared.generation import Caller, JsonObject, Reply, Timeline

if TYPE_CHECKING:
    from shared.gateway.gateway import Gateway
    from shared.gateway.generator import Generator

T = TypeVar("T")
MAX_PAUSE_S = 60.0
"""Longest pause before a request waits for a permit again: an account may be enabled meanwhile, or another program end."""


class TimeIsOver(Exception):
    """`until_s` has come, and the task was not sent."""


@dataclass(frozen=True, slots=True)
class Answering:
    """Bound to one event loop."""

    gateway: Gateway
    caller: Caller
    loading: Loading
    model: str
    request_timeout_s: float
    pace: Pace | None = None
    until_s: float | None = None
    """Elapsed time until which tasks may wait for the limits; None: as long as their day has requests left."""
    report: Callable[[Task, Timeline, Result], None] = lambda task, timeline, result: None
    """Called with each result and the exchanges that it took."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    now_s: Callable[[], float] = unix_s
    """Unix time, for the times in results."""
    _stop: outcomes.KnownStop = field(default_factory=outcomes.KnownStop)

    async def answer(self, task: Task) -> Result:
        """The result, also of a task that fails."""
        timeline, began_s = Timeline(), elapsed_s()
        if task.item is None:
            assert task.problem is not None, "a task has an item or a problem"
            return outcomes.failed(task, task.problem, timeline, 0.0, self.now_s())
        known = self._stop.error(began_s)
        try:
            if known is not None:
                raise known
            text, reply = await self._generated(task.item, timeline)
        except GatewayError as error:
            if error is not known:
                self._stop.note(error, elapsed_s())
            result = outcomes.failed(task, error, timeline, elapsed_s() - began_s, self.now_s())
        except TimeIsOver:
            result = Result(task.index, None, "The time for waiting is over.", task.metadata, task.id, stops="later")
        else:
            result = outcomes.answered(task, text, reply, timeline, elapsed_s() - began_s)
        self.report(task, timeline, result)
        return result

    def _patient_until_s(self, now_s: float) -> float:
        # The other half of the time is for the exchange.
        until_s = now_s + self.request_timeout_s / 2
        return until_s if self.until_s is None else min(until_s, self.until_s)

    async def _generated(self, item: Item, timeline: Timeline) -> tuple[str, Reply]:
        """The text of the answer; with a schema, JSON that conforms to it. Raises GatewayError, TimeIsOver."""
        waits = outcomes.Waits()
        async with AsyncExitStack() as held:
            body = await self._loaded(item, held, waits)
            reply = await self._patiently(lambda generator: generator.generate(self.model, body), timeline, waits)
            if item.schema is None:
                return answer_text(reply.body), reply
            # Loaded by batches with a schema only.
            from shared.structured.json_schema import check_schema
            from shared.structured.output import ConformingReply, conforming

            schema = check_schema(item.schema, "response_schema")

            async def conform(generator: Generator) -> ConformingReply:
                return await conforming(generator, self.model, body, reply, schema)

            return await self._patiently(conform, timeline, waits)

    async def _loaded(self, item: Item, held: AsyncExitStack, waits: outcomes.Waits) -> JsonObject:
        """The native body; its memory is held until `held` closes."""
        while True:
            try:
                async with AsyncExitStack() as loading:
                    body = await native(item, await loading.enter_async_context(self.loading(item)))
                    await held.enter_async_context(loading.pop_all())
                    return body
            except GatewayError as error:
                await self._pause(error, waits)

    async def _patiently(
        self, ask: Callable[[Generator], Awaitable[T]], timeline: Timeline, waits: outcomes.Waits
    ) -> T:
        """The result of `ask`, which may be called several times, each time with the whole time for a request."""
        while True:
            paced = None if self.pace is None else self.pace.request()
            try:
                if paced is not None:
                    await paced.enter()
                now_s = elapsed_s()
                until_s = now_s + self.request_timeout_s
                patient_until_s = self._patient_until_s(now_s)
                return await ask(
                    self.gateway.bind(
                        self.caller, until_s, "batch", timeline, patient_until_s=patient_until_s, pace=paced
                    )
                )
            except GatewayError as error:
                failure = error
            finally:
                if paced is not None:
                    paced.leave()
            await self._pause(failure, waits)

    async def _pause(self, error: GatewayError, waits: outcomes.Waits) -> None:
        """Returns when the item may be tried again. Raises `error` if that is no use, TimeIsOver if it would be too late."""
        pause_s = waits.pause_s(error)
        if pause_s is None:
            raise error
        if self.until_s is not None and elapsed_s() + pause_s >= self.until_s:
            raise TimeIsOver from error
        await self.sleep(min(pause_s, MAX_PAUSE_S))
