"""Spreading scarce capacity of one dimension over the coming slots, and holding each instance to its share of it."""

from __future__ import annotations

from bisect import bisect_right, insort
from itertools import accumulate
from operator import sub

from shared.ledger.calendar import Calendar
from shared.ledger.occupancy import PINNED_SLOTS, flexible
from shared.ledger.pace import Pace, gaps_of, pace_from, quiet_slots, repaid
from shared.ledger.state import Bookings

REACHED_AT_ONCE = 60


def pace_of(calendar: Calendar, k: int) -> Pace:
    """How to spread what is free until what was given in a burst leaves the window: no stall after it.

    What was booked for a slot before now has probably been dispatched and is reported later: it leaves the window with the last
    slot of its booking. A lack of a request or two is none, and a rate near the limit's own is the limit's own:
    rounding must not cost capacity."""
    occupancy, span, limit = calendar.occupancy, calendar.grid.span, calendar.limits[k] or 0
    dispatched, pinned = occupancy.dispatched[k], occupancy.pinned[k]
    used = sum(dispatched) + sum(pinned[: occupancy.now_at])
    leaving = [0, *dispatched[PINNED_SLOTS : PINNED_SLOTS + span]]
    leaving += [0] * (span + 1 - len(leaving))
    for at in occupancy.begun:
        if at >= occupancy.now_at:
            break
        leaving[min(at, span)] += pinned[at]
    for booked, cost in occupancy.others.items():
        if flexible(booked) or booked.first < calendar.now:
            used += cost[k]
            leaving[min(span, max(0, booked.last + span - calendar.now))] += cost[k]
    return pace_from(k, limit, calendar.now, used, leaving)


class Ahead:
    """What may begin at once in one dimension, ahead of the pace.

    Bookings that end within a quarter of a window are taken to be used by now, and of longer ones the part that is used until
    then if it is used evenly."""

    def __init__(self, calendar: Calendar, k: int) -> None:
        occupancy, span = calendar.occupancy, calendar.grid.span
        self._calendar, self._k, self._limit, self._span = calendar, k, calendar.limits[k] or 0, span
        dispatched, pinned = occupancy.dispatched[k], occupancy.pinned[k]
        gains = [0] * (span + 1)
        leaving = dispatched[PINNED_SLOTS : PINNED_SLOTS + span]
        gains[1 : len(leaving) + 1] = leaving
        for at in occupancy.begun:
            gains[min(span, at)] += pinned[at]
        for booked, cost in occupancy.others.items():
            left = booked.last - max(calendar.now, booked.first) + 1
            kept = max(0, cost[k] - cost[k] * (span // 4) // left) if left > 0 else 0
            gains[min(span, max(0, booked.last - calendar.now))] += kept
            gains[min(span, max(0, booked.last + span - calendar.now))] += cost[k] - kept
        self._free = self._limit - sum(dispatched) - occupancy.booked(k)
        self._supply = list(accumulate(gains, initial=self._free))
        """By slots from now, what requests can have had until then."""
        self._placed = calendar.placed(k)

    def most(self, share: float) -> int:
        """What may begin at once, so that 1 - `share` of the limit's rate is left until all that is used leaves the window."""
        rate = (1.0 - share) * self._limit / self._span
        least = min(map(sub, self._supply[:-1], [rate * at for at in range(self._span + 1)]))
        return int(least) - (self._calendar.placed(self._k) - self._placed)


class Pacer:
    """One dimension during one renew: what the pace lets begin in each slot, and what was taken of it so far.

    The rest of a slot only shrinks as more is taken. The next `near` slots are used often. The asking instance's share
    applies from slot `shared_from` on: what is taken before it would be lost otherwise, so it is not charged to the instance
    as a hole in its schedule. What the pace left unused may still be given for `patience` times as long as usual."""

    def __init__(
        self, calendar: Calendar, k: int, kept: Bookings, near: int, shared_from: int, patience: int = 1
    ) -> None:
        self._now = now = calendar.now
        self._pace = pace = pace_of(calendar, k)
        self._quiet = patience * quiet_slots(k, pace.full)
        self._gaps = gaps_of(k, pace)
        self._since = since = now - self._quiet
        begins = calendar.occupancy.begins(k)
        skipped = since - calendar.occupancy.first
        used = (begins[skipped:] if skipped >= 0 else [0] * -skipped + begins)[: self._quiet + calendar.ahead]
        mine = [0] * min(max(calendar.occupancy.last_begin - now, near) + 1, calendar.ahead)
        for validity, cost in kept.items():
            at = max(validity.first, now) - now
            if not flexible(validity) and at < len(mine):
                mine[at] += cost[k]
        # A burst slows the pace, so it is not also charged to the slots after it. While the pace is slow, one or two requests
        # ahead of it are charged: otherwise each renew would add the delay of a slot, and the pace would never be kept.
        past = sum(used[: self._quiet])
        grace = max(0, past - pace.units(since, now - 1) - repaid(pace))
        self._turned = int(pace.rate * (pace.until + 1)) - int(pace.full * (pace.until + 1))
        self._allowed = grace - int(pace.rate * since)
        self._shared = min(shared_from - now, calendar.ahead - 1)
        self._unshared = self._units(shared_from - 1)
        self._marks = [since - self._quiet, *[slot for slot, amount in enumerate(used, since) if amount]]
        """The slots in which something begins, in order; the first stands for none."""
        self._used = list(accumulate(used))[self._quiet :]
        self._used += self._used[-1:] * (calendar.ahead - len(self._used))
        self._mine = list(accumulate(mine))
        self._mine += self._mine[-1:] * (calendar.ahead - len(mine))
        """What begins from `since`, or from now, up to and with each slot from now on."""
        self._taken = [0] * min(near, calendar.ahead)
        """What was taken in the near slots until each of them; of the others it is part of `left` and `mine`."""
        self._near_taken = 0
        self._left: list[int] = []
        """What the pace has left for each slot from now on, but for what was taken in the near ones."""
        self._reach(len(self._taken))
        self._strict = patience == 1
        self._room = list(accumulate(reversed(self._left), min))[::-1] if self._strict else self._left[:]
        """What may begin in each near slot so that neither it nor a later near slot has more than the pace. Where instances are
        many, each renews seldom, so that a gap in the schedule of coming slots is filled although later ones are booked."""
        self._share, self._own = 0.0, [0]
        """The asker's share, and what it has of it in each near slot, but for what was taken."""

    def _reach(self, count: int) -> None:
        """Continue `left` to `count` slots."""
        begin = len(self._left)
        if begin >= count:
            return
        first, last = self._now + begin + 1, self._now + count + 1
        turn, pace, allowed = min(max(self._pace.until + 1, first), last), self._pace, self._allowed
        units = [int(pace.rate * slot) + allowed for slot in range(first, turn)]
        allowed += self._turned
        units += [int(pace.full * slot) + allowed for slot in range(turn, last)]
        self._left += map(sub, units, self._used[begin:count])

    def most(self, amount: int, slot: int, share: float | None = None) -> int:
        """How many requests of `amount` the pace lets begin in `slot`, a near one; `share`: within this part of it for the
        asker."""
        at = slot - self._now
        taken = self._taken[at]
        most = self._room[at] // amount
        if most < 1:
            if slot - self._marks[bisect_right(self._marks, slot) - 1] < self._gaps[slot >= self._pace.until]:
                return 0
            most = 1
        if share is not None:
            if share != self._share:
                self._divide(share)
            before = self._taken[min(self._shared, len(self._taken)) - 1]
            own = (self._own[at] - taken + before) // amount
            if own < most:
                return own if own > 0 else 0
        return most

    def _divide(self, share: float) -> None:
        base = self._mine[self._shared - 1] - int(share * self._unshared)
        units, now = self._units, self._now
        self._own = [
            int(share * units(now + at)) + base - mine for at, mine in enumerate(self._mine[: len(self._taken)])
        ]
        self._share = share

    def next_open(self, amount: int, slot: int, end: int) -> int:
        """The first slot from `slot` on in which the pace lets a request of `amount` begin, `end` if there is none before it."""
        now, marks, left, taken, near = self._now, self._marks, self._left, self._taken, len(self._taken)
        until, (slow, full) = self._pace.until, self._gaps
        index, count = bisect_right(marks, slot) - 1, len(marks)
        while slot < end:
            while index + 1 < count and marks[index + 1] <= slot:
                index += 1
            at = slot - now
            if at >= len(left):
                self._reach(min(at + REACHED_AT_ONCE, end - now))
            if left[at] - (taken[at] if at < near else self._near_taken) >= amount:
                return slot
            if slot - marks[index] >= (full if slot >= until else slow):
                return slot
            slot += 1
        return end

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
            self._room[at:] = [before - amount for before in self._room[at:]]
            least, earlier = self._room[at], at - 1
            while self._strict and earlier >= 0 and self._room[earlier] > least:
                self._room[earlier] = least
                earlier -= 1
        else:
            self._used[at:] = [amount + before for before in self._used[at:]]
            self._left[at:] = [before - amount for before in self._left[at:]]
            self._mine[at:] = [amount + before for before in self._mine[at:]]
        insort(self._marks, slot)
