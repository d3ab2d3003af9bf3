"""Turns of sessions in a store in memory, with their messages, and instances that answer them with made-up text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import orjson

from shared.clock import elapsed_s
from shared.gateway.stream_reply import StreamReply
from shared.generation import JsonObject, Reply, Timeline, Usage
from shared.sessions.generating import Ask
from shared.sessions.live import LiveTurns
from shared.sessions.process import whole_answers
from shared.sessions.store import SessionRef, Sessions
from shared.sessions.turn import Turn
from shared.sessions.turns import Turns
from shared.stores.memory import MemoryStore, Shelf
from shared.stores.port import Store

TTL_MS = 3_600_000
MODEL = "gemini-test"


class Event(NamedTuple):
    id: str
    name: str
    data: dict[str, Any]
    """Of a `message`: {"text"}."""


def event_of(block: str) -> Event:
    """An event of a turn, as EventSource reads its lines."""
    fields = [(name, value) for name, _, value in (line.partition(": ") for line in block.rstrip("\n").split("\n"))]
    data = "\n".join(value for name, value in fields if name == "data")
    given = dict(fields)
    name = given["event"]
    return Event(given.get("id", ""), name, {"text": data} if name == "message" else orjson.loads(data))


class Stored:
    """Sessions of one owner. Each `instance` is another client of the same store."""

    def __init__(self, store: Store | None = None) -> None:
        self.shelf = Shelf()
        self.store = store or MemoryStore(self.shelf)
        self.sessions = Sessions(self.store, ttl_ms=TTL_MS)
        self.turns = Turns(self.store, ttl_ms=TTL_MS)
        self.session = self.sessions.open("owner")
        self.errors: list[Exception] = []

    def advance(self, by_s: float) -> None:
        """Lets the store's time pass."""
        self.shelf._offset_ms += by_s * 1000

    async def message(self, text: str = "Hello?") -> tuple[str, Turn]:
        name = await self.sessions.append_message(self.session, text)
        self.session = await self.sessions.read(self.session.owner, self.session.sid)
        return name, await self.turns.read(name)

    async def messages(self, number: int) -> list[str]:
        """A message in each of as many new sessions; the names of their turns."""
        names = []
        for _ in range(number):
            self.session = self.sessions.open("owner")
            names.append((await self.message())[0])
        return names

    async def answer(self, number: int = 0) -> tuple[str, str]:
        """The state and the text in the session's page."""
        session: SessionRef = await self.sessions.read(self.session.owner, self.session.sid)
        answer = (await self.sessions.history(session, before=number + 1, limit=1))[0].answer
        return ("", "") if answer is None else (answer.state, answer.text)

    def instance(self, *, grace_s: float = 0.0, store: Store | None = None) -> LiveTurns:
        store = store or self.store
        return LiveTurns(
            Turns(store, ttl_ms=TTL_MS),
            whole_answers(Sessions(store, ttl_ms=TTL_MS)),
            grace_s=grace_s,
            log=self.errors.append,
        )


class Gemini:
    """An upstream that sends what `say` is given, until `end`; `fail` breaks the stream."""

    def __init__(self) -> None:
        self.asked = self.open = 0
        self.timeline = Timeline()
        self._frames: asyncio.Queue[JsonObject | Exception | None] = asyncio.Queue()

    def say(self, *texts: str) -> None:
        for text in texts:
            self._frames.put_nowait({"candidates": [{"content": {"parts": [{"text": text}]}}]})

    def think(self) -> None:
        self._frames.put_nowait({"candidates": [{"content": {"parts": [{"thought": True, "text": "hm"}]}}]})

    def end(self) -> None:
        usage = {"promptTokenCount": 1, "candidatesTokenCount": 2, "totalTokenCount": 3}
        self._frames.put_nowait({"candidates": [{"finishReason": "STOP"}], "usageMetadata": usage})
        self._frames.put_nowait(None)

    def fail(self, error: Exception) -> None:
        self._frames.put_nowait(error)

    def ask(self, *, ticket: str = "", within_s: float = 60.0) -> Ask:
        return Ask(self._reply, elapsed_s() + within_s, self.timeline, ticket)

    @asynccontextmanager
    async def _reply(self, turn: Turn) -> AsyncIterator[StreamReply]:
        self.asked += 1
        self.open += 1
        frames = self._sent()
        try:
            head = Reply(await anext(frames), MODEL, MODEL, "account", Usage())
            yield StreamReply(head, frames)
        finally:
            self.open -= 1

    async def _sent(self) -> AsyncIterator[JsonObject]:
        while (frame := await self._frames.get()) is not None:
            if isinstance(frame, Exception):
                raise frame
            yield frame
