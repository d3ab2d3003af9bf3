"""The answer of one turn in this process: it grows, it ends once, and any number of readers get its events.

A reader names the position that it has (turn.py) and gets the rest, then what follows. Two readers get the same events. Readers
share the text, so a slow one takes no memory of its own, and the generation never waits for it.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable

import orjson

from shared.http.event_stream import Events
from shared.sessions.events import last_events, message_event
from shared.sessions.session import Answer


class Feed:
    """`on_left` is awaited when the last reader has left before the end."""

    def __init__(self, turn: str, on_left: Callable[[], Awaitable[None]]) -> None:
        self.turn = turn
        self.length = 0
        """Characters so far."""
        self.size_bytes = 0
        """Of the text as JSON."""
        self.readers = 0
        self.over = self.failed_turn = False
        self._on_left = on_left
        self._deltas: list[str] = []
        self._ends: list[int] = []
        """The position after each delta."""
        self._begun = False
        self._last: list[tuple[int, bytes]] = []
        self._failure: Exception | None = None
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def text(self) -> str:
        return "".join(self._deltas)

    # -- the writer ----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Gemini works on the answer: the readers' responses may begin, even if there is no text yet."""
        self._begun = True
        self._wake()

    def add(self, text: str) -> None:
        if text:
            self.length += len(text)
            self.size_bytes += len(orjson.dumps(text)) - 2
            self._deltas.append(text)
            self._ends.append(self.length)
        self.begin()

    def extend_to(self, text: str) -> None:
        """`text` is the whole answer so far, which begins with what is here."""
        self.add(text[self.length :])

    def end(self, answer: Answer) -> None:
        """The turn has ended."""
        self.extend_to(answer.text)
        self._last = last_events(self.turn, answer)
        self._finish()

    def fail(self, failure: Exception, *, ends_turn: bool = False) -> None:
        """The readers get `failure` after the text. `ends_turn`: no reader gets more of the turn later."""
        self._failure, self.failed_turn = failure, ends_turn
        self._finish()

    def _finish(self) -> None:
        self.over = True
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    # -- the readers ---------------------------------------------------------------------------------------------------

    async def events(self, after: int) -> Events:
        """The events behind the position `after`, in their order, until the turn has ended. Raises what ended its generation
        here."""
        self.readers += 1
        try:
            at, begun = after, False
            while True:
                index = bisect_right(self._ends, at)
                if index < len(self._ends):
                    end = self._ends[index]
                    yield message_event(self.turn, self._deltas[index][at - end :], end)
                    at, begun = end, True
                elif self.over:
                    break
                elif self._begun and not begun:
                    begun = True
                    yield None
                else:
                    await self._change()
            for position, event in self._last:
                if position > after:
                    yield event
            if self._failure is not None:
                raise self._failure.with_traceback(None)
        finally:
            self.readers -= 1
            if not self.readers and not self.over:
                await self._on_left()

    async def _change(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)
