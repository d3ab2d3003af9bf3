"""Prompts of a program as tasks: lists, generators and async generators, read as workers become free."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from queue import SimpleQueue
from typing import Any

from shared.batch.item import Task
from shared.batch.reading import read_task

from .program_code import ProgramEnded

Prompts = Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]]
END = object()
"""What `Reader.next` returns after the last item."""


def length_of(prompts: Prompts) -> int | None:
    return len(prompts) if isinstance(prompts, Sequence) else None


async def tasks_of(prompts: Prompts, loop: asyncio.AbstractEventLoop | None = None) -> AsyncGenerator[Task, None]:
    """`loop` is the one that an async generator belongs to. Raises TypeError, and what the generator raises."""
    index = 0
    async with aclosing(_items(prompts, loop)) as items:
        async for data in items:
            yield read_task(data, index, paths=True)
            index += 1


async def _items(prompts: Prompts, loop: asyncio.AbstractEventLoop | None) -> AsyncGenerator[Any, None]:
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
            if data is END:
                return
            yield data
    else:
        reader = Reader(prompts)
        try:
            while (data := await reader.next()) is not END:
                yield data
        finally:
            reader.close()


async def _next_async(iterator: AsyncIterator[Any]) -> Any:
    try:
        return await anext(iterator)
    except StopAsyncIteration:
        return END


class Reader:
    """Reads a generator in a thread of its own. A generator may block, for example on a queue: neither the library's loop nor the
    end of the program waits for it."""

    def __init__(self, prompts: Iterable[Any]) -> None:
        self._iterator = iter(prompts)
        self._asked: SimpleQueue[asyncio.Future[Any] | None] = SimpleQueue()
        threading.Thread(target=self._read, name="gemini_parallel_prompts", daemon=True).start()

    async def next(self) -> Any:
        answer = asyncio.get_running_loop().create_future()
        self._asked.put(answer)
        return await answer

    def close(self) -> None:
        """The thread ends when the generator has returned from what it does now."""
        self._asked.put(None)

    def _read(self) -> None:
        while (answer := self._asked.get()) is not None:
            data: Any = None
            error: Exception | None = None
            try:
                data = next(self._iterator, END)
            except BaseException as raised:  # noqa: BLE001 - raised to the caller of the library
                error = raised if isinstance(raised, Exception) else ProgramEnded(raised)
            # The loop may have been closed while the generator blocked.
            with suppress(RuntimeError):
                answer.get_loop().call_soon_threadsafe(_settle, answer, data, error)


def _settle(answer: asyncio.Future[Any], data: Any, error: Exception | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(data)
    else:
        answer.set_exception(error)
