"""The bookings of one instance for one model: a dict, or rows as the document has them. Plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import add
from typing import NamedTuple, cast

from shared.generation import BATCHES_AT, DIMENSIONS, NO_COST, Cost
from shared.ledger.limits import UNLIMITED, Limits


class SlotRange(NamedTuple):
    """The first and the last slot in which a booking may be dispatched."""

    first: int
    last: int


Bookings = dict[SlotRange, Cost]
"""The right to dispatch a Cost within a SlotRange. The dimensions are independent: each may be drawn from another booking."""


class Columns(NamedTuple):
    """Bookings as lists of equal length, in their order. Slot numbers are counted from `base`."""

    base: int
    firsts: list[int]
    lengths: list[int]
    """The last slot less the first one."""
    amounts: tuple[list[int], ...]
    """By dimension of a Cost."""


ROW = 2 + DIMENSIONS
"""Numbers in the row of one booking: first - base, last - first, and the Cost."""


class InstanceShare:
    """One instance's part of one model.

    A document lists hundreds of bookings, and a renew changes those of one instance. So the bookings that were read stay
    rows, which are summed and written as they are; `bookings` makes the dict when it is first asked for."""

    __slots__ = ("_base", "_bookings", "_rows", "limits", "unmet")

    def __init__(self, limits: Limits = UNLIMITED, bookings: Bookings | None = None, unmet: Cost = NO_COST) -> None:
        self.limits = limits
        self.unmet = unmet
        """Demand that its last renew did not grant: it competes for the next slots."""
        self._bookings: Bookings | None = {} if bookings is None else bookings
        self._base, self._rows = 0, _NO_ROWS

    @classmethod
    def of_rows(cls, limits: Limits, unmet: Cost, base: int, rows: list[int]) -> InstanceShare:
        """`rows` are ROW numbers for each booking, one after another; the list is not changed."""
        share = cls(limits, None, unmet)
        if rows:
            share._bookings, share._base, share._rows = None, base, rows
        return share

    @property
    def bookings(self) -> Bookings:
        if self._bookings is None:
            base, firsts, lengths, amounts = columns_of(self._base, self._rows)
            firsts = [offset + base for offset in firsts]
            validities = map(_validity, zip(firsts, map(add, firsts, lengths), strict=True))
            self._bookings = dict(zip(validities, costs_of(*amounts), strict=True))
            self._rows = _NO_ROWS
        return self._bookings

    @bookings.setter
    def bookings(self, bookings: Bookings) -> None:
        self._bookings, self._rows = bookings, _NO_ROWS

    @property
    def holds(self) -> bool:
        """Whether it has any booking."""
        return bool(self._rows or self._bookings)

    def as_read(self) -> tuple[int, list[int]]:
        """The base and the rows as they are; the caller does not change the list."""
        return (self._base, self._rows) if self._bookings is None else (0, self.rows(0))

    def rows(self, base: int) -> list[int]:
        """The rows with slot numbers counted from `base`; the caller does not change the list."""
        if self._bookings is None:
            shift = self._base - base
            if not shift:
                return self._rows
            rows = self._rows.copy()
            rows[::ROW] = [offset + shift for offset in rows[::ROW]]
            return rows
        result: list[int] = []
        for (first, last), cost in self._bookings.items():
            result += (first - base, last - first, *cost)
        return result

    def earliest(self) -> int:
        """The first slot of any booking; there is one."""
        return self._base + min(self._rows[::ROW]) if self._bookings is None else min(self._bookings)[0]

    def latest(self) -> int:
        """The slot in which the last booking begins; there is one."""
        return self._base + max(self._rows[::ROW]) if self._bookings is None else max(self._bookings)[0]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, InstanceShare):
            return NotImplemented
        return (self.limits, self.bookings, self.unmet) == (other.limits, other.bookings, other.unmet)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"InstanceShare(limits={self.limits!r}, bookings={self.bookings!r}, unmet={self.unmet!r})"


def columns_of(base: int, rows: list[int]) -> Columns:
    return Columns(base, rows[::ROW], rows[1::ROW], tuple(rows[2 + k :: ROW] for k in range(DIMENSIONS)))


def batches_in(base: int, rows: list[int]) -> Columns | None:
    """Of the bookings in `rows`, those with batches, without their other dimensions; None if there are none."""
    batches = rows[2 + BATCHES_AT :: ROW]
    at = [index for index, amount in enumerate(batches) if amount]
    if not at:
        return None
    firsts, lengths, none = rows[::ROW], rows[1::ROW], [0] * len(at)
    amounts = (*([none] * BATCHES_AT), [batches[index] for index in at])
    return Columns(base, [firsts[index] for index in at], [lengths[index] for index in at], amounts)


_NO_ROWS: list[int] = []
# The loops over many bookings run in C: a NamedTuple's own constructor takes most of the time otherwise.
_cost = cast("Callable[[Iterable[int]], Cost]", partial(tuple.__new__, Cost))
_validity = cast("Callable[[Iterable[int]], SlotRange]", partial(tuple.__new__, SlotRange))


def costs_of(*amounts: Iterable[int]) -> Iterator[Cost]:
    """`amounts` are columns, one for each dimension of a Cost."""
    return map(_cost, zip(*amounts, strict=True))
