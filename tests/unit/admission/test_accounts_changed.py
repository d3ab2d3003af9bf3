"""Requests that wait while the operator enables and disables accounts."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from shared.admission.queue import AccountsChanged
from shared.stores.memory import MemoryStore, Shelf
from tests.unit.admission.test_admission import account, admission, assert_nothing_is_held, eventually, exchange, take


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


async def test_waiting_request_is_served_by_a_new_account(shelf: Shelf) -> None:
    """Its account is full, and stays so until the end."""
    gate, full, free = admission(MemoryStore(shelf)), account("full", c=1), account("free", c=1)
    async with exchange(gate, full):
        waiting = asyncio.create_task(take(gate, full, wait_s=50))
        await eventually(lambda: len(gate.queue) == 1)
        gate.accounts_changed()
        with pytest.raises(AccountsChanged) as changed:
            await waiting
        assert len(gate.queue) == 0
        async with exchange(gate, full, free, again=changed.value) as permit:
            assert permit.account is free
    await assert_nothing_is_held(shelf, "full")
    await assert_nothing_is_held(shelf, "free")


async def test_each_request_keeps_its_place(shelf: Shelf) -> None:
    gate, one, other = admission(MemoryStore(shelf)), account("one", c=1), account("other", c=1)
    served: list[int] = []

    async def caller(number: int) -> None:
        again: AccountsChanged | None = None
        while True:
            try:
                permit = await take(gate, *([other] if again else [one]), wait_s=50, again=again)
            except AccountsChanged as changed:
                again = changed
                # The first in the queue comes back last.
                await asyncio.sleep(0.05 * (5 - number))
                continue
            served.append(number)
            permit.check()
            await permit.close(1)
            return

    async with exchange(gate, one), exchange(gate, other):
        callers = []
        for number in range(5):
            callers.append(asyncio.create_task(caller(number)))
            await eventually(lambda: len(gate.queue) == len(callers))
        gate.accounts_changed()
        await eventually(lambda: len(gate.queue) == 0)
        await eventually(lambda: len(gate.queue) == 5)
    await asyncio.gather(*callers)
    assert served == [0, 1, 2, 3, 4]


async def test_request_on_a_callers_own_key_is_left_alone(shelf: Shelf) -> None:
    gate, own = admission(MemoryStore(shelf)), replace(account("u-own", c=1), caller_key=True)
    async with exchange(gate, own):
        waiting = asyncio.create_task(take(gate, own, wait_s=50))
        await eventually(lambda: len(gate.queue) == 1)
        gate.accounts_changed()
        await asyncio.sleep(0)
        assert not waiting.done()
    await (await waiting).close()


async def test_more_connections_serve_who_waits_for_one(shelf: Shelf) -> None:
    gate, wide = admission(MemoryStore(shelf), connections=1), account(c=10)
    async with exchange(gate, wide):
        waiting = asyncio.create_task(take(gate, wide, wait_s=50))
        await eventually(lambda: len(gate.queue) == 1)
        gate.reconfigure({}, 2, None)
        permit = await asyncio.wait_for(waiting, 20)
        permit.check()
        await permit.close(1)


async def test_new_weights_order_later_requests(shelf: Shelf) -> None:
    gate = admission(MemoryStore(shelf))
    gate.reconfigure({"somebody": 4.0}, 10, None)
    assert gate.queue.weights == {"somebody": 4.0}
