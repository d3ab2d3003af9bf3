"""Booking permits of one model for one instance: at once while there is plenty, paced and shared when there is not."""

from __future__ import annotations

from dataclasses import dataclass

from shared.generation import DIMENSIONS, NO_COST, Cost
from shared.ledger.calendar import Calendar
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.ledger.occupancy import PINNED_SLOTS, flexible
from shared.ledger.pacing import Ahead, Pacer
from shared.ledger.state import Bookings, Demand, ModelGrant, ModelState, SlotRange
from shared.ledger.supply import DimensionSupply, Supply

FLEX_MS = 8_000
"""How long a flexible booking may be dispatched (in a 60 s window)."""
BURST_SHARE, MANY_BURST_SHARE, MIN_BURST = 0.15, 0.3, 10
"""Requests go at once while the pace after them is no slower than 1 - BURST_SHARE of the limit's rate (MANY_BURST_SHARE where
instances are many, and each renews seldom), and MIN_BURST requests in any case."""
RESERVE_SHARE = 0.1
"""Spare permits are given only while this much of the limit stays free."""
SPARE_SHARE = 0.3
"""Share of a limit that all instances together may hold for requests that have not arrived yet; each may hold an even part."""
CALM_SHARE = 0.25
"""After a wait, demand is paced for a window; for this share of a window where RESERVE_SHARE of the limit is free, since the
requests then came in a bunch and capacity suffices."""
IMMINENT_SLOTS = 3
"""Free slots this near are granted to any instance that asks: they would be lost otherwise."""

NEVER = 1 << 62


@dataclass(slots=True)
class Party:
    """How a model's rate is divided between the asking instance and others."""

    fair: float
    """The asker's share of the rate among those that want more than there is; 1.0 when alone."""
    even: float
    """Its share among all active instances: the maximum booked for requests that have not arrived yet."""
    horizon_slots: int
    many: bool = False
    """Whether instances are so many that each renews seldom: the asker must know its share even when nothing is unmet."""
    cap: int = 0
    """How many requests the asker may have open."""
    open_slots: int = 0
    """How many requests it has open."""
    service_slots: int = 0
    """For how long a request of it is usually open."""
    leaves_headroom: bool = False
    """Whether the asker has only batch requests, and others had interactive ones in the last minute."""
    has_headroom: bool = False
    """Whether the asker has interactive requests, and another instance only batch ones."""


class Planner:
    """Serves one Demand from one Calendar; `granted` collects the new bookings."""

    def __init__(self, calendar: Calendar, demand: Demand, party: Party, section: ModelState, limits: Limits) -> None:
        self.calendar, self.demand, self.party, self.section = calendar, demand, party, section
        self.limits = limits
        self.grid: Grid = calendar.grid
        self.granted: Bookings = {}
        self._pacers: dict[int, Pacer] = {}
        self._aheads: dict[int, Ahead] = {}
        self.flex = self.grid.slots(FLEX_MS)
        self._found = (NO_COST, -1, 0)
        """The last cost that `_earliest` was asked for, how much had been placed then, and the slot."""

    def book(self, cost: Cost, count: int, slot: int, width: int) -> None:
        whole = cost if count == 1 else cost.times(count)
        validity = self.calendar.place(whole, slot, width)
        before = self.granted.get(validity)
        self.granted[validity] = whole if before is None else before.plus(whole)

    def plan(self, now_ms: int) -> ModelGrant:
        runs = list(self.demand.wants)
        if now_ms > self.section.paced_ms:
            runs = self._at_once(runs)
            if not runs and (self._spare() or not self._frequent()):
                return self._allotment(NO_COST, 0)
        if self.party.has_headroom:
            runs = self._from_headroom(runs)
        self._prepare_pace()
        late, first_unmet_slot = self._paced(runs, head=self.demand.head and not self.granted)
        self._spare_while_scarce(now_ms, late=bool(late))
        return self._allotment(total(late), first_unmet_slot)

    def _from_headroom(self, runs: list[tuple[Cost, int]]) -> list[tuple[Cost, int]]:
        """Grants the longest prefix of the wants that fits now, ahead of the pace: batch requests leave a part of the limit free
        for it, and renew it at their cost."""
        while runs:
            cost, count = runs[0]
            most = min(count, self.calendar.fits(cost, self.calendar.first, PINNED_SLOTS))
            if most <= 0:
                break
            self.book(cost, most, self.calendar.first, PINNED_SLOTS)
            runs = ([(cost, count - most)] if most < count else []) + runs[1:]
        return runs

    def _spare_while_scarce(self, now_ms: int, *, late: bool) -> None:
        """Demand is unmet, too, while requests wait for permits that are booked for later. Only an instance
        with such requests will use more of that kind; one whose requests are served at once would let them expire."""
        booked = (
            [v.first - self.calendar.now for v in (*self.demand.kept, *self.granted)] if self.demand.waiting else []
        )
        if late or max(booked, default=0) > IMMINENT_SLOTS:
            self._pace_on(now_ms, 1.0 if late or self._nearly_full() else CALM_SHARE)
        if not late and self.demand.spare and (self._frequent() or max(booked, default=0) > 0):
            self._share = self.party.even
            self._paced([(self.demand.typical, self.demand.spare)])

    def _frequent(self) -> bool:
        """Whether requests wait and one more is expected in every slot: pinned permits for them will be used."""
        return self.demand.waiting and self.demand.spare >= self.party.horizon_slots

    def _pace_on(self, now_ms: int, share: float) -> None:
        self.section.paced_ms = max(self.section.paced_ms, now_ms + int(share * self.grid.window_ms))

    def _nearly_full(self) -> bool:
        free = self.calendar.free_now()
        return any(free[k] < RESERVE_SHARE * (self.calendar.limits[k] or 0) for k in self.calendar.dims)

    def plan_open(self, now_ms: int, *, probes: bool) -> tuple[ModelGrant, bool]:
        """While a circuit is open or half-open, only the probe is booked, and only for the instance that owns it. Also returns
        whether the probe found a place, or needs none."""
        runs = list(self.demand.wants)
        self._prepare_pace()
        if probes and self.demand.head and runs:
            cost, count = runs[0]
            probes = self._book_probe(cost)
            if probes:
                runs = ([(cost, count - 1)] if count > 1 else []) + runs[1:]
        if runs:
            self._pace_on(now_ms, 1.0)
        return self._allotment(total(runs), self._next(runs[0][0]) if runs else 0), probes

    def _book_probe(self, cost: Cost) -> bool:
        """No other request competes with the probe: where there is room it may begin late, however slow the ledger is."""
        if self.calendar.fits(cost, self.calendar.first, self.flex):
            self.book(cost, 1, self.calendar.first, self.flex)
            return True
        late, _ = self._paced([(cost, 1)], head=True)
        return not late

    def _allotment(self, unmet: Cost, next_slot: int) -> ModelGrant:
        return ModelGrant(
            bookings=merged(self.demand.kept, self.granted),
            limits=self.limits,
            free=self.calendar.free_now(),
            unmet=unmet,
            next_ms=self.grid.start_ms(next_slot) if next_slot else 0,
            per_s=self._per_s() if unmet.requests or (self._pacers and self.party.many) else 0.0,
            day_spent=bool(unmet.requests) and self.calendar.day_room(self.calendar.now, 1) <= 0,
            supply=self._supply() if self._pacers else None,
        )

    def _supply(self) -> Supply:
        return Supply(self.grid.slot_ms, self.party.even, [self._supply_of(k) for k in self.calendar.dims])

    def _supply_of(self, k: int) -> DimensionSupply:
        """The supply after all bookings, including those of this renew."""
        calendar, span, limit = self.calendar, self.grid.span, self.calendar.limits[k] or 0
        begins, first = calendar.occupancy.begins(k), calendar.occupancy.first
        begins += [0] * (calendar.now + calendar.ahead - first - len(begins))
        for validity, cost in self.granted.items():
            begins[(calendar.now - 1 if flexible(validity) else validity[0]) - first] += cost[k]
        second = max(1, 1000 // self.grid.slot_ms)
        strict = not self.party.many
        return DimensionSupply(k, limit, span, calendar.first, begins, first, second, strict=strict)

    def _per_s(self) -> float:
        """Requests per second that the tightest dimension allows the instance, at the cost of a typical request."""
        rates = [
            (self.calendar.limits[k] or 0) / self.grid.span / self.demand.typical[k]
            for k in self.calendar.dims
            if self.demand.typical[k] > 0
        ]
        return min(rates, default=0.0) * self.party.fair * 1000 / self.grid.slot_ms

    # -- plenty ------------------------------------------------------------------------------------------------------

    def _at_once(self, runs: list[tuple[Cost, int]]) -> list[tuple[Cost, int]]:
        """Grants the longest prefix of the wants that stays within the burst; the rest is paced."""
        while runs:
            cost, count = runs[0]
            most = min(count, self._burst(cost), self.calendar.fits(cost, self.calendar.now, self.flex))
            if most <= 0:
                break
            self.book(cost, most, self.calendar.now, self.flex)
            runs = ([(cost, count - most)] if most < count else []) + runs[1:]
        return runs

    def _burst(self, cost: Cost) -> int:
        """How many of `cost` may go at once so that the pace after them is not too slow."""
        most, least = 1 << 40, MANY_BURST_SHARE if self.party.many else BURST_SHARE
        for k in self.calendar.dims:
            if cost[k] > 0:
                limit = self.calendar.limits[k] or 0
                share = max(least, min(1.0, MIN_BURST * cost[k] / limit)) if limit else 0.0
                most = min(most, max(0, int(self._ahead_of_pace(k).most(share) // cost[k])))
        return most

    def _ahead_of_pace(self, k: int) -> Ahead:
        if k not in self._aheads:
            self._aheads[k] = Ahead(self.calendar, k)
        return self._aheads[k]

    def _spare(self) -> bool:
        """Whether some were granted, or none are needed."""
        cost = self.demand.typical
        if not self.demand.spare or min(cost) < 0:
            return True
        flex = max(self.flex, -(-self.demand.spare_ms * 8 // 5 // self.grid.slot_ms))
        most = min(self.demand.spare, self._burst(cost), self.calendar.fits(cost, self.calendar.now, flex))
        held = sum(booked.requests for booked in self.demand.kept.values())
        for k in self.calendar.dims:
            if cost[k] > 0:
                reserve = int(RESERVE_SHARE * (self.calendar.limits[k] or 0))
                free = self.calendar.fits(Cost(*(int(j == k) for j in range(DIMENSIONS))), self.calendar.now, flex)
                part = SPARE_SHARE * self.party.even * (self.calendar.limits[k] or 0)
                most = min(most, max(0, free - reserve) // cost[k], max(1, int(part // cost[k])) - held)
        if most > 0:
            self.book(cost, most, self.calendar.now, flex)
        return most > 0

    # -- scarcity ----------------------------------------------------------------------------------------------------

    def _prepare_pace(self) -> None:
        calendar, kept = self.calendar, self.demand.kept
        near = min(self.party.horizon_slots, calendar.ahead)
        self._slots = list(range(calendar.first, calendar.now + near))
        """In the horizon, those that may have room for a request."""
        shared_from, patience = calendar.first + IMMINENT_SLOTS, 1 + self.party.many
        self._pacers = {k: Pacer(calendar, k, kept, near, shared_from, patience) for k in calendar.dims}
        self._share = self.party.fair
        self._turns = self._turns_of(kept)
        self._barred = {k: dict.fromkeys(self._slots, NEVER) for k in calendar.dims}
        """By dimension and slot, the least amount that found no place: no larger one will."""

    def _paced(self, runs: list[tuple[Cost, int]], *, head: bool = False) -> tuple[list[tuple[Cost, int]], int]:
        """Books each run in order at the earliest slots that the pace, the limits and the instance's share allow.

        A smaller cost may go before a larger one that has to wait longer (backfill); it cannot delay it, because what is
        booked stays booked. If the first request of all found no place, it is booked at the first free slot, however far:
        the calendar is the queue. Returns what found no place, and the first slot that has room for it."""
        left: list[tuple[Cost, int]] = []
        for at, (cost, wanted) in enumerate(runs):
            count = self._walk(cost, wanted)
            if count == wanted and at == 0 and head and (slot := self._reachable(cost)):
                self._take(cost, 1, slot)
                count -= 1
            if count:
                left.append((cost, count))
        return left, self._next(left[0][0]) if left else 0

    def _turns_of(self, kept: Bookings) -> Turns | None:
        """The asker's turns; None where instances are few, or the asker may have as many requests open as it asks permits for."""
        party, demand = self.party, self.demand
        asked = demand.spare + sum(count for _, count in demand.wants) + sum(map(exchanges, kept.values()))
        if not party.many or party.cap >= asked:
            return None
        turns = Turns(party.cap, party.service_slots)
        if party.open_slots:  # On average half of their time is over.
            turns.take(self.calendar.now - party.service_slots // 2, party.open_slots)
        for validity, cost in kept.items():
            if not flexible(validity):
                turns.take(validity.first, exchanges(cost))
        return turns

    def _reachable(self, cost: Cost) -> int:
        slot = self._earliest(cost)
        return slot if slot <= self.calendar.now + self.demand.reach_ms // self.grid.slot_ms else 0

    def _walk(self, cost: Cost, count: int) -> int:
        """Book up to `count` of `cost` within the horizon; returns how many found no place."""
        calendar, slots, full, turns = self.calendar, self._slots, False, self._turns
        if not slots:
            return count
        needed = [(k, cost[k], pacer, self._barred[k]) for k, pacer in self._pacers.items() if cost[k] > 0]
        for _, amount, _, barred in needed:
            slots = [slot for slot in slots if amount < barred[slot]]
        shared_from = calendar.first + IMMINENT_SLOTS
        for slot in slots:
            if not count:
                break
            most = count if turns is None else min(count, turns.room(slot))
            if not most:
                continue
            for k, amount, pacer, barred in needed:
                left = pacer.most(amount, slot, self._share if slot >= shared_from else None)
                if left:
                    room = calendar.room(k, slot, PINNED_SLOTS) // amount
                    left = room if room < left else left
                if left <= 0:
                    barred[slot] = amount
                    full = full or (k == 0 and amount == 1)
                    break
                most = left if left < most else most
            else:
                if cost.requests:
                    most = min(most, calendar.day_room(slot, PINNED_SLOTS) // cost.requests)
                if most > 0:
                    self._take(cost, most, slot)
                    count -= most
        if full:
            spent = self._barred[0]
            self._slots = [slot for slot in self._slots if spent[slot] != 1]
        return count

    def _take(self, cost: Cost, count: int, slot: int) -> None:
        self.book(cost, count, slot, PINNED_SLOTS)
        if self._turns is not None:
            self._turns.take(slot, count)
        for k, pacer in self._pacers.items():
            if cost[k]:
                pacer.take(cost[k] * count, slot)

    def _earliest(self, cost: Cost) -> int:
        """The first slot on the calendar that has room for one of `cost` at the pace, regardless of shares; 0 if none."""
        calendar = self.calendar
        if self._found[:2] == (cost, calendar.places):
            return self._found[2]
        needed = [(cost[k], pacer) for k, pacer in self._pacers.items() if cost[k] > 0]
        open_slot, end = 0, calendar.now + calendar.ahead
        for slot in calendar.candidates(cost):
            if slot < open_slot:
                continue
            open_slot = slot
            for amount, pacer in needed:
                open_slot = pacer.next_open(amount, open_slot, end)
            if slot == open_slot and calendar.fits(cost, slot, PINNED_SLOTS):
                break
        else:
            slot = 0
        self._found = (cost, calendar.places, slot)
        return slot

    def _next(self, cost: Cost) -> int:
        """When to ask again for `cost`: at the first slot with room, or else at the end of the circuit's pause; 0 if unknown."""
        calendar = self.calendar
        return self._earliest(cost) or (calendar.first if calendar.first > calendar.now else 0)


class Turns:
    """How many requests of one instance may begin in a slot, if it may have `cap` open and each is open for `service_slots`.
    Permits beyond that would lapse."""

    def __init__(self, cap: int, service_slots: int) -> None:
        self._cap, self._service = cap, service_slots
        self._begins: dict[int, int] = {}

    def room(self, slot: int) -> int:
        """How many more may begin in `slot`: as many as the others leave that are open in it, and those that begin while one
        from `slot` would be open."""
        before = after = 0
        for at, count in self._begins.items():
            if -self._service < at - slot <= 0:
                before += count
            if 0 <= at - slot < self._service:
                after += count
        return max(0, self._cap - max(before, after))

    def take(self, slot: int, count: int) -> None:
        self._begins[slot] = self._begins.get(slot, 0) + count


def exchanges(cost: Cost) -> int:
    """How many exchanges a booking is for, at least: a batch of many requests is one."""
    return cost.batches or cost.requests


def total(runs: list[tuple[Cost, int]]) -> Cost:
    return Cost(*(sum([cost[k] * count for cost, count in runs]) for k in range(DIMENSIONS)))


def merged(kept: Bookings, granted: Bookings) -> Bookings:
    result: dict[SlotRange, Cost] = dict(kept)
    for validity, cost in granted.items():
        result[validity] = result.get(validity, NO_COST).plus(cost)
    return result
