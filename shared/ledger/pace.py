"""How fast scarce capacity of one dimension is given out: a rate per slot, and what may go ahead of it or catch up. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import NamedTuple

PACE_SNAP, RARE_SNAP = 0.96, 0.92
"""A pace that is slower than the full one by less than this is the full one. RARE_SNAP: with fewer permits than slots, most begin
by the rule of gaps, and a slower pace would only make their times harder to predict."""
CATCH_UP_SLOTS, CATCH_UP_PERMITS = 8, 2
"""How long ago capacity that the pace left unused may still be granted (the longer of both)."""


class Pace(NamedTuple):
    """Units per slot: `rate` until slot `until`, `full` after it."""

    rate: float
    full: float
    until: int

    def units(self, first: int, last: int) -> int:
        """What the pace provides for slots first..last. All renews count on one absolute grid, so that a permit that is given
        late does not delay the next one."""
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
    leaving[span] = 1  # At the last slot of a span in which nothing leaves, the capacity per slot is smallest.
    frees = accumulate(leaving, initial=free)
    # Where the full rate is served, a lower one is too.
    short = [
        (t, f) for t, (left, f) in enumerate(zip(leaving, frees, strict=False)) if left and f + slack < full * t + 1e-9
    ]
    for t, free in short:
        if t and free + slack < rate * t + 1e-9:
            rate, until = max(0.0, free / t), t - 1
    snap = PACE_SNAP if full >= 1 else RARE_SNAP
    return Pace(full, full, now) if rate > snap * full else Pace(rate, full, now + until)


def quiet_slots(k: int, full: float) -> int:
    """For how many slots capacity that the pace left unused may still be granted."""
    return max(CATCH_UP_SLOTS, 0 if k == 1 else int(CATCH_UP_PERMITS / max(full, 1e-3)))


def gaps_of(k: int, pace: Pace) -> tuple[int, int]:
    """After how many slots without a dispatch one is allowed regardless of the pace's grid: until `pace.until`, and after it.

    So small limits lose nothing to the grid's phase. Below one per slot the full pace's gap applies: each renew would postpone
    a permit that is spread over more slots."""
    quiet = quiet_slots(k, pace.full)
    slow, full = (
        min(quiet, int(1 / max(rate, 1e-3)) + 1) for rate in (pace.rate if pace.full >= 1 else pace.full, pace.full)
    )
    return slow, full


def repaid(pace: Pace) -> int:
    """How much of what was granted ahead of a slow pace is charged to the slots that follow it."""
    return int(min(CATCH_UP_PERMITS, 2 * pace.full)) if pace.rate < pace.full else 0
