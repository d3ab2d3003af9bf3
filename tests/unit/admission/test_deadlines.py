"""A lease covers the deadlines of requests that may be open under it: a later one is covered by a renew first."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest

from shared.admission.admission import Admission
from shared.admission.cancelled import DRIFT, JITTER_S
from shared.admission.deadlines import Deadlines
from shared.admission.holdings import Plan
from shared.admission.permit import Permit, PermitLapsed
from shared.clock import elapsed_s
from shared.ledger.packing import unpack
from shared.ledger.state import InstanceLease
from shared.stores.memory import MemoryStore, Shelf
from tests.support.virtual_time import run
from tests.unit.admission.test_admission import Hanging, admission, take
from tests.unit.admission.test_holdings import START_MS, at, granted, request

MARGIN_S = JITTER_S + 120.0 * DRIFT


def deadlines() -> Deadlines:
    return Deadlines(120.0, kept_s=60.0)


class TestExpected:
    @pytest.mark.parametrize(("time_s", "expected_s"), [(10.0, 10.0), (0.1, 1.0), (900.0, 120.0), (math.inf, 120.0)])
    def test_a_request_may_last_as_long_as_it_did(self, time_s: float, expected_s: float) -> None:
        """But at least as long as Gemini's shortest deadline, and at most as long as any."""
        one = deadlines()
        one.expect(time_s, 1_000.0)
        assert one.expected_ms(1_000.0) == pytest.approx(1000 * (expected_s + MARGIN_S), abs=1)

    def test_an_own_deadline_is_forgotten_after_two_periods(self) -> None:
        one = deadlines()
        one.expect(100.0, 1_000.0)
        one.expect(10.0, 1_061.0)
        assert one.expected_ms(1_119.0) > 100_000
        one.expect(10.0, 1_122.0)
        assert one.expected_ms(1_122.0) < 11_000

    def test_nothing_is_remembered_after_a_long_pause(self) -> None:
        one = deadlines()
        one.expect(100.0, 1_000.0)
        assert one.expected_ms(1_130.0) < 2_000


class TestOpen:
    def test_the_latest_deadline_counts_until_its_request_ends(self) -> None:
        one = deadlines()
        assert one.open_until_ms(1_000.0, START_MS) == 0
        one.begin(1, 1_010.0, 1_000.0)
        one.begin(2, 1_090.0, 1_000.0)
        assert one.open_until_ms(1_001.0, START_MS) == pytest.approx(START_MS + 1000 * (89.0 + MARGIN_S), abs=1)
        one.end(2)
        assert one.open_until_ms(1_001.0, START_MS) == pytest.approx(START_MS + 1000 * (9.0 + MARGIN_S), abs=1)
        one.end(1)
        one.end(1)
        assert one.open_until_ms(1_001.0, START_MS) == 0

    def test_a_dispatch_at_the_deadline_extends_it(self) -> None:
        """Gemini takes no deadline shorter than a second."""
        one = deadlines()
        one.begin(1, 1_010.0, 1_000.0)
        one.begin(1, 1_010.0, 1_009.9)
        assert one.open_until_ms(1_010.0, START_MS) == pytest.approx(START_MS + 1000 * (0.9 + MARGIN_S), abs=1)


class TestCover:
    """The grant of `granted` covers deadlines until 71 s from now, of which 0.31 s are the margin."""

    @pytest.mark.parametrize(("left_s", "covered"), [(10.0, True), (59.9, True), (math.inf, True)])
    def test_no_deadline_is_later_than_the_longest(self, left_s: float, covered: bool) -> None:
        assert granted().covers(100.0 + left_s, at()) is covered

    def test_a_later_deadline_waits_for_a_renew(self) -> None:
        held = granted()
        held.covered_ms = START_MS + 30_000
        assert held.covers(129.6, at())
        assert not held.covers(129.8, at())
        assert not held.covers(129.6, at(0.2)._replace(now_s=100.0)), "the store's time may be later"
        assert not held.extend
        held.ask_to_cover(129.8, at())
        assert held.extend
        assert held.deadlines.expected_ms(100.0) >= 29_800

    def test_no_renew_is_due_for_a_request_without_a_slot(self) -> None:
        held = granted(cap=0)
        held.ask_to_cover(150.0, at())
        lapsed = granted()
        lapsed.ask_to_cover(150.0, at(11.0))
        assert not held.extend
        assert not lapsed.extend

    def test_a_renew_under_way_narrows_the_cover_at_once(self) -> None:
        """The ledger may cover less after it: what began meanwhile under the last lease would be counted by nobody."""
        held = granted()
        short = replace(request(hold=1), tau_ms=10_000, open_until_ms=START_MS + 15_000)
        held.prepare(Plan(short, {}), START_MS)
        assert held.covered_ms == START_MS + 20_000, "the authority, which no renew shortens, and the time of a request"
        held.prepare(Plan(replace(short, open_until_ms=START_MS + 90_000), {}), START_MS)
        assert held.covered_ms == START_MS + 20_000, "an open request extends nothing by itself"

    def test_an_open_request_stays_covered_by_a_renew(self) -> None:
        held = granted()
        held.prepare(Plan(replace(request(hold=1), tau_ms=10_000, open_until_ms=START_MS + 40_000), {}), START_MS)
        assert held.covered_ms == START_MS + 40_000


async def with_free_slots(gate: Admission, free: int) -> Permit:
    """An open request of two seconds, and `free` slots and permits that others like it left unused."""
    first, *others = [await take(gate, wait_s=2.0) for _ in range(1 + free)]
    for other in others:
        await other.close()
    return first


async def lease_of(shelf: Shelf) -> InstanceLease:
    reading = await MemoryStore(shelf).read("ledger/p")
    assert reading.value is not None
    [lease] = unpack(reading.value).leases.values()
    return lease


def test_a_longer_request_is_covered_before_it_begins() -> None:
    async def story() -> None:
        shelf = Shelf()
        gate = admission(MemoryStore(shelf), tau_s=60.0)
        short = await with_free_slots(gate, 2)
        lease, writes = await lease_of(shelf), gate.writes
        assert lease.reuse_ms - lease.authority_ms < 2_500
        long = await take(gate, wait_s=30.0)
        lease = await lease_of(shelf)
        assert lease.reuse_ms - lease.authority_ms > 29_000
        assert gate.writes == writes + 1
        await long.close()
        long = await take(gate, wait_s=29.0)
        long.check()
        assert gate.writes == writes + 1, "it is covered already"
        await long.close()
        await short.close()

    run(story)


def test_shorter_requests_pass_one_that_is_not_covered_yet() -> None:
    async def story() -> None:
        store = Hanging(Shelf(), applied=False)
        store.go.set()
        gate = admission(store, tau_s=60.0)
        first = await with_free_slots(gate, 2)
        store.go.clear()
        long = asyncio.ensure_future(take(gate, wait_s=30.0))
        await asyncio.sleep(0.01)
        short = asyncio.ensure_future(take(gate, wait_s=2.0))
        await asyncio.sleep(0.01)
        assert (long.done(), short.done()) == (False, True)
        store.go.set()
        for permit in (first, await short, await long):
            await permit.close()

    run(story)


def test_a_permit_is_not_used_for_a_later_deadline() -> None:
    """A process that changes a deadline, or thaws, finds out at the socket."""

    async def story() -> None:
        permit = await take(admission(MemoryStore(Shelf()), tau_s=60.0), wait_s=2.0)
        permit.deadline_s = elapsed_s() + 30.0
        with pytest.raises(PermitLapsed):
            permit.check()
        assert not permit.dispatched
        await permit.close()

    run(story)
