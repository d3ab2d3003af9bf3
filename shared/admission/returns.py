"""Rejected requests that are expected back: each one keeps its place in the queue's order until it returns. Pure.

A request that cannot be served in time is rejected with the time at which a permit will be free for it. Without a record
of those times every rejected caller would get the same one, and all but one of them would return in vain. An appointment
reserves nothing: a permit that is free goes to any request that waits for it. It only delays the times that requests with
a later place are given.

A caller is known by its id, which many clients may share. So an arriving request fulfils the earliest appointment of its
caller that is due, whichever client made it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from shared.admission.queue import Ahead, Ordered, Placed
from shared.generation import Cost

GRACE_S = 2.0
"""An appointment is dropped when its caller has not returned this long after its time."""
EARLY_S = 0.25
"""A request that arrives this much before its time still counts as returned: clocks and timers differ."""
MAX_APPOINTMENTS = 10_000
"""Per process. One caller may have as many as are still free, so that a flood of one leaves room for all others."""
MAX_AHEAD_WINDOWS = 15
"""Maximum distance of an appointment: callers that never return cannot delay others beyond it."""


@dataclass(slots=True, eq=False)
class Appointment:
    """One rejected request, expected at `due_s` (elapsed time). `section` is where its model counts; `tag` and `sequence` are
    its place in the queue."""

    ledger: str
    section: str
    caller: str
    batch: bool
    due_s: float
    tag: float
    sequence: int
    cost: Cost
    over: bool = False
    """Whether the caller returned, or was given up."""


@dataclass(slots=True)
class _Away:
    """The appointments of one section of one ledger."""

    order: Ordered[Appointment] = field(default_factory=Ordered)
    of_caller: dict[tuple[str, bool], list[tuple[float, int, Appointment]]] = field(default_factory=dict)
    """In the order of their times, with their sequence numbers."""


@dataclass(slots=True)
class _Share:
    """One caller's part of all appointments."""

    count: int = 0
    last_tag: float = 0.0


class Returns:
    """The appointments of one process. Every time is elapsed time in seconds; `max_ahead_s` bounds how far they reach."""

    def __init__(self, max_ahead_s: float, max_appointments: int = MAX_APPOINTMENTS) -> None:
        self.max_ahead_s, self.max_appointments = max_ahead_s, max_appointments
        self._away: dict[tuple[str, str], _Away] = {}
        self._callers: dict[str, _Share] = {}
        self._by_end: list[tuple[float, int, Appointment]] = []
        """A heap by the time at which an appointment is dropped. Those that are over stay in it until then."""
        self._made = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def expect(self, appointment: Appointment, now_s: float) -> bool:
        """Record an appointment. False, and nothing is recorded, if it is too far ahead or its caller has its share."""
        self.forget(now_s)
        share = self._callers.get(appointment.caller)
        free = self.max_appointments - len(self._by_end)
        if appointment.due_s - now_s > self.max_ahead_s or (share.count if share else 0) >= free:
            return False
        if share is None:
            share = self._callers[appointment.caller] = _Share()
        share.count += 1
        share.last_tag = max(share.last_tag, appointment.tag)
        away = self._away.setdefault((appointment.ledger, appointment.section), _Away())
        away.order.add(appointment)
        of_caller = away.of_caller.setdefault((appointment.caller, appointment.batch), [])
        insort(of_caller, (appointment.due_s, appointment.sequence, appointment))
        self._made += 1
        self._count += 1
        heappush(self._by_end, (appointment.due_s + GRACE_S, self._made, appointment))
        return True

    def back(
        self, places: Iterable[tuple[str, str]], caller: str, now_s: float, *, batch: bool = False
    ) -> Appointment | None:
        """The earliest appointment of `caller` that is due at one of `places` (ledger and section), which its arriving
        request fulfils; None if there is none."""
        if not self._count:
            return None
        self.forget(now_s)
        earliest: Appointment | None = None
        for place in places:
            away = self._away.get(place)
            entries = away.of_caller.get((caller, batch)) if away is not None else None
            if entries and (earliest is None or entries[0][0] < earliest.due_s):
                earliest = entries[0][2]
        if earliest is None or earliest.due_s > now_s + EARLY_S:
            return None
        self._remove(earliest)
        return earliest

    def ahead(self, ledger: str, section: str, waiter: Placed, now_s: float) -> Ahead:
        """What of a section's appointments has a place before the waiter's."""
        self.forget(now_s)
        away = self._away.get((ledger, section))
        return away.order.ahead(waiter) if away is not None else Ahead()

    def last_tag(self, caller: str) -> float:
        """The last turn that a caller's appointments have taken: its new requests come after it. 0.0 if it has none."""
        share = self._callers.get(caller)
        return share.last_tag if share else 0.0

    def callers_away(self, ledger: str, present: Container[str], now_s: float) -> int:
        """How many callers are expected back at `ledger`, besides those that are `present`."""
        if not self._count:
            return 0
        self.forget(now_s)
        away = {caller for place, one in self._away.items() if place[0] == ledger for caller, _ in one.of_caller}
        return sum(caller not in present for caller in away)

    def forget(self, now_s: float) -> None:
        """Drop the appointments whose caller did not return in time."""
        while self._by_end and self._by_end[0][0] <= now_s:
            appointment = heappop(self._by_end)[2]
            if not appointment.over:
                self._remove(appointment)

    def _remove(self, appointment: Appointment) -> None:
        appointment.over = True
        self._count -= 1
        key = (appointment.ledger, appointment.section)
        away = self._away[key]
        away.order.remove(appointment)
        who = (appointment.caller, appointment.batch)
        entries = away.of_caller[who]
        del entries[bisect_left(entries, (appointment.due_s, appointment.sequence))]
        if not entries:
            del away.of_caller[who]
        if not len(away.order):
            del self._away[key]
        share = self._callers[appointment.caller]
        share.count -= 1
        if not share.count:
            del self._callers[appointment.caller]
