"""The state as bytes: `GL`, a version byte, then (zlib) a table of names and one column of 64-bit integers.

Google's sentences are in the table of names too: they are single lines."""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from operator import add
from typing import cast, get_args

from shared.generation import Cost
from shared.ledger.limits import Limits
from shared.ledger.state import (
    Circuit,
    ExternalUsage,
    InstanceLease,
    InstanceShare,
    Kind,
    Lowered,
    Metered,
    ModelState,
    SlotRange,
    State,
)

MAGIC, VERSION = b"GL", 4
READABLE = frozenset({VERSION})
"""Versions that this code reads. It writes VERSION, which the release before must read already (README.md, "Versions")."""
KINDS: tuple[Kind, ...] = get_args(Kind)
_MAX = 2**62
_NONE = -1
"""Stands for `unlimited`; every stored limit is >= 0."""


class UnreadableState(ValueError):
    """These bytes were not written by this version."""


def pack(state: State) -> bytes:
    names = sorted(
        {*state.leases, *state.sections, *state.names, *(known.model for known in state.names.values())}.union(
            *(lease.shares for lease in state.leases.values()),
            *(_names(circuit) for circuit in (state.spend, *(s.circuit for s in state.sections.values()))),
            (lowered.message for section in state.sections.values() for lowered in section.lowered.values()),
        )
    )
    index = {name: i for i, name in enumerate(names)}
    base = state.now_ms * 240 // state.window_ms
    column = array("q", [state.window_ms, state.now_ms, state.pressure_c, state.pressure_ms, base])
    column.append(len(state.leases))
    for name, lease in state.leases.items():
        _pack_lease(column, index[name], lease, index, base, state.now_ms)
    column.append(len(state.sections))
    for name, section in state.sections.items():
        _pack_section(column, index[name], section, base)
        _pack_refused(column, section, index)
    _pack_circuit(column, state.spend, index)
    column.extend((state.accepted, len(state.names)))
    for name, known in state.names.items():
        column.extend((index[name], index[known.model], known.until_ms - state.now_ms))
    if sys.byteorder == "big":
        column.byteswap()
    table = "\n".join(names).encode()
    return MAGIC + bytes([VERSION]) + zlib.compress(len(table).to_bytes(4, "little") + table + column.tobytes(), 1)


def unpack(blob: bytes) -> State:
    """Raises UnreadableState."""
    if blob[:2] != MAGIC or len(blob) < 4 or blob[2] not in READABLE:
        raise UnreadableState("the ledger's document was written by another program or by another version")
    try:
        body = zlib.decompress(blob[3:])
        size = int.from_bytes(body[:4], "little")
        names = body[4 : 4 + size].decode().split("\n")
        column = array("q")
        column.frombytes(body[4 + size :])
        if sys.byteorder == "big":
            column.byteswap()
        return _state(iter(column.tolist()), names)
    except (zlib.error, UnicodeDecodeError, StopIteration, IndexError, ValueError) as error:
        raise UnreadableState(f"the ledger's document is damaged: {type(error).__name__}") from error


def _state(read: Iterator[int], names: list[str]) -> State:
    take = read.__next__
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
    return state


def _pack_lease(
    column: array[int], name: int, lease: InstanceLease, index: dict[str, int], base: int, now_ms: int
) -> None:
    column.extend((name, lease.renew, lease.seen_ms - now_ms, lease.slots, lease.cap))
    column.extend((lease.authority_ms - now_ms, lease.reuse_ms - now_ms, lease.want_slots, lease.oldest_ms))
    column.extend((lease.callers, lease.concurrency, len(lease.ends_ms)))
    column.extend(end_ms - now_ms for end_ms in lease.ends_ms)
    column.append(len(lease.shares))
    for model, share in lease.shares.items():
        column.append(index[model])
        _pack_limits(column, share.limits)
        column.extend(share.unmet)
        column.append(len(share.bookings))
        for (first, last), cost in share.bookings.items():
            column.extend((first - base, last - first, *cost))


def _columns(read: Iterator[int], count: int, width: int) -> list[list[int]]:
    """The next `count` rows of `width` numbers, by column."""
    numbers = list(islice(read, count * width))
    if len(numbers) != count * width:
        raise StopIteration
    return [numbers[at::width] for at in range(width)]


# The loops over thousands of bookings run in C: a NamedTuple's own constructor takes most of the time otherwise.
_costs = partial(map, cast("Callable[[Iterable[int]], Cost]", partial(tuple.__new__, Cost)))
_validities = partial(map, cast("Callable[[Iterable[int]], SlotRange]", partial(tuple.__new__, SlotRange)))


def _lease(read: Iterator[int], names: list[str], base: int, now_ms: int) -> InstanceLease:
    take = read.__next__
    lease = InstanceLease(
        renew=take(),
        seen_ms=take() + now_ms,
        slots=take(),
        cap=take(),
        authority_ms=take() + now_ms,
        reuse_ms=take() + now_ms,
        want_slots=take(),
        oldest_ms=take(),
        callers=take(),
        concurrency=take(),
        ends_ms=tuple(take() + now_ms for _ in range(take())),
    )
    for _ in range(take()):
        model = names[take()]
        share = InstanceShare(limits=_limits(read), unmet=Cost(take(), take(), take()))
        offsets, lengths, *amounts = _columns(read, take(), 5)
        firsts = [offset + base for offset in offsets]
        validities = _validities(zip(firsts, map(add, firsts, lengths), strict=True))
        share.bookings.update(zip(validities, _costs(zip(*amounts, strict=True)), strict=True))
        lease.shares[model] = share
    return lease


def _pack_section(column: array[int], name: int, section: ModelState, base: int) -> None:
    column.extend((name, section.paced_ms, section.debt_tokens, len(section.ring)))
    for slot, cost in section.ring.items():
        column.extend((slot - base, *cost))
    column.append(len(section.days))
    for day, count in section.days.items():
        column.extend((day, count))


def _unpack_section(read: Iterator[int], base: int) -> ModelState:
    take = read.__next__
    section = ModelState(paced_ms=take(), debt_tokens=take())
    offsets, *amounts = _columns(read, take(), 4)
    slots = [offset + base for offset in offsets]
    section.ring.update(zip(slots, _costs(zip(*amounts, strict=True)), strict=True))
    for _ in range(take()):
        day = take()
        section.days[day] = take()
    return section


def _pack_refused(column: array[int], section: ModelState, index: dict[str, int]) -> None:
    _pack_circuit(column, section.circuit, index)
    column.append(len(section.lowered))
    for k, one in section.lowered.items():
        column.extend((k, min(one.limit, _MAX), index[one.message], one.pause_ms, one.test_ms))
        column.extend((min(one.reached, _MAX), one.reached_ms, one.rising_ms))
    column.append(len(section.outside))
    for k, outside in section.outside.items():
        column.extend((k, *outside))


def _unpack_refused(read: Iterator[int], section: ModelState, names: list[str]) -> None:
    take = read.__next__
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


def _pack_circuit(column: array[int], circuit: Circuit, index: dict[str, int]) -> None:
    """A circuit that is not in use is packed as that fact alone."""
    column.append(_in_use(circuit))
    if _in_use(circuit):
        column.extend((KINDS.index(circuit.kind), index[circuit.message], circuit.open_until_ms, circuit.pause_ms))
        column.extend((circuit.refused_ms, index[circuit.owner], index[circuit.model], circuit.probe_ms))


def _circuit(read: Iterator[int], names: list[str]) -> Circuit:
    take = read.__next__
    if not take():
        return Circuit()
    return Circuit(KINDS[take()], names[take()], take(), take(), take(), names[take()], names[take()], take())


def _pack_limits(column: array[int], limits: Limits) -> None:
    column.extend(_NONE if limit is None else min(limit, _MAX) for limit in limits)


def _limits(read: Iterator[int]) -> Limits:
    take = read.__next__
    return Limits(*(None if (limit := take()) == _NONE else limit for _ in Limits._fields))
