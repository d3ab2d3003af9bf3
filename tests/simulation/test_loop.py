"""Virtual time: it jumps, and processes on it drift, stop and die."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from shared.clock import elapsed_s
from tests.simulation.loop import Livelock, Process, VirtualLoop, virtual_clocks


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    with virtual_clocks(loop, wall_s=1e9):
        yield loop
    loop.close()


async def ticks(into: list[float], every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        into.append(elapsed_s())


def test_an_hour_passes_at_once(loop: VirtualLoop) -> None:
    seen: list[float] = []
    Process(loop, "a", boot_s=100.0).spawn(ticks(seen, 900.0))
    began_s = time.perf_counter()
    loop.run_until(3600.0)
    assert seen == [1000.0, 1900.0, 2800.0, 3700.0]
    assert time.perf_counter() - began_s < 10


def test_a_clock_that_runs_fast_wakes_its_process_early(loop: VirtualLoop) -> None:
    woken: list[float] = []

    async def sleeps() -> None:
        await asyncio.sleep(1000.0)
        woken.append(loop.now_s)

    Process(loop, "fast", drift=500e-6).spawn(sleeps())
    loop.run_until(2000.0)
    assert woken == [pytest.approx(1000.0 / 1.0005)]


def test_a_frozen_process_does_nothing_and_its_clock_goes_on(loop: VirtualLoop) -> None:
    seen: list[float] = []
    process = Process(loop, "a")
    process.spawn(ticks(seen, 1.0))
    loop.post(2.5, process.freeze, "test")
    loop.post(9.5, process.thaw, "test")
    loop.run_until(11.0)
    assert seen == [1.0, 2.0, 9.5, 10.5]


def test_process_frozen_twice_needs_both_to_end(loop: VirtualLoop) -> None:
    process = Process(loop, "a")
    for reason in ("one", "two"):
        process.freeze(reason)
    process.thaw("one")
    assert process.frozen
    process.thaw("two")
    assert not process.frozen


def test_after_a_freeze_messages_come_before_timers(loop: VirtualLoop) -> None:
    order: list[str] = []
    process = Process(loop, "a")
    message: asyncio.Future[None] = loop.create_future()

    async def hears() -> None:
        await message
        order.append("message")

    async def waits() -> None:
        await asyncio.sleep(1.0)
        order.append("timer")

    process.spawn(hears())
    process.spawn(waits())
    loop.run_until(0.5)
    process.freeze("test")
    loop.post(1.5, message.set_result, None)
    loop.post(3.0, process.thaw, "test")
    loop.run_until(5.0)
    assert order == ["message", "timer"]


def test_a_killed_process_runs_nothing_more_not_even_its_finally(loop: VirtualLoop) -> None:
    left: list[str] = []

    async def works() -> None:
        try:
            await asyncio.sleep(10.0)
        finally:
            left.append("cleaned up")

    process = Process(loop, "a")
    task = process.spawn(works())
    loop.run_until(1.0)
    process.kill()
    task.cancel()
    loop.run_until(20.0)
    assert left == []


def test_a_strike_comes_right_before_the_step_it_was_meant_for(loop: VirtualLoop) -> None:
    seen: list[float] = []
    process = Process(loop, "a")
    process.spawn(ticks(seen, 1.0))
    loop.run_until(1.5)
    process.strikes[process.steps + 2] = [process.kill]
    loop.run_until(10.0)
    assert seen == [1.0]


def test_a_process_that_spins_is_noticed(loop: VirtualLoop) -> None:
    async def spins() -> None:
        while True:  # noqa: ASYNC110 - spinning is what is tested
            await asyncio.sleep(0)

    Process(loop, "a").spawn(spins())
    with pytest.raises(Livelock):
        loop.run_until(1.0)


def test_afterwards_clocks_are_the_machines_again() -> None:
    before_s = elapsed_s()
    loop = VirtualLoop()
    with virtual_clocks(loop, wall_s=0.0):
        assert (elapsed_s(), time.time()) == (0.0, 0.0)
    assert elapsed_s() >= before_s
    assert time.time() > 1.7e9
