"""The one transition of the ledger: `renew(state, message, store's time) -> grant`. Deterministic; it changes `state`."""

from __future__ import annotations

from dataclasses import replace

from shared.generation import NO_COST, Cost
from shared.ledger.batches import (
    closed_until_ms,
    counted,
    forget_over,
    is_needed,
    lowered_batches,
    usable_limits,
)
from shared.ledger.calendar import Calendar, count_day
from shared.ledger.circuit import (
    PROBE_MS,
    circuits_of,
    claim_probe,
    lower_reason,
    lowered_limits,
    open_until_ms,
    probe_ms_of,
    reason_of,
    release,
)
from shared.ledger.grid import Grid, pacific_day
from shared.ledger.limits import Limits
from shared.ledger.merging import refer
from shared.ledger.names import end_turn, has_room, learn_names, move_named, redirected, take_back_not_found, takes_turn
from shared.ledger.parties import FEW, active_instances, batch_horizon_ms, horizon_ms, party_of, without_headroom
from shared.ledger.permits import Planner
from shared.ledger.slots import (
    concurrency,
    free_what_is_over,
    held_by_others,
    lacking,
    limits_version,
    share_slots,
)
from shared.ledger.state import (
    BATCH_ONLY,
    BATCHES,
    MAX_WANTS,
    UNPROVEN,
    Bookings,
    Demand,
    InstanceLease,
    InstanceShare,
    ModelGrant,
    ModelState,
    RenewRequest,
    RenewResult,
    SlotRange,
    State,
)
from shared.ledger.throttling import (
    configured_limits,
    forget_recovered,
    give_up_probe,
    learn,
    note_dispatches,
)

MIN_LEASE_MS, MAX_LEASE_MS = 10_000, 60_000
RESERVE_PART = 4
"""Where instances are more than FEW, one slot in this many is not given out as a spare: the next instance needs it at once."""
TOMBSTONE_MS = 60_000
"""How long an instance that holds nothing is remembered, so that a repeated renew is recognised."""
MIN_DEADLINE_MS = 1_000
"""The shortest deadline that Gemini accepts: it takes whole seconds."""
AHEAD_WINDOWS = 4
"""Maximum distance of a booking in windows; for a longer wait the instance polls."""


def renew(state: State, message: RenewRequest, store_ms: int, grid: Grid) -> RenewResult:
    """Settle what the instance reports, take back what it returns, grant what the limits allow.

    A model for which the document has no room gets no grant. Raises ValueError if the windows differ."""
    if state.window_ms != grid.window_ms:
        raise ValueError(f"this ledger counts windows of {state.window_ms} ms, this process of {grid.window_ms} ms")
    if state.moved:
        return refer(state)
    lease = state.leases.get(message.instance)
    if lease is not None and lease.renew >= message.number:
        return _repeated(state, lease, message, grid)
    state.now_ms = max(state.now_ms, store_ms, message.earliest_ms)
    lease = state.leases.setdefault(message.instance, InstanceLease())
    lease.limits_version = message.limits_version
    _release_gone(state, message)
    learn_names(state, message)
    message = redirected(state, message)
    end_turn(state, message)
    _settle(state, lease, message, grid)
    move_named(state, message, grid)
    _prune(state, message.instance, grid)
    learn(state, message, grid)
    note_dispatches(state, message, grid)
    give_up_probe(state, message)
    forget_over(state)
    c = concurrency(state, message.concurrency, state.now_ms, message.limits_version)
    _hold_slots(state, lease, message, c)
    lease.renew, lease.seen_ms, lease.concurrency = message.number, state.now_ms, message.concurrency
    lease.want_slots, lease.oldest_ms, lease.callers = message.want_slots, message.oldest_ms, message.callers
    allotments = {}
    for model, demand in message.demands.items():
        if model in lease.shares:
            allotments[model] = _allot(state, lease, message, model, demand, grid)
    if message.want_slots and not message.lease_ms:
        _last_until_served(lease, message, state.now_ms, grid)
    _drop_empty(state)
    return _result(state, lease, message, grid, allotments, fresh=True)


def _repeated(state: State, lease: InstanceLease, message: RenewRequest, grid: Grid) -> RenewResult:
    allotments = {}
    for model, share in lease.shares.items():
        section = state.sections[model]
        configured = configured_limits(state, model)
        limits = lowered_limits(section, configured, state.now_ms, grid)
        allotment = ModelGrant(dict(share.bookings), limits, unmet=share.unmet)
        demand = message.demands.get(model, Demand(share.limits))
        allotments[model] = _with_reasons(allotment, state, message.instance, model, demand, configured, grid)
    return _result(state, lease, message, grid, allotments, fresh=False)


def _result(
    state: State,
    lease: InstanceLease,
    message: RenewRequest,
    grid: Grid,
    allotments: dict[str, ModelGrant],
    *,
    fresh: bool,
) -> RenewResult:
    c = concurrency(state, message.concurrency, state.now_ms, message.limits_version)
    held = held_by_others(state, "")
    active = active_instances(state)
    horizon = batch_horizon_ms(active, grid) if message.callers == BATCH_ONLY else horizon_ms(active, grid)
    return RenewResult(
        cap=lease.cap,
        authority_ms=lease.authority_ms,
        scarce_slots=lease.cap < message.want_slots or held >= c,
        instances=active,
        horizon_ms=horizon,
        allotments=allotments,
        names=state.names,
        lacking=lacking(state, message.instance),
        free_slots=max(0, c - held),
        batches_until_ms=closed_until_ms(state),
        reuse_ms=lease.reuse_ms,
        limits_version=limits_version(state, message.limits_version, state.now_ms),
        fresh=fresh,
    )


def _release_gone(state: State, message: RenewRequest) -> None:
    """An ended process has no open socket, so its slots are free. Its bookings may have been dispatched, and count."""
    for instance in message.gone:
        lost = state.leases.get(instance)
        if lost is not None and instance != message.instance:
            lost.cap = lost.want_slots = lost.oldest_ms = 0
            lost.slots = len(lost.ends_ms)
            lost.authority_ms = min(lost.authority_ms, state.now_ms)
            lost.reuse_ms = max((state.now_ms, *lost.ends_ms)) if lost.slots else min(lost.reuse_ms, state.now_ms)


def _settle(state: State, lease: InstanceLease, message: RenewRequest, grid: Grid) -> None:
    """Count dispatches in their slots; keep only those stored bookings that the instance still claims."""
    now_slot = grid.slot(state.now_ms)
    oldest = now_slot - grid.span
    for model, demand in message.demands.items():
        if not has_room(state, model) and not demand.settled:
            continue  # No room to count it today: without a grant no instance may dispatch it.
        section = _section(state, model)
        section.debt_tokens += demand.debt_tokens
        for slot, cost in demand.settled.items():
            # A future slot is the upper bound of the dispatch, which was between now and then.
            count_day(section, SlotRange(min(slot, now_slot), slot), cost.requests, grid)
            if slot > oldest:
                section.ring[slot] = _floored(section.ring.get(slot, NO_COST).plus(cost))
        take_back_not_found(section, demand, now_slot, grid)
        share = lease.shares.setdefault(model, InstanceShare())
        share.limits = demand.limits
        share.bookings = intersection(share.bookings, demand.kept)
    for model in lease.shares.keys() - message.demands.keys():
        del lease.shares[model]


def _floored(cost: Cost) -> Cost:
    return Cost(*[max(0, amount) for amount in cost])


def intersection(stored: Bookings, kept: Bookings) -> Bookings:
    """The bookings that both the ledger and the instance list, at the smaller amount."""
    result: Bookings = {}
    for validity, claimed in kept.items():
        granted = stored.get(validity)
        if granted == claimed:
            result[validity] = granted
        elif granted is not None:
            both = Cost(*(min(a, b) for a, b in zip(granted, claimed, strict=True)))
            if any(both):
                result[validity] = both
    return result


def _section(state: State, model: str) -> ModelState:
    return state.sections.setdefault(model, ModelState())


def _prune(state: State, instance: str, grid: Grid) -> None:
    """Forget what can no longer share a window, a day or a slot with anything to come."""
    now_slot, now_ms = grid.slot(state.now_ms), state.now_ms
    oldest = now_slot - grid.span
    yesterday = pacific_day(now_ms).ordinal - 1
    free_what_is_over(state, now_ms)
    for model, section in state.sections.items():
        for slot in [d for d, cost in section.ring.items() if d <= oldest or not any(cost)]:
            del section.ring[slot]
        for day in [d for d in section.days if d < yesterday]:
            del section.days[day]
        if section.outside:
            forget_recovered(state, model, grid)
    for i in list(state.leases):
        lease = state.leases[i]
        for model, share in lease.shares.items():
            if not share.holds or share.earliest() > oldest:
                continue
            for validity in [v for v in share.bookings if v[1] <= oldest]:
                # An unreported booking may have been dispatched, so it counts in its day.
                count_day(state.sections[model], validity, share.bookings.pop(validity).requests, grid)
        held = lease.slots or any(share.holds for share in lease.shares.values())
        if i != instance and not held and max(lease.seen_ms, lease.authority_ms) + TOMBSTONE_MS < now_ms:
            del state.leases[i]
    if state.pressure_ms and now_ms - state.pressure_ms > 5 * state.window_ms:
        state.pressure_c = state.pressure_ms = 0


def _drop_empty(state: State) -> None:
    used = {model for lease in state.leases.values() for model in lease.shares}
    for model in list(state.sections):
        section = state.sections[model]
        open_now = section.circuit.open_until_ms > state.now_ms
        kept = open_now or (model == BATCHES and is_needed(section))
        if model not in used and not section.ring and not section.days and not kept:
            del state.sections[model]


def _hold_slots(state: State, lease: InstanceLease, message: RenewRequest, c: int) -> None:
    """Authority to dispatch ends at `authority_ms`; what was sent before it has ended at `reuse_ms`.

    Until the result arrives the sender acts on its last grant, within `hold` and what this message covers: none of it may be
    taken from it here. What it
    holds beyond the slots of a lapsed lease has ended at Gemini (A4), even if a thawed process has not noticed."""
    now_ms = state.now_ms
    # What the sender gives up is no longer its own: it has no precedence for it, or it would take back what others are due.
    held = lease.slots = min(message.hold, lease.slots)
    reserve = c // RESERVE_PART if active_instances(state) > FEW else 0
    lease.cap = share_slots(state, message, c, reserve) if message.want_slots else 0
    lease.slots = max(held, lease.cap)
    lease.ends_ms = ()
    if not message.want_slots and (message.ends_ms or not lease.slots):
        _keep_cancelled(lease, message, held, now_ms)
        return
    length_ms = message.lease_ms or min(max(3_000 * active_instances(state), MIN_LEASE_MS), MAX_LEASE_MS)
    lease.authority_ms = max(now_ms + length_ms, lease.authority_ms if held else 0)
    _cover(lease, message)


def _cover(lease: InstanceLease, message: RenewRequest) -> None:
    """Other instances get the slots when all that this one has sent, or may send while its authority lasts, has ended."""
    lease.reuse_ms = max(lease.authority_ms + message.tau_ms, message.open_until_ms)


def _keep_cancelled(lease: InstanceLease, message: RenewRequest, held: int, now_ms: int) -> None:
    """An idle instance's cancelled exchanges keep one slot each until their own end, without a renew."""
    latest_ms = now_ms + max(message.tau_ms, MIN_DEADLINE_MS)
    ends_ms = sorted(min(end_ms, latest_ms) for end_ms in message.ends_ms if end_ms > now_ms)
    lease.ends_ms = tuple(ends_ms[-held:]) if held else ()
    lease.slots = len(lease.ends_ms)
    lease.authority_ms, lease.reuse_ms = now_ms, max((now_ms, *lease.ends_ms))


def _last_until_served(lease: InstanceLease, message: RenewRequest, now_ms: int, grid: Grid) -> None:
    """An instance that waits for a later booking need not renew before then only to keep its slots."""
    firsts = [validity.first for share in lease.shares.values() for validity in share.bookings]
    served_ms = grid.start_ms(min(firsts, default=0)) + MIN_LEASE_MS
    lease.authority_ms = max(lease.authority_ms, min(served_ms, now_ms + MAX_LEASE_MS))
    _cover(lease, message)


def _allot(
    state: State, lease: InstanceLease, message: RenewRequest, model: str, demand: Demand, grid: Grid
) -> ModelGrant:
    share, section = lease.shares[model], _section(state, model)
    configured = configured_limits(state, model)
    limits = lowered_batches(state, lowered_limits(section, configured, state.now_ms, grid), grid)
    circuits = circuits_of(state, section)
    begins = model != UNPROVEN or takes_turn(state, message, PROBE_MS)
    probes = begins and bool(circuits) and claim_probe(circuits, state, lease, message, model, grid)
    if model == UNPROVEN:
        # Only the request whose turn it is may begin: it is treated as a probe, also while no circuit is open.
        probes = begins and not demand.probing and (probes or not circuits)
    if not lease.cap or (not demand.wants and not demand.spare):
        # An instance without a slot dispatches nothing: permits that were booked for it now would expire unused.
        share.unmet = NO_COST
        return _with_reasons(
            ModelGrant(share.bookings, limits), state, message.instance, model, demand, configured, grid
        )
    party = party_of(state, message, model, grid)
    ring, booked = counted(state, model, limits)
    furthest = max([base + max(firsts) for base, firsts, *_ in booked], default=0) - grid.slot(state.now_ms)
    reach = min(demand.reach_ms // grid.slot_ms, AHEAD_WINDOWS * grid.span)
    # Search at least as far as the next free slot can be, so that a rejected request gets a Retry-After.
    ahead = max(grid.span + party.horizon_slots, furthest, reach) + 2
    usable = usable_limits(state, section, limits, configured, demand, grid, probes=probes)
    if party.leaves_headroom:
        usable = without_headroom(usable)
    calendar = Calendar(
        section, booked, usable, grid, state.now_ms, ahead, open_until_ms(circuits), ring=ring,
        no_batches_until_ms=closed_until_ms(state),
    )  # fmt: skip
    planner = Planner(
        calendar, replace(demand, kept=share.bookings, wants=demand.wants[:MAX_WANTS]), party, section, limits
    )
    if circuits or model == UNPROVEN:
        allotment, sends = planner.plan_open(state.now_ms, probes=probes)
        if probes and not sends:
            for circuit in circuits:
                release(circuit)
    else:
        allotment = planner.plan(state.now_ms)
    share.bookings, share.unmet = allotment.bookings, allotment.unmet
    return _with_reasons(allotment, state, message.instance, model, demand, configured, grid)


def _with_reasons(
    allotment: ModelGrant, state: State, instance: str, model: str, demand: Demand, configured: Limits, grid: Grid
) -> ModelGrant:
    """The grant with the reasons that stop or slow the model, and whether `instance` may send the probe."""
    section = state.sections[model]
    circuits = circuits_of(state, section)
    # The turn of unproven ids is the right to a probe that needs no open circuit.
    rights = [*circuits, section.circuit] if model == UNPROVEN else circuits
    return replace(
        allotment,
        configured=configured,
        open_until_ms=open_until_ms(circuits),
        probe_ms=probe_ms_of(rights, instance, model),
        stop=reason_of(circuits),
        lower=lower_reason(section, configured, demand, state.now_ms, grid, day_spent=allotment.day_spent),
    )
