"""What Gemini's refusals teach all instances: when to stop, who tries first after it, and what others seem to spend."""

from __future__ import annotations

from collections.abc import Iterable

from shared.ledger.grid import JITTER_MS, Grid
from shared.ledger.limits import UNLIMITED, Limits, minimum
from shared.ledger.slots import PRESSURE_KEPT, concurrency, fresh
from shared.ledger.state import Bookings, Demand, Lease, Outside, Refusal, Renew, Section, State

PROBE_MS = 10_000
"""Who may try whether Gemini takes requests again has so long for it, answer included; then the next one may."""
LEARNED_WINDOWS = 60
"""A limit that Gemini named below the configured one holds for so many windows."""
OUTSIDE_KEPT_PERCENT = 90
"""Of what was dispatched here in the window in which somebody else's requests led to a refusal."""
RECOVERY_PERCENT = 2
"""Of the limit, per window without a refusal."""


def learn(state: State, message: Renew, grid: Grid) -> None:
    """What `message` reports of Gemini's answers: first that a cool-down is over, then what was refused since."""
    for model, demand in message.demands.items():
        section = state.sections.get(model)
        if section is not None and section.cool_ms and demand.answered_ms > section.cool_ms:
            section.cool_ms = section.cool_length_ms = section.probe_ms = 0
            section.prober = ""
    for refusal in message.refusals:
        if refusal.pressure:
            c = concurrency(state, message.concurrency, state.now_ms)
            state.pressure_c = max(1, int(c * PRESSURE_KEPT))
            state.pressure_ms = state.now_ms
            continue
        section = state.sections.setdefault(refusal.model, Section())
        if refusal.learned != UNLIMITED:
            section.learned = minimum([section.learned, refusal.learned])
            learned_ms = state.now_ms + LEARNED_WINDOWS * grid.window_ms
            section.learned_until_ms = max(section.learned_until_ms, learned_ms)
        _suspect(state, section, message, refusal, grid)
        _cool(section, refusal, message.instance, state.now_ms, grid)


def effective_limits(state: State, section: Section, model: str) -> Limits:
    """The smallest that any instance with a say believes in, and what Gemini said."""
    opinions = [
        share.limits
        for lease in state.leases.values()
        if (share := lease.shares.get(model)) is not None and (share.bookings or fresh(lease, state.now_ms))
    ]
    return minimum([*opinions, section.learned])


# -- an outside consumer -----------------------------------------------------------------------------------------------


def _suspect(state: State, section: Section, message: Renew, refusal: Refusal, grid: Grid) -> None:
    """Within our limit Gemini refuses only if somebody else spends the same quota. Then no more of it is used here than
    was when it refused, less a tenth. What is unlimited here has no share that could be lowered."""
    demand = message.demands.get(refusal.model)
    own = UNLIMITED if demand is None else demand.limits
    limits = minimum([effective_limits(state, section, refusal.model), own]).per_window
    booked = [s.bookings for lease in state.leases.values() if (s := lease.shares.get(refusal.model)) is not None]
    sent = grid.slot(refusal.sent_ms)
    late = max(0, grid.slot(state.now_ms) - sent) + jitter_slots(grid)
    for k in refusal.minute:
        limit = limits[k]
        if limit is None:
            continue
        known = section.outside.get(k)
        holds = limit if known is None else recovered(known, limit, state.now_ms, grid) or limit
        counted = _dispatched(section, booked, k, sent, grid)
        # The ring forgets what leaves the window until a refusal is reported, and a request may travel longer than allowed.
        if counted + limit * late / grid.span < holds:
            holds = max(1, counted * OUTSIDE_KEPT_PERCENT // 100)
            known = Outside(holds, known.since_ms if known else state.now_ms, 0)
        if known is not None:
            section.outside[k] = Outside(holds, known.since_ms, state.now_ms)


def _dispatched(section: Section, booked: Iterable[Bookings], k: int, sent: int, grid: Grid) -> int:
    """The most that can have reached Gemini within a window that ends with a request sent in slot `sent`."""
    last = sent + jitter_slots(grid) + 1
    ring = sum(cost[k] for slot, cost in section.ring.items() if sent - grid.span < slot <= last)
    return ring + sum(cost[k] for held in booked for validity, cost in held.items() if validity.first <= last)


def jitter_slots(grid: Grid) -> int:
    return -(-JITTER_MS // grid.slot_ms)


def recovered(outside: Outside, limit: int, now_ms: int, grid: Grid) -> int | None:
    """What may be used of `limit` by now; None: all of it."""
    windows = max(0, now_ms - outside.refused_ms) // grid.window_ms
    value = outside.limit + limit * RECOVERY_PERCENT * windows // 100
    return value if value < limit else None


def forget_recovered(state: State, model: str, grid: Grid) -> None:
    section = state.sections[model]
    limits = effective_limits(state, section, model).per_window
    for k, outside in list(section.outside.items()):
        limit = limits[k]
        if limit is None:  # Nobody is there who knows the limit: any has recovered after so long.
            if (state.now_ms - outside.refused_ms) * RECOVERY_PERCENT >= 100 * grid.window_ms:
                del section.outside[k]
        elif recovered(outside, limit, state.now_ms, grid) is None:
            del section.outside[k]


def left_by_others(section: Section, limits: Limits, demand: Demand, now_ms: int, grid: Grid) -> Limits:
    """`limits` less what others seem to spend, but enough for each request that waits: one always fits a whole window."""
    result = list(limits)
    costs = [cost for cost, _ in demand.wants] or [demand.typical]
    for k, outside in section.outside.items():
        limit = limits[k]
        value = None if limit is None else recovered(outside, limit, now_ms, grid)
        if limit is not None and value is not None:
            result[k] = min(limit, max(value, *(cost[k] for cost in costs)))
    return Limits(*result)


# -- cool-downs and the request that ends them -------------------------------------------------------------------------


def _cool(section: Section, refusal: Refusal, instance: str, now_ms: int, grid: Grid) -> None:
    """Nothing more is dispatched until the refusal's end. When the request that tried was refused, and Gemini did not say
    for how long, the next cool-down is twice as long as the last, a window at the most. What ended longer ago than a window
    says nothing of now: its sender stood still."""
    until_ms = refusal.until_ms
    if now_ms - until_ms > grid.window_ms:
        return
    tried = section.prober == instance and 0 < section.cool_ms <= refusal.sent_ms
    if refusal.guessed and tried:
        until_ms = min(until_ms, now_ms + min(grid.window_ms, 2 * section.cool_length_ms))
    if until_ms > section.cool_ms:
        section.cool_ms, section.cool_length_ms = until_ms, max(0, until_ms - now_ms)
    if section.prober == instance or section.probe_ms <= section.cool_ms:
        section.prober, section.probe_ms = "", 0


def may_probe(state: State, lease: Lease, message: Renew, model: str, grid: Grid) -> bool:
    """Whether the sender is to try, once the cool-down is over, if Gemini takes requests again; one instance at a time.

    It is, until PROBE_MS after it could begin: while its lease lasts, and a request waits there or is trying."""
    section, demand, now_ms = state.sections[model], message.demands[model], state.now_ms
    mine = section.prober == message.instance
    holder = state.leases.get(section.prober)
    taken = holder is not None and fresh(holder, now_ms) and now_ms < section.probe_ms
    if taken and not mine:
        return False
    if taken and (demand.probing or (demand.waiting and lease.cap)):
        return True
    section.prober, section.probe_ms = "", 0
    reach_ms = max(demand.reach_ms, grid.window_ms // 60)
    if demand.waiting and lease.cap and section.cool_ms <= now_ms + reach_ms:
        section.prober, section.probe_ms = message.instance, max(now_ms, section.cool_ms) + PROBE_MS
        return True
    return False


def give_up_probe(state: State, message: Renew) -> None:
    """Who asks for nothing any more does not try either: the next one may."""
    for model, section in state.sections.items():
        if section.prober == message.instance and model not in message.demands:
            section.prober, section.probe_ms = "", 0
