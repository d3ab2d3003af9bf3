"""Answers one task of a batch: as soon as the limits allow it, however long that takes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.batch import outcomes
from shared.batch.body import Loading, native
from shared.batch.item import Item, Task
from shared.batch.result import Result
from shared.bounds.pace import Pace
from shared.clock import elapsed_s, unix_s
from shared.errors import GatewayError
from shared.gemini.answer_text import answer_text
from shared.generation import Caller, Reply, Timeline

if TYPE_CHECKING:
    from shared.gateway.gateway import Gateway
    from shared.gateway.generator import Generator

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
        """Raises GatewayError, TimeIsOver."""
        async with self.loading(item) as load:
            body = await native(item, load)
            waits = outcomes.Waits()
            while True:
                paced = None if self.pace is None else self.pace.request()
                try:
                    if paced is not None:
                        await paced.enter()
                    now_s = elapsed_s()
                    generator = self.gateway.bind(
                        self.caller,
                        now_s + self.request_timeout_s,
                        "batch",
                        timeline,
                        patient_until_s=self._patient_until_s(now_s),
                        pace=paced,
                    )
                    return await _conforming(generator, self.model, item, body)
                except GatewayError as error:
                    pause_s = waits.pause_s(error)
                    if pause_s is None:
                        raise
                    if self.until_s is not None and elapsed_s() + pause_s >= self.until_s:
                        raise TimeIsOver from error
                finally:
                    if paced is not None:
                        paced.leave()
                await self.sleep(min(pause_s, MAX_PAUSE_S))


async def _conforming(generator: Generator, model: str, item: Item, body: dict[str, object]) -> tuple[str, Reply]:
    """The text of the answer; with a schema, JSON that conforms to it. Raises GatewayError."""
    reply = await generator.generate(model, body)
    if item.schema is None:
        return answer_text(reply.body), reply
    # Loaded by batches with a schema only.
    from shared.structured.json_schema import check_schema
    from shared.structured.output import conforming

    return await conforming(generator, model, body, reply, check_schema(item.schema, "response_schema"))
