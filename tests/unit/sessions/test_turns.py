"""The turns in the store: who may write them when, and what a session's page has afterwards."""

from __future__ import annotations

import asyncio

import pytest

from shared.errors import LedgerUnavailable, NotFound
from shared.sessions.session import Answer
from shared.sessions.turn import Ticket
from shared.sessions.turns import Turns
from shared.stores.memory import MemoryStore
from shared.stores.port import CommitUnknown, Outcome, Step
from tests.support.turns import TTL_MS, Stored

LASTS_MS = 60_000
TICKET = Ticket("print", "name:a", "admin")
DONE = Answer("done", "Hello!", "m", "STOP")


async def test_one_of_two_instances_starts_a_turn() -> None:
    stored = Stored()
    name, _ = await stored.message()
    outcomes = await asyncio.gather(*(stored.turns.start(name, f"i{n}", f"f{n}", LASTS_MS) for n in range(8)))
    assert len({turn.fence for turn in outcomes}) == 1
    assert {turn.state for turn in outcomes} == {"streaming"}


async def test_the_end_is_in_the_page_and_frees_the_session() -> None:
    stored = Stored()
    name, turn = await stored.message()
    await stored.turns.start(name, "a", "fence", LASTS_MS)
    assert await stored.turns.end(name, turn, "fence", DONE)
    assert (await stored.turns.read(name)).state == "done"
    assert await stored.answer() == ("done", "Hello!")
    session = await stored.sessions.read(stored.session.owner, stored.session.sid)
    assert session.head is not None
    assert session.head.pending == ""


async def test_another_fence_changes_nothing() -> None:
    stored = Stored()
    name, turn = await stored.message()
    await stored.turns.start(name, "a", "fence", LASTS_MS)
    assert not await stored.turns.publish(name, "other", "Hel")
    assert not await stored.turns.release(name, "other", None)
    assert not await stored.turns.end(name, turn, "other", DONE)
    assert (await stored.turns.read(name)).text == ""
    assert await stored.answer() == ("", "")


async def test_nothing_is_written_after_the_deadline() -> None:
    """By the store's time: an instance that was suspended does not notice that its deadline has passed."""
    stored = Stored()
    name, turn = await stored.message()
    await stored.turns.start(name, "a", "fence", 0)
    assert not await stored.turns.publish(name, "fence", "Hel")
    assert not await stored.turns.release(name, "fence", None)
    assert not await stored.turns.end(name, turn, "fence", DONE)
    assert (await stored.turns.read(name)).state == "interrupted"


async def test_a_lost_turn_is_settled_with_its_text() -> None:
    stored = Stored()
    name, _ = await stored.message()
    await stored.turns.start(name, "a", "fence", LASTS_MS)
    await stored.turns.publish(name, "fence", "Hel")
    stored.advance(LASTS_MS / 1000)
    lost = await stored.turns.read(name)
    after = await stored.turns.settle(name, lost)
    assert (after.state, after.ended_ms) == ("interrupted", lost.deadline_ms)
    assert await stored.answer() == ("interrupted", "Hel")
    assert not await stored.turns.end(name, lost, "fence", DONE)
    assert await stored.answer() == ("interrupted", "Hel")


async def test_a_turn_in_time_is_not_settled() -> None:
    stored = Stored()
    name, turn = await stored.message()
    await stored.turns.start(name, "a", "fence", LASTS_MS)
    assert (await stored.turns.settle(name, turn)).state == "streaming"


async def test_a_late_end_leaves_the_next_turn_alone() -> None:
    stored = Stored()
    first, turn = await stored.message("one")
    await stored.turns.start(first, "a", "fence", 0)
    second, _ = await stored.message("two")
    assert not await stored.turns.end(first, turn, "fence", DONE)
    session = await stored.sessions.read(stored.session.owner, stored.session.sid)
    assert await stored.sessions.pending_turn(session) == second


async def test_the_end_of_an_older_turn_keeps_the_pending_one() -> None:
    stored = Stored()
    first, turn = await stored.message("one")
    await stored.turns.start(first, "a", "fence", LASTS_MS)
    second, _ = await stored.message("two")
    assert await stored.turns.end(first, turn, "fence", DONE)
    session = await stored.sessions.read(stored.session.owner, stored.session.sid)
    assert await stored.sessions.pending_turn(session) == second
    assert await stored.answer(0) == ("done", "Hello!")


async def test_a_pending_turn_is_stopped_without_a_start() -> None:
    stored = Stored()
    name, turn = await stored.message()
    assert (await stored.turns.stop_pending(name, turn)).state == "stopped"
    assert await stored.answer() == ("stopped", "")
    assert (await stored.turns.start(name, "a", "fence", LASTS_MS)).state == "stopped"


async def test_a_started_turn_is_not_stopped_as_pending() -> None:
    stored = Stored()
    name, turn = await stored.message()
    await stored.turns.start(name, "a", "fence", LASTS_MS)
    assert (await stored.turns.stop_pending(name, turn)).state == "streaming"


async def test_an_unknown_turn_is_not_found() -> None:
    stored = Stored()
    with pytest.raises(NotFound):
        await stored.turns.read("unknown")
    with pytest.raises(NotFound):
        await stored.turns.start("unknown", "a", "fence", LASTS_MS)
    with pytest.raises(NotFound):
        await stored.turns.use_ticket("unknown", "print")


async def test_one_read_has_marks_and_turns() -> None:
    stored = Stored()
    name, _ = await stored.message()
    turn = await stored.turns.start(name, "a", "fence", LASTS_MS)
    await stored.turns.mark_stop(turn)
    await stored.turns.mark_follow("a", [turn.fence])
    look = await stored.turns.look("a", [name, "unknown"])
    assert (list(look.marks.stop), list(look.marks.follow)) == (["fence"], ["fence"])
    assert look.turns == {name: turn, "unknown": None}
    assert not (await stored.turns.look("b", [])).marks.stop


async def test_a_ticket_is_used_with_the_start() -> None:
    stored = Stored()
    name, _ = await stored.message()
    await stored.turns.add_ticket(name, TICKET)
    assert await stored.turns.use_ticket(name, "print") is not None
    assert not (await stored.turns.read(name)).tickets[0].used
    turn = await stored.turns.start(name, "a", "fence", LASTS_MS, ticket="print")
    assert (turn.state, turn.tickets[0].used) == ("streaming", True)


async def test_a_ticket_of_a_running_turn_is_used_at_once() -> None:
    stored = Stored()
    name, _ = await stored.message()
    await stored.turns.start(name, "a", "fence", LASTS_MS)
    await stored.turns.add_ticket(name, TICKET)
    assert (await stored.turns.use_ticket(name, "print")).used
    assert (await stored.turns.read(name)).tickets[0].used


async def test_a_forged_ticket_is_not_found() -> None:
    stored = Stored()
    name, _ = await stored.message()
    await stored.turns.add_ticket(name, TICKET)
    with pytest.raises(NotFound):
        await stored.turns.use_ticket(name, "forged")
    with pytest.raises(NotFound):
        await stored.turns.start(name, "a", "fence", LASTS_MS, ticket="forged")
    assert (await stored.turns.read(name)).state == "pending"


class LosesReplies(MemoryStore):
    """Applies each commit, but its reply is lost while `loses`."""

    loses = 0

    async def transact(self, keys, step: Step, **rest) -> Outcome:  # type: ignore[no-untyped-def, type-arg]
        outcome = await super().transact(keys, step, **rest)
        if outcome.writes and self.loses:
            self.loses -= 1
            raise CommitUnknown("lost")
        return outcome


async def test_a_commit_with_a_lost_reply_counts_as_its_own() -> None:
    store = LosesReplies()
    stored = Stored(store)
    name, turn = await stored.message()
    store.loses = 1
    assert (await stored.turns.start(name, "a", "fence", LASTS_MS)).fence == "fence"
    store.loses = 1
    assert await stored.turns.publish(name, "fence", "Hel")
    store.loses = 1
    assert await stored.turns.end(name, turn, "fence", DONE)
    assert await stored.answer() == ("done", "Hello!")


async def test_a_release_with_a_lost_reply_counts_as_its_own() -> None:
    store = LosesReplies()
    stored = Stored(store)
    name, _ = await stored.message()
    await stored.turns.start(name, "a", "fence", LASTS_MS)
    store.loses = 1
    assert await stored.turns.release(name, "fence", None)


async def test_a_store_that_cannot_be_reached_is_an_error() -> None:
    store = MemoryStore()
    turns = Turns(store, ttl_ms=TTL_MS)
    await store.aclose()
    with pytest.raises(LedgerUnavailable):
        await turns.read("t")
