"""Work on a large body that would hold up every other request: one piece at a time, in a thread, with a pause after each.

The parser, the encoder and base64 keep the interpreter to themselves while they run (up to 0.2 s for 31 MB), also in a
thread; what is written in Python gives way after 5 ms there. After each piece of work the next one waits as long as that
one took, so that half of the process's time is left to the other requests however many large bodies come at once.
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
"""Smaller bodies are worked on at once: at most 20 ms, for one that is nothing but structure."""
MAX_REST_S = 1.0

Result = TypeVar("Result")


class LargeWork:
    """Of one process; bound to the event loop that first runs something."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._busy = False
        self._waiting: tuple[deque[asyncio.Future[None]], deque[asyncio.Future[None]]] = (deque(), deque())

    async def run(self, work: Callable[[], Result], *, first: bool = False) -> Result:
        """What `work` returns or raises. `first`: before all that is not; otherwise in the order of arrival. A cancelled
        call returns only after its work has ended, since its memory is in use until then."""
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
            # Its error is not missed: the caller has gone.
            if not future.cancelled():
                future.exception()
            raise
        finally:
            # An error's traceback holds this frame, and so the body: no cycle may keep that.
            del future


def _without_gc(work: Callable[[], Result]) -> Result:
    """Without the cyclic garbage collector, which goes over all that was parsed so far again and again: 0.8 s for a
    million lists instead of 0.14 s."""
    was_on = gc.isenabled()
    # Cycles keep bodies that are done with until a collection, and those are rare (`bootstrap`). The young generations take
    # little time: what was there before the first request is frozen.
    gc.collect(1)
    gc.disable()
    try:
        return work()
    finally:
        if was_on:
            gc.enable()
