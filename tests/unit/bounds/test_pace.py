"""A minimum time between dispatches."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from shared.bounds.pace import AHEAD_S, Pace


class Time:
    """Sleeping moves the clock, and lets others run."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def now(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        await asyncio.sleep(0)
        self.now_s = max(self.now_s, until_s)


@pytest.mark.parametrize("interval_s", [0.01, 0.5, 7.0])
async def test_dispatches_are_the_interval_apart(interval_s: float) -> None:
    time = Time()
    pace = Pace(interval_s, now=time.now, sleep=time.sleep)
    dispatched: list[float] = []

    async def send() -> None:
        request = pace.request()
        await request.enter()
        await request.take_turn()
        request.dispatch()
        dispatched.append(time.now_s)
        request.leave()

    await asyncio.gather(*(send() for _ in range(20)))
    gaps = [later - earlier for earlier, later in itertools.pairwise(dispatched)]
    assert gaps == pytest.approx([interval_s] * 19)


async def test_few_requests_hold_permits_before_their_turn() -> None:
    pace = Pace(AHEAD_S / 4)
    waiting = [pace.request() for _ in range(6)]
    tasks = [asyncio.create_task(request.enter()) for request in waiting]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [task.done() for task in tasks] == [True] * 4 + [False] * 2
    waiting[0].leave()
    await asyncio.wait_for(tasks[4], 10)
    assert not tasks[5].done()
    tasks[5].cancel()


async def test_a_cancelled_wait_takes_no_turn() -> None:
    """Neither one that waits for the turn nor one that has it and waits for the interval."""
    pace = Pace(60.0)
    first, second, third = pace.request(), pace.request(), pace.request()
    await first.take_turn()
    waits = asyncio.create_task(second.take_turn())
    await asyncio.sleep(0)
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)
    first.dispatch()
    first.leave()
    sleeps = asyncio.create_task(second.take_turn())
    await asyncio.sleep(0)
    sleeps.cancel()
    await asyncio.gather(sleeps, return_exceptions=True)
    pace._next_s = 0.0
    await asyncio.wait_for(third.take_turn(), 10)


async def test_a_retry_takes_a_turn_of_its_own() -> None:
    """The same request after a failed exchange, for which its place among the entered ones is no longer needed."""
    time = Time()
    pace = Pace(2.0, now=time.now, sleep=time.sleep)
    request, other = pace.request(), pace.request()
    await request.enter()
    await request.take_turn()
    request.dispatch()
    request.leave()
    await asyncio.wait_for(other.enter(), 10)
    await request.take_turn()
    assert time.now_s == 102.0
    request.dispatch()
    request.leave()
    request.leave()


async def test_an_interval_may_be_as_small_as_a_float() -> None:
    paced = Pace(5e-324).request()
    await paced.enter()
    await paced.take_turn()
    paced.leave()
