"""Where in the coming slots a cost still fits under one model's limits. Occupancy is counted as invariant I1 has it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, repeat

from shared.generation import Cost
from shared.ledger.grid import JITTER_MS, Grid, pacific_day
from shared.ledger.limits import Limits
from shared.ledger.state import Bookings, ModelState, SlotRange

PINNED_SLOTS = 4
"""A pinned booking may be dispatched in this many slots from its first: a late wake-up does not lose it."""

ROOMS_AT_ONCE = 40


def sliding_min(values: Sequence[int], width: int) -> list[int]:
    """`min(values[i:i+width])` for every i where that slice is whole. So many at a time that all contain the same middle:
    the loops run in C."""
    result: list[int] = []
    for start in range(0, len(values) - width + 1, width):
        count = min(width, len(values) - width + 1 - start)
        before = list(accumulate(reversed(values[start : start + count]), min))
        after = accumulate(values[start + width - 1 : start + width - 1 + count], min)
        middle = min(values[start + count - 1 : start + width])
        result += map(min, reversed(before), repeat(middle), after)
    return result


class Calendar:
    """One model's occupancy from slot `now` on, and what may still be placed there.

    `booked` are the bookings of every instance, the asker's included, as `summed` adds them up. Nothing here changes the
    state: `place` remembers what was placed during this renew and the rooms shrink by it. Nothing is placed before
    `open_until_ms`, the end of a circuit.
    """

    def __init__(
        self,
        section: ModelState,
        booked: list[tuple[SlotRange, Cost]],
        limits: Limits,
        grid: Grid,
        now_ms: int,
        ahead: int,
        open_until_ms: int = 0,
    ) -> None:
        self.grid, self.now = grid, grid.slot(now_ms)
        self.first = max(self.now, grid.slot(open_until_ms) + 1 if open_until_ms > now_ms else 0)
        self.limits = limits.per_window
        self.dims = [k for k, limit in enumerate(self.limits) if limit is not None]
        self.everyone = booked
        self.ahead = ahead
        self.ring = section.ring
        self._placed = [0, 0, 0]
        self._per_day = limits.requests_per_day
        self._days = section.days
        self._day_placed: dict[int, int] = {}
        self._today = pacific_day(now_ms)
        margin_ms = JITTER_MS + 2 * grid.slot_ms
        self._today_slots = range(
            grid.slot(self._today.start_ms + margin_ms) + 1, grid.slot(self._today.end_ms - margin_ms) - 1
        )
        self._day_booked: dict[int, int] = {}
        if self._per_day is not None:
            for validity, cost in self.everyone:
                for day in self._touched(*validity):
                    self._day_booked[day] = self._day_booked.get(day, 0) + cost.requests
        self._free = {k: self._free_of(k) for k in self.dims}
        self._rooms: dict[tuple[int, int], list[int]] = {}
        self._recent: dict[int, int] = {}

    def _free_of(self, k: int) -> list[int]:
        """The limit less the occupancy I1 counts, for each slot from `now` on."""
        span = self.grid.span
        length = self.ahead + 2 * span + PINNED_SLOTS
        step, counted, shift = [0] * (length + 1), 0, span - self.now
        for slot, cost in self.ring.items():
            if (amount := cost[k]) and (end := slot + shift) > 0:
                counted += amount
                step[end if end < length else length] += amount
        for (first, last), cost in self.everyone:
            if (amount := cost[k]) and (end := last + shift) > 0:
                step[first - self.now if first > self.now else 0] -= amount
                step[end if end < length else length] += amount
        step[0] += (self.limits[k] or 0) - counted
        return list(accumulate(step[:length]))

    def room(self, k: int, slot: int, width: int) -> int:
        """How much of dimension k still fits into a booking valid from `slot` for `width` slots."""
        rooms = self._rooms.setdefault((k, width), [])
        at = slot - self.now
        reach = width - 1 + self.grid.span
        if at >= len(rooms):
            free = self._free[k][len(rooms) :]
            # Most ask for the coming slots only: as many at once as make the blocks of sliding_min worth their while.
            rooms += sliding_min(free[: max(at - len(rooms) + 1, ROOMS_AT_ONCE) + reach - 1], reach)
        return (rooms[at] if 0 <= at < len(rooms) else 0) - self._placed[k]

    def fits(self, cost: Cost, slot: int, width: int) -> int:
        """How many of `cost` fit from `slot` on. What was placed counts as overlapping: at worst too little is given."""
        if slot < self.first:
            return 0
        most = self.day_room(slot, width) // cost.requests if cost.requests else 1 << 40
        for k in self.dims:
            if cost[k] > 0:
                most = min(most, self.room(k, slot, width) // cost[k])
        return max(0, most)

    def candidates(self, cost: Cost) -> Iterator[int]:
        """Slots in which `cost` may fit: in the slot itself there is enough left."""
        tight = [(self._free[k], self._placed[k] + cost[k]) for k in self.dims if cost[k] > 0]
        for slot in range(self.first, self.now + self.ahead):
            at = slot - self.now
            for free, least in tight:
                if free[at] < least:
                    break
            else:
                yield slot

    def place(self, cost: Cost, slot: int, width: int) -> SlotRange:
        placed, last = self._placed, slot + width - 1
        placed[0] += cost[0]
        placed[1] += cost[1]
        placed[2] += cost[2]
        if self._per_day is not None:
            for day in self._touched(slot, last):
                self._day_placed[day] = self._day_placed.get(day, 0) + cost.requests
        return SlotRange(slot, last)

    def day_room(self, slot: int, width: int) -> int:
        """Requests left on every Pacific date that a booking from `slot` on may be dispatched in."""
        if self._per_day is None:
            return 1 << 40
        spent = [
            self._days.get(day, 0) + self._day_booked.get(day, 0) + self._day_placed.get(day, 0)
            for day in self._touched(slot, slot + width - 1)
        ]
        return self._per_day - max(spent)

    def _touched(self, first: int, last: int) -> tuple[int, ...]:
        if first in self._today_slots and last in self._today_slots:
            return (self._today.ordinal,)
        return touched_days(self.grid, first, last)

    def free_now(self) -> Cost:
        """What a window ending now has left after this renew, in the limited dimensions; never negative."""
        left = {k: max(0, self._free[k][0] - self._placed[k]) for k in self.dims}
        return Cost(left.get(0, 0), left.get(1, 0), left.get(2, 0))

    def recent(self, k: int) -> int:
        """Dispatched in the last quarter of a window, and all that is booked."""
        counted = self._recent.get(k)
        if counted is None:
            since = self.now - self.grid.span // 4
            ring = sum([cost[k] for slot, cost in self.ring.items() if slot > since])
            booked = sum([cost[k] * self._soon(validity) for validity, cost in self.everyone])
            counted = self._recent[k] = ring + int(booked)
        return counted + self._placed[k]

    def _soon(self, validity: SlotRange) -> float:
        """The part of a booking that is dispatched within a quarter of a window, if it is used evenly."""
        left = validity.last - max(self.now, validity.first) + 1
        return min(1.0, self.grid.span // 4 / left) if left > 0 else 1.0

    def begins(self, k: int, since: int, until: int) -> dict[int, int]:
        """By slot in [since, until): dispatched in it or pinned to begin in it, by anybody; never 0. Flexible bookings are
        taken to be dispatched by now."""
        found = {slot: amount for slot, cost in self.ring.items() if (amount := cost[k]) and since <= slot < until}
        for validity, cost in self.everyone:
            slot = self.now - 1 if flexible(validity) else validity[0]
            if (amount := cost[k]) and since <= slot < until:
                found[slot] = found.get(slot, 0) + amount
        return found


def summed(booked: Iterable[Bookings]) -> list[tuple[SlotRange, Cost]]:
    """All bookings, those of one Validity as one: many instances book the same slots."""
    by_validity: defaultdict[SlotRange, list[Cost]] = defaultdict(list)
    for bookings in booked:
        for validity, cost in bookings.items():
            by_validity[validity].append(cost)
    return [
        (validity, costs[0] if len(costs) == 1 else Cost(*map(sum, zip(*costs, strict=True))))
        for validity, costs in by_validity.items()
    ]


def flexible(validity: SlotRange) -> bool:
    return validity[1] - validity[0] >= PINNED_SLOTS


def touched_days(grid: Grid, first: int, last: int) -> tuple[int, ...]:
    """The Pacific dates (ordinals) in which a dispatch in slots first..last may arrive at Gemini."""
    early = pacific_day(grid.start_ms(first) - JITTER_MS - grid.slot_ms)
    late_ms = grid.start_ms(last + 1) + JITTER_MS + grid.slot_ms
    return (early.ordinal,) if late_ms < early.end_ms else (early.ordinal, pacific_day(late_ms).ordinal)


def count_day(section: ModelState, when: SlotRange, requests: int, grid: Grid) -> None:
    """Adds `requests` to every day in which a dispatch in `when` may have arrived; a negative number takes them back."""
    for day in touched_days(grid, *when) if requests else ():
        section.days[day] = max(0, section.days.get(day, 0) + requests)
        if not section.days[day]:
            del section.days[day]
