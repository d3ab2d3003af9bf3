"""When unmet demand will be granted, as one renew predicts it: its calendar, continued at the pace. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

from shared.ledger.pace import Pace, gaps_of, pace_after, quiet_slots, repaid

MAX_WINDOWS = 16
"""The calendar is continued for this many windows; after them, permits are assumed to come at the limit's own rate."""

RENEW_SLOTS = 16
"""Assumed interval of renews: half of the shortest horizon."""
MIN_GAP_SLOTS = 12
"""Where permits are rarer than this, each goes to the head of the queue, which the pace's grid does not bind. Where they are
more frequent, it binds all but a request that arrives at that moment: rejected requests return after whole seconds."""


class DimensionSupply:
    """What one limited dimension can grant from slot `now` on, in units, to all instances together.

    `begins`: what was dispatched or is booked, by slot from `since` on. Every slot is taken to be granted to the limit and the
    pace. `second`: so many slots are one. `strict`: instances are few, so that no slot gets what makes a later one exceed the
    pace. Only a rejected request asks, so nothing is worked out before that."""

    def __init__(
        self,
        dimension: int,
        limit: int,
        span: int,
        now: int,
        begins: Sequence[int],
        since: int,
        second: int,
        *,
        strict: bool = False,
    ) -> None:
        self.dimension, self.limit, self.span, self.now = dimension, limit, span, now
        self._given: Sequence[int] = begins
        """Emptied once it was read."""
        self._since = since
        self._begins: dict[int, int] = {}
        self._used = self._lately = 0
        self._last = now - span
        self._at, self._second = now, second
        self._pace, self._gaps = Pace(0.0, 0.0, now), (1, 1)
        self._strict, self._booked_until, self._debts = strict, now - 1, dict[int, int]()
        """By slot, how far later bookings are ahead of the pace: where instances are few, earlier slots leave that to them."""
        self._quiet = quiet_slots(dimension, limit / span)
        self._allowed = 0
        """What the pace has for the slots so far, less what began in them."""
        self._slots: list[int] = []
        self._granted: list[int] = []
        """Slots in which something is granted, in order, and what was granted until and with each of them."""

    def slot_of(self, amount: float) -> float:
        """The slot with which `amount` has been granted; infinite where nothing ever is."""
        if self._given:
            self._read()
        last = self.now + MAX_WINDOWS * self.span
        while self._at < last and (not self._granted or self._granted[-1] < amount):
            if (self._at - self.now) % RENEW_SLOTS == 0:
                self._renew(self._at)
            self._play(self._at)
            self._at += 1
        if self._granted and self._granted[-1] >= amount:
            return self._slots[bisect_left(self._granted, amount)]
        granted, per_slot = self._granted[-1] if self._granted else 0, self.limit / self.span
        return last + (amount - granted) / per_slot if per_slot > 0 else math.inf

    def _read(self) -> None:
        now, oldest = self.now, self.now - self.span
        self._begins = {
            slot: amount for slot, amount in enumerate(self._given, self._since) if amount and slot > oldest
        }
        self._given = ()
        self._used = sum(self._begins.values())
        self._booked_until = max(self._begins, default=now - 1)
        self._last = max((slot for slot in self._begins if slot < now), default=oldest)
        self._lately = sum(amount for at, amount in self._begins.items() if now - self._quiet <= at < now)
        """What began in the `quiet` slots before the next one."""

    def _renew(self, slot: int) -> None:
        """Compute the pace again. Grants ahead of it are forgiven; what it recently left unused may still be granted."""
        self._pace = pace = pace_after(self.dimension, self.limit, self.span, slot, self._begins)
        self._gaps = gaps_of(self.dimension, pace)
        self._allowed = max(pace.units(slot - self._quiet, slot - 1) - self._lately, -repaid(pace))
        self._debts, debt = {}, 0
        for later in range(self._booked_until, slot - 1 if self._strict else self._booked_until, -1):
            if debt:
                self._debts[later] = debt
            debt = max(0, debt + self._begins.get(later, 0) - pace.units(later, later))

    def _play(self, slot: int) -> None:
        """Advance by one slot: what leaves the window makes room, and the pace lets part of it begin."""
        begins, pace = self._begins, self._pace
        self._used -= begins.pop(slot - self.span, 0)
        self._allowed += pace.units(slot, slot) - begins.get(slot, 0)
        self._allowed = min(self._allowed, pace.units(slot - self._quiet, slot) - self._lately)
        most = self._allowed - self._debts.get(slot, 0)
        gap = self._gaps[slot >= pace.until]
        if most < 1 and slot not in begins and slot - self._last >= gap:
            most = int(gap >= MIN_GAP_SLOTS or (slot - self.now) % self._second == 0)
        amount = min(most, self.limit - self._used)
        if amount > 0:
            begins[slot] = begins.get(slot, 0) + amount
            self._used += amount
            self._allowed -= amount
            self._slots.append(slot)
            self._granted.append(amount + (self._granted[-1] if self._granted else 0))
        if slot in begins:
            self._last = slot
        self._lately += begins.get(slot, 0) - begins.get(slot - self._quiet, 0)


class Supply:
    """What is granted to one instance while demand is unmet: `share` of every limited dimension's supply.

    The share is by the callers of all active instances, which include rejected ones that are expected back. Among the instances
    whose demand is unmet at the moment it would be larger, and permits would be promised that others have promised too."""

    def __init__(self, slot_ms: int, share: float, dimensions: Sequence[DimensionSupply]) -> None:
        self.slot_ms, self.share, self.dimensions = slot_ms, share, dimensions

    def granted_ms(self, cost: Sequence[float]) -> float:
        """The store's time at which `cost`, added up over requests in their order, has been granted to the instance."""
        slots = [one.slot_of(cost[one.dimension] / self.share) for one in self.dimensions if cost[one.dimension] > 0]
        return max(slots, default=0.0) * self.slot_ms
