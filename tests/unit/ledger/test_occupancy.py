"""The occupancy that a renew sums up by slot is what adding up every dispatch and booking one by one gives."""

from __future__ import annotations

import random

import pytest

from shared.generation import NO_COST, Cost
from shared.ledger.calendar import Calendar
from shared.ledger.grid import Grid
from shared.ledger.limits import UNLIMITED, Limits
from shared.ledger.occupancy import PINNED_SLOTS, collected, flexible
from shared.ledger.packing import pack, unpack
from shared.ledger.state import InstanceLease, InstanceShare, ModelState, SlotRange, State

GRID, NOW_MS, AHEAD = Grid.of(60), 1_800_000_000_000, 330
NOW = GRID.slot(NOW_MS)
LIMITS = Limits(requests=500, input_tokens=90_000, requests_per_day=10_000)


def a_cost(rng: random.Random) -> Cost:
    return Cost(rng.randrange(1, 4), rng.randrange(0, 900), rng.randrange(0, 2))


def a_state(seed: int) -> State:
    """Dispatches also in slots to come, and bookings of every age and width that a renew can meet."""
    rng = random.Random(seed)
    state = State(GRID.window_ms, NOW_MS)
    slots = rng.sample(range(NOW - GRID.span + 1, NOW + 3), rng.randrange(0, 200))
    state.sections["m"] = ModelState(ring={slot: a_cost(rng) for slot in slots})
    for i in range(rng.randrange(0, 6)):
        bookings = {}
        for _ in range(rng.randrange(0, 30)):
            width = rng.choice((PINNED_SLOTS, PINNED_SLOTS, PINNED_SLOTS, 1, 32))
            last = NOW + rng.randrange(1 - GRID.span, 80)
            bookings[SlotRange(last - width + 1, last)] = a_cost(rng)
        share = InstanceShare(LIMITS, bookings)
        state.leases[str(i)] = InstanceLease(shares={"m": share})
    return state


def calendar_of(state: State) -> Calendar:
    shares = [lease.shares["m"] for lease in state.leases.values()]
    return Calendar(state.sections["m"], collected(shares), LIMITS, GRID, NOW_MS, AHEAD)


def used(state: State, k: int, slot: int) -> int:
    """Invariant I1, written as the README has it."""
    bookings = [held for lease in state.leases.values() for held in lease.shares["m"].bookings.items()]
    ring = sum(cost[k] for at, cost in state.sections["m"].ring.items() if slot < at + GRID.span)
    return ring + sum(cost[k] for v, cost in bookings if max(v.first, NOW) <= slot < v.last + GRID.span)


@pytest.mark.parametrize("seed", range(12))
def test_rooms_are_what_adding_up_one_by_one_gives(seed: int) -> None:
    state = a_state(seed)
    # One calendar sums rows as they were read, the other one dicts.
    for calendar in (calendar_of(unpack(pack(state))), calendar_of(state)):
        for k in (0, 1):
            free = [(LIMITS[k] or 0) - used(state, k, NOW + at) for at in range(AHEAD + GRID.span + 40)]
            for width in (1, PINNED_SLOTS, 32):
                reach = width - 1 + GRID.span
                for at in (0, 1, 7, 40, 79, 80, 200, AHEAD - 1):
                    assert calendar.room(k, NOW + at, width) == min(free[at : at + reach])


@pytest.mark.parametrize("seed", range(12))
def test_what_begins_in_each_slot_is_summed_as_one_by_one(seed: int) -> None:
    state = a_state(seed)
    occupancy = calendar_of(unpack(pack(state))).occupancy
    for k in (0, 1):
        expected = [0] * len(occupancy.begins(k))
        for slot, cost in state.sections["m"].ring.items():
            expected[slot - occupancy.first] += cost[k]
        for lease in state.leases.values():
            for validity, cost in lease.shares["m"].bookings.items():
                at = (NOW - 1 if flexible(validity) else validity.first) - occupancy.first
                if at >= 0:
                    expected[at] += cost[k]
        assert occupancy.begins(k) == expected
        everyone = [c for lease in state.leases.values() for c in lease.shares["m"].bookings.values()]
        assert occupancy.booked(k) == sum(cost[k] for cost in everyone)


def test_far_dispatches_do_not_lengthen_the_lists() -> None:
    """A slot beyond the calendar counts in every slot of it; one older than a window counts in none."""
    ring = {NOW + 10**9: Cost(7), NOW - 10**9: Cost(5), NOW: Cost(1)}
    calendar = Calendar(ModelState(ring=ring), [], Limits(requests=100), GRID, NOW_MS, AHEAD)
    assert calendar.room(0, NOW, 1) == 92
    assert calendar.room(0, NOW + GRID.span, 1) == 93
    assert len(calendar.occupancy.dispatched[0]) < 2_000


def test_rows_and_dicts_are_the_same_share() -> None:
    bookings = {SlotRange(NOW, NOW + 3): Cost(1, 20, 0), SlotRange(NOW - 9, NOW + 22): Cost(4, 0, 1)}
    told = InstanceShare(UNLIMITED, bookings)
    read = InstanceShare.of_rows(UNLIMITED, NO_COST, NOW + 5, told.rows(NOW + 5))
    assert read.rows(NOW - 7) == told.rows(NOW - 7)
    assert (read.holds, read.earliest(), read.latest()) == (True, NOW - 9, NOW)
    assert read == told, "asking for the dict changed it"
    assert (read.rows(3), read.earliest(), read.latest()) == (told.rows(3), NOW - 9, NOW)
    read.bookings = {}
    assert (read.holds, read.rows(0)) == (False, [])
