"""The class that programs call with their prompts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from .channel import Channel
from .loop_thread import Watched
from .program_code import ProgramEnded
from .progress import Progress, counting
from .sources import Prompts, length_of, tasks_of

if TYPE_CHECKING:
    from shared.batch.backend import BatchOptions
    from shared.batch.result import Result

    from .key_manager import AdvancedApiKeyManager

MAX_WORKERS = 10_000
OnProgress = Callable[[Progress], None]
"""Called in the library's thread after each result. It must return at once."""


class GeminiParallelProcessor:
    """Sends many prompts with the keys of `key_manager`, at most `max_workers` at once, as fast as the limits allow.

    `api_call_interval`: minimum seconds between two requests to Gemini, of all workers together."""

    def __init__(
        self,
        key_manager: AdvancedApiKeyManager,
        model_name: str = "gemini-2.0-flash-001",
        api_call_interval: float = 0.5,
        max_workers: int = 4,
    ) -> None:
        """Raises ValueError."""
        if isinstance(max_workers, bool) or not isinstance(max_workers, int) or not 1 <= max_workers <= MAX_WORKERS:
            raise ValueError(f"max_workers is {max_workers!r}; it must be a whole number from 1 to {MAX_WORKERS}.")
        is_number = isinstance(api_call_interval, int | float) and not isinstance(api_call_interval, bool)
        if not is_number or not 0 <= api_call_interval <= 3600:
            raise ValueError(
                f"api_call_interval is {api_call_interval!r}; it must be a number of seconds from 0 to 3600."
            )
        if not isinstance(model_name, str) or not model_name.strip():
            raise ValueError("model_name must be the name of a model, like gemini-3.8-flash.")
        self.key_manager, self.model_name = key_manager, model_name
        self.api_call_interval, self.max_workers = float(api_call_interval), max_workers

    def process_prompts(
        self, prompts_data: Iterable[Mapping[str, Any]], *, progress: OnProgress | None = None
    ) -> list[tuple[Any, str | None, str | None]]:
        """(metadata, response, error) for each prompt, in the order of the input: a success is (metadata, text, None), a failure
        (metadata, None, sentence). An item without metadata has {}. Blocks until all are done; Ctrl-C ends what is in flight."""
        results: dict[int, Result] = {}
        count = counting(progress, length_of(prompts_data))

        async def deliver(result: Result) -> None:
            results[result.index] = result
            count(result)

        async def work() -> None:
            async with aclosing(tasks_of(prompts_data)) as tasks:
                await self.key_manager.backend().run(tasks, self._options(), deliver)

        try:
            self.key_manager.thread.call(work())
        except ProgramEnded as ended:
            raise ended.raised from None
        return [(one.metadata, one.response, one.error) for _, one in sorted(results.items())]

    async def stream(
        self, prompts_data: Prompts, *, ordered: bool = False, progress: OnProgress | None = None
    ) -> AsyncGenerator[Result, None]:
        """The results as they finish (`ordered`: in the order of the input), on the running loop. `prompts_data` may be a list, a
        generator or an async generator; it is read as workers become free. Ending the iteration ends what is in flight."""
        loop = asyncio.get_running_loop()
        channel = Channel(loop, ordered=ordered)
        count = counting(progress, length_of(prompts_data))

        async def deliver(result: Result) -> None:
            count(result)
            await channel.send(result)

        async def work() -> None:
            async with aclosing(tasks_of(prompts_data, loop)) as tasks:
                await self.key_manager.backend().run(tasks, self._options(), deliver)

        thread, watched = self.key_manager.thread, Watched(work())
        running = asyncio.wrap_future(thread.submit(watched.run()))
        running.add_done_callback(lambda _: channel.close())
        try:
            async for result in channel:
                yield result
            await running
        except ProgramEnded as ended:
            raise ended.raised from None
        finally:
            channel.abandon()
            if not watched.ended.is_set():
                await asyncio.to_thread(thread.end, watched)
            running.cancel()

    def _options(self) -> BatchOptions:
        from shared.batch.backend import BatchOptions

        return BatchOptions(self.model_name, self.max_workers, self.api_call_interval, self)
