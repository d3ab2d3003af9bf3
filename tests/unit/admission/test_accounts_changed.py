"""Requests that wait while the operator enables and disables accounts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from shared.accounts.account import Account
from shared.admission.admission import Admission
from shared.admission.permit import Permit
from shared.admission.queue import AccountsChanged
from shared.ledger.state import SlotRange
from shared.stores.memory import MemoryStore, Shelf
from tests.unit.admission.test_admission import account, admission, assert_nothing_is_held, eventually, exchange, take


def bookings_of(gate: Admission, account: Account) -> Sequence[SlotRange]:
    """What this process may dispatch on the account, now or later."""
    return [
        validity
        for permits in gate.projects[account.ledger_id].holdings.models.values()
        for validity, booking in permits.bookings.items()
        if any(booking.available)
    ]


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


async def test_waiting_request_is_served_by_a_new_account(shelf: Shelf) -> None:
    """Its account is full, and stays so until the end."""
    gate, full, free = admission(MemoryStore(shelf)), account("full", c=1), account("free", c=1)
    async with exchange(gate, full):
        waiting = asyncio.create_task(take(gate, full, wait_s=50))
        await eventually(lambda: len(gate.queue) == 1)
        gate.accounts_changed([full, free])
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
        gate.accounts_changed([one, other])
        await eventually(lambda: len(gate.queue) == 0)
        await eventually(lambda: len(gate.queue) == 5)
    await asyncio.gather(*callers)
    assert served == [0, 1, 2, 3, 4]


async def test_request_on_a_callers_own_key_is_left_alone(shelf: Shelf) -> None:
    gate, own = admission(MemoryStore(shelf)), replace(account("u-own", c=1), caller_key=True)
    async with exchange(gate, own):
        waiting = asyncio.create_task(take(gate, own, wait_s=50))
        await eventually(lambda: len(gate.queue) == 1)
        gate.accounts_changed([])
        await asyncio.sleep(0)
        assert not waiting.done()
    await (await waiting).close()


async def wait_again(gate: Admission, *accounts: Account, anew: Sequence[Account]) -> Permit:
    """A request that waits for `accounts` until these change, and then for `anew`."""
    with pytest.raises(AccountsChanged) as changed:
        await take(gate, *accounts, wait_s=50)
    return await take(gate, *anew, wait_s=50, again=changed.value)


async def test_a_request_that_chooses_anew_returns_nothing(shelf: Shelf) -> None:
    """The window is full, so the request waits with a later booking, which it still has when it comes back."""
    gate, one = admission(MemoryStore(shelf)), account("one", requests=1)
    async with exchange(gate, one):
        pass
    waiting = asyncio.create_task(wait_again(gate, one, anew=[one]))
    await eventually(lambda: bool(bookings_of(gate, one)))
    booked, writes = bookings_of(gate, one), gate.writes
    gate.accounts_changed([one])
    await eventually(lambda: len(gate.queue) == 1)
    assert (bookings_of(gate, one), gate.writes) == (booked, writes)
    await (await waiting).close()
    await assert_nothing_is_held(shelf, "one")


async def test_what_is_held_of_a_disabled_account_is_returned(shelf: Shelf) -> None:
    """At once, although the request that waited for it goes on waiting for another account."""
    gate, off, other = admission(MemoryStore(shelf)), account("off", requests=1), account("other", c=1)
    async with exchange(gate, off):
        pass
    async with exchange(gate, other):
        waiting = asyncio.create_task(wait_again(gate, off, anew=[other]))
        await eventually(lambda: bool(bookings_of(gate, off)))
        gate.accounts_changed([other])
        for _ in range(20):  # The store answers at once; no timer is due.
            await asyncio.sleep(0)
        await assert_nothing_is_held(shelf, "off")
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
