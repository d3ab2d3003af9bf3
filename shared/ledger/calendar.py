"""Where in the coming slots a cost still fits under one model's limits. Occupancy is counted as invariant I1 has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from shared.generation import BATCHES_AT, DIMENSIONS, Cost
from shared.ledger.grid import JITTER_MS, Grid, pacific_day
from shared.ledger.limits import Limits
from shared.ledger.occupancy import PINNED_SLOTS, Occupancy
from shared.ledger.share import Columns, SlotRange
from shared.ledger.state import ModelState


class Calendar:
    """One model's occupancy from slot `now` on, and what may still be placed there.

    `booked` are the bookings of every instance, the asker's included. Nothing here changes the
    state: `place` remembers what was placed during this renew and the rooms shrink by it. Nothing is placed before
    `open_until_ms`, the end of a circuit, and no batch before `no_batches_until_ms`. `ring`: what was dispatched, if other
    models' batches count too.
    """

    def __init__(
        self,
        section: ModelState,
        booked: Sequence[Columns],
        limits: Limits,
        grid: Grid,
        now_ms: int,
        ahead: int,
        open_until_ms: int = 0,
        *,
        ring: Mapping[int, Cost] | None = None,
        no_batches_until_ms: int = 0,
    ) -> None:
        self.grid, self.now = grid, grid.slot(now_ms)
        self.first = max(self.now, grid.slot(open_until_ms) + 1 if open_until_ms > now_ms else 0)
        self.limits = limits.per_window
        self.dims = [k for k, limit in enumerate(self.limits) if limit is not None]
        self.ahead = ahead
        self.ring = section.ring if ring is None else ring
        self._placed = [0] * DIMENSIONS
        self.places = 0
        """How often something was placed."""
        self._per_day = limits.requests_per_day
        self._days = section.days
        self._day_placed: dict[int, int] = {}
        self._today = pacific_day(now_ms)
        margin_ms = JITTER_MS + 2 * grid.slot_ms
        self._today_slots = range(
            grid.slot(self._today.start_ms + margin_ms) + 1, grid.slot(self._today.end_ms - margin_ms) - 1
        )
        counted = self.dims if self._per_day is None else sorted({0, *self.dims})
        self.occupancy = Occupancy(self.ring, booked, counted, grid.span, self.now, ahead)
        self._day_booked: dict[int, int] = {}
        if self._per_day is not None:
            self._book_days()
        self._free = {k: self._free_of(k) for k in self.dims}
        if no_batches_until_ms > now_ms and BATCHES_AT in self._free:
            closed = min(grid.slot(no_batches_until_ms) + 1 - self.now, len(self._free[BATCHES_AT]))
            self._free[BATCHES_AT][:closed] = [min(0, free) for free in self._free[BATCHES_AT][:closed]]
        self._last_begin = self.occupancy.last_begin - self.now
        self._least: dict[int, list[int]] = {}
        """By dimension, the least that is free from a slot on until the last in which anything begins; that one is the first."""

    def _free_of(self, k: int) -> list[int]:
        """The limit less the occupancy I1 counts, for each slot from `now` on."""
        return self.occupancy.free(k, self.limits[k] or 0)

    def _book_days(self) -> None:
        occupancy, pinned = self.occupancy, self.occupancy.pinned[0]
        begun = [at + occupancy.first for at in occupancy.begun]
        if begun and begun[0] in self._today_slots and begun[-1] + PINNED_SLOTS - 1 in self._today_slots:
            self._day_booked[self._today.ordinal] = sum(pinned)
        else:
            for slot in begun:
                self._book_day(slot, slot + PINNED_SLOTS - 1, pinned[slot - occupancy.first])
        for validity, cost in occupancy.others.items():
            self._book_day(*validity, cost.requests)

    def _book_day(self, first: int, last: int, requests: int) -> None:
        for day in self._touched(first, last):
            self._day_booked[day] = self._day_booked.get(day, 0) + requests

    def room(self, k: int, slot: int, width: int) -> int:
        """How much of dimension k still fits into a booking valid from `slot` for `width` slots."""
        free, at = self._free[k], slot - self.now
        until = at + width - 1 + self.grid.span
        if at < 0 or until > len(free):
            return -self._placed[k]
        # From the last slot on in which anything begins, more is free in each than in the one before.
        last = self._last_begin
        if at >= last:
            return free[at] - self._placed[k]
        if until <= last:
            return min(free[at:until]) - self._placed[k]
        least = self._least.get(k)
        if least is None:
            least = self._least[k] = list(accumulate(reversed(free[: last + 1]), min))
        return least[last - at] - self._placed[k]

    def fits(self, cost: Cost, slot: int, width: int) -> int:
        """How many of `cost` fit from `slot` on. Placed costs are taken to overlap: the result is at worst too low."""
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
        self.places += 1
        placed, last = self._placed, slot + width - 1
        placed[0] += cost[0]
        placed[1] += cost[1]
        placed[2] += cost[2]
        placed[3] += cost[3]
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
        return Cost(*(left.get(k, 0) for k in range(DIMENSIONS)))

    def placed(self, k: int) -> int:
        """What was placed of dimension k during this renew."""
        return self._placed[k]


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
