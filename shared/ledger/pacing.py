"""Spreading scarce capacity of one dimension over the coming slots, and holding each instance to its share of it."""

from __future__ import annotations

from bisect import bisect_right, insort
from itertools import accumulate

from shared.ledger.calendar import Calendar, flexible
from shared.ledger.pace import Pace, gaps_of, pace_from, quiet_slots, repaid
from shared.ledger.state import Bookings


def pace_of(calendar: Calendar, k: int) -> Pace:
    """How to spread what is free until what was given in a burst leaves the window: no stall after it.

    What was booked for a slot before now has probably been dispatched, and is reported later: it leaves the window with the last
    slot of its booking. A lack of a request or two
    is none, and a rate near the limit's own is the limit's own: rounding must not cost capacity."""
    span, limit = calendar.grid.span, calendar.limits[k] or 0
    leaving, shift = [0] * (span + 1), span - calendar.now
    used = 0
    for booked, cost in calendar.everyone:
        if (amount := cost[k]) and (flexible(booked) or booked.first < calendar.now):
            used += amount
            leaving[min(span, max(0, booked.last + shift))] += amount
    for slot, cost in calendar.ring.items():
        if amount := cost[k]:
            used += amount
            end = slot + shift
            leaving[span if end > span else end if end > 0 else 0] += amount
    return pace_from(k, limit, calendar.now, used, leaving)


class Pacer:
    """One dimension during one renew: what the pace lets begin in each slot, and what was taken of it so far.

    What a slot has left only shrinks as more is taken. `near` slots from now on are taken from and asked about often. The
    asker's share is of what begins in slot `shared_from` or later: whoever takes before it what would be lost is not made to
    pay for that with a hole in its schedule."""

    def __init__(self, calendar: Calendar, k: int, kept: Bookings, near: int, shared_from: int) -> None:
        self._now = calendar.now
        self._pace = pace = pace_of(calendar, k)
        self._quiet = quiet_slots(k, pace.full)
        self._gaps = gaps_of(k, pace)
        self._since = calendar.now - self._quiet
        end = calendar.now + calendar.ahead
        begins = calendar.begins(k, self._since, end)
        used, mine = [0] * (end - self._since), [0] * (end - calendar.now)
        for slot, amount in begins.items():
            used[slot - self._since] = amount
        for validity, cost in kept.items():
            at = max(validity.first, calendar.now) - calendar.now
            if not flexible(validity) and at < len(mine):
                mine[at] += cost[k]
        # A burst slows the pace; it is not also paid for out of the slots that follow it. While it is slow, a request or two
        # ahead of it are: otherwise each renew adds what a slot was late, and the pace is never kept.
        past = sum(used[: self._quiet])
        grace = max(0, past - pace.units(self._since, calendar.now - 1) - repaid(pace))
        self._turned = int(pace.rate * (pace.until + 1)) - int(pace.full * (pace.until + 1))
        self._allowed = grace - int(pace.rate * self._since)
        self._shared = min(shared_from - calendar.now, len(mine) - 1)
        self._unshared = self._units(shared_from - 1)
        self._marks = [self._since - self._quiet, *sorted(begins)]
        """The slots in which something begins, in order; the first stands for none."""
        self._used = list(accumulate(used))[self._quiet :]
        self._mine = list(accumulate(mine))
        """What begins from `since`, or from now, up to and with each slot from now on."""
        self._taken = [0] * min(near, len(mine))
        """What was taken in the near slots until each of them; of the others it is part of `used` and `mine`."""
        self._near_taken = 0

    def most(self, amount: int, slot: int, share: float | None = None) -> int:
        """How many requests of `amount` the pace lets begin in `slot`; `share`: within this part of it for the asker."""
        at = slot - self._now
        taken = self._taken[at] if at < len(self._taken) else self._near_taken
        most = (self._allowed + self._units(slot) - self._used[at] - taken) // amount
        if most < 1 and slot - self._marks[bisect_right(self._marks, slot) - 1] >= self._gaps[slot >= self._pace.until]:
            most = 1
        if share is not None and most > 0:
            before = self._taken[min(self._shared, len(self._taken)) - 1]
            own = int(share * self._units(slot)) - int(share * self._unshared)
            most = min(most, (own - self._mine[at] + self._mine[self._shared - 1] - taken + before) // amount)
        return most if most > 0 else 0

    def _units(self, slot: int) -> int:
        """What the pace has for the slots until `slot`, from some first one on."""
        if slot < self._pace.until:
            return int(self._pace.rate * (slot + 1))
        return self._turned + int(self._pace.full * (slot + 1))

    def take(self, amount: int, slot: int) -> None:
        at = slot - self._now
        if at < len(self._taken):
            self._taken[at:] = [amount + before for before in self._taken[at:]]
            self._near_taken += amount
        else:
            self._used[at:] = [amount + before for before in self._used[at:]]
            self._mine[at:] = [amount + before for before in self._mine[at:]]
        insort(self._marks, slot)
