"""What counts against the limits of one model, by slot: dispatches and the bookings of all instances, summed once a renew. Pure.

Instances book the same few slots, and every reader wants them in order: so they are added up as lists by slot, which the loops
of `sum`, `accumulate` and slices then read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from shared.generation import DIMENSIONS, Cost
from shared.ledger.share import Columns, InstanceShare, SlotRange, columns_of

PINNED_SLOTS = 4
"""A pinned booking may be dispatched in this many slots from its first: a late wake-up does not lose it."""


def collected(shares: Iterable[InstanceShare]) -> list[Columns]:
    """The bookings of all shares. Most were read from one document, so they are one set of columns."""
    by_base: dict[int, list[int]] = {}
    for share in shares:
        if share.holds:
            base, rows = share.as_read()
            if base in by_base:
                by_base[base] += rows
            else:
                by_base[base] = rows.copy()
    return [columns_of(base, rows) for base, rows in by_base.items()]


class Occupancy:
    """Lists begin at slot `first`; a booking that began before it counts no more. In each list, `now_at` is the index of now."""

    def __init__(
        self,
        ring: Mapping[int, Cost],
        booked: Sequence[Columns],
        dims: Sequence[int],
        span: int,
        now: int,
        ahead: int,
    ) -> None:
        self.dims = dims
        self.first = now - span - PINNED_SLOTS + 1
        self.now_at = now - self.first
        self.length = ahead + 2 * span + PINNED_SLOTS
        """How many slots from now on `free` is about."""
        slots, amounts = list(ring), list(zip(*ring.values(), strict=True)) or [()] * DIMENSIONS
        oldest, latest = min(slots, default=now), max(slots, default=now)
        inside = oldest > now - span and latest < now + self.length
        size = max(min(latest, now + self.length - 1), now) - self.first + 1
        self.dispatched = {
            k: (self._by_slot if inside else self._by_slot_inside)(slots, amounts[k], size) for k in dims
        }
        """By dimension. What was settled beyond the end is in the last slot."""
        self.last_begin = max([now, *(base + max(firsts) for base, firsts, *_ in booked)])
        """The last slot in which a booking begins, or now."""
        self.pinned = {k: [0] * (self.last_begin - self.first + 1) for k in dims}
        """By dimension, pinned bookings by the slot in which they begin."""
        self.begun: list[int] = []
        """The indices in `pinned` at which any begins, in order."""
        self.others: dict[SlotRange, Cost] = {}
        """Bookings that are longer or shorter than pinned ones."""
        begun: set[int] = set()
        for columns in booked:
            self._add(columns, begun)
        self.begun = sorted(begun)

    def _by_slot(self, slots: list[int], amounts: Sequence[int], size: int) -> list[int]:
        result, first = [0] * size, self.first
        for slot, amount in zip(slots, amounts, strict=True):
            result[slot - first] = amount
        return result

    def _by_slot_inside(self, slots: list[int], amounts: Sequence[int], size: int) -> list[int]:
        """The same for a ring with slots outside the list: those before it count no more."""
        result, oldest = [0] * size, self.first + PINNED_SLOTS - 1
        for slot, amount in zip(slots, amounts, strict=True):
            if slot > oldest:
                result[min(slot - self.first, size - 1)] += amount
        return result

    def _add(self, columns: Columns, begun: set[int]) -> None:
        base, firsts, lengths, amounts = columns
        shift = base - self.first
        ats = [offset + shift for offset in firsts]
        if lengths.count(PINNED_SLOTS - 1) == len(lengths) and min(ats) >= 0:
            begun.update(ats)
            for k in self.dims:
                total = self.pinned[k]
                for at, amount in zip(ats, amounts[k], strict=True):
                    total[at] += amount
            return
        for at, length, *cost in zip(ats, lengths, *amounts, strict=True):
            if length == PINNED_SLOTS - 1 and at >= 0:
                begun.add(at)
                for k in self.dims:
                    self.pinned[k][at] += cost[k]
            else:
                validity = SlotRange(at + self.first, at + self.first + length)
                known = self.others.get(validity)
                self.others[validity] = Cost(*cost) if known is None else known.plus(Cost(*cost))

    def booked(self, k: int) -> int:
        return sum(self.pinned[k]) + sum([cost[k] for cost in self.others.values()])

    def begins(self, k: int) -> list[int]:
        """By slot from `first` on, at least until now: dispatched in it or booked to begin in it. Flexible bookings are taken to
        be dispatched by now."""
        pinned, dispatched = self.pinned[k], self.dispatched[k]
        result = dispatched + [0] * (len(pinned) - len(dispatched))
        for at in self.begun:
            result[at] += pinned[at]
        for validity, cost in self.others.items():
            at = self.now_at - 1 if flexible(validity) else validity[0] - self.first
            if 0 <= at < len(result):
                result[at] += cost[k]
        return result

    def free(self, k: int, limit: int) -> list[int]:
        """`limit` less the occupancy that I1 counts, by slot from now on."""
        dispatched, pinned, now_at, length = self.dispatched[k], self.pinned[k], self.now_at, self.length
        ends = [last - self.first - PINNED_SLOTS + 1 for _, last in self.others]
        # A pinned booking leaves the window as many slots after now as its index; a dispatch PINNED_SLOTS - 1 sooner.
        change = [limit - sum(dispatched), *dispatched[PINNED_SLOTS:]]
        change += [0] * (max(len(pinned) - 1, max(ends, default=0)) + 1 - len(change))
        for at in self.begun:
            amount = pinned[at]
            change[at - now_at if at > now_at else 0] -= amount
            change[at] += amount
        now = self.first + now_at
        for ((first, _), cost), end in zip(self.others.items(), ends, strict=True):
            change[first - now if first > now else 0] -= cost[k]
            change[end] += cost[k]
        free = list(accumulate(change[:length]))
        return free + free[-1:] * (length - len(free))


def flexible(validity: SlotRange) -> bool:
    return validity[1] - validity[0] >= PINNED_SLOTS
