"""Answers prompts with the engine of this process: its own keys, and a ledger that other programs share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from shared.batch.answering import Answering
from shared.batch.backend import BatchOptions, Deliver
from shared.batch.body import native
from shared.batch.item import Item, Task
from shared.batch.media_parts import ROOM_BYTES, MediaParts
from shared.batch.result import Result
from shared.batch.runner import run
from shared.bounds.byte_room import ByteRoom
from shared.bounds.memory import memory_bytes
from shared.bounds.pace import Pace
from shared.clock import elapsed_s
from shared.engine import Engine
from shared.gemini.tokens import estimate_input_tokens
from shared.generation import Caller, Timeline
from shared.media.fetch import Fetcher
from shared.media.look_ups import Asker, LookUps
from shared.settings.keys import account_id

from .key_states import StateLog, Summary, summary
from .local_files import LocalFiles

if TYPE_CHECKING:
    from .key_manager import AdvancedApiKeyManager

log = logging.getLogger("gemini_parallel")
MEMORY_PART, MAX_ROOM_BYTES = 8, 512 * 1024 * 1024
"""Files inside requests may take this part of the machine's memory: each is held until its answer is there."""
SIGNATURES_MS = 24 * 3_600_000
CALLER = Caller("gemini_parallel", "admin")


class DirectBackend:
    """Implements batch.backend.Backend. Bound to the loop of its manager's thread."""

    def __init__(self, manager: AdvancedApiKeyManager) -> None:
        self._manager = manager
        self._engine: Engine | None = None
        self._media: MediaParts | None = None
        self._paces: WeakKeyDictionary[object, Pace] = WeakKeyDictionary()
        self._runs = 0
        self._states = StateLog()
        self._watching: asyncio.Task[None] | None = None
        self._names = {account_id(name): name for name in manager.keys.found}

    @property
    def engine(self) -> Engine:
        """Made at the first use, since it is bound to the running loop."""
        if self._engine is None:
            settings = self._manager.settings
            self._engine = Engine(settings, self._manager.keys.accounts(settings), signatures_ms=SIGNATURES_MS)
        return self._engine

    @property
    def media(self) -> MediaParts:
        if self._media is None:
            look_ups, room = LookUps(), ByteRoom(min(max(memory_bytes() // MEMORY_PART, ROOM_BYTES), MAX_ROOM_BYTES))
            resolve = partial(look_ups.resolve, Asker("gemini_parallel", stranger=False))
            self._media = MediaParts(Fetcher(resolve, accept="*/*").fetch, LocalFiles().open, room)
        return self._media

    async def run(self, tasks: AsyncIterator[Task], options: BatchOptions, deliver: Deliver) -> None:
        engine = self.engine
        answering = Answering(
            engine.gateway,
            CALLER,
            self.media.loading,
            options.model,
            self._manager.settings.request_timeout_s,
            self._pace_of(options),
            report=self._report,
        )

        async def work(task: Task) -> Result:
            for warning in () if task.item is None else task.item.warnings:
                log.warning("Prompt %s: %s", _name(task), warning)
            return await answering.answer(task)

        async def named(result: Result) -> None:
            await deliver(replace(result, key=self._names.get(result.key or "", result.key)))

        async with self._watched():
            await run(tasks, work, named, workers=options.max_workers)

    def _pace_of(self, options: BatchOptions) -> Pace | None:
        if not options.interval_s:
            return None
        pace = Pace(options.interval_s) if options.paced_by is None else self._paces.get(options.paced_by)
        if pace is None or pace.interval_s != options.interval_s:
            pace = self._paces[options.paced_by] = Pace(options.interval_s)
        return pace

    async def count(self, item: Item, model: str) -> tuple[int, bool]:
        """Implements batch.backend.Counting. Raises GatewayError."""
        async with self.media.loading(item) as load:
            body = await native(item, load)
        until_s = elapsed_s() + self._manager.settings.request_timeout_s
        generator = self.engine.gateway.bind(CALLER, until_s, "batch", Timeline())
        counted = None if item.media else await generator.count(model, body)
        return (estimate_input_tokens(body), False) if counted is None else (counted, True)

    async def states(self) -> Summary:
        """Raises StoreError."""
        return await summary(self.engine, self._names, self._manager.keys.failed)

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        """Changes of the keys' states are logged while prompts are under way."""
        logs = log.isEnabledFor(logging.INFO)
        self._runs += 1
        if self._watching is None and logs:
            arguments = (self.engine, self._names, self._manager.keys.failed)
            self._watching = asyncio.create_task(self._states.watch(*arguments))
        try:
            yield
        finally:
            self._runs -= 1
            if not self._runs and self._watching is not None:
                watching, self._watching = self._watching, None
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
            if logs:
                await self._states.look(self.engine, self._names, self._manager.keys.failed)

    async def aclose(self) -> None:
        if self._engine is not None:
            await self._engine.aclose()

    def _report(self, task: Task, timeline: Timeline, result: Result) -> None:
        if not log.isEnabledFor(logging.DEBUG):
            return
        for attempt in timeline.attempts:
            name, took_s = self._names.get(attempt.account_id), attempt.ended_s - attempt.began_s
            log.debug("Prompt %s: key %s, %s, %.3f s", _name(task), name, attempt.failure or "answered", took_s)


def _name(task: Task) -> str:
    return str(task.index) if task.id is None else task.id
