"""What all instances learn from Gemini's 429s: which circuit opens, which limit is lower, and what other consumers spend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shared.generation import BATCHES_AT, Cost
from shared.ledger.circuit import (
    circuits_of,
    close_answered,
    close_served,
    forget_risen,
    lower,
    lowered_limits,
    note_dispatched,
    open_circuit,
    release,
)
from shared.ledger.grid import JITTER_MS, Grid, pacific_day
from shared.ledger.limits import BATCHES_LIMIT_AT, PER_DAY_AT, Limits, dimension_of, minimum, newest
from shared.ledger.names import section_of
from shared.ledger.slots import PRESSURE_KEPT, concurrency, fresh
from shared.ledger.state import (
    BATCHES,
    Bookings,
    Demand,
    ExternalUsage,
    InstanceLease,
    InstanceShare,
    ModelState,
    QuotaSignal,
    RenewRequest,
    State,
)

Rings = Iterable[Mapping[int, Cost]]
OUTSIDE_KEPT_PERCENT = 90
"""Share of what was dispatched here in the window in which another consumer's requests led to a 429."""
RECOVERY_PERCENT = 2
"""Percentage of the limit that is regained per window without a refusal."""


def learn(state: State, message: RenewRequest, grid: Grid) -> None:
    """Apply what `message` reports of Gemini's answers: first answered probes, then rejections since."""
    for model, demand in message.demands.items():
        if demand.answered_ms:
            for circuit in circuits_of(state, state.sections.get(model)):
                close_answered(circuit, demand.answered_ms)
    for named in message.names:
        section = state.sections.get(section_of(state.names, named.model))
        if named.served and section is not None:
            close_served(section.circuit, grid.start_ms(named.slot))
    for refusal in message.refusals:
        if refusal.pressure:
            c = concurrency(state, message.concurrency, state.now_ms, message.limits_version)
            state.pressure_c = max(1, int(c * PRESSURE_KEPT))
            state.pressure_ms = state.now_ms
            continue
        section = state.sections.setdefault(refusal.model, ModelState())
        configured = _configured_with(state, message, refusal.model)
        lower(section, refusal, configured, state.now_ms, grid)
        _suspect(state, section, refusal, configured, grid)
        circuit = state.spend if refusal.kind == "spend" else section.circuit
        open_circuit(circuit, refusal, message.instance, state.now_ms, grid, message.exhaustion)
        if circuit is state.spend and section.circuit.owner == message.instance:
            release(section.circuit)
        elif circuit is section.circuit and (state.spend.owner, state.spend.model) == (message.instance, refusal.model):
            release(state.spend)


def configured_limits(state: State, model: str) -> Limits:
    """The smallest limits with which any fresh instance, or one with bookings, of the newest configuration is configured."""
    return minimum(newest(_opinions(state, model)))


def _opinions(state: State, model: str) -> list[tuple[int, Limits]]:
    return [
        (lease.limits_version, share.limits if model != BATCHES else Limits(batches=share.limits.batches))
        for lease in state.leases.values()
        for share in _shares(lease, model)
        if share.holds or fresh(lease, state.now_ms)
    ]


def _shares(lease: InstanceLease, model: str) -> list[InstanceShare]:
    """The lease's share of `model`; all of its shares for BATCHES, where every model's batches count."""
    if model == BATCHES:
        return list(lease.shares.values())
    share = lease.shares.get(model)
    return [] if share is None else [share]


def _configured_with(state: State, message: RenewRequest, model: str) -> Limits:
    """As `configured_limits`, with those of the sender, whose lease may have lapsed."""
    demands = message.demands
    stated = [demands[model].limits] if model in demands else []
    if model == BATCHES:
        stated = [Limits(batches=demand.limits.batches) for demand in demands.values()]
    return minimum(newest([*_opinions(state, model), *((message.limits_version, limits) for limits in stated)]))


def effective_limits(state: State, section: ModelState, model: str) -> Limits:
    """The configured limits, lowered to those that Gemini named."""
    grid = Grid.of(state.window_ms / 1000)
    return lowered_limits(section, configured_limits(state, model), state.now_ms, grid)


def note_dispatches(state: State, message: RenewRequest, grid: Grid) -> None:
    """Note where more than a lowered limit was dispatched during its test; forget limits that rose to the configured ones."""
    now_ms = state.now_ms
    for model, section in state.sections.items():
        for k, lowered in section.lowered.items():
            if k == PER_DAY_AT:
                amount = section.days.get(pacific_day(now_ms).ordinal, 0)
            else:
                rings, booked = _rings(state, model), _booked(state, model)
                amount = _occupied(rings, booked, dimension_of(k), grid.slot(now_ms), grid)
            note_dispatched(lowered, amount, now_ms, grid)
        if section.lowered:
            forget_risen(section, _configured_with(state, message, model), now_ms, grid)


def give_up_probe(state: State, message: RenewRequest) -> None:
    """Release the probe of a model for which the instance asks for nothing any more: the next instance may send it."""
    for circuit in (state.spend, *(section.circuit for section in state.sections.values())):
        if circuit.owner == message.instance and circuit.model not in message.demands:
            release(circuit)


# -- an outside consumer -----------------------------------------------------------------------------------------------


def _suspect(state: State, section: ModelState, refusal: QuotaSignal, configured: Limits, grid: Grid) -> None:
    """Gemini rejects a request within our limit only if another consumer spends the same quota. From then on at most 90 % of
    what was used at the refusal is used here. A dimension that is unlimited here has no share that could be lowered."""
    limits = lowered_limits(section, configured, state.now_ms, grid).per_window
    rings, booked = _rings(state, refusal.model), _booked(state, refusal.model)
    sent = grid.slot(refusal.sent_ms)
    late = max(0, grid.slot(state.now_ms) - sent) + jitter_slots(grid)
    for k in refusal.minute:
        limit = limits[k]
        if limit is None:
            continue
        known = section.outside.get(k)
        holds = limit if known is None else recovered(known, limit, state.now_ms, grid) or limit
        counted = _dispatched(rings, booked, k, sent, grid)
        # The ring forgets what leaves the window until a refusal is reported, and a request may travel longer than allowed.
        if counted + limit * late / grid.span < holds:
            holds = max(1, counted * OUTSIDE_KEPT_PERCENT // 100)
            known = ExternalUsage(holds, known.since_ms if known else state.now_ms, 0)
        if known is not None:
            section.outside[k] = ExternalUsage(holds, known.since_ms, state.now_ms)


def _booked(state: State, model: str) -> list[Bookings]:
    return [share.bookings for lease in state.leases.values() for share in _shares(lease, model)]


def _rings(state: State, model: str) -> list[dict[int, Cost]]:
    """What was dispatched to `model`; to all models for BATCHES."""
    sections = state.sections.values() if model == BATCHES else [state.sections[model]]
    return [section.ring for section in sections]


def _occupied(rings: Rings, booked: Iterable[Bookings], k: int, now: int, grid: Grid) -> int:
    """The occupancy of slot `now` (invariant I1): without a test never more than the limit."""
    sent = sum(cost[k] for ring in rings for slot, cost in ring.items() if now < slot + grid.span)
    begun = (cost[k] for held in booked for v, cost in held.items() if v.first <= now < v.last + grid.span)
    return sent + sum(begun)


def _dispatched(rings: Rings, booked: Iterable[Bookings], k: int, sent: int, grid: Grid) -> int:
    """The most that can have reached Gemini within a window that ends with a request sent in slot `sent`."""
    last = sent + jitter_slots(grid) + 1
    known = sum(cost[k] for ring in rings for slot, cost in ring.items() if sent - grid.span < slot <= last)
    return known + sum(cost[k] for held in booked for validity, cost in held.items() if validity.first <= last)


def jitter_slots(grid: Grid) -> int:
    return -(-JITTER_MS // grid.slot_ms)


def recovered(outside: ExternalUsage, limit: int, now_ms: int, grid: Grid) -> int | None:
    """How much of `limit` may be used now; None: all of it."""
    windows = max(0, now_ms - outside.refused_ms) // grid.window_ms
    value = outside.limit + limit * RECOVERY_PERCENT * windows // 100
    return value if value < limit else None


def forget_recovered(state: State, model: str, grid: Grid) -> None:
    section = state.sections[model]
    limits = effective_limits(state, section, model).per_window
    for k, outside in list(section.outside.items()):
        limit = limits[k]
        if limit is None:  # No instance states the limit: any limit has recovered after this time.
            if (state.now_ms - outside.refused_ms) * RECOVERY_PERCENT >= 100 * grid.window_ms:
                del section.outside[k]
        elif recovered(outside, limit, state.now_ms, grid) is None:
            del section.outside[k]


def left_by_others(section: ModelState, limits: Limits, demand: Demand, now_ms: int, grid: Grid) -> Limits:
    """`limits` less what other consumers seem to spend, but enough for each waiting request: one always fits a whole window."""
    result = list(limits)
    costs = [cost for cost, _ in demand.wants] or [demand.typical]
    for k, outside in section.outside.items():
        at = BATCHES_LIMIT_AT if k == BATCHES_AT else k
        limit = limits[at]
        value = None if limit is None else recovered(outside, limit, now_ms, grid)
        if limit is not None and value is not None:
            result[at] = min(limit, max(value, *(cost[k] for cost in costs)))
    return Limits(*result)
