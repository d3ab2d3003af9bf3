"""Requests that wait while the operator switches accounts off and on. On a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from shared.admission.admission import Admission
from shared.clock import elapsed_s
from shared.errors import NoServerKey
from shared.ledger.limits import Limits
from tests.support.gateways import Processes, accounts_of
from tests.support.virtual_time import run

FIRST, SECOND = accounts_of(2, limits=Limits(requests=1))
REST_S, PATIENCE_S = 100.0, 200.0
SOON_S = 1.0
"""A permit takes two exchanges with the store, and an answer 0.2 s."""


def with_first_used(rest_s: float, then: Callable[[Processes], Awaitable[None]]) -> Processes:
    """One process, whose only account has just served: it rests for `rest_s`, and its window is full."""

    async def main() -> Processes:
        found = Processes([FIRST], lambda account, model: None, rest_s=rest_s, queue_timeout_s=300.0)
        found.add()
        async with found.closing():
            await found.ask(0)
            await then(found)
        return found

    return run(main)


def queue_of(found: Processes) -> Admission:
    """The admission in which a request waits for the first account: the cooldown's if accounts rest."""
    gateway = found.gateways[0]
    return gateway.cooldown.admission if gateway.cooldown is not None else gateway.admission


@pytest.mark.parametrize("rest_s", [0.0, REST_S])
def test_a_waiting_request_moves_to_the_enabled_account(rest_s: float) -> None:
    async def then(found: Processes) -> None:
        waiting = asyncio.create_task(found.ask(0, deadline_s=PATIENCE_S))
        await asyncio.sleep(1.0)
        began_s = elapsed_s()
        found.switch(0, SECOND)
        assert await waiting == SECOND.id
        assert elapsed_s() - began_s <= SOON_S

    assert [one.account for one in with_first_used(rest_s, then).sent] == [FIRST.id, SECOND.id]


@pytest.mark.parametrize("rest_s", [0.0, REST_S])
def test_it_keeps_its_place_in_the_queue(rest_s: float) -> None:
    async def then(found: Processes) -> None:
        tasks = [asyncio.create_task(found.ask(0, deadline_s=PATIENCE_S)) for _ in range(3)]
        await asyncio.sleep(1.0)
        before = list(queue_of(found).queue)
        assert len(before) == 3
        found.switch(0, SECOND)
        await asyncio.sleep(0.001)
        assert list(queue_of(found).queue) == before
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    with_first_used(rest_s, then)


@pytest.mark.parametrize("rest_s", [0.0, REST_S])
def test_without_an_account_it_is_rejected(rest_s: float) -> None:
    """When its caller gets the error, nothing is held for it: the process may be stopped then."""

    async def then(found: Processes) -> None:
        waiting = asyncio.create_task(found.ask(0, deadline_s=PATIENCE_S))
        await asyncio.sleep(1.0)
        found.switch(0)
        with pytest.raises(NoServerKey):
            await waiting
        for name, state in (await found.ledgers()).items():
            for lease in state.leases.values():
                booked = sum(len(share.bookings) for share in lease.shares.values())
                assert (lease.want_slots, lease.slots - len(lease.ends_ms), booked) == (0, 0, 0), name

    with_first_used(rest_s, then)
