"""The workers of a batch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.batch.runner import run


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def test_every_task_is_delivered_once() -> None:
    delivered: list[int] = []

    async def deliver(result: int) -> None:
        delivered.append(result)

    await run(numbers(100), double, deliver, workers=7)
    assert sorted(delivered) == [2 * number for number in range(100)]


async def test_no_more_tasks_are_open_than_workers() -> None:
    """A task is open until its result is delivered."""
    open_now = most = 0

    async def work(number: int) -> int:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        return await double(number)

    async def deliver(result: int) -> None:
        nonlocal open_now
        await asyncio.sleep(0)
        open_now -= 1

    await run(numbers(50), work, deliver, workers=3)
    assert (most, open_now) == (3, 0)


@pytest.mark.parametrize("failing", ["work", "deliver"])
async def test_a_failure_ends_all_workers(failing: str) -> None:
    forever = asyncio.Event()
    cancelled = 0

    async def work(number: int) -> int:
        nonlocal cancelled
        if number == 3 and failing == "work":
            raise OSError("work")
        if number == 3:
            return number
        try:
            await forever.wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise
        return number

    async def deliver(result: int) -> None:
        raise OSError("deliver")

    with pytest.raises(OSError, match=failing):
        await run(numbers(10), work, deliver, workers=4)
    assert cancelled == 3
