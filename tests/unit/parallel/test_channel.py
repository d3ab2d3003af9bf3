"""Results on their way to a program's loop."""

from __future__ import annotations

import asyncio

import pytest
from gemini_parallel import channel as module
from gemini_parallel.channel import Channel

from shared.batch.result import Result


def result(index: int) -> Result:
    return Result(index, "text", None)


async def received(channel: Channel) -> list[int]:
    return [one.index async for one in channel]


@pytest.mark.parametrize(("ordered", "indexes"), [(False, [2, 0, 1]), (True, [0, 1, 2])])
async def test_results_come_as_sent_or_in_order(ordered: bool, indexes: list[int]) -> None:
    channel = Channel(asyncio.get_running_loop(), ordered=ordered)
    for index in (2, 0, 1):
        await channel.send(result(index))
    channel.close()
    assert await received(channel) == indexes


async def test_a_slow_reader_holds_the_workers_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    channel = Channel(asyncio.get_running_loop(), ordered=False)
    await channel.send(result(0))
    sending = asyncio.create_task(channel.send(result(1)))
    done, _ = await asyncio.wait([sending], timeout=0.05)
    assert not done
    assert (await anext(channel)).index == 0
    await asyncio.wait_for(sending, 30)


async def test_far_ahead_of_the_order_workers_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_AHEAD", 3)
    channel = Channel(asyncio.get_running_loop(), ordered=True)
    await channel.send(result(1))
    sending = asyncio.create_task(channel.send(result(3)))
    done, _ = await asyncio.wait([sending], timeout=0.05)
    assert not done
    await channel.send(result(0))
    assert [(await anext(channel)).index for _ in range(2)] == [0, 1]
    await asyncio.wait_for(sending, 30)


async def test_nobody_waits_for_a_reader_who_left() -> None:
    channel = Channel(asyncio.get_running_loop(), ordered=True)
    sending = asyncio.create_task(channel.send(result(5000)))
    await asyncio.sleep(0.01)
    channel.abandon()
    await asyncio.wait_for(sending, 30)
    await asyncio.wait_for(channel.send(result(1)), 30)
