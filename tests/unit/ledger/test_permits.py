"""Where instances are many: whose permits would lapse, what is booked for requests to come, and who learns its share."""

from __future__ import annotations

import random

import pytest

from shared.generation import Cost
from shared.ledger.calendar import Calendar
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.ledger.occupancy import PINNED_SLOTS, collected, flexible
from shared.ledger.permits import RESERVE_SHARE, SPARE_SHARE, Party, Planner, Turns
from shared.ledger.state import Bookings, Demand, InstanceShare, ModelGrant, ModelState, SlotRange

GRID, NOW_MS = Grid.of(60), 1_800_000_000_000
NOW, SECOND = GRID.slot(NOW_MS), 4
HORIZON = 40 * SECOND
ONE = Cost(1)


def plan(
    demand: Demand,
    party: Party,
    *,
    ring: dict[int, Cost] | None = None,
    others: Bookings | None = None,
    paced: bool = False,
) -> ModelGrant:
    """What one renew grants. `ring`: what was dispatched; `others`: what other instances have booked."""
    section = ModelState(ring=ring or {}, paced_ms=NOW_MS if paced else 0)
    shares = [InstanceShare(demand.limits, dict(held)) for held in (others or {}, demand.kept) if held]
    calendar = Calendar(section, collected(shares), demand.limits, GRID, NOW_MS, 2 * GRID.span)
    return Planner(calendar, demand, party, section, demand.limits).plan(NOW_MS)


def alone(**more: object) -> Party:
    return Party(1.0, 1.0, HORIZON, **more)  # type: ignore[arg-type]


def requests(bookings: Bookings) -> int:
    return sum(cost.requests for cost in bookings.values())


def most_open(bookings: Bookings, service: int) -> int:
    """The most that begin within `service` slots."""
    firsts = [validity.first for validity, cost in bookings.items() for _ in range(cost.requests)]
    return max(sum(first <= other < first + service for other in firsts) for first in firsts)


class TestTurns:
    def test_a_slot_is_free_again_after_the_service_time(self) -> None:
        turns = Turns(cap=2, service_slots=8)
        turns.take(NOW, 2)
        assert [turns.room(NOW + at) for at in (-8, -7, 0, 7, 8)] == [2, 0, 0, 0, 2]

    def test_what_begins_later_needs_the_slot_too(self) -> None:
        turns = Turns(cap=3, service_slots=8)
        turns.take(NOW + 5, 1)
        turns.take(NOW + 12, 1)
        assert [turns.room(NOW + at) for at in (-3, 0, 5, 12, 20)] == [3, 2, 1, 1, 3]

    def test_more_than_the_slots_leaves_no_room(self) -> None:
        turns = Turns(cap=1, service_slots=4)
        turns.take(NOW, 3)
        assert turns.room(NOW) == 0

    @pytest.mark.parametrize("seed", range(8))
    def test_turns_in_order_never_exceed_the_slots(self, seed: int) -> None:
        rng = random.Random(seed)
        cap, service = rng.randrange(1, 5), rng.randrange(1, 12)
        turns, begins = Turns(cap, service), [0] * 60
        for slot in range(60):
            wanted = rng.randrange(3)
            begins[slot] = min(wanted, turns.room(slot))
            turns.take(slot, begins[slot])
            open_now = sum(begins[max(0, slot - service + 1) : slot + 1])
            assert open_now <= cap
            assert begins[slot] == wanted or open_now == cap, "a slot was left unused"


class TestPermitsForSlots:
    """Where instances are many, one with few slots is given no permits that lapse while its slots are in use."""

    DEMAND = Demand(Limits(requests=600), wants=((ONE, 60),), waiting=True)

    def test_permits_are_spread_over_the_service_time(self) -> None:
        granted = plan(self.DEMAND, alone(many=True, cap=2, service_slots=8), paced=True).bookings
        assert most_open(granted, 8) == 2
        assert requests(granted) == 2 * HORIZON // 8

    @pytest.mark.parametrize("party", [alone(cap=2, service_slots=8), alone(many=True, cap=60, service_slots=8)])
    def test_few_instances_or_enough_slots_are_not_bound(self, party: Party) -> None:
        granted = plan(self.DEMAND, party, paced=True).bookings
        assert requests(granted) == 60
        assert most_open(granted, 8) > 2

    def test_open_requests_keep_their_slots(self) -> None:
        """On average for half of the service time."""
        granted = plan(self.DEMAND, alone(many=True, cap=2, open_slots=2, service_slots=8), paced=True).bookings
        assert min(validity.first for validity in granted) == NOW + 4

    def test_kept_bookings_keep_their_slots(self) -> None:
        kept: Bookings = {SlotRange(NOW + 20, NOW + 19 + PINNED_SLOTS): Cost(2)}
        demand = Demand(self.DEMAND.limits, kept=kept, wants=((ONE, 60),), waiting=True)
        granted = plan(demand, alone(many=True, cap=2, service_slots=8), paced=True).bookings
        near = {validity.first - NOW for validity in granted if -8 < validity.first - NOW - 20 < 8}
        assert near == {20}
        assert requests(granted) > 20

    def test_an_instance_without_slots_gets_no_permits(self) -> None:
        granted = plan(self.DEMAND, alone(many=True, cap=0, service_slots=8), paced=True)
        assert (granted.bookings, granted.unmet) == ({}, Cost(60))


class TestShareOfTheRate:
    @pytest.mark.parametrize(("many", "per_s"), [(True, 2.5), (False, 0.0)])
    def test_many_instances_learn_their_share_while_paced(self, *, many: bool, per_s: float) -> None:
        demand = Demand(Limits(requests=600), wants=((ONE, 1),), waiting=True)
        grant = plan(demand, Party(0.25, 0.25, HORIZON, many, 9, 0, 8), paced=True)
        assert grant.unmet == Cost(0)
        assert grant.per_s == pytest.approx(per_s * 240 / GRID.span)

    def test_plenty_has_no_share(self) -> None:
        grant = plan(Demand(Limits(requests=600), wants=((ONE, 1),)), alone(many=True, cap=9, service_slots=8))
        assert (requests(grant.bookings), grant.per_s) == (1, 0.0)


@pytest.mark.parametrize(("many", "now"), [(False, 90), (True, 170)])
def test_many_instances_may_use_an_older_rest(*, many: bool, now: int) -> None:
    """The rate was used up to sixteen slots ago. Instances that renew seldom may still use what was left since then; few may
    use what was left in the last eight."""
    demand = Demand(Limits(requests=10 * GRID.span), wants=((ONE, 999),), waiting=True)
    ring = {slot: Cost(10) for slot in range(NOW - GRID.span + 1, NOW - 16)}
    granted = plan(demand, alone(many=many, cap=999), ring=ring, paced=True).bookings
    assert sum(cost.requests for validity, cost in granted.items() if validity.first == NOW) == now


class TestSpare:
    """Permits for requests that have not arrived yet, while there is plenty."""

    def spare(self, limit: int, even: float, *, kept: int = 0, spare: int = 500) -> int:
        held: Bookings = {SlotRange(NOW, NOW + 200): Cost(kept)} if kept else {}
        demand = Demand(Limits(requests=limit), kept=held, spare=spare, spare_ms=30_000)
        return requests(plan(demand, Party(1.0, even, HORIZON)).bookings) - kept

    def test_an_instance_holds_an_even_part(self) -> None:
        assert self.spare(1_000, 0.1) == SPARE_SHARE * 1_000 * 0.1
        assert self.spare(1_000, 0.1, spare=7) == 7

    def test_what_it_holds_is_part_of_it(self) -> None:
        assert self.spare(1_000, 0.1, kept=12) == 18
        assert self.spare(1_000, 0.1, kept=30) == 0

    def test_the_least_part_is_one(self) -> None:
        assert self.spare(100, 0.01) == 1
        assert self.spare(100, 0.01, kept=1) == 0

    def test_all_instances_together_leave_the_rest_free(self) -> None:
        """A hundred instances that request all they can get."""
        limits, booked = Limits(requests=1_000), 0
        for _ in range(100):
            others: Bookings = {SlotRange(NOW, NOW + 200): Cost(booked)} if booked else {}
            demand = Demand(limits, spare=500, spare_ms=30_000)
            booked += requests(plan(demand, Party(1.0, 0.01, HORIZON, many=True), others=others).bookings)
        assert booked == SPARE_SHARE * 1_000

    def test_a_reserve_of_the_limit_stays_free(self) -> None:
        ring = {NOW - at: Cost(3 + (at % 10 < 7)) for at in range(1, GRID.span)}
        free = 1_000 - sum(cost.requests for cost in ring.values())
        assert free > RESERVE_SHARE * 1_000
        demand = Demand(Limits(requests=1_000), spare=500, spare_ms=30_000)
        granted = plan(demand, alone(), ring=ring).bookings
        assert requests(granted) == free - RESERVE_SHARE * 1_000

    @pytest.mark.parametrize(("spare_ms", "slots"), [(0, 32), (5_000, 32), (30_000, 192)])
    def test_spare_permits_last_as_long_as_requested(self, spare_ms: int, slots: int) -> None:
        """1.6 times as long, like the 8 s of the permits for the usual 5 s; never shorter than these."""
        [validity] = plan(Demand(Limits(requests=1_000), spare=5, spare_ms=spare_ms), alone()).bookings
        assert validity == SlotRange(NOW, NOW + slots - 1)
        assert flexible(validity)


class TestBurst:
    """What may go at once: the pace after it is no slower than 85 % of the limit (of 1,000)."""

    def burst(self, bookings: Bookings, ring: dict[int, Cost] | None = None, *, many: bool = False) -> int:
        demand = Demand(Limits(requests=1_000), wants=((Cost(1), 900),), head=True)
        party = Party(1.0, 1.0, HORIZON, many=many, cap=900)
        granted = plan(demand, party, others=bookings, ring=ring or {}).bookings
        return requests({v: cost for v, cost in granted.items() if flexible(v)})

    def test_it_is_larger_where_instances_are_many(self) -> None:
        assert self.burst({}) == 150
        assert self.burst({}, many=True) == 300

    def test_what_was_dispatched_at_the_limits_rate_is_no_part_of_it(self) -> None:
        """A load of 60 % leaves the whole burst, of 100 % none."""
        assert 145 <= self.burst({}, {NOW - at: Cost(3) for at in range(1, 200)}) <= 155
        assert self.burst({}, {NOW - at: Cost(5) for at in range(1, 200)}) == 0

    def test_an_earlier_burst_is_part_of_it(self) -> None:
        assert 50 <= self.burst({}, {NOW - 1: Cost(100)}) <= 55
        assert self.burst({}, {NOW - 1: Cost(200)}) == 0
        assert self.burst({}, {NOW - 100: Cost(200)}) == 150, "the capacity of the time since then is free"

    def test_a_long_booking_counts_in_part(self) -> None:
        quarter = GRID.span // 4
        assert self.burst({SlotRange(NOW, NOW + quarter - 1): Cost(60)}) == 90
        assert self.burst({SlotRange(NOW, NOW + 3 * quarter - 1): Cost(60)}) == 130
        assert self.burst({SlotRange(NOW - quarter, NOW + 2 * quarter - 1): Cost(60)}) == 120, "half of it is left"

    def test_past_and_pinned_bookings_count_whole(self) -> None:
        assert 90 <= self.burst({SlotRange(NOW - 100, NOW - 1): Cost(60)}) <= 95
        assert self.burst({SlotRange(NOW + 5, NOW + 4 + PINNED_SLOTS): Cost(5)}) == 145
