"""How fast scarce capacity of one dimension is given out: a rate per slot, and what may go ahead of it or catch up. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

PACE_SNAP = 0.92
CATCH_UP_SLOTS, CATCH_UP_PERMITS = 16, 2
"""How long ago capacity that the pace left unused may still be granted (the longer of both)."""


class Pace(NamedTuple):
    """Units per slot: `rate` until slot `until`, `full` after it."""

    rate: float
    full: float
    until: int

    def units(self, first: int, last: int) -> int:
        """What the pace has for slots first..last. All count on one absolute grid, so that a permit given late does not
        push the next one back."""
        turn = max(min(self.until, last), first - 1) + 1
        slow = int(self.rate * turn) - int(self.rate * first)
        return slow + int(self.full * (last + 1)) - int(self.full * turn)


def pace_after(k: int, limit: int, span: int, now: int, begins: Mapping[int, int]) -> Pace:
    """The pace of the next renew, when `begins` (by slot) is all that was dispatched or booked."""
    leaving, used = [0] * (span + 1), 0
    for slot, amount in begins.items():
        if slot < now:
            used += amount
            leaving[max(0, slot + span - now)] += amount
    return pace_from(k, limit, now, used, leaving)


def pace_from(k: int, limit: int, now: int, used: int, leaving: list[int]) -> Pace:
    """`leaving`: how much of what is used leaves the window in each slot from `now` on."""
    span = len(leaving) - 1
    rate = full = limit / span
    until, free, slack = 0, limit - used, 2 * full if k == 1 else min(CATCH_UP_PERMITS, 2 * full)
    leaving[span] = 1  # The last slot of a span in which nothing leaves is where least is free for each slot so far.
    for t, left in enumerate(leaving):
        if left:
            if t and free + slack < rate * t + 1e-9:
                rate, until = max(0.0, free / t), t - 1
            free += left
    return Pace(full, full, now) if rate > PACE_SNAP * full else Pace(rate, full, now + until)


def quiet_slots(k: int, full: float) -> int:
    """For how many slots what the pace left unused may still be given."""
    return max(CATCH_UP_SLOTS, 0 if k == 1 else int(CATCH_UP_PERMITS / max(full, 1e-3)))


def gaps_of(k: int, pace: Pace) -> tuple[int, int]:
    """After how many slots without any one may go, whatever the pace's grid has for them: until `pace.until`, and after it.

    Small limits lose nothing to the grid's phase. Below one a slot it is the full pace's: what is spread over more, each renew
    would put off anew."""
    quiet = quiet_slots(k, pace.full)
    slow, full = (
        min(quiet, int(1 / max(rate, 1e-3)) + 1) for rate in (pace.rate if pace.full >= 1 else pace.full, pace.full)
    )
    return slow, full


def repaid(pace: Pace) -> int:
    """How much of what was given ahead of a slow pace is paid for out of the slots that follow it."""
    return int(min(CATCH_UP_PERMITS, 2 * pace.full)) if pace.rate < pace.full else 0
