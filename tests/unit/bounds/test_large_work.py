"""Work on large bodies: one at a time, with pauses, whatever becomes of who waits for it."""

from __future__ import annotations

import asyncio
import gc
import threading
import time

import pytest

from shared.bounds.large_work import LargeWork


async def test_the_result_and_the_error_are_the_works_own() -> None:
    large = LargeWork()
    assert await large.run(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        await large.run(lambda: 1 // 0)
    assert await large.run(lambda: 6) == 6
    large.close()


async def test_the_collector_does_not_run_meanwhile() -> None:
    large = LargeWork()
    assert await large.run(gc.isenabled) is False
    assert gc.isenabled()
    large.close()


async def test_one_at_a_time_and_known_callers_first() -> None:
    large, order, at_once = LargeWork(), [], threading.Semaphore(1)

    def work(name: str) -> None:
        assert at_once.acquire(blocking=False)
        time.sleep(0.01)
        order.append(name)
        at_once.release()

    async def run(name: str, first: bool) -> None:
        await large.run(lambda: work(name), first=first)

    await asyncio.gather(run("one", False), run("stranger", False), run("other", False), run("team", True))
    assert order == ["one", "team", "stranger", "other"]
    large.close()


async def test_after_each_it_rests_as_long_as_that_took() -> None:
    large = LargeWork()
    ended: list[float] = []

    def work() -> float:
        began = time.monotonic()
        time.sleep(0.2)
        ended.append(time.monotonic())
        return began

    began = await asyncio.gather(large.run(work), large.run(work))
    assert began[1] - ended[0] >= 0.19
    large.close()


async def test_cancelled_waiter_passes_its_turn_on() -> None:
    large, release = LargeWork(), threading.Event()
    busy = asyncio.create_task(large.run(lambda: release.wait(20)))
    await asyncio.sleep(0.01)
    gone = asyncio.create_task(large.run(lambda: None))
    after = asyncio.create_task(large.run(lambda: "served"))
    await asyncio.sleep(0.01)
    gone.cancel()
    release.set()
    assert await after == "served"
    assert await busy
    assert gone.cancelled()
    large.close()


async def test_cancellation_waits_for_the_work() -> None:
    """Its bytes are in use until then."""
    large, release = LargeWork(), threading.Event()
    busy = asyncio.create_task(large.run(lambda: release.wait(20)))
    await asyncio.sleep(0.01)
    busy.cancel()
    await asyncio.sleep(0.05)
    assert not busy.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await busy
    large.close()
