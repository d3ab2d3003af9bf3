"""The turns of sessions in the store. Each change is one transaction, and turn.py decides whether it applies.

A turn is written three times: with its message (store.py), at its start and at its end. Its text is published before its end only
while another instance follows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from shared.errors import NotFound
from shared.generation import JsonObject
from shared.sessions.marks import Marks, marks_key, with_follow, with_stop
from shared.sessions.session import Answer, end_keys, end_writes
from shared.sessions.store import unavailable
from shared.sessions.turn import (
    Ticket,
    Turn,
    ended,
    holds,
    lost,
    published,
    read_at,
    released,
    started,
    turn_key,
    with_ticket,
    with_used_ticket,
)
from shared.stores.port import Change, Put, Step, Store, StoreError, transact_repeated

Result = TypeVar("Result")
Values = Mapping[str, bytes | None]

MAX_LOOKED_AT = 99
"""Turns of one `look`; a transaction takes 100 keys."""


class Look(NamedTuple):
    now_ms: int
    marks: Marks
    turns: dict[str, Turn | None]
    """None: deleted, or expired."""


class Turns:
    """Every method raises LedgerUnavailable. `read`, `start`, `settle` and the methods for tickets raise the same NotFound for
    an unknown turn."""

    def __init__(self, store: Store, *, ttl_ms: int) -> None:
        self._store = store
        self._ttl_ms = ttl_ms

    async def read(self, turn: str) -> Turn:
        """As it reads now: beyond its deadline as interrupted."""

        def step(values: Values, now_ms: int) -> Change[Turn | None]:
            found = _turn_in(values, turn)
            return Change(found and read_at(found, now_ms))

        return _found(await self._transact([turn_key(turn)], step))

    async def start(self, turn: str, instance: str, fence: str, lasts_ms: int, *, ticket: str = "") -> Turn:
        """The turn. If its fence is `fence`, this instance generates the answer, within `lasts_ms` from now; otherwise another
        instance does, or the turn has ended. `ticket`: the fingerprint of the ticket that opens it, which is marked as used."""

        def step(values: Values, now_ms: int) -> Change[Turn | None]:
            before = _turn_in(values, turn)
            after = with_used_ticket(before, ticket, now_ms) if before is not None and ticket else before
            if after is not None and after.state == "pending":
                after = started(after, instance, fence, now_ms + lasts_ms)
            return self._changed(turn, before, after, now_ms)

        return _found(await self._transact([turn_key(turn)], step))

    async def publish(self, turn: str, fence: str, text: str) -> bool:
        """Stores the text so far. False if the turn is no longer this instance's."""
        return await self._write_held(turn, fence, lambda found: published(found, text))

    async def release(self, turn: str, fence: str, error: JsonObject | None) -> bool:
        """Makes a turn without text pending again. False if it is no longer this instance's."""
        return await self._write_held(turn, fence, lambda found: released(found, error))

    async def end(self, turn: str, at: Turn, fence: str, answer: Answer) -> bool:
        """Stores the answer. False if the turn is no longer this instance's. `at`: the turn as it was read, which says where its
        session and page are."""

        def decide(found: Turn, now_ms: int) -> Answer | None:
            return answer._replace(ended_ms=now_ms) if holds(found, fence, now_ms) else None

        after = await self._end(turn, at, decide, answer.text, fence)
        return after is not None and after.over and after.fence == fence

    async def settle(self, turn: str, at: Turn) -> Turn:
        """Ends a turn that its instance will not: `at` reads as interrupted, so its text is final. The turn as it reads
        afterwards."""
        return _found(await self._end(turn, at, lost, at.text))

    async def stop_pending(self, turn: str, at: Turn) -> Turn:
        """Stops a pending turn. The turn as it is stored afterwards; it is streaming if an instance has started it meanwhile."""

        def decide(found: Turn, now_ms: int) -> Answer | None:
            return Answer("stopped", "", ended_ms=now_ms) if found.state == "pending" else None

        return _found(await self._end(turn, at, decide))

    # -- between instances ---------------------------------------------------------------------------------------------

    async def mark_stop(self, turn: Turn) -> None:
        """Asks the instance that generates the turn to end it as stopped."""
        await self._mark(turn.instance, lambda marks, now_ms: with_stop(marks, turn.fence, now_ms))

    async def mark_follow(self, instance: str, fences: Sequence[str]) -> None:
        """Asks `instance` to publish the texts of the turns with these fences, for as long as a mark lasts."""
        await self._mark(instance, lambda marks, now_ms: with_follow(marks, fences, now_ms))

    async def look(self, instance: str | None, turns: Sequence[str]) -> Look:
        """The marks of `instance`, if it is given, and at most MAX_LOOKED_AT turns, with one read."""
        keys = [*([marks_key(instance)] if instance is not None else []), *map(turn_key, turns)]

        def step(values: Values, now_ms: int) -> Change[Look]:
            marks = Marks.unpack(values[marks_key(instance)]) if instance is not None else Marks({}, {})
            found = {turn: _turn_in(values, turn) for turn in turns}
            return Change(Look(now_ms, marks, {name: one and read_at(one, now_ms) for name, one in found.items()}))

        return await self._transact(keys, step)

    # -- tickets -------------------------------------------------------------------------------------------------------

    async def add_ticket(self, turn: str, ticket: Ticket) -> Turn:
        def step(values: Values, now_ms: int) -> Change[Turn | None]:
            before = _turn_in(values, turn)
            return self._changed(turn, before, before and with_ticket(before, ticket, now_ms), now_ms)

        return _found(await self._transact([turn_key(turn)], step))

    async def use_ticket(self, turn: str, fingerprint: str) -> Ticket:
        """The ticket, which now counts as used; `start` marks that of a pending turn. Raises the NotFound of an unknown turn also
        for a ticket that is not valid."""

        def step(values: Values, now_ms: int) -> Change[Turn | None]:
            before = _turn_in(values, turn)
            after = before and with_used_ticket(before, fingerprint, now_ms)
            if after is not None and after.state == "pending":
                return Change(after)
            return self._changed(turn, before, after, now_ms)

        found = _found(await self._transact([turn_key(turn)], step))
        return next(ticket for ticket in found.tickets if ticket.fingerprint == fingerprint)

    # -- the transactions ----------------------------------------------------------------------------------------------

    async def _end(
        self,
        turn: str,
        at: Turn,
        decide: Callable[[Turn, int], Answer | None],
        text: str = "",
        fence: str = "",
    ) -> Turn | None:
        """The turn as it is stored afterwards. `text`: of the answer that `decide` returns."""
        keys = end_keys(at.owner, at.session, at.page, turn, text)

        def step(values: Values, now_ms: int) -> Change[Turn | None]:
            found = _turn_in(values, turn)
            answer = None if found is None else decide(found, now_ms)
            if found is None or answer is None:
                return Change(found)
            after = ended(found, answer, fence)
            writes = end_writes(values, keys, turn, answer, now_ms, self._ttl_ms)
            writes[turn_key(turn)] = self._put(after, now_ms)
            return Change(after, writes)

        return await self._transact([turn_key(turn), *keys], step)

    async def _write_held(self, turn: str, fence: str, change: Callable[[Turn], Turn]) -> bool:
        def step(values: Values, now_ms: int) -> Change[Turn | None]:
            before = _turn_in(values, turn)
            if before is None or before.fence != fence:
                return Change(None)
            after = change(before)
            if holds(before, fence, now_ms):
                return self._changed(turn, before, after, now_ms)
            return Change(after if after == before else None)

        return await self._transact([turn_key(turn)], step) is not None

    async def _mark(self, instance: str, change: Callable[[Marks, int], Marks]) -> None:
        key = marks_key(instance)

        def step(values: Values, now_ms: int) -> Change[None]:
            marks = change(Marks.unpack(values[key]), now_ms)
            return Change(None, {key: Put(marks.pack(), marks.expires_ms)})

        await self._transact([key], step)

    def _changed(self, turn: str, before: Turn | None, after: Turn | None, now_ms: int) -> Change[Turn | None]:
        """The turn as it reads afterwards; written if it differs."""
        if after is None or after == before:
            return Change(after and read_at(after, now_ms))
        return Change(read_at(after, now_ms), {turn_key(turn): self._put(after, now_ms)})

    def _put(self, turn: Turn, now_ms: int) -> Put:
        return Put(turn.pack(), now_ms + self._ttl_ms)

    async def _transact(self, keys: Sequence[str], step: Step[Result]) -> Result:
        """Each step may be applied twice: the second time it finds its own change."""
        try:
            return (await transact_repeated(self._store, keys, step)).result
        except StoreError:
            raise unavailable() from None


def no_turn() -> NotFound:
    return NotFound(
        "No turn of this session has this id. It may have expired or been deleted, or it belongs to another caller. A ticket is "
        "valid for 60 seconds until its first connection; POST /sessions/<id>/ticket gives a new one."
    )


def _turn_in(values: Values, turn: str) -> Turn | None:
    value = values[turn_key(turn)]
    return None if value is None else Turn.unpack(value)


def _found(turn: Turn | None) -> Turn:
    if turn is None:
        raise no_turn()
    return turn
