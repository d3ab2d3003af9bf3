"""Several streams as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

Item = TypeVar("Item")


async def interleaved(
    sources: Sequence[AsyncGenerator[Item, None]], note: Callable[[Exception], Exception]
) -> AsyncGenerator[Item, None]:
    """The items of all sources, as they arrive. A source that fails ends by itself; after the last item of the others, its
    error is raised, the first one if several fail. `note` is called with each error at once, and returns the one to raise."""
    # Bounded, so that a client that does not read stops its sources too.
    queue: asyncio.Queue[tuple[Item] | None] = asyncio.Queue(len(sources))
    errors: list[Exception] = []

    async def forward(source: AsyncGenerator[Item, None]) -> None:
        try:
            async with aclosing(source):
                async for item in source:
                    await queue.put((item,))
        except Exception as error:  # noqa: BLE001 - `note` logs it, and the first one is raised to the reader
            errors.append(note(error))
        await queue.put(None)

    tasks = [asyncio.create_task(forward(source)) for source in sources]
    try:
        left = len(tasks)
        while left:
            found = await queue.get()
            if found is None:
                left -= 1
            else:
                yield found[0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    if errors:
        raise errors[0]
