"""Instances whose turn is stopped, deleted or shut down at the worst moment."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.errors import Unavailable
from shared.sessions import live as live_module
from shared.stores.memory import MemoryStore
from tests.support.turns import Gemini, Stored
from tests.unit.sessions.test_live import PATIENCE_S, Reader, instances, until
from tests.unit.sessions.test_live import short_times as short_times


class Held(MemoryStore):
    """While `open` is cleared, transactions wait before they begin."""

    def __init__(self, stored: Stored) -> None:
        super().__init__(stored.shelf)
        self.open, self.waiting = asyncio.Event(), 0
        self.open.set()

    async def transact(self, *arguments: Any, **rest: Any) -> Any:
        self.waiting += 1
        await self.open.wait()
        self.waiting -= 1
        return await super().transact(*arguments, **rest)


async def test_a_stop_reaches_the_instance_that_generates() -> None:
    """The instance that takes the stop is opening the same turn, and does not know yet that another one generates it."""
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    store = Held(stored)
    async with instances(stored) as (one,):
        first = Reader(one, name, gemini)
        gemini.say("Hel")
        await until(lambda: first.text == "Hel")
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
        reader = Reader(live, name, gemini)
        gemini.say("Hel")
        await until(lambda: reader.text == "Hel")
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
