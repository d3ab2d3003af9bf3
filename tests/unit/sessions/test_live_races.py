"""Instances whose turn is stopped, deleted or shut down at the worst moment."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.errors import LedgerUnavailable, Unavailable
from shared.sessions import generating as generating_module
from shared.sessions import live as live_module
from shared.sessions.marks import Marks, marks_key
from shared.stores.memory import MemoryStore
from shared.stores.port import CommitUnknown, StoreUnavailable
from tests.support.turn_readers import PATIENCE_S, HeldStore, Reader, begun, have_begun, instances, readers_of, until
from tests.support.turns import Gemini, Stored
from tests.unit.sessions.test_live import short_times as short_times


async def test_a_stop_reaches_the_instance_that_generates() -> None:
    """The instance that takes the stop is opening the same turn, and does not know yet that another one generates it."""
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    store = HeldStore(stored.shelf)
    async with instances(stored) as (one,):
        first = await begun(one, name, gemini)
        turn = await one.turns.read(name)
        two = stored.instance(store=store)
        store.open.clear()
        second = Reader(two, name, Gemini())
        await until(lambda: store.waiting == 1)
        stopping = asyncio.create_task(two.stop(name, turn))
        await asyncio.sleep(0)
        store.open.set()
        async with asyncio.timeout(PATIENCE_S):
            assert (await stopping).state == "stopped"
        assert (await second.end()).events[-1][2]["state"] == "stopped"
        await first.end()
        await two.aclose()
    assert gemini.open == 0


async def test_a_shutdown_keeps_answers_and_tells_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "SHUTDOWN_S", 0.0)
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored, grace_s=PATIENCE_S) as (live,):
        reader = await begun(live, name, gemini)
        live.server_stops()
        assert (await reader.end()).last == "interrupted"
        assert gemini.open == 0
        assert await stored.answer() == ("interrupted", "Hel")


async def test_readers_of_a_follower_reconnect_at_its_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer goes on at the other instance."""
    monkeypatch.setattr(live_module, "SHUTDOWN_S", 0.0)
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored, 2) as (one, two):
        first = Reader(one, name, gemini)
        gemini.say("Hel")
        second = Reader(two, name, gemini)
        await until(lambda: second.text == "Hel")
        two.server_stops()
        with pytest.raises(Unavailable, match="Reconnect"):
            await second.end()
        gemini.say("lo!")
        gemini.end()
        assert (await first.end()).text == "Hello!"


class Marked(MemoryStore):
    """Counts the writes of marks; the first `failing` of them fail."""

    def __init__(self, stored: Stored, failing: int = 0) -> None:
        super().__init__(stored.shelf)
        self.writes, self.failing = 0, failing

    async def transact(self, keys: Any, step: Any, **rest: Any) -> Any:
        if next(iter(keys)).startswith("marks/") and len(keys) == 1:
            self.writes += 1
            await asyncio.sleep(0)
            if self.writes <= self.failing:
                raise StoreUnavailable("down")
        return await super().transact(keys, step, **rest)


async def test_many_followed_turns_are_marked_together() -> None:
    """All streams of an instance that is replaced continue on another one at once."""
    stored, geminis = Stored(), [Gemini() for _ in range(50)]
    names = await stored.messages(len(geminis))
    store = Marked(stored)
    async with instances(stored) as (one,):
        first = readers_of(one, names, geminis)
        for gemini in geminis:
            gemini.say("Hel")
        await have_begun(first)
        two = stored.instance(store=store)
        second = [Reader(two, name, Gemini()) for name in names]
        await have_begun(second)
        marks = Marks.unpack((await stored.store.read(marks_key(one.instance))).value)
        assert len(marks.follow) == 50
        assert store.writes <= 3
        for gemini, reader in zip(geminis, second, strict=True):
            gemini.end()
            await reader.end()
        await two.aclose()


async def test_a_mark_that_fails_is_repeated() -> None:
    """The reader waits, instead of getting an error of the store."""
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored) as (one,):
        first = await begun(one, name, gemini)
        two = stored.instance(store=Marked(stored, failing=2))
        second = Reader(two, name, Gemini())
        await until(lambda: second.text == "Hel")
        gemini.end()
        assert (await second.end()).last == "done"
        assert (await first.end()).last == "done"
        await two.aclose()


async def test_a_defect_of_the_exchange_does_not_end_it() -> None:
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored) as (live,):
        reader = await begun(live, name, gemini)
        look, live.turns.look = live.turns.look, None  # type: ignore[assignment, method-assign]
        await until(lambda: bool(stored.errors))
        live.turns.look = look  # type: ignore[method-assign]
        await live.turns.mark_stop(await live.turns.read(name))
        assert (await reader.end()).events[-1][2]["state"] == "stopped"


class Failing(MemoryStore):
    """While `down`, nothing is applied. While `silent`, commits are applied, but their replies are lost."""

    down = silent = False

    async def transact(self, keys: Any, step: Any, **rest: Any) -> Any:
        if self.down:
            raise StoreUnavailable("down")
        outcome = await super().transact(keys, step, **rest)
        if self.silent:
            raise CommitUnknown("silent")
        return outcome


async def test_a_paid_answer_is_stored_after_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reader had to be told that it was not, meanwhile."""
    monkeypatch.setattr(generating_module, "_LATER_S", 0.002)
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    store = Failing(stored.shelf)
    live = stored.instance(store=store)
    reader = Reader(live, name, gemini)
    gemini.say("Hello!")
    await until(lambda: reader.text == "Hello!")
    store.down = True
    gemini.end()
    with pytest.raises(LedgerUnavailable, match="could not be stored"):
        await reader.end()
    again = Reader(live, name, gemini)
    with pytest.raises(LedgerUnavailable):
        await again.end()
    assert again.text == "Hello!"
    store.down = False
    await until(lambda: not live._live)
    assert await stored.answer() == ("done", "Hello!")
    assert (await Reader(live, name, gemini, 6).end()).last == "done"
    assert gemini.asked == 1
    await live.aclose()


async def test_a_start_whose_reply_is_lost_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise its readers would wait for the deadline of an answer that nobody generates."""
    monkeypatch.setattr(generating_module, "_LATER_S", 0.002)
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    store = Failing(stored.shelf)
    live = stored.instance(store=store)
    store.silent = True
    with pytest.raises(LedgerUnavailable):
        await Reader(live, name, gemini).end()
    store.silent = False
    await until(lambda: not live._live)
    assert (await stored.turns.read(name)).state == "pending"
    gemini.say("Hello!")
    gemini.end()
    assert (await Reader(live, name, gemini).end()).text == "Hello!"
    assert gemini.asked == 1
    await live.aclose()
