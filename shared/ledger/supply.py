"""When demand that found no place will be granted, as far as one renew can tell: its calendar, played on at the pace. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MAX_WINDOWS = 16
"""The calendar is played on for this many windows; after it permits are taken to come at the limit's own rate."""


@dataclass(slots=True, eq=False)
class DimensionSupply:
    """What one limited dimension can grant after slot `now`, in units, to all instances together.

    `begins`: what was dispatched or is booked, by slot. The pace is `slow` per slot until slot `until`, `full` after it; what
    it left unused may be granted up to `catch_up` units later."""

    dimension: int
    limit: int
    span: int
    now: int
    begins: Mapping[int, int]
    slow: float
    until: int
    full: float
    catch_up: float
    _slots: list[int] = field(default_factory=list)
    _granted: list[float] = field(default_factory=list)
    """Slots in which something is granted, in order, and what was granted until and with each of them."""
    _begins: dict[int, float] = field(default_factory=dict)
    _used: float = 0.0
    _credit: float = 0.0
    _at: int = 0

    def __post_init__(self) -> None:
        self._begins = {slot: float(amount) for slot, amount in self.begins.items() if slot > self.now - self.span}
        self._used = sum(self._begins.values())
        self._at = self.now

    def slot_of(self, amount: float) -> float:
        """The slot with which `amount` has been granted; infinite where nothing ever is."""
        last = self.now + MAX_WINDOWS * self.span
        while self._at < last and (not self._granted or self._granted[-1] < amount):
            self._step()
        if self._granted and self._granted[-1] >= amount:
            return self._slots[bisect_left(self._granted, amount)]
        granted = self._granted[-1] if self._granted else 0.0
        return last + (amount - granted) / self.full if self.full > 0 else math.inf

    def _step(self) -> None:
        """Play one slot: what leaves the window makes room, and the pace lets some of it begin."""
        slot = self._at
        self._at += 1
        self._used -= self._begins.pop(slot - self.span, 0.0)
        self._credit = min(self._credit + (self.slow if slot <= self.until else self.full), self.catch_up)
        self._credit -= self.begins.get(slot, 0) if slot >= self.now else 0
        amount = float(math.floor(min(self._credit, self.limit - self._used) + 1e-9))
        if amount > 0:
            self._credit -= amount
            self._used += amount
            self._begins[slot] = self._begins.get(slot, 0.0) + amount
            self._slots.append(slot)
            self._granted.append(amount + (self._granted[-1] if self._granted else 0.0))


@dataclass(slots=True, eq=False)
class Supply:
    """What is granted to one instance while demand is unmet: `share` of every limited dimension's supply."""

    slot_ms: int
    share: float
    dimensions: Sequence[DimensionSupply]

    def granted_ms(self, cost: Sequence[float]) -> float:
        """The store's time at which `cost`, added up over requests in their order, has been granted to the instance."""
        slots = [one.slot_of(cost[one.dimension] / self.share) for one in self.dimensions if cost[one.dimension] > 0]
        return max(slots, default=0.0) * self.slot_ms
