"""The state as bytes: `GL`, a version byte, then (zlib) a table of names and one column of 64-bit integers.

Version 2 is what is written; version 1 is read too: in it a model has neither `outside` nor a request that tries. What follows
the last section (`accepted` and `names`, where there is something to say) is passed over by releases that do not know it."""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from operator import add
from typing import cast

from shared.generation import Cost
from shared.ledger.limits import Limits
from shared.ledger.state import Lease, Metered, Outside, Section, Share, State, Validity

MAGIC, VERSION, FIRST_VERSION = b"GL", 2, 1
_MOST = 2**62
_NONE = -1
"""Stands for `unlimited`; every stored limit is >= 0."""


class UnreadableState(ValueError):
    """These bytes were not written by this version or an earlier one."""


def pack(state: State) -> bytes:
    names = sorted(
        {*state.leases, *state.sections, *state.names, *(known.model for known in state.names.values())}.union(
            *(lease.shares for lease in state.leases.values()),
            (section.prober for section in state.sections.values() if section.prober),
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
    if state.accepted or state.names:
        column.extend((int(state.accepted), len(state.names)))
    for name, known in state.names.items():
        column.extend((index[name], index[known.model], known.until_ms - state.now_ms))
    if sys.byteorder == "big":
        column.byteswap()
    table = "\n".join(names).encode()
    return MAGIC + bytes([VERSION]) + zlib.compress(len(table).to_bytes(4, "little") + table + column.tobytes(), 1)


def unpack(blob: bytes) -> State:
    """Raises UnreadableState."""
    if blob[:2] != MAGIC or len(blob) < 4 or not FIRST_VERSION <= blob[2] <= VERSION:
        raise UnreadableState("the ledger's document was written by another program or by a later version")
    try:
        body = zlib.decompress(blob[3:])
        size = int.from_bytes(body[:4], "little")
        names = body[4 : 4 + size].decode().split("\n")
        column = array("q")
        column.frombytes(body[4 + size :])
        if sys.byteorder == "big":
            column.byteswap()
        return _state(iter(column.tolist()), names, blob[2])
    except (zlib.error, UnicodeDecodeError, StopIteration, IndexError, ValueError) as error:
        raise UnreadableState(f"the ledger's document is damaged: {type(error).__name__}") from error


def _state(read: Iterator[int], names: list[str], version: int) -> State:
    take = read.__next__
    state = State(window_ms=take(), now_ms=take(), pressure_c=take(), pressure_ms=take())
    base = take()
    for _ in range(take()):
        name = names[take()]
        state.leases[name] = _lease(read, names, base, state.now_ms)
    for _ in range(take()):
        name = names[take()]
        section = state.sections[name] = _unpack_section(read, base)
        if version >= 2:
            _unpack_refused(read, section, names)
        elif section.cool_ms <= state.now_ms:
            section.cool_ms = 0  # In version 1 the end of a cool-down stayed where it was.
    state.accepted = bool(next(read, 0))
    for _ in range(next(read, 0)):
        name = names[take()]
        state.names[name] = Metered(names[take()], take() + state.now_ms)
    return state


def _pack_lease(column: array[int], name: int, lease: Lease, index: dict[str, int], base: int, now_ms: int) -> None:
    column.extend((name, lease.renew, lease.seen_ms - now_ms, lease.slots, lease.cap))
    column.extend((lease.authority_ms - now_ms, lease.reuse_ms - now_ms, lease.want_slots, lease.oldest_ms))
    column.extend((lease.callers, lease.concurrency, len(lease.shares)))
    for model, share in lease.shares.items():
        column.append(index[model])
        _pack_limits(column, share.limits)
        column.extend(share.unmet)
        column.append(len(share.bookings))
        for (first, last), cost in share.bookings.items():
            column.extend((first - base, last - first, *cost))


def _columns(read: Iterator[int], count: int, width: int) -> list[list[int]]:
    """The next `count` rows of so many numbers each, by column."""
    numbers = list(islice(read, count * width))
    if len(numbers) != count * width:
        raise StopIteration
    return [numbers[at::width] for at in range(width)]


# The loops over thousands of bookings run in C: a NamedTuple's own constructor takes most of the time otherwise.
_costs = partial(map, cast("Callable[[Iterable[int]], Cost]", partial(tuple.__new__, Cost)))
_validities = partial(map, cast("Callable[[Iterable[int]], Validity]", partial(tuple.__new__, Validity)))


def _lease(read: Iterator[int], names: list[str], base: int, now_ms: int) -> Lease:
    take = read.__next__
    lease = Lease(
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
    )
    for _ in range(take()):
        model = names[take()]
        share = Share(limits=_limits(read), unmet=Cost(take(), take(), take()))
        offsets, lengths, *amounts = _columns(read, take(), 5)
        firsts = [offset + base for offset in offsets]
        validities = _validities(zip(firsts, map(add, firsts, lengths), strict=True))
        share.bookings.update(zip(validities, _costs(zip(*amounts, strict=True)), strict=True))
        lease.shares[model] = share
    return lease


def _pack_section(column: array[int], name: int, section: Section, base: int) -> None:
    column.extend((name, section.paced_ms, section.cool_ms, section.learned_until_ms, section.debt_tokens))
    _pack_limits(column, section.learned)
    column.append(len(section.ring))
    for slot, cost in section.ring.items():
        column.extend((slot - base, *cost))
    column.append(len(section.days))
    for day, count in section.days.items():
        column.extend((day, count))


def _unpack_section(read: Iterator[int], base: int) -> Section:
    take = read.__next__
    section = Section(paced_ms=take(), cool_ms=take(), learned_until_ms=take(), debt_tokens=take())
    section.learned = _limits(read)
    offsets, *amounts = _columns(read, take(), 4)
    slots = [offset + base for offset in offsets]
    section.ring.update(zip(slots, _costs(zip(*amounts, strict=True)), strict=True))
    for _ in range(take()):
        day = take()
        section.days[day] = take()
    return section


def _pack_refused(column: array[int], section: Section, index: dict[str, int]) -> None:
    prober = index[section.prober] if section.prober else _NONE
    column.extend((section.cool_length_ms, prober, section.probe_ms, len(section.outside)))
    for k, outside in section.outside.items():
        column.extend((k, *outside))


def _unpack_refused(read: Iterator[int], section: Section, names: list[str]) -> None:
    take = read.__next__
    section.cool_length_ms, prober, section.probe_ms = take(), take(), take()
    section.prober = "" if prober == _NONE else names[prober]
    for _ in range(take()):
        k = take()
        section.outside[k] = Outside(take(), take(), take())


def _pack_limits(column: array[int], limits: Limits) -> None:
    column.extend(_NONE if limit is None else min(limit, _MOST) for limit in limits)


def _limits(read: Iterator[int]) -> Limits:
    take = read.__next__
    return Limits(*(None if (limit := take()) == _NONE else limit for _ in Limits._fields))
