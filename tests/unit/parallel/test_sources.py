"""Prompts of a program as tasks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from gemini_parallel.program_code import ProgramEnded
from gemini_parallel.progress import counting
from gemini_parallel.sources import Prompts, tasks_of

from shared.batch.result import Result

PROMPTS = [{"prompt": "a", "metadata": 1}, {"prompt": "b", "metadata": 2}]


async def read(prompts: Prompts) -> list[tuple[int, Any]]:
    return [(task.index, task.metadata) async for task in tasks_of(prompts, asyncio.get_running_loop())]


async def _async() -> AsyncIterator[dict[str, Any]]:
    for prompt in PROMPTS:
        yield prompt


@pytest.mark.parametrize("prompts", [PROMPTS, iter(PROMPTS), _async()], ids=["list", "iterator", "async"])
async def test_prompts_are_read_in_order(prompts: Prompts) -> None:
    assert await read(prompts) == [(0, 1), (1, 2)]


async def test_an_error_of_a_generator_is_raised() -> None:
    def generator() -> Iterator[dict[str, Any]]:
        yield PROMPTS[0]
        raise ValueError("line 2 is wrong")

    with pytest.raises(ValueError, match="line 2 is wrong"):
        await read(generator())


@pytest.mark.parametrize("ends", [SystemExit(3), KeyboardInterrupt()], ids=repr)
async def test_a_generator_cannot_end_the_loop(ends: BaseException) -> None:
    def generator() -> Iterator[dict[str, Any]]:
        yield PROMPTS[0]
        raise ends

    with pytest.raises(ProgramEnded) as raised:
        await read(generator())
    assert raised.value.raised is ends


def test_a_progress_callback_cannot_end_the_loop() -> None:
    ends = SystemExit(3)

    def progress(_: object) -> None:
        raise ends

    with pytest.raises(ProgramEnded) as raised:
        counting(progress, 1)(Result(0, "text", None))
    assert raised.value.raised is ends


async def test_a_generator_that_blocks_is_left_alone() -> None:
    """Neither the loop nor the end of the program waits for it."""
    blocks, released = threading.Event(), threading.Event()

    def generator() -> Iterator[dict[str, Any]]:
        yield PROMPTS[0]
        blocks.set()
        released.wait(60)

    async with aclosing(tasks_of(generator())) as tasks:
        await anext(tasks)
        reading = asyncio.create_task(anext(tasks))
        await asyncio.to_thread(blocks.wait, 60)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    (reader,) = [one for one in threading.enumerate() if one.name == "gemini_parallel_prompts" and one.is_alive()]
    assert reader.daemon and not released.is_set()
    released.set()
    await asyncio.to_thread(reader.join, 60)
    assert not reader.is_alive()
