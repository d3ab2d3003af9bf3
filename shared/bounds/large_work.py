"""Runs work on large bodies off the event loop: one piece at a time, in a thread, with a pause after each.

The parser, the encoder and base64 hold the interpreter lock while they run (up to 0.2 s for 31 MB), in a thread too; Python
code releases it every 5 ms. After each piece of work the next one waits for as long as that one took, so that half of the
process's time remains for other requests, whatever the number of large bodies.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

LARGE_BYTES = 256 * 1024
"""Smaller bodies are processed on the event loop: at most 20 ms, for a body that is nothing but structure."""
MAX_REST_S = 1.0

Result = TypeVar("Result")


class LargeWork:
    """The large work of one process, bound to the event loop of its first run."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._busy = False
        self._waiting: tuple[deque[asyncio.Future[None]], deque[asyncio.Future[None]]] = (deque(), deque())

    async def run(self, work: Callable[[], Result], *, first: bool = False) -> Result:
        """Runs `work` and returns its result, or raises its exception. Work with `first` runs before other work; otherwise the
        order is that of arrival. A cancelled call returns only after its work has ended, because that uses its memory."""
        await self._turn(first)
        began_s = time.monotonic()
        try:
            return await self._in_thread(work)
        finally:
            rest_s = min(time.monotonic() - began_s, MAX_REST_S)
            asyncio.get_running_loop().call_later(rest_s, self._next)

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=False)

    async def _turn(self, first: bool) -> None:
        if not self._busy:
            self._busy = True
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[0 if first else 1].append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._next()
            raise

    def _next(self) -> None:
        for waiting in self._waiting:
            while waiting:
                turn = waiting.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self._busy = False

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "large-body")
        future = asyncio.get_running_loop().run_in_executor(self._thread, _without_gc, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            # Retrieve the error, so that asyncio does not log it: the caller has gone.
            if not future.cancelled():
                future.exception()
            raise
        finally:
            # An error's traceback refers to this frame and so to the body; break the cycle.
            del future


def _without_gc(work: Callable[[], Result]) -> Result:
    """Runs `work` without the cyclic garbage collector, which would scan the parsed values repeatedly: a million lists take
    0.14 s instead of 0.8 s."""
    was_on = gc.isenabled()
    # Finished bodies in reference cycles are freed only by a collection, and those are rare (`bootstrap`). Collecting the young
    # generations is fast, because all objects from before the first request are frozen.
    gc.collect(1)
    gc.disable()
    try:
        return work()
    finally:
        if was_on:
            gc.enable()
