"""Runs tasks with a number of workers. A worker delivers the result of its task before it takes another one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def run(
    tasks: AsyncIterator[T],
    work: Callable[[T], Awaitable[R]],
    deliver: Callable[[R], Awaitable[None]],
    *,
    workers: int,
) -> None:
    """At most `workers` tasks are taken and not delivered at any time. Returns when all are delivered; the first exception of
    `tasks`, `work` or `deliver` ends all workers and is raised. Cancelling it ends all workers."""
    turn = asyncio.Lock()
    """An async generator serves one `anext` at a time."""
    over = False

    async def worker() -> None:
        nonlocal over
        while True:
            async with turn:
                if over:
                    return
                try:
                    task = await anext(tasks)
                except StopAsyncIteration:
                    over = True
                    return
            await deliver(await work(task))

    running = [asyncio.create_task(worker()) for _ in range(workers)]
    try:
        await asyncio.gather(*running)
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
