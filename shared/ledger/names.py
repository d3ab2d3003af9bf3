"""Which section a model id counts in: what Gemini's answers said it is metered as, and how sections become one. Pure.

`State.names` maps an id to the model that its answers named. An id counts in the section at the end of its chain of names. When
an answer names another model than the id's section, that section is merged into the named one, with what is booked in it: so
bookings that instances still hold for the alias count against the target until they are used or returned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from shared.generation import NO_COST, Cost
from shared.ledger.calendar import count_day
from shared.ledger.circuit import release
from shared.ledger.grid import Grid
from shared.ledger.limits import minimum
from shared.ledger.state import (
    MAX_MODELS,
    MAX_NAMES,
    MAX_WANTS,
    NAME_KEPT_MS,
    UNPROVEN,
    Bookings,
    Demand,
    InstanceShare,
    Metered,
    ModelGrant,
    ModelState,
    QuotaSignal,
    RenewRequest,
    SlotRange,
    State,
)


def section_of(names: Mapping[str, Metered], model: str) -> str:
    """The model at the end of the chain of names that begins with `model`. If the chain is a circle, its first member in
    alphabetical order, so that all of its ids share one section."""
    path: list[str] = []
    while True:
        known = names.get(model)
        if known is None or known.model == model:
            return model
        if model in path:
            return min(path[path.index(model) :])
        path.append(model)
        model = known.model


def has_room(state: State, section: str) -> bool:
    """Whether the document has room for `section`; for the section of unproven ids it always has."""
    return section in state.sections or section == UNPROVEN or len(state.sections.keys() - {UNPROVEN}) < MAX_MODELS


# -- learning ----------------------------------------------------------------------------------------------------------


def learn_names(state: State, message: RenewRequest) -> None:
    """Apply the names in answers that `message` reports. This comes first: the rest of the message is about the new sections."""
    for name in [name for name, known in state.names.items() if known.until_ms < state.now_ms]:
        del state.names[name]
    for named in message.names:
        if named.metered is None:
            state.names.pop(named.model, None)
        elif named.section != UNPROVEN or has_room(state, section_of(state.names, named.metered)):
            state.names[named.model] = Metered(named.metered, state.now_ms + NAME_KEPT_MS)
    for name in sorted(state.names, key=lambda name: (state.names[name].until_ms, name))[:-MAX_NAMES]:
        del state.names[name]
    if message.names:
        merge_sections(state)


def merge_sections(state: State) -> None:
    """Move what is counted for ids to the sections in which they count by the names that are known now."""
    for name in list(state.sections):
        target = section_of(state.names, name)
        if target == name:
            continue
        moved = state.sections.pop(name)
        known = state.sections.get(target)
        state.sections[target] = merged = moved if known is None else merged_section(known, moved)
        for circuit in (state.spend, merged.circuit):
            if circuit.model == name:
                circuit.model = target
        for lease in state.leases.values():
            share = lease.shares.pop(name, None)
            if share is not None:
                mine = lease.shares.get(target)
                lease.shares[target] = share if mine is None else _merged_share(mine, share)


def merged_section(into: ModelState, moved: ModelState) -> ModelState:
    """The sum of what was dispatched to both, and the stricter of what refusals changed."""
    for slot, cost in moved.ring.items():
        into.ring[slot] = into.ring.get(slot, NO_COST).plus(cost)
    for day, count in moved.days.items():
        into.days[day] = into.days.get(day, 0) + count
    into.paced_ms = max(into.paced_ms, moved.paced_ms)
    into.debt_tokens += moved.debt_tokens
    for k, lowered in moved.lowered.items():
        known = into.lowered.get(k)
        if known is None or lowered.limit < known.limit:
            into.lowered[k] = lowered
    for k, outside in moved.outside.items():
        into.outside[k] = min(outside, into.outside.get(k, outside))
    into.circuit = max(into.circuit, moved.circuit, key=lambda circuit: circuit.open_until_ms)
    return into


def _merged_share(into: InstanceShare, moved: InstanceShare) -> InstanceShare:
    limits = minimum([into.limits, moved.limits])
    return InstanceShare(limits, added(into.bookings, moved.bookings), into.unmet.plus(moved.unmet))


def added(some: Bookings, others: Bookings) -> Bookings:
    """The bookings of both, added up by their SlotRange."""
    result = dict(some)
    for validity, cost in others.items():
        result[validity] = result.get(validity, NO_COST).plus(cost)
    return result


# -- messages about merged sections ------------------------------------------------------------------------------------


def redirected(state: State, message: RenewRequest) -> RenewRequest:
    """`message` with everything moved to the current sections, which its sender may not know yet."""
    names = state.names
    if not names or all(section_of(names, model) == model for model in _sections_in(message)):
        return message
    demands: dict[str, Demand] = {}
    for model, demand in message.demands.items():
        target = section_of(names, model)
        demands[target] = combined(demands[target], demand) if target in demands else demand
    refusals = tuple(replace(refusal, model=section_of(names, refusal.model)) for refusal in message.refusals)
    return replace(message, demands=demands, refusals=refusals)


def _sections_in(message: RenewRequest) -> list[str]:
    refusals: tuple[QuotaSignal, ...] = message.refusals
    return [*message.demands, *(refusal.model for refusal in refusals)]


def combined(a: Demand, b: Demand) -> Demand:
    """One instance's demand for two sections that were merged."""
    settled, not_found = dict(a.settled), dict(a.not_found)
    for slot, cost in b.settled.items():
        settled[slot] = settled.get(slot, NO_COST).plus(cost)
    for slot, count in b.not_found.items():
        not_found[slot] = not_found.get(slot, 0) + count
    return replace(
        a,
        limits=minimum([a.limits, b.limits]),
        settled=settled,
        not_found=not_found,
        kept=added(a.kept, b.kept),
        wants=(a.wants + b.wants)[:MAX_WANTS],
        head=a.head or b.head,
        reach_ms=max(a.reach_ms, b.reach_ms),
        spare=a.spare + b.spare,
        typical=Cost(*map(max, a.typical, b.typical)),
        waiting=a.waiting or b.waiting,
        probing=a.probing or b.probing,
        answered_ms=max(a.answered_ms, b.answered_ms),
        debt_tokens=a.debt_tokens + b.debt_tokens,
    )


def combined_allotment(a: ModelGrant, b: ModelGrant) -> ModelGrant:
    """The grant for two sections that its holder has merged."""
    return replace(
        a,
        bookings=added(a.bookings, b.bookings),
        limits=minimum([a.limits, b.limits]),
        free=Cost(*map(min, a.free, b.free)),
        configured=minimum([a.configured, b.configured]),
        open_until_ms=max(a.open_until_ms, b.open_until_ms),
        stop=max(filter(None, (a.stop, b.stop)), key=lambda stop: stop.until_ms, default=None),
        lower=max(filter(None, (a.lower, b.lower)), key=lambda lower: lower.until_ms, default=None),
        probe_ms=min(a.probe_ms, b.probe_ms),
        unmet=a.unmet.plus(b.unmet),
        next_ms=max(a.next_ms, b.next_ms),
        per_s=min(a.per_s, b.per_s),
        day_spent=a.day_spent or b.day_spent,
    )


# -- counting ----------------------------------------------------------------------------------------------------------


def move_named(state: State, message: RenewRequest, grid: Grid) -> None:
    """Count a request also in the section that its answer named, if it was booked in another one: in the minute of its
    dispatch and in that day. It stays in the minute of the section in which it was booked, but not in the day of unproven ids."""
    now_slot = grid.slot(state.now_ms)
    for named in message.names:
        if named.metered is None or named.model not in state.names:
            continue
        target = section_of(state.names, named.model)
        if target == section_of(state.names, named.section) or not has_room(state, target):
            continue
        section = state.sections.setdefault(target, ModelState())
        when = SlotRange(min(named.slot, now_slot), named.slot)
        count_day(section, when, named.cost.requests, grid)
        if named.slot > now_slot - grid.span:
            section.ring[named.slot] = section.ring.get(named.slot, NO_COST).plus(named.cost)
        if named.section == UNPROVEN and UNPROVEN in state.sections:
            count_day(state.sections[UNPROVEN], when, -named.cost.requests, grid)


def take_back_not_found(section: ModelState, demand: Demand, now_slot: int, grid: Grid) -> None:
    for slot, count in demand.not_found.items():
        count_day(section, SlotRange(min(slot, now_slot), slot), -count, grid)


# -- one unproven request at a time --------------------------------------------------------------------------------------


def end_turn(state: State, message: RenewRequest) -> None:
    """The request of an unproven id was answered: the next one may begin."""
    section, demand = state.sections.get(UNPROVEN), message.demands.get(UNPROVEN)
    if section is not None and demand is not None and demand.answered_ms and section.circuit.owner == message.instance:
        release(section.circuit)


def takes_turn(state: State, message: RenewRequest, turn_ms: int) -> bool:
    """Whether the sender may dispatch the one request of an unproven id that is open in this project.

    Its turn lasts until the sender reports that the request was answered, or that it has none. The turn of an instance that no
    longer renews lasts until its slots are free, since its open requests have ended at Gemini by then (A4). The right to begin
    ends `turn_ms` after it was given or renewed. An instance that just had a turn lets waiting instances go first."""
    turn, demand = state.sections[UNPROVEN].circuit, message.demands[UNPROVEN]
    holder = state.leases.get(turn.owner)
    if turn.owner == message.instance:
        if demand.waiting and not demand.probing and turn.probe_ms <= state.now_ms:
            turn.probe_ms = state.now_ms + turn_ms
        if demand.probing or demand.waiting:
            return True
        release(turn)
        return False
    if not demand.waiting or (holder is not None and holder.slots > 0):
        return False
    if demand.answered_ms and _others_wait(state, message.instance):
        return False
    turn.owner, turn.model, turn.probe_ms = message.instance, UNPROVEN, state.now_ms + turn_ms
    return True


def _others_wait(state: State, instance: str) -> bool:
    return any(
        i != instance
        and lease.authority_ms >= state.now_ms
        and (share := lease.shares.get(UNPROVEN))
        and share.unmet[0]
        for i, lease in state.leases.items()
    )
