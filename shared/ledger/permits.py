"""Booking permits of one model for one instance: at once while there is plenty, paced and shared when there is not."""

from __future__ import annotations

from dataclasses import dataclass

from shared.generation import NO_COST, Cost
from shared.ledger.calendar import PINNED_SLOTS, Calendar, flexible
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.ledger.state import Allotment, Bookings, Demand, Section, Validity

FLEX_MS = 5_000
"""How long a flexible booking may be dispatched (in a 60 s window)."""
BURST_SHARE, BURST_LEAST = 0.3, 10
"""So much of a limit (or so many requests) may go within a quarter of a window before demand is paced."""
RESERVE_SHARE = 0.1
"""Spare permits are given only while this much of the limit stays free."""
IMMINENT_SLOTS = 3
"""What nobody booked this near is given to whoever asks: it would be lost."""
CATCH_UP_SLOTS, CATCH_UP_PERMITS = 8, 2
"""What the pace left unused so lately (the longer of both) may still be given."""


@dataclass(slots=True)
class Party:
    """Who shares a model's rate with the asker."""

    fair: float
    """The asker's share of the rate while all want more than there is; 1.0 when alone."""
    horizon_slots: int


class Planner:
    """Serves one Demand from one Calendar; `granted` collects the new bookings."""

    def __init__(self, calendar: Calendar, demand: Demand, party: Party, section: Section, limits: Limits) -> None:
        self.calendar, self.demand, self.party, self.section = calendar, demand, party, section
        self.limits = limits
        self.grid: Grid = calendar.grid
        self.granted: Bookings = {}
        self.flex = self.grid.slots(FLEX_MS)
        self._tried: list[tuple[Cost, int]] = []
        self._grace: dict[int, int] = {}
        """Past dispatches above the pace, by dimension: a burst slows the pace (`Calendar.pace`), it is not paid twice."""

    def book(self, cost: Cost, count: int, slot: int, width: int) -> None:
        whole = Cost(cost[0] * count, cost[1] * count, cost[2] * count)
        validity = self.calendar.place(whole, slot, width)
        self.granted[validity] = self.granted.get(validity, NO_COST).plus(whole)

    def plan(self, now_ms: int) -> Allotment:
        calm = now_ms - self.section.scarce_ms > self.grid.window_ms
        runs = list(self.demand.wants)
        if calm:
            runs = self._at_once(runs)
            if not runs:
                self._spare()
                return self._allotment(NO_COST, 0)
        if runs:
            self._prepare_pace()
            late, first_unmet_slot = self._paced(runs)
            unmet = total(late)
            if late or any(v.first > self.calendar.now + IMMINENT_SLOTS for v in self.granted):
                self.section.scarce_ms = now_ms
            if not late:
                self._paced([(self.demand.typical, self.demand.spare)])
            return self._allotment(unmet, first_unmet_slot)
        if self.demand.spare:
            self._prepare_pace()
            self._paced([(self.demand.typical, self.demand.spare)])
        return self._allotment(NO_COST, 0)

    def _allotment(self, unmet: Cost, next_slot: int) -> Allotment:
        return Allotment(
            bookings=merged(self.demand.kept, self.granted),
            limits=self.limits,
            free=self.calendar.free_now(),
            unmet=unmet,
            next_ms=self.grid.start_ms(next_slot) if next_slot else 0,
            per_s=self._per_s() if unmet.requests else 0.0,
            day_spent=bool(unmet.requests) and self.calendar.day_room(self.calendar.now, 1) <= 0,
        )

    def _per_s(self) -> float:
        """Requests per second that the tightest dimension allows the asker, at the cost of a typical request."""
        rates = [
            (self.calendar.limits[k] or 0) / self.grid.span / self.demand.typical[k]
            for k in self.calendar.dims
            if self.demand.typical[k] > 0
        ]
        return min(rates, default=0.0) * self.party.fair * 1000 / self.grid.slot_ms

    # -- plenty ------------------------------------------------------------------------------------------------------

    def _at_once(self, runs: list[tuple[Cost, int]]) -> list[tuple[Cost, int]]:
        """Grants the longest prefix of the wants that stays within the burst; what is left is to be paced."""
        while runs:
            cost, count = runs[0]
            most = min(count, self._burst(cost), self.calendar.fits(cost, self.calendar.now, self.flex))
            if most <= 0:
                break
            self.book(cost, most, self.calendar.now, self.flex)
            runs = ([(cost, count - most)] if most < count else []) + runs[1:]
        return runs

    def _burst(self, cost: Cost) -> int:
        most = 1 << 40
        for k in self.calendar.dims:
            if cost[k] > 0:
                limit = self.calendar.limits[k] or 0
                recent = self.calendar.recent(k)
                allowed = max(BURST_SHARE * limit, min(limit, BURST_LEAST * cost[k])) - recent
                most = min(most, max(int(allowed // cost[k]), 1 if recent == 0 else 0))
        return most

    def _spare(self) -> None:
        cost = self.demand.typical
        if not self.demand.spare or any(cost[k] < 0 for k in range(3)):
            return
        most = min(self.demand.spare, self._burst(cost), self.calendar.fits(cost, self.calendar.now, self.flex))
        for k in self.calendar.dims:
            if cost[k] > 0:
                reserve = int(RESERVE_SHARE * (self.calendar.limits[k] or 0))
                free = self.calendar.fits(Cost(*(1 if j == k else 0 for j in range(3))), self.calendar.now, self.flex)
                most = min(most, max(0, free - reserve) // cost[k])
        if most > 0:
            self.book(cost, most, self.calendar.now, self.flex)

    # -- scarcity ----------------------------------------------------------------------------------------------------

    def _prepare_pace(self) -> None:
        calendar = self.calendar
        self._rate = {k: max(calendar.pace(k), 1e-9) for k in calendar.dims}
        self._since = {
            k: calendar.now - max(CATCH_UP_SLOTS, int(CATCH_UP_PERMITS / self._rate[k]) if k != 1 else 0)
            for k in calendar.dims
        }
        self._end = calendar.now + calendar.ahead
        self._used = {k: calendar.used_at(k, self._since[k], self._end) for k in calendar.dims}
        self._mine = {k: [0] * (self._end - calendar.now) for k in calendar.dims}
        self._holds_future = False
        for validity, cost in self.demand.kept.items():
            if flexible(validity):
                continue
            first = validity.first
            at = max(first, calendar.now) - calendar.now
            self._holds_future |= first > calendar.now and cost.requests > 0
            for k in calendar.dims:
                if at < len(self._mine[k]):
                    self._mine[k][at] += cost[k]
        for k, rate in self._rate.items():
            past = calendar.now - self._since[k]
            self._grace[k] = max(0, sum(self._used[k][:past]) - ticks(rate, self._since[k], calendar.now - 1))

    def _paced(self, runs: list[tuple[Cost, int]]) -> tuple[list[tuple[Cost, int]], int]:
        """Books each run in order at the earliest slots that the pace, the limits and the asker's share allow.

        A smaller cost may go before a larger one that has to wait longer (backfill); it cannot delay it, because what is
        booked stays booked. Returns what found no place and the first slot where it would."""
        left: list[tuple[Cost, int]] = []
        first_unmet = 0
        for cost, count in runs:
            count = self._walk(cost, count)
            if count:
                left.append((cost, count))
        if left:
            cost = left[0][0]
            slot = self._earliest(cost)
            reach = self.calendar.now + self.demand.reach_ms // self.grid.slot_ms
            if slot and slot <= reach and not self._holds_future and cost is runs[0][0]:
                self._take(cost, 1, slot)
                left = [(cost, left[0][1] - 1), *left[1:]] if left[0][1] > 1 else left[1:]
                slot = self._earliest(left[0][0]) if left else 0
            first_unmet = slot
        return left, first_unmet

    def _walk(self, cost: Cost, count: int) -> int:
        calendar = self.calendar
        start = max([calendar.first, *(slot for tried, slot in self._tried if all(map(int.__le__, tried, cost)))])
        end = min(calendar.now + self.party.horizon_slots, self._end)
        if start >= end or count <= 0:
            return count
        used = {k: sum(self._used[k][: start - self._since[k]]) for k in calendar.dims}
        mine = {k: sum(self._mine[k][: start - calendar.now]) for k in calendar.dims}
        for slot in range(start, end):
            for k in calendar.dims:
                used[k] += self._used[k][slot - self._since[k]]
                mine[k] += self._mine[k][slot - calendar.now]
            most = min(count, self._allowed(cost, slot, used, mine))
            if most:
                most = min(most, calendar.fits(cost, slot, PINNED_SLOTS))
            if most:
                self._take(cost, most, slot)
                for k in calendar.dims:
                    used[k] += cost[k] * most
                    mine[k] += cost[k] * most
                count -= most
                if not count:
                    self._tried.append((cost, slot))
                    return 0
        self._tried.append((cost, end))
        return count

    def _take(self, cost: Cost, count: int, slot: int) -> None:
        self.book(cost, count, slot, PINNED_SLOTS)
        self._holds_future |= slot > self.calendar.now
        for k in self.calendar.dims:
            self._used[k][slot - self._since[k]] += cost[k] * count
            self._mine[k][slot - self.calendar.now] += cost[k] * count

    def _allowed(self, cost: Cost, slot: int, used: dict[int, int], mine: dict[int, int]) -> int:
        """How many of `cost` the pace lets begin at `slot`, and (beyond what is imminent) the asker's share of it."""
        most = 1 << 40
        near = slot < self.calendar.first + IMMINENT_SLOTS
        for k, rate in self._rate.items():
            if cost[k] > 0:
                paced = (self._grace[k] + ticks(rate, self._since[k], slot) - used[k]) // cost[k]
                most = min(most, max(paced, 1 if used[k] == 0 else 0))
                if not near:
                    ahead = slot - self.calendar.now + 1
                    most = min(most, int((self.party.fair * rate * ahead - mine[k] + 1e-6) // cost[k]))
        return max(0, most)

    def _earliest(self, cost: Cost) -> int:
        """The first slot on the calendar that has room for one of `cost` at the pace, whoever's turn it is; 0 if none."""
        calendar = self.calendar
        used = dict.fromkeys(calendar.dims, 0)
        for k in calendar.dims:
            used[k] = sum(self._used[k][: calendar.first - self._since[k]])
        for slot in range(calendar.first, self._end):
            ok = True
            for k, rate in self._rate.items():
                used[k] += self._used[k][slot - self._since[k]]
                allowed = self._grace[k] + ticks(rate, self._since[k], slot)
                if cost[k] > 0 and used[k] and used[k] + cost[k] > allowed:
                    ok = False
            if ok and calendar.fits(cost, slot, PINNED_SLOTS):
                return slot
        return calendar.first if calendar.first > calendar.now else 0


def ticks(rate: float, first: int, last: int) -> int:
    """Units that a pace of `rate` a slot has for slots first..last. Every instance counts them on one absolute grid, so
    that a permit given late does not push the next one back."""
    return int(rate * (last + 1)) - int(rate * first)


def total(runs: list[tuple[Cost, int]]) -> Cost:
    result = NO_COST
    for cost, count in runs:
        result = result.plus(Cost(cost[0] * count, cost[1] * count, cost[2] * count))
    return result


def merged(kept: Bookings, granted: Bookings) -> Bookings:
    result: dict[Validity, Cost] = dict(kept)
    for validity, cost in granted.items():
        result[validity] = result.get(validity, NO_COST).plus(cost)
    return result
