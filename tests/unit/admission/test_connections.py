"""Connections to Gemini: callers' own keys have a share of them, and nobody holds a permit while waiting for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from shared.accounts.account import OWN_LEDGER, Account
from shared.admission.admission import Admission
from shared.admission.connections import Connections
from shared.admission.permit import Permit
from shared.clock import elapsed_s
from shared.errors import QueueTimeout
from shared.generation import Caller, Cost
from shared.ledger.limits import Limits
from shared.secret import Secret
from shared.stores.memory import MemoryStore, Shelf
from tests.unit.admission.test_admission import admission, eventually

ONE = Cost(1, 5)
SERVER = Account("server", "server", Secret("k"), 50, Limits())


def own(number: int, c: int = 50) -> Account:
    return Account(f"own-{number}", f"{OWN_LEDGER}{number}", Secret(f"k{number}"), c, Limits(), caller_key=True)


@asynccontextmanager
async def gate(total: int, guests: int | None) -> AsyncIterator[Admission]:
    made = admission(MemoryStore(Shelf()), connections=total, caller_key_connections=guests)
    try:
        yield made
    finally:
        await made.aclose()
        assert (made.connections.held, made.connections.held_by_guests) == (0, 0)


async def take(gate: Admission, account: Account, wait_s: float = 50.0, caller: str = "") -> Permit:
    who = Caller(caller or account.id, "caller_key" if account.caller_key else "admin")
    return await gate.acquire([account], "m", ONE, elapsed_s() + wait_s, who)


def taking(gate: Admission, account: Account, count: int = 1, caller: str = "") -> list[asyncio.Task[Permit]]:
    return [asyncio.create_task(take(gate, account, caller=caller)) for _ in range(count)]


def done(tasks: list[asyncio.Task[Permit]]) -> int:
    return sum(task.done() for task in tasks)


async def close(tasks: list[asyncio.Task[Permit]]) -> None:
    for task in tasks:
        lease = await task
        await lease.close()


async def close_in_turn(tasks: list[asyncio.Task[Permit]]) -> None:
    for task in asyncio.as_completed(tasks):
        await (await task).close()


async def test_own_keys_hold_at_most_their_share() -> None:
    async with gate(6, 3) as made:
        slow = [task for number in range(4) for task in taking(made, own(number), 3)]
        await eventually(lambda: done(slow) == 3)
        mine = taking(made, SERVER, 3)
        await eventually(lambda: done(mine) == 3)
        assert (made.connections.held, made.connections.held_by_guests, done(slow)) == (6, 3, 3)
        await close(mine)
        await close_in_turn(slow)


async def test_alone_own_keys_have_all_connections() -> None:
    async with gate(4, None) as made:
        leases = taking(made, own(1), 4)
        await eventually(lambda: done(leases) == 4)
        await close(leases)


async def test_a_connection_is_waited_for_without_a_permit() -> None:
    """The one that waits draws nothing, so that nothing lapses, and it writes nothing to the ledger meanwhile."""
    async with gate(1, None) as made:
        first = await take(made, SERVER)
        (second,) = taking(made, own(1), 1)
        await eventually(lambda: len(made.queue) == 1)
        agent = made.projects[own(1).ledger_id]
        await eventually(lambda: agent.holdings.cap > 0)
        await asyncio.sleep(0.3)
        writes = made.writes
        await asyncio.sleep(0.5)
        assert (second.done(), len(agent.holdings.open)) == (False, 0)
        assert made.writes - writes <= 2
        await first.close()
        lease = await asyncio.wait_for(second, 10)
        lease.check()
        assert lease.queued_s >= 0.8
        await lease.close(ONE.input_tokens)


async def test_without_a_connection_the_queue_s_deadline_holds() -> None:
    async with gate(2, 1) as made:
        first = await take(made, own(1))
        with pytest.raises(
            QueueTimeout, match=r"No connection to Gemini .* 1 requests with callers' own keys"
        ) as caught:
            await take(made, own(2), wait_s=0.3)
        assert caught.value.retry_after_s is not None
        assert caught.value.retry_after_s >= 1
        await first.close()
        await (await take(made, own(2))).close()


async def test_connections_go_to_callers_in_turns() -> None:
    """One caller's flood on one ledger does not keep another ledger's caller waiting for more than a turn."""
    async with gate(1, None) as made:
        first = await take(made, SERVER)
        flood = taking(made, own(1), 20, caller="flood")
        await eventually(lambda: len(made.queue) == 20)
        (quiet,) = taking(made, own(2), 1, caller="quiet")
        await eventually(lambda: len(made.queue) == 21 and made.projects[own(2).ledger_id].holdings.cap > 0)
        await first.close()
        served = 0
        while not quiet.done():
            await eventually(lambda: quiet.done() or done(flood) > 0)
            if not quiet.done():
                (ready,) = [task for task in flood if task.done()]
                flood.remove(ready)
                await close([ready])
                served += 1
        assert served <= 2
        await close([quiet])
        await close_in_turn(flood)


async def test_one_that_leaves_passes_the_connection_on() -> None:
    async with gate(1, None) as made:
        first = await take(made, SERVER)
        (left,) = taking(made, own(1))
        (stays,) = taking(made, own(2))
        await eventually(lambda: len(made.queue) == 2)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        await first.close()
        await (await asyncio.wait_for(stays, 10)).close()


async def test_a_request_without_a_permit_holds_a_connection_too() -> None:
    async with gate(1, None) as made:
        assert await made.connect(SERVER, 10)
        assert not await made.connect(SERVER, 0.05)
        (waits,) = taking(made, SERVER)
        counting = asyncio.create_task(made.connect(own(1), 10))
        await eventually(lambda: len(made.queue) == 1)
        made.disconnect(SERVER)
        assert await counting
        assert not waits.done()
        made.disconnect(own(1))
        await (await asyncio.wait_for(waits, 10)).close()


async def test_one_that_is_cancelled_as_it_gets_one_gives_it_back() -> None:
    connections: Connections[str] = Connections(1)
    connections.take(False)
    waits = asyncio.create_task(connections.wait(True))
    await asyncio.sleep(0)
    connections.release(False)
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)
    assert (connections.held, connections.held_by_guests) == (0, 0)


def test_lines_are_served_by_their_earliest_turn() -> None:
    connections: Connections[str] = Connections(2, 1)
    connections.take(True)
    connections.take(False)
    for line, guest, turn in [
        ("a", False, 3.0),
        ("b", True, 1.0),
        ("c", False, 2.0),
        ("a", False, 1.5),
        ("c", False, 9.0),
    ]:
        connections.enter(line, guest, (turn, 0))
    assert connections.next_line() is None
    connections.release(False)
    assert connections.next_line() == "a", "guests have their share"
    assert [connections.next_line(), connections.next_line()] == ["c", None]
    connections.release(True)
    assert [connections.next_line(), connections.next_line(), "b" in connections] == ["b", None, False]
