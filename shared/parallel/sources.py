"""Prompts of a program as tasks: lists, generators and async generators, read as workers become free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from shared.batch.item import Task
from shared.batch.reading import read_task

Prompts = Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]]
_END = object()


def length_of(prompts: Prompts) -> int | None:
    return len(prompts) if isinstance(prompts, Sequence) else None


async def tasks_of(prompts: Prompts, loop: asyncio.AbstractEventLoop | None = None) -> AsyncIterator[Task]:
    """`loop` is the one that an async generator belongs to. Raises TypeError, and what the generator raises."""
    index = 0
    async for data in _items(prompts, loop):
        yield read_task(data, index, paths=True)
        index += 1


async def _items(prompts: Prompts, loop: asyncio.AbstractEventLoop | None) -> AsyncIterator[Any]:
    if isinstance(prompts, str | bytes | Mapping):
        raise TypeError("The prompts must be a list of dictionaries, like [{'prompt': '...'}].")
    if isinstance(prompts, Sequence):
        for data in prompts:
            yield data
    elif isinstance(prompts, AsyncIterable):
        if loop is None:
            raise TypeError("An async generator of prompts needs `stream`, not `process_prompts`.")
        iterator = aiter(prompts)
        while True:
            data = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_next_async(iterator), loop))
            if data is _END:
                return
            yield data
    else:
        # A generator may block, for example on a file: the library's own loop must not.
        plain = iter(prompts)
        with ThreadPoolExecutor(1, thread_name_prefix="gemini_parallel_prompts") as reader:
            running = asyncio.get_running_loop()
            while (data := await running.run_in_executor(reader, next, plain, _END)) is not _END:
                yield data


async def _next_async(iterator: AsyncIterator[Any]) -> Any:
    try:
        return await anext(iterator)
    except StopAsyncIteration:
        return _END
