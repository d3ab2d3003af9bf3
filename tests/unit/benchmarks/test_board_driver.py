"""The callers of a cell: what they do, and what is recorded of it."""

from __future__ import annotations

import asyncio
import time

import pytest

from shared.errors import QueueTimeout
from shared.stores.memory import MemoryStore
from shared.stores.port import Change, Put
from tests.benchmarks.board.driver import Callers, MeasuredStore, Order, Steps, Times
from tests.benchmarks.board.judge import LEFT, OK

PATIENCE_S = 10.0


class FakeGate:
    """Answers when it is let; `most` is how many asked at once."""

    def __init__(self) -> None:
        self.steps = Steps()
        self.let = asyncio.Event()
        self.error: Exception | None = None
        self.now = self.most = 0
        self.permits = True

    def held(self) -> bool:
        return self.permits

    async def ask(self, caller: str, prompt: str) -> float:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.let.wait()
            await asyncio.sleep(0.001)
            if self.error is not None:
                raise self.error
            return 0.25
        finally:
            self.now -= 1

    async def aclose(self) -> None: ...


def order(per_s: float | None, callers: int = 2) -> Order:
    return Order(process=3, lease="calendar", callers=callers, per_s=per_s, output="")


async def run(callers: Callers, seconds: float = 0.2) -> None:
    now_s = time.monotonic()
    async with asyncio.timeout(PATIENCE_S):
        await callers.run(Times(now_s, now_s, now_s + seconds, now_s + seconds))


async def test_returning_callers_have_one_request_at_a_time_each() -> None:
    gate = FakeGate()
    gate.let.set()
    callers = Callers(order(None), gate)
    await run(callers)
    assert gate.most == 2
    assert {(one.process, one.caller) for one in callers.asked} == {(3, 0), (3, 1)}
    assert {one.queued_s for one in callers.asked if one.outcome == OK} == {0.25}


async def test_callers_at_random_ask_whether_or_not_they_were_answered() -> None:
    gate = FakeGate()
    callers = Callers(order(per_s=100.0), gate)
    await run(callers)
    assert gate.most > 2
    assert {one.outcome for one in callers.asked} == {LEFT}


async def test_waiters_at_the_end_are_recorded() -> None:
    callers = Callers(order(None), FakeGate())
    await run(callers)
    assert [(one.outcome, one.queued_s, one.held) for one in callers.asked] == [(LEFT, None, True)] * 2


async def test_error_is_recorded_by_its_code() -> None:
    gate = FakeGate()
    gate.error = QueueTimeout("No permit becomes free in time.")
    gate.let.set()
    callers = Callers(order(None), gate)
    await run(callers)
    assert {one.outcome for one in callers.asked} <= {QueueTimeout.code, LEFT}
    assert callers.failures == {QueueTimeout.code: "No permit becomes free in time."}


async def test_a_defect_ends_the_cell_and_is_not_recorded_as_an_answer() -> None:
    gate = FakeGate()
    gate.error = ZeroDivisionError("a defect")
    gate.let.set()
    with pytest.raises(ZeroDivisionError):
        await run(Callers(order(None), gate), seconds=PATIENCE_S)


async def test_measured_store_records_every_step() -> None:
    store = MeasuredStore(MemoryStore())
    for size in (5, 3):
        outcome = await store.transact(
            ["n/a"], lambda _values, _now, size=size: Change(size, {"n/a": Put(b"x" * size)})
        )
        assert outcome.result == size
    assert (await store.read("n/a")).value == b"xxx"
    assert await store.list("n/") == ["n/a"]
    assert (len(store.steps.cpu_ms), store.steps.most_bytes) == (2, 5)
