"""The quota of `:batchEmbedContents`, which all models of a project share: dimension `batches` of a Cost. Pure.

A batch of embeddings costs requests and tokens of its model, and one batch of the project. All three are one Cost, so one booking
has all of them or none, and nothing waits with half of what it needs. What the other models' batches take is counted with the
model's own wherever a batch is booked. What Gemini's 429s teach about this quota is kept in the section BATCHES, so that it stops
batches, of every model, and no other request."""

from __future__ import annotations

from collections.abc import Mapping

from shared.generation import BATCHES_AT, NO_COST, Cost
from shared.ledger.circuit import close, lowered_limits, tested_limits
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.ledger.occupancy import collected
from shared.ledger.share import Columns, batches_in
from shared.ledger.state import BATCHES, Demand, ModelState, State
from shared.ledger.throttling import left_by_others


def counted(state: State, model: str, limits: Limits) -> tuple[Mapping[int, Cost], list[Columns]]:
    """What was dispatched, and what is booked, that counts in the limits of `model`."""
    booked = collected([s for lease in state.leases.values() if (s := lease.shares.get(model)) is not None])
    if limits.batches is None:
        return state.sections[model].ring, booked
    return ring_with_others(state, model), booked + booked_elsewhere(state, model)


def ring_with_others(state: State, model: str) -> Mapping[int, Cost]:
    """What was dispatched to `model`, and the batches that were dispatched to any other model."""
    ring = state.sections[model].ring
    others = [
        (slot, cost[BATCHES_AT])
        for name, section in state.sections.items()
        if name != model
        for slot, cost in section.ring.items()
        if cost[BATCHES_AT]
    ]
    if not others:
        return ring
    result = dict(ring)
    for slot, batches in others:
        result[slot] = result.get(slot, NO_COST).plus(Cost(batches=batches))
    return result


def booked_elsewhere(state: State, model: str) -> list[Columns]:
    """The batches that any instance has booked for other models."""
    found = (
        batches_in(*share.as_read())
        for lease in state.leases.values()
        for name, share in lease.shares.items()
        if name != model and share.holds
    )
    return [columns for columns in found if columns is not None]


def lowered_batches(state: State, limits: Limits, grid: Grid) -> Limits:
    """`limits` with the number of batches lowered to the one that Gemini named."""
    section = state.sections.get(BATCHES)
    if section is None:
        return limits
    lowered = lowered_limits(section, Limits(batches=limits.batches), state.now_ms, grid)
    return limits._replace(batches=lowered.batches)


def usable_limits(
    state: State, section: ModelState, limits: Limits, configured: Limits, demand: Demand, grid: Grid, *, probes: bool
) -> Limits:
    """What Gemini's 429s leave of `limits` for a renew: of the model's own, and of the number of batches. The model's probe finds
    out what other consumers leave of its own limits, so these apply to it in full."""
    costs = [cost for cost, _ in demand.wants] or [demand.typical]
    tested = tested_limits(section, limits, configured, costs, state.now_ms)
    usable = tested if probes else left_by_others(section, tested, demand, state.now_ms, grid)
    shared = state.sections.get(BATCHES)
    if shared is None or limits.batches is None:
        return usable
    tested = tested_limits(shared, usable, configured, costs, state.now_ms)
    return left_by_others(shared, tested, demand, state.now_ms, grid)


def closed_until_ms(state: State) -> int:
    """Until when Gemini's last 429 stops batches; 0 if it does not."""
    section = state.sections.get(BATCHES)
    return section.circuit.open_until_ms if section is not None else 0


def forget_over(state: State) -> None:
    """Close the circuit of batches once a window has passed after its pause without another refusal. It has no probe: after the
    pause, batches are sent again, at the rate that the refusals left."""
    section = state.sections.get(BATCHES)
    if section is not None and section.circuit.open_until_ms + state.window_ms < state.now_ms:
        close(section.circuit)


def is_needed(section: ModelState) -> bool:
    """Whether the section BATCHES still has anything to remember."""
    return bool(section.outside or section.lowered or section.circuit.open_until_ms)
