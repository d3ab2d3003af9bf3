"""Storing ends although the caller leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.media.uninterrupted import uninterrupted


@pytest.mark.parametrize("error", [None, ValueError("planted")])
async def test_cancelled_caller_waits_for_what_is_stored(error: Exception | None) -> None:
    """Its error is not logged as one that nobody asked for."""
    begun, go, stored, logged = asyncio.Event(), asyncio.Event(), [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))

    async def storing() -> None:
        begun.set()
        await go.wait()
        stored.append("all")
        if error is not None:
            raise error

    task: asyncio.Task[Any] = asyncio.create_task(uninterrupted(storing()))
    await begun.wait()
    task.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    await asyncio.sleep(0)
    assert (stored, logged) == (["all"], [])


async def test_error_reaches_a_caller_who_stays() -> None:
    async def storing() -> None:
        raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        await uninterrupted(storing())
