"""Every schedule of two instances on a tiny grid: no window of the true dispatch times ever holds more than the limit."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import pytest

from shared.generation import Cost
from shared.ledger.calendar import Calendar
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.ledger.packing import pack, unpack
from shared.ledger.state import Bookings, Demand, ModelState, RenewRequest, SlotRange, State
from shared.ledger.step import renew
from tests.support.invariants import check_slots, check_windows, worst_window

GRID = Grid(window_ms=4, slot_ms=2, span=3)
"""A window of two slots, times in halves of a slot, no jitter: span = 4/2 + 1."""
UNCERTAINTY_MS = 1
START_MS = 1_800_000_000_000
MODEL = "m"
Instance = tuple[int, tuple[tuple[SlotRange, int], ...], tuple[tuple[int, int], ...]]


class World(NamedTuple):
    """One reachable situation: ledger, two instances (renews sent, bookings, unreported dispatches), what Gemini saw."""

    now: int
    blob: bytes
    instances: tuple[Instance, ...]
    dispatched: tuple[int, ...]


def successors(world: World, limit: int) -> Iterator[World]:
    yield world._replace(now=world.now + 1)
    for at in range(len(world.instances)):
        yield from _renewed(world, at, limit)
        yield from _dispatched(world, at)


def _renewed(world: World, at: int, limit: int) -> Iterator[World]:
    blob, adopted = _renewal(world.now, world.blob, at, world.instances[at], limit)
    yield world._replace(blob=blob, instances=_with(world.instances, at, adopted))


@cache
def _renewal(now: int, blob: bytes, at: int, instance: Instance, limit: int) -> tuple[bytes, Instance]:
    """The ledger and the instance after its renewal, which many worlds share: nothing else of a world has a part in it."""
    number, held, settled = instance
    slot = GRID.slot(now + UNCERTAINTY_MS)
    kept: Bookings = {v: Cost(n) for v, n in held if v.last >= slot}
    demand = Demand(Limits(requests=limit), {d: Cost(n) for d, n in settled}, kept, ((Cost(1), 1),), reach_ms=8)
    message = RenewRequest(
        str(at), number + 1, now - UNCERTAINTY_MS, 2, 4, lease_ms=4, want_slots=1, demands={MODEL: demand}
    )
    state = unpack(blob)
    grant = renew(state, message, now, GRID)
    check_windows(state, MODEL, Limits(requests=limit), GRID)
    check_slots(state, 2)
    got = tuple(sorted((v, cost.requests) for v, cost in grant.allotments[MODEL].bookings.items()))
    return pack(state), (number + 1, got, ())


def _dispatched(world: World, at: int) -> Iterator[World]:
    """The instance dispatches now, believing any time within its uncertainty; it settles at the latest it may be."""
    number, held, settled = world.instances[at]
    for early, late in ((0, 0), (UNCERTAINTY_MS, 0), (0, UNCERTAINTY_MS)):
        lo, hi = world.now - early, world.now + late
        for index, (validity, n) in enumerate(held):
            if n and validity.first * 2 <= lo and hi < (validity.last + 1) * 2:
                left = (*held[:index], (validity, n - 1), *held[index + 1 :])
                counts = dict(settled)
                counts[GRID.slot(hi)] = counts.get(GRID.slot(hi), 0) + 1
                instance = (number, left, tuple(sorted(counts.items())))
                yield world._replace(
                    instances=_with(world.instances, at, instance), dispatched=(*world.dispatched, world.now)
                )


def _with(instances: tuple[Instance, ...], at: int, one: Instance) -> tuple[Instance, ...]:
    return (*instances[:at], one, *instances[at + 1 :])


@pytest.mark.parametrize(("limit", "depth"), [(1, 11), (2, 9)])
def test_no_schedule_exceeds_the_limit(limit: int, depth: int) -> None:
    first = World(START_MS, pack(State(GRID.window_ms)), ((0, (), ()),) * 2, ())
    seen, frontier = {first}, [first]
    fullest = 0
    for _ in range(depth):
        following = []
        for world in frontier:
            for after in successors(world, limit):
                recent = tuple(d for d in after.dispatched if d > after.now - 2 * GRID.window_ms)
                worst = worst_window(recent, GRID.window_ms)
                assert worst <= limit, after
                fullest = max(fullest, worst)
                after = after._replace(dispatched=recent)
                if after not in seen:
                    seen.add(after)
                    following.append(after)
        frontier = following
    assert fullest == limit, "the model never used the limit: it proves nothing"
    assert len(seen) > 2_000


def test_dispatch_settled_ahead_counts_before_its_slot() -> None:
    """Limit 2. One was dispatched span - 1 slots ago; one now, but settled in the next slot (its hi). A ring that counts
    from the settled slot on would show one of two used now, and a third dispatch would share a window with both."""
    slot, limits = GRID.slot(START_MS), Limits(requests=2)
    section = ModelState(ring={slot - GRID.span + 1: Cost(1), slot + 1: Cost(1)})
    calendar = Calendar(section, [], limits, GRID, START_MS, ahead=8)
    assert calendar.fits(Cost(1), slot, width=1) == 0
    assert calendar.fits(Cost(1), slot + 1, width=1) == 1
