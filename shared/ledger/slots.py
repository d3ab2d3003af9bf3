"""Sharing the project's concurrency slots between instances: max-min fair, and never more than C held."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from shared.ledger.limits import newest
from shared.ledger.state import InstanceLease, Lacking, RenewRequest, State

PRESSURE_KEPT = 0.7
"""Share of the concurrency that is kept after a refusal that names no quota: Google's shared capacity was short."""


TURN_MS, MAX_TURN_MS = 2_000, 60_000
"""The shortest and the longest turn: how much longer the requests of others must have waited before an instance hands over a slot
that is not part of its whole fair share."""
HANDOVERS_PER_S = 1.4
"""Where instances are more than slots, a turn is so long that at most this many slots change hands in a second: each time
costs two writes. Above 84 slots, MAX_TURN_MS makes the turn shorter."""


def turn_ms(c: int, instances: int) -> float:
    """The length of a turn, where `instances` claim `c` slots."""
    return TURN_MS if instances <= c else min(max(TURN_MS, 1000 * c / HANDOVERS_PER_S), MAX_TURN_MS)


def water_level(total: float, wants: Mapping[str, tuple[int, int]]) -> dict[str, float]:
    """Max-min fair shares of `total`: wants is {id: (want, weight)}; no share exceeds its want."""
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


def fresh(lease: InstanceLease, now_ms: int) -> bool:
    """Whether the lease's instance renewed recently, so that it can be expected to act."""
    return lease.authority_ms >= now_ms


def concurrency(state: State, renew_c: int, now_ms: int, version: int = 0) -> int:
    """C now: the smallest that any fresh instance of the newest configuration was configured with, lowered while Gemini showed
    shared pressure. `renew_c` is the asking instance's, from its configuration of `version`."""
    opinions = [(lease.limits_version, lease.concurrency) for lease in state.leases.values() if fresh(lease, now_ms)]
    c = min(newest([(version, renew_c), *opinions]))
    if state.pressure_ms:
        recovered = (now_ms - state.pressure_ms) * c // (5 * state.window_ms)
        c = min(c, max(1, state.pressure_c + recovered))
    return c


def limits_version(state: State, version: int, now_ms: int) -> int:
    """The newest version of the configuration among the fresh instances and the asking one."""
    return max([version, *(lease.limits_version for lease in state.leases.values() if fresh(lease, now_ms))])


def free_what_is_over(state: State, now_ms: int) -> None:
    """Slots whose time is over are free: those of lapsed leases, and those of cancelled exchanges."""
    for lease in state.leases.values():
        if lease.ends_ms:
            lease.ends_ms = tuple(end_ms for end_ms in lease.ends_ms if end_ms >= now_ms)
            lease.slots = len(lease.ends_ms)
        if lease.reuse_ms < now_ms:
            lease.slots = lease.cap = 0


def lacking(state: State, instance: str) -> Lacking:
    """How many instances besides `instance` wait for slots. One that holds none and has authority waits, even if another has set
    what it wants to zero (`RenewRequest.unclaimed`): it goes on reading the document."""
    others = [lease for i, lease in state.leases.items() if i != instance and fresh(lease, state.now_ms)]
    none = sum(1 for lease in others if not lease.slots and lease.authority_ms > state.now_ms)
    return Lacking(none, sum(1 for lease in others if 0 < lease.slots < lease.want_slots))


def held_by_others(state: State, instance: str) -> int:
    return sum(lease.slots for i, lease in state.leases.items() if i != instance)


class Claim(NamedTuple):
    """One instance's demand for slots, weighted by its callers."""

    want: int
    weight: int
    waited_ms: int
    """For how long the oldest of its requests has waited; 0 when none waits."""


def claim_of(asker: RenewRequest | InstanceLease, now_ms: int) -> Claim:
    """Requests of an instance that holds no slot wait on; those of one that does are served, and others take their place."""
    since_ms = asker.seen_ms if isinstance(asker, InstanceLease) and asker.slots else now_ms
    waited_ms = max(0, since_ms - asker.oldest_ms) if asker.oldest_ms else 0
    return Claim(asker.want_slots, max(1, asker.callers), waited_ms)


class Standing(NamedTuple):
    """How slots are held, and how they would be held if every instance had what it is due."""

    due: int
    """The instance's share: whole slots, at most as many as it wants. All shares add up to at most C."""
    held: int
    """Slots that the ledger keeps for the instance."""
    free: int
    """Slots that no instance holds; negative while a lowered C is still exceeded."""
    owed: int
    """Slots that all other instances are due and do not hold."""
    before: int
    """The part of `owed` that is due to instances whose requests have waited longer."""


def standing(state: State, instance: str, claim: Claim, c: int) -> Standing:
    """Where `instance` stands with `claim` in place of what the ledger remembers of it."""
    now_ms = state.now_ms
    leases = {i: lease for i, lease in state.leases.items() if lease.want_slots and fresh(lease, now_ms)}
    claims = {i: claim_of(lease, now_ms) for i, lease in leases.items()} | {instance: claim}
    slots = {i: lease.slots for i, lease in state.leases.items()} | {instance: 0}
    if instance in state.leases:
        slots[instance] = state.leases[instance].slots
    unclaimed = sum(held for i, held in slots.items() if i not in claims)
    free = c - sum(slots.values())
    dues = _dues(claims, slots, max(0, c - unclaimed), instance, free)
    owed = {i: max(0, due - slots[i]) for i, due in dues.items() if i != instance}
    return Standing(
        due=dues[instance],
        held=slots[instance],
        free=free,
        owed=sum(owed.values()),
        before=sum(count for i, count in owed.items() if (-claims[i].waited_ms, i) < (-claim.waited_ms, instance)),
    )


def _dues(claims: Mapping[str, Claim], slots: Mapping[str, int], c: int, asker: str, free: int) -> dict[str, int]:
    """Fair shares in whole slots. The slots that rounding down leaves go to the instances whose requests wait longest.
    But an instance that holds such a slot, or asks for a free one, precedes all whose requests have not waited longer by
    a turn: otherwise slots would change hands for every request."""
    turn = turn_ms(c, len(claims))
    due = {i: int(level + 1e-9) for i, level in _levels(claims, c).items()}
    lies_free = free > sum(max(0, count - slots[i]) for i, count in due.items())
    turns = sorted(
        (-claim.waited_ms - turn * (slots[i] > due[i] or (i == asker and lies_free and due[i] > 0)), i)
        for i, claim in claims.items()
        if claim.want > due[i]
    )
    for _, i in turns[: max(0, c - sum(due.values()))]:
        due[i] += 1
    return due


def _levels(claims: Mapping[str, Claim], c: int) -> dict[str, float]:
    """Shares by weight; at least one slot each where C suffices."""
    least: dict[str, float] = {}
    while True:
        rest = {i: (claim.want, claim.weight) for i, claim in claims.items() if i not in least}
        shares = water_level(c - len(least), rest)
        poor = [i for i, share in shares.items() if share < min(1, rest[i][0])]
        if not poor or len(claims) > c:
            return shares | least
        least |= dict.fromkeys(poor, 1.0)


def share_slots(state: State, renew: RenewRequest, c: int, reserve: int = 0) -> int:
    """How many requests this instance may have open. Firm wants come first; spare ones are served from plenty only, while
    `reserve` slots stay free."""
    if renew.unclaimed:
        for instance, lease in state.leases.items():
            if instance != renew.instance:
                lease.want_slots = min(lease.want_slots, lease.slots)
    place = standing(state, renew.instance, claim_of(renew, state.now_ms), c)
    free = max(0, place.free + place.held)
    firm = min(place.due, free)
    if firm < renew.want_slots:
        return firm
    return firm + max(0, min(renew.spare_slots, free - firm - place.owed - reserve))
