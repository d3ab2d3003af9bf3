"""The fleet's budget: how much one instance books ahead, how long it keeps it, and how often it reads the ledger, so that the
writes and reads of all instances together stay constant as instances are added. Pure.

A time marked "in a 60 s window" scales with the window of the grid. Instances are many where more than FEW are active. `per_s`:
how many requests arrive at this instance per second."""

from __future__ import annotations

from shared.admission.model_permits import ModelPermits
from shared.ledger.grid import Grid
from shared.ledger.parties import FEW
from shared.ledger.state import Lacking, RenewResult

SPARE_REQUESTS, SPARE_AHEAD_S, MAX_SPARE_AHEAD_S = 4, 5.0, 30.0
"""Spare permits are permits for requests that have not arrived yet. They are requested for the time in which SPARE_REQUESTS
arrive, within these bounds (in a 60 s window), and are valid a little longer."""
SPARE_FACTOR, SPARE_LOW, SPARE_LOW_S = 1.5, 0.4, 2.0
"""While there is plenty, SPARE_FACTOR times as many spare permits are requested as requests are expected; more are requested once
less than the share SPARE_LOW of them is left. Where instances are many, they also wait until hardly more are left than
requests arrive in SPARE_LOW_S."""
MIN_PINNED_PER_S, LONG_WAIT_S = 0.5, 3.0
"""Where instances are many and permits scarce, spare permits are requested only if MIN_PINNED_PER_S requests arrive. Once a
request has waited for LONG_WAIT_S, the instance requests its whole share: callers that wait for an answer send no more than is
served, so that the rate of arrivals says too little."""
RENEW_AHEAD_S = 10.0
"""Scarce permits are requested again this long before a long horizon ends (in a 60 s window)."""
POLL_S = 0.25
"""The interval of reads while something is scarce and at most FEW instances wait. A write follows only if it would gain
something."""
READS_PER_S, NO_SLOT_SHARE = 12, 2 / 3
"""Where more instances wait, they share this many reads per second. Those without a slot have the share NO_SLOT_SHARE of them."""
SPARE_POLL_S = 1.0
"""The minimum interval of reads while this instance holds unused slots and no shortage is known."""
HOLD_REQUESTS, MIN_HOLD_REQUESTS, HOLD_S, MAX_HOLD_S = 3, 2, 5.0, 45.0
"""Where instances are many, an idle one keeps what it holds for the time in which HOLD_REQUESTS arrive, within these bounds; it
keeps nothing where fewer than MIN_HOLD_REQUESTS arrive within the maximum."""


def look_s(instances: int, interval_s: float) -> float:
    """The interval of reads of each of `instances` that wait: POLL_S, or `interval_s` where they are many and it is longer."""
    return POLL_S if instances <= FEW else max(POLL_S, interval_s)


def slot_poll_s(lacking: Lacking, cap: int) -> float:
    """The interval of reads of an instance that waits for slots and may use `cap`, while the others in `lacking` wait too."""
    alike, part = (lacking.some, 1 - NO_SLOT_SHARE) if cap else (lacking.none, NO_SLOT_SHARE)
    return look_s(lacking.none + lacking.some + 1, (alike + 1) / (READS_PER_S * part))


def permit_poll_s(instances: int) -> float:
    """The interval of reads of an instance whose requests wait for scarce permits."""
    return look_s(instances, instances / READS_PER_S)


def spare_poll_s(instances: int) -> float:
    """The interval of reads of an instance that holds unused slots while no shortage is known."""
    return max(SPARE_POLL_S, 2 * instances / READS_PER_S)


def passed_over_s(least_s: float, none_held: int) -> float:
    """How long a free slot is left to the instance that is due it: `least_s`, or the time of three reads of an instance without a
    slot. Where `none_held` instances hold none, each of them reads less often."""
    return max(least_s, 3 * none_held / (READS_PER_S * NO_SLOT_SHARE))


def renew_s(grant: RenewResult, grid: Grid) -> float:
    """How long after `grant` scarce permits are requested again: about half of the horizon, or nearly all of a long one."""
    horizon_s = grant.horizon_ms / 1000
    return max(0.52 * horizon_s, horizon_s - RENEW_AHEAD_S * grid.window_ms / 60_000)


def hold_s(per_s: float, *, many: bool) -> float:
    """How long an idle instance keeps what it holds; 0.0 where requests are too rare. Where instances are few, it is HOLD_S."""
    if not many:
        return HOLD_S if per_s * HOLD_S >= MIN_HOLD_REQUESTS else 0.0
    if per_s * MAX_HOLD_S < MIN_HOLD_REQUESTS:
        return 0.0
    return min(max(HOLD_REQUESTS / per_s, HOLD_S), MAX_HOLD_S)


def min_ahead_s(grid: Grid) -> float:
    """The shortest time ahead for which spare permits are requested."""
    return SPARE_AHEAD_S * grid.window_ms / 60_000


def ahead_s(permits: ModelPermits, horizon_ms: int) -> float:
    """How far ahead spare permits are requested. `horizon_ms`: how far ahead scarce ones are booked; 0 where instances are few.

    Scarce permits are requested up to the horizon. While there is plenty, rare requests have their permits for longer, so that
    each does not cost a write."""
    least_s = min_ahead_s(permits.grid)
    if not horizon_ms:  # Each instance renews often.
        return least_s
    if permits.scarce:
        return max(least_s, horizon_ms / 1000)
    wanted_s = SPARE_REQUESTS / permits.per_s if permits.per_s else least_s
    return min(max(wanted_s, least_s), least_s * MAX_SPARE_AHEAD_S / SPARE_AHEAD_S)


def spare_requests(permits: ModelPermits, horizon_ms: int, waited_s: float) -> int:
    """How many spare permits are requested. `waited_s`: how long the oldest request has waited."""
    expected_s = ahead_s(permits, horizon_ms)
    if permits.last is None or not permits.scarce or not horizon_ms:
        return round(permits.per_s * expected_s * SPARE_FACTOR)
    if waited_s > LONG_WAIT_S and permits.per_s:  # Else only batches of embeddings came.
        return round(max(permits.last.per_s, permits.per_s) * expected_s)
    # A scarce permit is valid for a second: where requests are rarer than MIN_PINNED_PER_S, most permits would lapse.
    return round(permits.per_s * expected_s) if permits.per_s >= MIN_PINNED_PER_S else 0


def runs_low(permits: ModelPermits, spare: int, earliest_ms: float, horizon_ms: int) -> bool:
    """Whether more spare permits must be requested now: too few of `spare` are left that will still be valid in a while."""
    soon_s = ahead_s(permits, horizon_ms) * (SPARE_LOW / 2 if horizon_ms else (1 - SPARE_LOW) / 2)
    soon_slot = permits.grid.slot(earliest_ms + 1000 * soon_s)
    lasting = sum(booking.available.requests for v, booking in permits.bookings.items() if v.last >= soon_slot)
    return lasting < (min(SPARE_LOW * spare, max(1, SPARE_LOW_S * permits.per_s)) if horizon_ms else SPARE_LOW * spare)
