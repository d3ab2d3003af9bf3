"""The state as bytes: `GL`, a version byte, then (zlib) a table of names and one column of 64-bit integers.

Google's sentences are in the table of names too: they are single lines."""

from __future__ import annotations

import sys
import zlib
from array import array
from functools import lru_cache
from typing import get_args

from shared.generation import DIMENSIONS, NO_COST, Cost
from shared.ledger.limits import Limits
from shared.ledger.share import ROW, costs_of
from shared.ledger.state import (
    Circuit,
    ExternalUsage,
    InstanceLease,
    InstanceShare,
    Kind,
    Lowered,
    Metered,
    ModelState,
    State,
)

MAGIC, VERSION = b"GL", 5
CLOSED = 255
"""Stands for the version of a document that was merged into another one: code that does not know this must not book in it."""
READABLE = frozenset({VERSION})
"""Versions that this code reads. It writes VERSION, which the release before must read already (README.md, "Versions")."""
KINDS: tuple[Kind, ...] = get_args(Kind)
LIMITS_VERSIONS, CIRCUITS, MOVED = 1, 2, 3
"""Kinds of additions: the versions of the leases' limits (0 for a lease that is not listed); `since_ms` and `rejections` of open
circuits (0 for a circuit that is not listed); and the ledger that took over."""
LIMITS, RING_ROW = len(Limits._fields), 1 + DIMENSIONS
"""How many numbers stand for Limits, and for a slot of the ring: its number and the Cost."""
_MAX = 2**62
_NONE = -1
"""Stands for `unlimited`; every stored limit is >= 0."""


_OTHER = "the ledger's document was written by another program or by another version"


class UnreadableState(ValueError):
    """These bytes were not written by this version."""


def pack(state: State) -> bytes:
    names = sorted(
        {
            *filter(None, [state.moved]),
            *state.leases,
            *state.sections,
            *state.names,
            *(known.model for known in state.names.values()),
        }.union(
            *(lease.shares for lease in state.leases.values()),
            *(_names(circuit) for circuit in (state.spend, *(s.circuit for s in state.sections.values()))),
            (lowered.message for section in state.sections.values() for lowered in section.lowered.values()),
        )
    )
    index = {name: i for i, name in enumerate(names)}
    base = state.now_ms * 240 // state.window_ms
    column = [state.window_ms, state.now_ms, state.pressure_c, state.pressure_ms, base]
    column.append(len(state.leases))
    for name, lease in state.leases.items():
        _pack_lease(column, index[name], lease, index, base, state.now_ms)
    column.append(len(state.sections))
    for name, section in state.sections.items():
        _pack_section(column, index[name], section, base)
        _pack_refused(column, section, index)
    _pack_circuit(column, state.spend, index)
    column += (state.accepted, len(state.names))
    for name, known in state.names.items():
        column += (index[name], index[known.model], known.until_ms - state.now_ms)
    _pack_additions(column, state, index)
    numbers = array("q", column)
    if sys.byteorder == "big":
        numbers.byteswap()
    table = "\n".join(names).encode()
    version = CLOSED if state.moved else VERSION
    return MAGIC + bytes([version]) + zlib.compress(len(table).to_bytes(4, "little") + table + numbers.tobytes(), 1)


def unpack(blob: bytes) -> State:
    """Raises UnreadableState."""
    if blob[:2] != MAGIC or len(blob) < 4 or blob[2] not in {*READABLE, CLOSED}:
        raise UnreadableState(_OTHER)
    try:
        body = zlib.decompress(blob[3:])
        size = int.from_bytes(body[:4], "little")
        names = body[4 : 4 + size].decode().split("\n")
        numbers = array("q")
        numbers.frombytes(body[4 + size :])
        if sys.byteorder == "big":
            numbers.byteswap()
        state = _state(Column(numbers.tolist()), names)
    except (zlib.error, UnicodeDecodeError, LookupError, ValueError) as error:
        raise UnreadableState(f"the ledger's document is damaged: {type(error).__name__}") from error
    if (blob[2] == CLOSED) != bool(state.moved):
        raise UnreadableState(_OTHER)
    return state


class Column:
    """The document's numbers, and how far they were read."""

    def __init__(self, numbers: list[int]) -> None:
        self.numbers, self.at = numbers, 0

    def take(self) -> int:
        self.at = at = self.at + 1
        return self.numbers[at - 1]

    def many(self, count: int) -> list[int]:
        """The next `count` numbers. Raises IndexError if there are fewer."""
        begin, end = self.at, self.at + count
        if not begin <= end <= len(self.numbers):
            raise IndexError
        self.at = end
        return self.numbers[begin:end]


def _state(read: Column, names: list[str]) -> State:
    take = read.take
    state = State(window_ms=take(), now_ms=take(), pressure_c=take(), pressure_ms=take())
    base = take()
    for _ in range(take()):
        name = names[take()]
        state.leases[name] = _lease(read, names, base, state.now_ms)
    for _ in range(take()):
        name = names[take()]
        section = state.sections[name] = _unpack_section(read, base)
        _unpack_refused(read, section, names)
    state.spend = _circuit(read, names)
    state.accepted = bool(take())
    for _ in range(take()):
        name = names[take()]
        state.names[name] = Metered(names[take()], take() + state.now_ms)
    _read_additions(read, state, names)
    return state


def _pack_additions(column: list[int], state: State, index: dict[str, int]) -> None:
    """What a document of this version need not have: a kind, how many numbers follow, and these. Readers skip unknown kinds."""
    versions: list[int] = []
    for name, lease in state.leases.items():
        if lease.limits_version:
            versions += (index[name], lease.limits_version)
    if versions:
        column += (LIMITS_VERSIONS, len(versions), *versions)
    if state.moved:
        column += (MOVED, 1, index[state.moved])
    named = [(index[name], section.circuit) for name, section in state.sections.items()]
    circuits: list[int] = []
    for at, circuit in ((-1, state.spend), *named):
        if circuit.since_ms or circuit.rejections:
            circuits += (at, circuit.since_ms, circuit.rejections)
    if circuits:
        column += (CIRCUITS, len(circuits), *circuits)


def _read_additions(read: Column, state: State, names: list[str]) -> None:
    while read.at < len(read.numbers):
        kind, count = read.many(2)
        numbers = read.many(count)
        if kind == LIMITS_VERSIONS:
            for name, version in zip(numbers[::2], numbers[1::2], strict=True):
                state.leases[names[name]].limits_version = version
        elif kind == MOVED:
            state.moved = names[numbers[0]]
        elif kind == CIRCUITS:
            for at, since_ms, rejections in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
                circuit = state.spend if at < 0 else state.sections[names[at]].circuit
                circuit.since_ms, circuit.rejections = since_ms, rejections


def _pack_lease(
    column: list[int], name: int, lease: InstanceLease, index: dict[str, int], base: int, now_ms: int
) -> None:
    column += (
        name, lease.renew, lease.seen_ms - now_ms, lease.slots, lease.cap,
        lease.authority_ms - now_ms, lease.reuse_ms - now_ms, lease.want_slots, lease.oldest_ms,
        lease.callers, lease.concurrency, len(lease.ends_ms),
    )  # fmt: skip
    column += [end_ms - now_ms for end_ms in lease.ends_ms]
    column.append(len(lease.shares))
    for model, share in lease.shares.items():
        rows = share.rows(base)
        column += (index[model], *_limits_packed(share.limits), *share.unmet, len(rows) // ROW)
        column += rows


def _lease(read: Column, names: list[str], base: int, now_ms: int) -> InstanceLease:
    renew, seen, slots, cap, authority, reuse, want, oldest, callers, c, ends, shares = read.many(12)
    ends_ms: tuple[int, ...] = ()
    if ends:
        # `shares` was the first of them: one number more is read than precedes the list.
        read.at -= 1
        ends_ms, shares = tuple(end + now_ms for end in read.many(ends)), read.take()
    lease = InstanceLease(
        renew, seen + now_ms, slots, cap, authority + now_ms, reuse + now_ms, want, oldest, callers, c, ends_ms
    )
    for _ in range(shares):
        model, *numbers, count = read.many(2 + LIMITS + DIMENSIONS)
        limits, unmet = _limits(*numbers[:LIMITS]), Cost(*numbers[LIMITS:])
        rows = read.many(ROW * count)
        lease.shares[names[model]] = InstanceShare.of_rows(limits, unmet if any(unmet) else NO_COST, base, rows)
    return lease


def _pack_section(column: list[int], name: int, section: ModelState, base: int) -> None:
    column += (name, section.paced_ms, section.debt_tokens, len(section.ring))
    if section.ring:
        rows = [0] * (RING_ROW * len(section.ring))
        rows[::RING_ROW] = [slot - base for slot in section.ring]
        for k, amounts in enumerate(zip(*section.ring.values(), strict=True), 1):
            rows[k::RING_ROW] = amounts
        column += rows
    column.append(len(section.days))
    for day, count in section.days.items():
        column += (day, count)


def _unpack_section(read: Column, base: int) -> ModelState:
    paced_ms, debt_tokens, count = read.many(3)
    rows = read.many(RING_ROW * count)
    costs = costs_of(*(rows[1 + k :: RING_ROW] for k in range(DIMENSIONS)))
    section = ModelState(dict(zip([offset + base for offset in rows[::RING_ROW]], costs, strict=True)))
    section.paced_ms, section.debt_tokens = paced_ms, debt_tokens
    for _ in range(read.take()):
        day, requests = read.many(2)
        section.days[day] = requests
    return section


def _pack_refused(column: list[int], section: ModelState, index: dict[str, int]) -> None:
    _pack_circuit(column, section.circuit, index)
    column.append(len(section.lowered))
    for k, one in section.lowered.items():
        column += (k, min(one.limit, _MAX), index[one.message], one.pause_ms, one.test_ms)
        column += (min(one.reached, _MAX), one.reached_ms, one.rising_ms)
    column.append(len(section.outside))
    for k, outside in section.outside.items():
        column += (k, *outside)


def _unpack_refused(read: Column, section: ModelState, names: list[str]) -> None:
    take = read.take
    section.circuit = _circuit(read, names)
    for _ in range(take()):
        k = take()
        section.lowered[k] = Lowered(take(), names[take()], take(), take(), take(), take(), take())
    for _ in range(take()):
        k = take()
        section.outside[k] = ExternalUsage(take(), take(), take())


def _in_use(circuit: Circuit) -> bool:
    """Whether the circuit is open, or holds the turn of unproven ids."""
    return bool(circuit.open_until_ms or circuit.owner)


def _names(circuit: Circuit) -> tuple[str, ...]:
    return (circuit.message, circuit.owner, circuit.model) if _in_use(circuit) else ()


def _pack_circuit(column: list[int], circuit: Circuit, index: dict[str, int]) -> None:
    """A circuit that is not in use is packed as that fact alone."""
    in_use = _in_use(circuit)
    column.append(in_use)
    if in_use:
        column += (KINDS.index(circuit.kind), index[circuit.message], circuit.open_until_ms, circuit.pause_ms)
        column += (circuit.refused_ms, index[circuit.owner], index[circuit.model], circuit.probe_ms)


def _circuit(read: Column, names: list[str]) -> Circuit:
    take = read.take
    if not take():
        return Circuit()
    return Circuit(KINDS[take()], names[take()], take(), take(), take(), names[take()], names[take()], take())


# Most instances have the same limits.
@lru_cache(maxsize=256)
def _limits_packed(limits: Limits) -> tuple[int, ...]:
    return tuple(_NONE if limit is None else min(limit, _MAX) for limit in limits)


@lru_cache(maxsize=256)
def _limits(*numbers: int) -> Limits:
    return Limits(*(None if number == _NONE else number for number in numbers))
