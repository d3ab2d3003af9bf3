"""Former defects, each in the smallest scenario that shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from shared.accounts.account import Account
from shared.admission.permit import Permit, PermitLapsed
from shared.clock import elapsed_s
from shared.generation import Caller, Cost
from shared.ledger.limits import Limits
from shared.ledger.packing import unpack
from shared.ledger.state import QuotaSignal, State
from shared.secret import Secret
from tests.simulation.caller import Request
from tests.simulation.checker import check
from tests.simulation.history import Bound, Call, History
from tests.simulation.instance import Instance
from tests.simulation.scenario import DAY, Deployment, Scenario, grid_of
from tests.simulation.upstream import Rival
from tests.simulation.world import World

MODEL = "m0"
START_MS = float(DAY.start_ms) + 36_000_000
GRID = grid_of(4_000, 100)


def account(name: str = "p0", c: int = 4, **limits: int) -> Account:
    return Account(name, name, Secret(name), c, Limits(**limits))


def scenario(accounts: Sequence[Account], instances: int = 1, **more: Any) -> Scenario:
    quiet = Scenario(
        seed=0, grid=GRID, tau_s=10.0, lease_s=2.0, busy_s=600.0, deployments=(Deployment(tuple(accounts)),),
        population=((0.0, instances),), clients=(), delay_s=(0.01, 0.02), drift=0.0, began_ms=START_MS,
    )  # fmt: skip
    return replace(quiet, **more)


class Story:
    """A world whose calls a test begins one by one."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.begin()
        world.loop.run_until(0.1)

    def asks(self, *accounts: Account, at: int = 0, model: str = MODEL, **more: Any) -> list[Call]:
        """Begin a call to instance `at` now; the list holds its end once it has ended."""
        ended: list[Call] = []
        fields = {"cost": Cost(1, 1), "patience_s": 10.0, "service_s": 0.05, "used_tokens": 1, **more}
        ask = Request(accounts, Caller("c", "admin"), model, **fields)

        async def call() -> None:
            ended.append(await self.world.ask(ask, at))

        self.world.loop.create_task(call())
        return ended

    def passes(self, seconds: float) -> None:
        self.world.loop.run_until(self.world.loop.now_s + seconds)

    def instance(self, at: int) -> Instance:
        return self.world.instances[at]

    def ledger(self, project: str = "p0") -> State:
        return unpack(self.world.server.value(f"ledger/{project}") or b"")

    def slots(self, at: int, project: str = "p0") -> int:
        lease = self.ledger(project).leases.get(f"i{at}")
        return lease.slots if lease is not None else 0

    def failures(self) -> list[str]:
        return [str(v) for v in check(self.world.history()) if not v.ok] + self.world.errors + self.world.loop.errors


@contextmanager
def story(*accounts: Account, **more: Any) -> Iterator[Story]:
    with World(scenario(accounts, **more)).entered() as world:
        yield Story(world)


def test_a_caller_that_leaves_two_projects_queues_frees_both() -> None:
    first, second = account("p0", requests=1), account("p1", requests=1)
    with story(first, second) as told:
        for one in (first, second):
            told.asks(one)
        told.passes(1.0)
        waits = told.asks(first, second, leaves_after_s=1.5)
        told.passes(1.0)
        booked = [told.ledger(p).leases["i0"].shares[MODEL].bookings for p in ("p0", "p1")]
        assert any(booked), "it should wait with a booking ahead of it"
        told.passes(1.5)
        assert [call.fate for call in waits] == ["left"]
        for project in ("p0", "p1"):
            lease = told.ledger(project).leases["i0"]
            assert (lease.slots, [b for s in lease.shares.values() for b in s.bookings]) == (0, [])
        assert told.failures() == []


def test_slots_return_to_others_while_one_long_stream_goes_on() -> None:
    project = account(c=4)
    with story(project, instances=2) as told:
        stream = told.asks(project, at=0, service_s=8.0)
        short = [told.asks(project, at=0) for _ in range(3)]
        told.passes(1.5)
        assert all(call and call[0].fate == "answered" for call in short)
        assert stream == []
        others = [told.asks(project, at=1, service_s=0.5) for _ in range(3)]
        told.passes(2.0)
        assert [call[0].fate for call in others if call] == ["answered"] * 3
        assert stream == []
        told.passes(8.0)
        assert [call.fate for call in stream] == ["answered"]
        assert told.failures() == []


def test_slot_due_to_another_is_returned_after_its_use() -> None:
    """While the request was open, the instance's authority over the slot had ended, so no one regarded it as held."""
    project = account(c=1, requests=100)
    with story(project, instances=2, lease_s=4.0) as told:
        stream = told.asks(project, at=0, service_s=6.0, patience_s=20.0)
        told.passes(0.5)
        other = told.asks(project, at=1, patience_s=20.0)
        told.passes(6.0)
        assert [call.fate for call in stream] == ["answered"]
        assert told.ledger().leases["i0"].slots == 0
        told.passes(1.0)
        assert [call.fate for call in other] == ["answered"]
        assert told.failures() == []


def test_waiting_for_a_slot_books_no_permits_repeatedly() -> None:
    """The permits lapsed unused, each renewal a write. Now the instance reads meanwhile, and renews its demand twice a lease."""
    project = account(c=1, requests=100)
    with story(project, instances=2) as told:
        told.asks(project, at=0, service_s=9.0, patience_s=20.0)
        told.passes(0.5)
        told.asks(project, at=1, patience_s=20.0)
        told.passes(8.0)
        assert told.instance(1).admission.writes <= 2 * 8.0 / 2.0 + 1
        assert told.failures() == []


def test_a_stream_over_many_renews_counts_once_in_its_day() -> None:
    project = account(requests_per_day=5)
    with story(project) as told:
        stream = told.asks(project, service_s=9.0, patience_s=20.0)
        for _ in range(3):
            told.passes(1.5)
            told.asks(project)  # Each of these renews in the middle of the stream.
        told.passes(8.0)
        assert [call.fate for call in stream] == ["answered"]
        assert told.ledger().sections[MODEL].days == {DAY.ordinal: 4}


def test_long_stream_is_reported_while_its_booking_counts() -> None:
    """The stream was counted twice in its day: as a lapsed booking, and when its instance reported it in the end."""
    project = account(requests_per_day=5)
    with story(project, instances=2) as told:
        stream = told.asks(project, service_s=9.0, patience_s=20.0)
        told.passes(8.0)
        told.asks(project, at=1)
        told.passes(3.0)
        assert [call.fate for call in stream] == ["answered"]
        assert told.ledger().sections[MODEL].days == {DAY.ordinal: 2}


def test_unlimited_model_obeys_refusals_everywhere() -> None:
    project = account(c=8)
    rival = Rival("p0", MODEL, Limits(requests=1), 1.0, 2.0, names_the_limit=False)
    with story(project, instances=2, rivals=(rival,)) as told:
        told.passes(0.9)
        for _ in range(8):
            told.asks(project, at=0)
            told.asks(project, at=1)
            told.passes(0.2)
        told.passes(6.0)
        assert told.world.gemini.refused, "nobody was refused: this proves nothing"
        last = max(told.world.gemini.refused, key=lambda refused: refused.until_ms)
        learned_ms = last.from_ms + 200  # One conversation with the ledger, and half a lease at most for the other's.
        meanwhile = [
            e for e in told.world.gemini.exchanges()
            if e.instance == last.instance and learned_ms < e.written_ms < last.until_ms
        ]  # fmt: skip
        assert meanwhile == []
        assert told.failures() == []


def test_permit_from_before_a_refusal_is_not_used() -> None:
    """One request takes its permit and connects; meanwhile another one is refused by Gemini."""
    project = account(c=8)
    rival = Rival("p0", MODEL, Limits(requests=0), 0.0, 2.0, names_the_limit=False)
    with story(project, rivals=(rival,)) as told:
        told.world.gemini.travel_s = (0.1, 0.1)
        told.asks(project)
        told.asks(project, connect_s=0.25)
        told.passes(8.0)
        assert told.failures() == []
        first, heard = told.world.gemini.sent[0], told.world.gemini.refused[0]
        assert heard.from_ms - first.written_ms < 200, "the refusal came too late for this story"


def test_the_33rd_model_waits_without_a_storm_of_writes() -> None:
    project = account(c=40, requests=10)
    with story(project) as told:
        calls = [told.asks(project, model=f"m{at}", service_s=0.1, patience_s=8.0) for at in range(33)]
        told.passes(12.0)
        fates = [call[0].fate for call in calls]
        assert fates.count("answered") >= 32
        assert told.world.server.commits < 33 + 30
        assert told.failures() == []


def test_smaller_limit_of_two_deployments_holds() -> None:
    """As soon as what was booked under the larger one has run out (A6), while the second one has requests waiting."""
    old, new = account(c=8, requests=12), account(c=8, requests=3)
    deployments = (Deployment((old,)), Deployment((new,), from_s=2.0))
    with story(old, deployments=deployments, lease_s=5.0) as told:
        for second in range(30):
            told.asks(old, at=0, patience_s=4.0)
            if second == 5:
                told.world.start()
            if second > 5:
                told.asks(old, at=1, patience_s=30.0)
            told.passes(0.5)
        arrivals = [e for e in told.world.gemini.exchanges() if e.arrived_ms > START_MS + 8_000]
        assert {e.instance for e in arrivals} == {"i0", "i1"}
        alone = History(GRID.window_ms, tuple(arrivals), bounds=(Bound("p0", MODEL, new.limits, 8),))
        assert [str(verdict) for verdict in check(alone) if not verdict.ok] == []
        assert told.failures() == []


def test_unreported_requests_count_after_a_kill() -> None:
    project = account(requests_per_day=3)
    with story(project, instances=2) as told:
        told.passes(0.2)
        for _ in range(2):
            told.asks(project, at=0, service_s=5.0)
        told.passes(0.3)
        written = len(told.world.gemini.sent)
        assert written == 2
        told.world.kill(told.instance(0))
        told.passes(30.0)
        calls = [told.asks(project, at=1) for _ in range(3)]
        told.passes(15.0)
        assert [call[0].fate for call in calls].count("answered") == 1
        assert told.ledger().sections[MODEL].days[DAY.ordinal] >= 3
        assert told.failures() == []


def test_idle_client_returns_what_it_holds_after_a_read() -> None:
    """A caller waits for the slots of two projects and is served by one. The other's agent, left without work while it
    looked for a slot, went on looking: it held a booking and read in a circle, and its caller waited 2 s for it."""
    first, second = account("p0", c=1, requests=50), account("p1", c=1, requests=50)
    with story(first, second, instances=2, lease_s=None) as told:
        for round_s in (0.0, 0.03, 0.06, 0.09, 0.12):
            told.asks(first, at=1, service_s=5.0)
            told.asks(second, at=1, service_s=1.0 + round_s)
            told.passes(0.3)
            served = told.asks(first, second, at=0)
            told.passes(3.5)
            assert [call.fate for call in served] == ["answered"]
            assert served[0].ended_ms - (served[0].served_ms or 0.0) < 1_000
            for project in ("p0", "p1"):
                assert not any(s.bookings for s in told.ledger(project).leases["i0"].shares.values())
            told.passes(4.0)
            reads = told.world.server.reads
            told.passes(2.0)
            assert told.world.server.reads == reads


def test_rejection_waits_for_all_ledgers_at_once() -> None:
    projects = [account(f"p{at}", requests=1) for at in range(4)]
    with story(*projects) as told:
        for project in projects:
            told.asks(project)
        told.passes(1.0)
        waits = told.asks(*projects, patience_s=6.0)
        told.passes(1.5)
        told.world.network.outage = "hang"
        told.passes(20.0)
        assert [call.fate for call in waits] == ["refused"]
        assert waits[0].ended_ms - waits[0].came_ms > 5_900, "it should have waited in vain"
        assert waits[0].ended_ms - waits[0].deadline_ms < 2_500


def test_permit_of_a_lapsed_lease_is_not_revived() -> None:
    """A process takes a permit of a model without limits and stands still until others have its slots. Back again it
    renews, is granted authority and no slot, and then wants to use what it took before."""
    project = account(c=1)
    taken: list[Permit] = []
    outcomes: list[str] = []
    with story(project, instances=2, lease_s=1.0, tau_s=2.0) as told:
        frozen = told.instance(0)

        async def takes() -> None:
            deadline_s = elapsed_s() + 60
            taken.append(await frozen.admission.acquire([project], MODEL, Cost(1), deadline_s, Caller("c", "admin")))

        async def writes() -> None:
            try:
                taken[0].check()
                outcomes.append("written")
            except PermitLapsed:
                outcomes.append("lapsed")
            await taken[0].close()

        frozen.process.spawn(takes())
        told.passes(0.5)
        frozen.process.freeze("test")
        told.passes(3.0)
        told.asks(project, at=1, service_s=1.9)
        told.passes(0.5)
        assert told.slots(1) == 1
        frozen.process.thaw("test")
        told.asks(project, at=0)
        told.passes(0.3)
        assert told.ledger().leases["i0"].authority_ms > told.world.now_ms(), "it should have renewed"
        frozen.process.spawn(writes())
        told.passes(5.0)
        assert outcomes == ["lapsed"]
        assert told.failures() == []


def test_ended_wait_is_not_offered_again() -> None:
    """A caller gets its permit before it was offered to the second of two projects, and Gemini refuses meanwhile: it waits
    anew. Both waits then offered it to the next project, and after the second there was none: an IndexError in a timer, and
    nobody was ever offered again."""
    projects = [account("p0", c=2), account("p1", c=2)]
    with story(*projects) as told:
        gate = told.instance(0).admission

        async def take(accounts: Sequence[Account], again: Permit | None = None) -> Permit:
            return await gate.acquire(accounts, MODEL, Cost(1), elapsed_s() + 30, Caller("c", "admin"), again=again)

        async def comes_back() -> None:
            first = [await take(projects) for _ in range(2)]
            asked_first = first[0].account
            [other] = [project for project in projects if project is not asked_first]
            busy = [await take([other]) for _ in range(2)]
            waits = asyncio.create_task(take(projects))
            await asyncio.sleep(0.05)
            await first[0].close()
            lease = await waits
            assert lease.account is asked_first
            first[1].refuse(QuotaSignal(MODEL, until_ms=int(told.world.now_ms()) + 2_000))
            with pytest.raises(PermitLapsed):
                lease.check()
            await lease.close()
            waits = asyncio.create_task(take(projects, again=lease))
            await asyncio.sleep(1.0)
            assert not waits.done()
            await busy[0].close()
            served = await waits
            assert served.account is other
            for held in (served, first[1], busy[1]):
                await held.close()

        story_of_it = told.instance(0).process.spawn(comes_back())
        told.passes(6.0)
        assert told.failures() == []
        story_of_it.result()
