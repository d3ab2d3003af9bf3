"""The pace of a scarce dimension: when what was used leaves the window, also while it is not yet reported."""

from __future__ import annotations

import random

import pytest

from shared.generation import Cost
from shared.ledger.calendar import Calendar
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.ledger.occupancy import PINNED_SLOTS, collected
from shared.ledger.pace import quiet_slots
from shared.ledger.pacing import Pacer, pace_of
from shared.ledger.state import Bookings, InstanceShare, ModelState, SlotRange

GRID, NOW_MS = Grid.of(60), 1_800_000_000_000
NOW = GRID.slot(NOW_MS)
FULL = 300 / GRID.span


def calendar_of(ring: dict[int, Cost], bookings: Bookings, limit: int = 300) -> Calendar:
    limits = Limits(requests=limit)
    booked = collected([InstanceShare(limits, bookings)] if bookings else [])
    return Calendar(ModelState(ring=ring), booked, limits, GRID, NOW_MS, 2 * GRID.span)


def booking(last: int, width: int) -> SlotRange:
    return SlotRange(last - width + 1, last)


@pytest.mark.parametrize("width", [PINNED_SLOTS, 1, 32])
@pytest.mark.parametrize("seed", range(6))
def test_unreported_bookings_leave_the_window_when_used(seed: int, width: int) -> None:
    """The pace is the same as if each had been dispatched in its last slot and reported."""
    rng = random.Random(seed)
    early, recent = rng.sample(range(NOW - GRID.span + 1, NOW - 60), 30), rng.sample(range(NOW - 50, NOW), 20)
    ends = [*early, *recent]
    rng.shuffle(ends)
    amounts = [rng.randrange(8, 12) if end >= NOW - 50 else rng.randrange(1, 4) for end in ends]
    bookings = {booking(end, width): Cost(amount) for end, amount in zip(ends, amounts, strict=True)}
    dispatched = {end: Cost(amount) for end, amount in zip(ends, amounts, strict=True)}
    expected = pace_of(calendar_of(dispatched, {}), 0)
    assert 0 < expected.rate < expected.full, "the pace is slow, so that what leaves the window matters"
    assert pace_of(calendar_of({}, bookings), 0) == expected
    halves = dict(list(bookings.items())[::2]), dict(list(dispatched.items())[1::2])
    assert pace_of(calendar_of(halves[1], halves[0]), 0) == expected, "one half reported"


def test_reports_do_not_slow_the_pace() -> None:
    """An instance has used the whole rate and reports it every 30 s: without the bookings that leave the window, the pace for
    the next 30 s would be half as fast."""
    used = {NOW - at: Cost(1) for at in range(1, GRID.span) if at % 5}
    late: Bookings = {booking(slot, PINNED_SLOTS): cost for slot, cost in used.items() if slot < NOW - 120}
    reported = {slot: cost for slot, cost in used.items() if slot >= NOW - 120}
    pace = pace_of(calendar_of(reported, late, limit=len(used) + 4), 0)
    assert pace.rate == pace.full


def test_a_booking_that_can_still_be_used_does_not_leave() -> None:
    """It may be dispatched in its last slot. One that begins later is not used yet."""
    short = pace_of(calendar_of({NOW - 200: Cost(30)}, {booking(NOW + 9, 32): Cost(240)}), 0)
    assert short.rate < short.full
    assert pace_of(calendar_of({NOW - 200: Cost(30)}, {booking(NOW + 9, PINNED_SLOTS): Cost(240)}), 0).rate == FULL


@pytest.mark.parametrize(("patience", "late"), [(1, False), (2, True)])
def test_many_instances_may_use_capacity_for_longer(patience: int, *, late: bool) -> None:
    """Nothing was given for twice as long as usual, after a time in which the whole rate was."""
    limit = 10 * GRID.span
    quiet = quiet_slots(0, limit / GRID.span)
    ring = {slot: Cost(10) for slot in range(NOW - GRID.span + 1, NOW - 2 * quiet)}
    pacer = Pacer(calendar_of(ring, {}, limit), 0, {}, 40, NOW + 3, patience)
    assert pacer.most(1, NOW) == 10 * (quiet * patience + 1)
    assert (pacer.most(1, NOW) > 10 * (quiet + 1)) is late
