"""The events of one stream, read ahead of a client that receives them more slowly than they arrive.

    source --> task --> waiting events, at most MAX_WAITING_BYTES --> take() --> client
               waits while they are full                  waits while there are none

A short answer is therefore read to its end, and its slot at Gemini is free again, however slowly its client reads. A longer
one stops the task, which then reads nothing more from Gemini, until the client has received some of it.

Events that wait for their client count in the byte budget, like the bodies of requests, when they are more than one write takes.
Where the budget has no room for them, nothing more is read until the client has received all of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Generic, TypeVar

from shared.bounds.byte_budget import Claim
from shared.errors import QueueFull

MAX_WAITING_BYTES = 256 * 1024
"""A stream stops reading at this size. It can exceed it by one event."""
WRITE_BYTES = 16 * 1024
"""One write: waiting events are joined up to this size. What was handed to the server no longer counts here."""

Item = TypeVar("Item")


class ReadAhead(Generic[Item]):
    """`encode` returns the bytes of one item of the source, or b"" if there is nothing to send."""

    __slots__ = (
        "_arrived",
        "_begun",
        "_claim",
        "_drained",
        "_encode",
        "_has_begun",
        "_is_short",
        "_loop",
        "_source",
        "_task",
        "_waiting",
        "_waiting_bytes",
    )

    def __init__(
        self, source: AsyncGenerator[Item, None], encode: Callable[[Item], bytes], claim: Claim | None
    ) -> None:
        """`claim` is used for the waiting events alone; None: they are not counted."""
        self._source, self._encode, self._claim = source, encode, claim
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._is_short = False
        """Whether the byte budget has no room for the waiting events."""
        self._has_begun = False
        self._task: asyncio.Task[None] | None = None
        self._arrived: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None

    def start(self, begun: Callable[[], None]) -> None:
        """Starts to read. `begun` is called with the first item, also if there is nothing to send, or when there is none."""
        self._loop = asyncio.get_running_loop()
        self._begun = begun
        self._task = self._loop.create_task(self._read())
        self._task.add_done_callback(self._ended)

    def check(self) -> None:
        """Raises the source's error if it failed before its first item."""
        task = self._task
        try:
            if task is not None and task.done() and not self._has_begun:
                self._task = None
                task.result()
        finally:
            # A task refers to its error, whose traceback refers to this frame: the cycle would keep the request's body.
            del task

    async def take(self) -> bytes:
        """The next events, b"" after the last ones. Raises the source's error after the events before it."""
        while not self._waiting:
            task = self._task
            try:
                if task is None:
                    return b""
                if task.done():
                    self._task = None
                    task.result()
                    return b""
            finally:
                del task
            self._arrived = self._loop.create_future()
            await self._arrived
        return self._next()

    async def aclose(self) -> None:
        """Ends the reading and closes the source. What still waits, or how the source failed, is dropped."""
        task, self._task = self._task, None
        try:
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled():
                    task.exception()
        finally:
            del task
            self._waiting.clear()
            if self._claim is not None:
                self._claim.release()
        # A task that was cancelled before its first step has not closed it.
        await self._source.aclose()

    async def _read(self) -> None:
        encode, put = self._encode, self._put
        async with aclosing(self._source) as source:
            async for item in source:
                if not self._has_begun:
                    self._has_begun = True
                    self._begun()
                if data := encode(item):
                    put(data)
                    while self._is_short or self._waiting_bytes >= MAX_WAITING_BYTES:
                        self._drained = self._loop.create_future()
                        await self._drained

    def _put(self, data: bytes) -> None:
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes > WRITE_BYTES and self._claim is not None:
            try:
                self._claim.cover(self._waiting_bytes)
            except QueueFull:
                self._is_short = True
        _wake(self._arrived)

    def _next(self) -> bytes:
        waiting = self._waiting
        data = waiting.popleft()
        if waiting:
            parts, size_bytes = [data], len(data)
            while waiting and size_bytes + len(waiting[0]) <= WRITE_BYTES:
                parts.append(waiting.popleft())
                size_bytes += len(parts[-1])
            data = b"".join(parts)
        self._waiting_bytes -= len(data)
        if not waiting:
            self._is_short = False
            if self._claim is not None and self._claim.held_bytes:
                self._claim.release()
        _wake(self._drained)
        return data

    def _ended(self, _: asyncio.Task[None]) -> None:
        if not self._has_begun:
            self._begun()
        _wake(self._arrived)


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
