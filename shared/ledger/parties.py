"""How the asking instance takes part in a model: its share of the rate, how far ahead it books, and the headroom that batch
requests leave for interactive ones. Pure."""

from __future__ import annotations

import math

from shared.ledger.grid import Grid
from shared.ledger.limits import Limit, Limits
from shared.ledger.permits import IMMINENT_SLOTS, Party
from shared.ledger.slots import fresh, water_level
from shared.ledger.state import BATCH_ONLY, InstanceShare, RenewRequest, State

MIN_HORIZON_MS, MAX_HORIZON_MS = 8_000, 45_000
FEW = 5
"""Up to so many active instances read and renew as often as is useful to each; more share what the document bears."""
UNKNOWN_SERVICE_MS = 2_000
"""How long a request is taken to be open at an instance that has not had an answer yet (in a 60 s window)."""
BATCH_HORIZON_MS, BATCH_HORIZON_PER_INSTANCE_MS = 1_000, 400
"""How far ahead an instance with only batch requests books, as what it has booked cannot serve an interactive request that comes
meanwhile: at least the first, and the second for each active instance, so that together they do not write too often."""
HEADROOM = 0.01
"""The part of a limit that batch requests leave free for interactive ones, where there were some in the last minute."""


def active_instances(state: State) -> int:
    now_ms = state.now_ms
    return max(1, len([1 for lease in state.leases.values() if lease.want_slots and fresh(lease, now_ms)]))


def horizon_ms(instances: int, grid: Grid) -> int:
    """How far ahead permits are booked: longer with more instances, so that together they write once or a few times a second;
    shorter in a test's window."""
    whole = min(max(1_000 * instances, MIN_HORIZON_MS), MAX_HORIZON_MS)
    return grid.slots(whole) * grid.slot_ms


def batch_horizon_ms(instances: int, grid: Grid) -> int:
    """The same for an instance with only batch requests."""
    whole = max(BATCH_HORIZON_MS, BATCH_HORIZON_PER_INSTANCE_MS * instances)
    return min(max(1, grid.slots(whole)) * grid.slot_ms, horizon_ms(instances, grid))


def _competes(share: InstanceShare, soon: int) -> bool:
    """Whether the instance was left with unmet demand, or its demand was met later than it arrived."""
    return bool(share.unmet.requests) or (share.holds and share.latest() > soon)


def party_of(state: State, message: RenewRequest, model: str, grid: Grid) -> Party:
    """The instance's shares of the rate, by active callers: among instances with unmet demand, and among all."""
    instance = message.instance
    soon = grid.slot(state.now_ms) + IMMINENT_SLOTS
    sharing = {
        i: lease
        for i, lease in state.leases.items()
        if i != instance and lease.want_slots and fresh(lease, state.now_ms) and model in lease.shares
    }
    active = {i: (1, max(1, lease.callers)) for i, lease in sharing.items()}
    active[instance] = (1, max(1, state.leases[instance].callers))
    of_batches = [i for i, lease in sharing.items() if lease.callers == BATCH_ONLY]
    is_batch = message.callers == BATCH_ONLY
    recent = state.leases.values() if is_batch else ()
    beside = any(
        lease.callers != BATCH_ONLY and state.now_ms - lease.seen_ms < state.window_ms and model in lease.shares
        for lease in recent
    )
    active_count = active_instances(state)
    horizon = batch_horizon_ms(active_count, grid) if is_batch else horizon_ms(active_count, grid)
    short = {i: weight for i, weight in active.items() if i == instance or _competes(sharing[i].shares[model], soon)}
    return Party(
        water_level(1.0, short)[instance],
        water_level(1.0, active)[instance],
        horizon // grid.slot_ms,
        active_count > FEW,
        state.leases[instance].cap,
        message.open_slots,
        message.service_ms // grid.slot_ms or grid.slots(UNKNOWN_SERVICE_MS),
        leaves_headroom=beside,
        has_headroom=not is_batch and bool(of_batches),
    )


def without_headroom(limits: Limits) -> Limits:
    """What batch requests may use of the limits of a minute."""

    def less(limit: Limit) -> Limit:
        return limit if limit is None else limit - math.ceil(HEADROOM * limit)

    return limits._replace(requests=less(limits.requests), input_tokens=less(limits.input_tokens))
