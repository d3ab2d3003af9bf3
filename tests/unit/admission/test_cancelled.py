"""A cancelled exchange keeps its slot until Gemini has ended it, also while its process is idle or gone."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from shared.admission.admission import Admission
from shared.admission.cancelled import DRIFT, JITTER_S, runs_on_s
from shared.admission.permit import Permit
from shared.clock import elapsed_s
from shared.errors import QueueTimeout
from shared.ledger.packing import unpack
from shared.ledger.slots import free_what_is_over
from shared.stores.memory import MemoryStore, Shelf
from tests.support.virtual_time import run
from tests.unit.admission.test_admission import account, admission, take

USUAL_S = 2.0
C = 2


def teach(gate: Admission) -> None:
    for _ in range(10):
        gate.durations.record("m", USUAL_S, elapsed_s())


async def leave(gate: Admission, after_s: float = 0.0, wait_s: float = 60.0) -> Permit:
    lease = await take(gate, account(c=C), wait_s=wait_s)
    lease.check()
    await asyncio.sleep(after_s)
    await lease.close(cancelled=True)
    return lease


async def slots(shelf: Shelf) -> int:
    """Those that the ledger keeps now."""
    reading = await MemoryStore(shelf).read("ledger/p")
    assert reading.value is not None
    state = unpack(reading.value)
    free_what_is_over(state, int(reading.sample.server_ms))
    return sum(lease.slots for lease in state.leases.values())


@pytest.mark.parametrize(
    ("took_s", "usual_s", "expected_s"),
    [(10.0, None, 50.0), (10.0, 1.0, 1.0 + JITTER_S), (59.5, 1.0, 0.5), (61.0, 1.0, 0.0), (61.0, None, 0.0)],
)
def test_gemini_works_on_as_usual_or_to_the_deadline(took_s: float, usual_s: float | None, expected_s: float) -> None:
    assert runs_on_s(took_s, 60.0, usual_s) == pytest.approx(expected_s, abs=60.0 * DRIFT)


@pytest.mark.parametrize("usual_s", [None, 5.0])
def test_a_slow_clock_at_gemini_ends_an_exchange_later(usual_s: float | None) -> None:
    """An exchange that is cancelled at its deadline keeps its slot for what two clocks may differ by over all of its time."""
    assert runs_on_s(60.0, 60.0, usual_s) == pytest.approx(60.0 * DRIFT)


def test_slot_of_an_exchange_cancelled_at_its_deadline_is_kept() -> None:
    async def story() -> None:
        gate = admission(MemoryStore(Shelf()))
        lease = await take(gate, account(c=C), wait_s=4.0)
        lease.check()
        await asyncio.sleep(lease.deadline_s - elapsed_s())
        holdings = gate.projects["p"].holdings
        await lease.close(cancelled=True)
        assert holdings.in_use(elapsed_s()) == 1
        await asyncio.sleep(2 * 4.0 * DRIFT)
        assert holdings.in_use(elapsed_s()) == 0
        await gate.aclose()

    run(story)


def test_a_slot_is_kept_for_the_usual_time() -> None:
    async def story() -> None:
        shelf = Shelf()
        gate, other = admission(MemoryStore(shelf)), admission(MemoryStore(shelf))
        teach(gate)
        for _ in range(C):
            await leave(gate, after_s=0.5)
        assert await slots(shelf) == C
        began_s = elapsed_s()
        lease = await take(other, account(c=C))
        waited_s = elapsed_s() - began_s
        assert USUAL_S - 0.5 - 0.5 <= waited_s <= USUAL_S - 0.5 + JITTER_S + 0.3, "at most a poll later"
        await lease.close()
        await asyncio.sleep(1)
        assert await slots(shelf) == 0, "the process that kept them has written nothing for it"

    run(story)


def test_each_slot_is_freed_at_its_own_end() -> None:
    """One request that hangs holds one slot to its deadline, not all of them."""

    async def story() -> None:
        shelf = Shelf()
        gate = admission(MemoryStore(shelf))
        gate.process_config = replace(gate.process_config, tau_s=60.0)
        await leave(gate, wait_s=40.0)
        teach(gate)
        await leave(gate)
        assert await slots(shelf) == 2
        await asyncio.sleep(USUAL_S + 1)
        assert await slots(shelf) == 1
        await asyncio.sleep(40)
        assert await slots(shelf) == 0

    run(story)


def test_the_same_process_waits_for_its_leavers_too() -> None:
    async def story() -> None:
        gate = admission(MemoryStore(Shelf()))
        teach(gate)
        for _ in range(C):
            await leave(gate)
        with pytest.raises(QueueTimeout):
            await take(gate, account(c=C), wait_s=1.0)
        began_s = elapsed_s()
        await (await take(gate, account(c=C), wait_s=3.0)).close()
        assert elapsed_s() - began_s <= USUAL_S + JITTER_S - 1.0 + 0.3
        await gate.aclose()

    run(story)


def test_a_process_that_ends_leaves_the_slots_to_the_ledger() -> None:
    async def story() -> None:
        shelf = Shelf()
        gate = admission(MemoryStore(shelf), linger_s=10.0)
        teach(gate)
        await leave(gate)
        await gate.aclose()
        assert await slots(shelf) == 1
        await asyncio.sleep(USUAL_S + 1)
        assert await slots(shelf) == 0

    run(story)


def test_where_upstream_cancels_nothing_is_kept() -> None:
    async def story() -> None:
        shelf = Shelf()
        gate = admission(MemoryStore(shelf))
        gate.process_config = replace(gate.process_config, cancels=True)
        await leave(gate)
        assert await slots(shelf) == 0

    run(story)


def test_what_was_never_sent_keeps_nothing() -> None:
    async def story() -> None:
        shelf = Shelf()
        gate = admission(MemoryStore(shelf))
        lease = await take(gate, account(c=C))
        await lease.close(cancelled=True)
        assert await slots(shelf) == 0

    run(story)


def test_geminis_shortest_deadline_is_a_second() -> None:
    """A request with less time than that is told 1 s, and Gemini may work for so long."""

    async def story() -> None:
        shelf = Shelf()
        gate = admission(MemoryStore(shelf))
        lease = await take(gate, account(c=C))
        lease.check()
        lease.deadline_s = elapsed_s() + 0.1
        await asyncio.sleep(0.1)
        await lease.close(cancelled=True)
        assert await slots(shelf) == 1
        await asyncio.sleep(0.95)
        assert await slots(shelf) == 0

    run(story)
