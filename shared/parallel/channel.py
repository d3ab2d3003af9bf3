"""Results on their way from the library's loop to the loop of a program."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from shared.batch.result import Result

MAX_WAITING = 64
"""Results that the program has not taken; then the workers wait."""
MAX_AHEAD = 1_000
"""Results that wait for an earlier one, where the order of the input is kept."""


class Channel:
    """`send` is called on the library's loop; all else on the program's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, ordered: bool) -> None:
        self._loop, self._ordered = loop, ordered
        self._ready: deque[Result] = deque()
        self._early: dict[int, Result] = {}
        """By index: results that wait for an earlier one."""
        self._next = 0
        self._closed = False
        self._arrived = asyncio.Event()
        self._room: deque[asyncio.Future[None]] = deque()

    async def send(self, result: Result) -> None:
        """Returns when there is room for another result."""
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._put(result), self._loop))

    def close(self) -> None:
        """No results are sent any more."""
        self._closed = True
        self._arrived.set()

    def abandon(self) -> None:
        """Nobody takes results any more."""
        self.close()
        while self._room:
            room = self._room.popleft()
            if not room.done():
                room.set_result(None)

    def __aiter__(self) -> AsyncIterator[Result]:
        return self

    async def __anext__(self) -> Result:
        while not self._ready:
            if self._closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        result = self._ready.popleft()
        self._make_room()
        return result

    async def _put(self, result: Result) -> None:
        if self._closed:
            return
        if self._ordered:
            self._early[result.index] = result
            while (following := self._early.pop(self._next, None)) is not None:
                self._ready.append(following)
                self._next += 1
        else:
            self._ready.append(result)
        self._arrived.set()
        while not self._closed and not self._has_room(result):
            room: asyncio.Future[Any] = self._loop.create_future()
            self._room.append(room)
            await room

    def _has_room(self, result: Result) -> bool:
        return len(self._ready) < MAX_WAITING and (not self._ordered or result.index - self._next < MAX_AHEAD)

    def _make_room(self) -> None:
        for room in self._room:
            if not room.done():
                room.set_result(None)
        self._room.clear()
