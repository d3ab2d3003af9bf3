"""Spreading scarce capacity of one dimension over the coming slots, and holding each instance to its share of it."""

from __future__ import annotations

from typing import NamedTuple

from shared.ledger.calendar import Calendar, flexible
from shared.ledger.state import Bookings

PACE_SNAP = 0.9
CATCH_UP_SLOTS, CATCH_UP_PERMITS = 8, 2
"""What the pace left unused so lately (the longer of both) may still be given."""


class Pace(NamedTuple):
    """Units per slot: `rate` until slot `until`, `full` after it."""

    rate: float
    full: float
    until: int

    def units(self, first: int, last: int) -> int:
        """What the pace has for slots first..last. All count on one absolute grid, so that a permit given late does not
        push the next one back."""
        turn = max(min(self.until, last), first - 1)
        return ticks(self.rate, first, turn) + ticks(self.full, turn + 1, last)


def ticks(rate: float, first: int, last: int) -> int:
    return int(rate * (last + 1)) - int(rate * first)


def pace_of(calendar: Calendar, k: int) -> Pace:
    """How to spread what is free until what was given in a burst leaves the window: no stall after it.

    A rate within a tenth of the limit's own is the limit's own: rounding must not cost capacity."""
    span, limit = calendar.grid.span, calendar.limits[k] or 0
    leaving = [0] * (span + 1)
    used = sum(cost[k] for validity, cost in calendar.everyone if flexible(validity))
    for slot, cost in calendar.ring.items():
        used += cost[k]
        leaving[min(max(slot + span - calendar.now, 0), span)] += cost[k]
    full = limit / span
    rate, until, free = full, 0, limit - used
    for t, left in enumerate(leaving[:span]):
        free += left
        if t >= span // 8 and free < rate * (t + 1) + 1e-9:
            rate, until = max(0.0, free / (t + 1)), t
    return Pace(full, full, calendar.now) if rate > PACE_SNAP * full else Pace(rate, full, calendar.now + until)


class Pacer:
    """One dimension during one renew. `begin(slot)`, then `enter` each slot from it on in order; `most` and `take` speak
    of the slot last entered."""

    def __init__(self, calendar: Calendar, k: int, kept: Bookings, fair: float) -> None:
        self._now, self._fair = calendar.now, fair
        self._pace = pace_of(calendar, k)
        permits = 0 if k == 1 else int(CATCH_UP_PERMITS / max(self._pace.full, 1e-3))
        self._quiet = max(CATCH_UP_SLOTS, permits)
        # After a gap as long as the pace's own, one may go whatever the grid says: small limits lose nothing to its phase.
        self._gap = min(self._quiet, int(1 / max(self._pace.full, 1e-3)) + 1)
        self._since = calendar.now - self._quiet
        end = calendar.now + calendar.ahead
        self._used = calendar.used_at(k, self._since, end)
        self._mine = [0] * (end - calendar.now)
        for validity, cost in kept.items():
            at = max(validity.first, calendar.now) - calendar.now
            if not flexible(validity) and at < len(self._mine):
                self._mine[at] += cost[k]
        # A burst slows the pace; it is not also paid for out of the slots that follow it.
        past = sum(self._used[: self._quiet])
        self._grace = max(0, past - self._pace.units(self._since, calendar.now - 1))
        self._slot = self._last = self._sum_used = self._sum_mine = 0

    def begin(self, slot: int) -> None:
        before = self._used[: slot - self._since]
        self._sum_used, self._sum_mine = sum(before), sum(self._mine[: slot - self._now])
        latest = next((at for at in range(len(before) - 1, -1, -1) if before[at]), None)
        self._last = self._since - self._quiet if latest is None else self._since + latest

    def enter(self, slot: int) -> None:
        self._slot = slot
        used = self._used[slot - self._since]
        if used:
            self._sum_used += used
            self._last = slot
        self._sum_mine += self._mine[slot - self._now]

    def most(self, amount: int, *, shared: bool) -> int:
        """How many requests of `amount` the pace lets begin here; `shared`: within the asker's own share of it."""
        slot = self._slot
        most = (self._grace + self._pace.units(self._since, slot) - self._sum_used) // amount
        if most < 1 and slot - self._last >= self._gap:
            most = 1
        if shared and most > 0:
            own = self._fair * self._pace.units(self._now, slot) - self._sum_mine
            most = min(most, int((own + 1e-6) // amount))
        return max(0, most)

    def take(self, amount: int) -> None:
        self._used[self._slot - self._since] += amount
        self._mine[self._slot - self._now] += amount
        self._sum_used += amount
        self._sum_mine += amount
        self._last = self._slot
