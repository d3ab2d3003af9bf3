"""Tasks in groups, as they come: a group does not wait long for a task that is not there yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from shared.batch.item import Task

WAIT_S = 0.05
Group = list[Task]


async def grouped(tasks: AsyncIterator[Task], size: int) -> AsyncIterator[Group]:
    """Groups of at most `size`. A task that is still awaited when its group is sent begins the next one: it may wait for the
    results of this group."""
    coming: asyncio.Task[Task] | None = None
    try:
        while True:
            group: Group = []
            while len(group) < size:
                coming = coming or asyncio.ensure_future(_next(tasks))
                done, _ = await asyncio.wait([coming], timeout=None if not group else WAIT_S)
                if not done:
                    break
                try:
                    group.append(coming.result())
                except StopAsyncIteration:
                    if group:
                        yield group
                    return
                coming = None
            yield group
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


async def _next(tasks: AsyncIterator[Task]) -> Task:
    return await anext(tasks)
