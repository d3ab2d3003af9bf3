"""`gemini-parallel run`: reads prompts, lets the backend answer them, and writes each result before another prompt is taken."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace

from shared.batch.backend import Backend, BatchOptions
from shared.batch.item import Task
from shared.batch.outcomes import at
from shared.batch.result import Result
from shared.clock import elapsed_s
from shared.errors import GatewayError
from shared.stores.port import StoreError

from ..sources import END, Reader
from .budget import Budget
from .counts import Counts
from .exit_codes import ExitCode
from .input import Line
from .local_time import until
from .results_file import ResultsError, ResultsFile

READ_AT_ONCE = 64


@dataclass(slots=True)
class Ending:
    """Why a run takes no more prompts."""

    code: ExitCode
    message: str


class Run:
    """One run, on one event loop. `stop` may be called at any time: what is in flight is finished."""

    def __init__(
        self,
        lines: Iterator[Line],
        results: ResultsFile,
        backend: Backend,
        options: BatchOptions,
        budget: Budget,
        *,
        schema: dict[str, object] | None = None,
        limit: int | None = None,
        read_at_once: int = READ_AT_ONCE,
    ) -> None:
        self._lines, self._results, self._backend, self._options = lines, results, backend, options
        self._schema, self._limit, self._read_at_once = schema, limit, read_at_once
        self.warn: Callable[[str], None] = lambda sentence: None
        """Shows a sentence to the person who runs it."""
        self.budget = budget
        self.counts = Counts(elapsed_s(), limit=limit)
        self.ending: Ending | None = None
        self._open: dict[int, Line] = {}
        self._changed, self._ended = asyncio.Event(), asyncio.Event()

    async def go(self) -> Ending:
        """Raises InputError."""
        try:
            await self._backend.run(self._tasks(), self._options, self._deliver)
        except ResultsError as error:
            return Ending(ExitCode.UNWRITABLE, str(error))
        except GatewayError as error:
            return Ending(ExitCode.UNREACHABLE, error.message)
        except StoreError as error:
            return Ending(ExitCode.UNREACHABLE, f"The ledger cannot be used: {error}")
        if self.ending is not None:
            return self.ending
        if self.counts.failed or any(known.failed for known in self._results.known.values()):
            return Ending(ExitCode.FAILED, "Some prompts failed: their lines have an error.")
        return Ending(ExitCode.OK, "Every prompt has an answer.")

    def stop(self, code: ExitCode, message: str) -> None:
        """Takes no more prompts. The first reason counts."""
        if self.ending is None:
            self.ending = Ending(code, message)
        self._ended.set()
        self._changed.set()

    async def _tasks(self) -> AsyncIterator[Task]:
        taken = 0
        async for line in self._read():
            if self._has_result(line):
                continue
            if self._limit is not None and taken >= self._limit:
                return
            if not await self._may_send():
                return
            taken += 1
            self._open[line.task.index] = line
            self.counts.in_flight += 1
            self.budget.sent()
            yield with_schema(line.task, self._schema)

    async def _read(self) -> AsyncIterator[Line]:
        """The lines until the run takes no more. Reading may block, as standard input does: the run does not wait for it then."""
        reader = Reader(iter(lambda: list(itertools.islice(self._lines, self._read_at_once)), []))
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            while self.ending is None:
                coming = asyncio.ensure_future(reader.next())
                await asyncio.wait({coming, ended}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                    return
                batch = coming.result()
                if batch is END:
                    return
                for line in batch:
                    yield line
        finally:
            ended.cancel()
            reader.close()

    def _has_result(self, line: Line) -> bool:
        known = self._results.known.get(line.key)
        if known is None:
            return False
        self.counts.skipped += 1
        if known.digest != line.digest:
            self.counts.changed += 1
            self.warn(
                f"Line {line.number} ({line.key}) has changed since it was answered, and is not sent again; give it a new id, or "
                "remove its result."
            )
        return True

    async def _may_send(self) -> bool:
        """Waits until the budget allows another prompt. False when the run takes no more."""
        while self.ending is None and not self.budget.admits():
            if self.budget.is_used_up():
                dollars, spent = self.budget.dollars, self.budget.spent
                self.stop(ExitCode.BUDGET, f"The budget of ${dollars:g} allows no other prompt: ${spent:.4f} is spent.")
                break
            self._changed.clear()
            await self._changed.wait()
        return self.ending is None

    async def _deliver(self, result: Result) -> None:
        line = self._open.pop(result.index)
        if result.stops == "exhausted":
            self.stop(ExitCode.EXHAUSTED, with_local_time(result))
        elif result.stops is not None:
            code = ExitCode.USAGE if result.stops == "refused" else ExitCode.UNREACHABLE
            self.stop(code, result.error or "")
        else:
            await self._results.deliver(line, result)
            self.counts.add(result, elapsed_s())
        self.counts.in_flight -= 1
        self.budget.answered(result, line.task.item)
        self._changed.set()


def with_local_time(result: Result) -> str:
    """The error, with the time in the person's own time zone."""
    message = result.error or ""
    return message if result.retry_at_s is None else message.replace(at(result.retry_at_s), until(result.retry_at_s), 1)


def with_schema(task: Task, schema: dict[str, object] | None) -> Task:
    """The task with the run's schema, unless it has one of its own."""
    if schema is None or task.item is None or task.item.schema is not None:
        return task
    return replace(task, item=replace(task.item, schema=schema))
