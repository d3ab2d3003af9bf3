"""Readers of the turns of sessions, and what tests of several instances in one process do with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from shared.clock import elapsed_s
from shared.sessions.live import LiveTurns
from shared.stores.memory import MemoryStore, Shelf
from tests.support.turns import Gemini, Stored, event_of

PATIENCE_S = 20.0
Event = tuple[int, str, dict[str, Any]]
"""Its position, its name and its data."""


async def until(condition: Callable[[], bool]) -> None:
    end_s = elapsed_s() + PATIENCE_S
    while not condition():
        assert elapsed_s() < end_s, "it never came about"
        await asyncio.sleep(0.001)


@asynccontextmanager
async def instances(stored: Stored, number: int = 1, grace_s: float = 0.0) -> AsyncIterator[list[LiveTurns]]:
    made = [stored.instance(grace_s=grace_s) for _ in range(number)]
    try:
        yield made
    finally:
        for live in made:
            await live.aclose()


class Reader:
    """Reads a turn in the background."""

    def __init__(self, live: LiveTurns, name: str, gemini: Gemini, after: int = 0) -> None:
        self.events: list[Event] = []
        self._task = asyncio.create_task(self._read(live, name, gemini, after))

    async def _read(self, live: LiveTurns, name: str, gemini: Gemini, after: int) -> None:
        async with aclosing(live.open(name, gemini.ask()).events(after)) as events:
            async for event in events:
                if event is not None:
                    assert isinstance(event, bytes)
                    self.events.append(_parsed(event, name))

    @property
    def text(self) -> str:
        return "".join(str(data["text"]) for _, kind, data in self.events if kind == "message")

    @property
    def last(self) -> str:
        return self.events[-1][1]

    async def end(self) -> Reader:
        async with asyncio.timeout(PATIENCE_S):
            await self._task
        return self

    async def leave(self) -> Reader:
        self._task.cancel()
        await asyncio.wait([self._task])
        return self


def _parsed(event: bytes, name: str) -> Event:
    found = event_of(event.decode())
    turn, _, position = found.id.rpartition(".")
    assert turn == name
    return int(position), found.name, found.data


async def begun(live: LiveTurns, name: str, gemini: Gemini) -> Reader:
    """A reader of a turn that `gemini` answers with "Hel" so far, and that has this text."""
    reader = Reader(live, name, gemini)
    gemini.say("Hel")
    await have_begun([reader])
    return reader


async def have_begun(readers: Iterable[Reader]) -> None:
    for reader in readers:
        await until(lambda reader=reader: reader.text == "Hel")  # type: ignore[misc]


def readers_of(live: LiveTurns, names: Sequence[str], geminis: Sequence[Gemini]) -> list[Reader]:
    return [Reader(live, name, gemini) for name, gemini in zip(names, geminis, strict=True)]


class HeldStore(MemoryStore):
    """While `open` is cleared, transactions wait before they begin."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self.open, self.waiting = asyncio.Event(), 0
        self.open.set()

    async def transact(self, *arguments: Any, **rest: Any) -> Any:
        self.waiting += 1
        await self.open.wait()
        self.waiting -= 1
        return await super().transact(*arguments, **rest)
