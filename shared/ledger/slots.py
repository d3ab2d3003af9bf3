"""Sharing the project's concurrency slots between instances: max-min fair, and never more than C held."""

from __future__ import annotations

from collections.abc import Mapping

from shared.ledger.state import Lease, Renew, State

PRESSURE_KEPT = 0.7
"""A refusal without a quota is shared capacity: this much of the concurrency is kept."""


def water_level(total: float, wants: Mapping[str, tuple[int, int]]) -> dict[str, float]:
    """Max-min fair shares of `total`: wants is {id: (want, weight)}; nobody gets more than it wants."""
    left = dict(wants)
    share: dict[str, float] = {}
    remaining = float(total)
    while left:
        level = remaining / sum(weight for _, weight in left.values())
        content = [i for i, (want, weight) in left.items() if want <= level * weight]
        if not content:
            return share | {i: level * weight for i, (_, weight) in left.items()}
        for i in content:
            share[i] = left[i][0]
            remaining -= left.pop(i)[0]
    return share


def fresh(lease: Lease, now_ms: int) -> bool:
    """Whether its instance may be counted on to act: it renewed lately."""
    return lease.authority_ms >= now_ms


def concurrency(state: State, renew_c: int, now_ms: int) -> int:
    """C now: the smallest that any fresh instance was configured with, lowered while Gemini showed shared pressure."""
    c = min([renew_c, *(lease.concurrency for lease in state.leases.values() if fresh(lease, now_ms))])
    if state.pressure_ms:
        recovered = (now_ms - state.pressure_ms) * c // (5 * state.window_ms)
        c = min(c, max(1, state.pressure_c + recovered))
    return c


def held_by_others(state: State, instance: str) -> int:
    return sum(lease.slots for i, lease in state.leases.items() if i != instance)


def share_slots(state: State, renew: Renew, c: int) -> int:
    """How many requests this instance may have open. Firm wants come first; spare ones are served from plenty only."""
    now_ms = state.now_ms
    wants = {
        i: (lease.want_slots, max(1, lease.callers))
        for i, lease in state.leases.items()
        if i != renew.instance and lease.want_slots > 0 and fresh(lease, now_ms)
    }
    wants[renew.instance] = (renew.want_slots, max(1, renew.callers))
    level = water_level(c, wants)[renew.instance]
    free = max(0, c - held_by_others(state, renew.instance))
    firm = min(renew.want_slots, max(1, int(level + 0.5)), free)
    demanded = sum(want for want, _ in wants.values())
    spare = min(renew.spare_slots, c - demanded, free - firm) if firm == renew.want_slots else 0
    return max(0, firm) + max(0, spare)


def in_turn(state: State, instance: str, c: int) -> bool:
    """Whether a waiting instance is among the first, by the age of what waits there, that the free slots are enough for."""
    free = c - sum(lease.slots for lease in state.leases.values())
    mine = state.leases.get(instance)
    if mine is None or not mine.oldest_ms:
        return free > 0
    before = sum(
        1
        for i, lease in state.leases.items()
        if fresh(lease, state.now_ms)
        and lease.oldest_ms
        and lease.want_slots > lease.slots
        and (lease.oldest_ms, i) < (mine.oldest_ms, instance)
    )
    return before < free
