"""A minimum time between two dispatches of the requests that share a pace."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from shared.clock import elapsed_s

AHEAD_S = 1.0
"""So long before its turn a request may get its permit: a permit that is held is one that nobody else can use."""
MIN_INTERVAL_S = 1e-6
"""A division by less overflows."""


class Pace:
    """Bound to one event loop."""

    def __init__(
        self,
        interval_s: float,
        *,
        now: Callable[[], float] = elapsed_s,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.interval_s, self._now, self._sleep = interval_s, now, sleep
        self._places = asyncio.Semaphore(max(1, int(AHEAD_S / max(interval_s, MIN_INTERVAL_S))))
        self._turn = asyncio.Lock()
        self._next_s = 0.0
        """Elapsed time from which the next request may be dispatched."""

    def request(self) -> PacedRequest:
        return PacedRequest(self)

    async def take_turn(self) -> None:
        await self._turn.acquire()
        try:
            while (left_s := self._next_s - self._now()) > 0:
                await self._sleep(left_s)
        except BaseException:
            self._turn.release()
            raise

    def dispatch(self) -> None:
        self._next_s = self._now() + self.interval_s


class PacedRequest:
    """One request: `enter` before it waits for a permit, `take_turn` with the permit, `dispatch` right before the first byte,
    and `leave` after the last one, and wherever the exchange ends or does not take place."""

    __slots__ = ("_entered", "_has_turn", "_pace")

    def __init__(self, pace: Pace) -> None:
        self._pace, self._entered, self._has_turn = pace, False, False

    async def enter(self) -> None:
        """Waits until few others are before it."""
        await self._pace._places.acquire()
        self._entered = True

    async def take_turn(self) -> None:
        """Returns when no other request may be dispatched before this one, and the interval is over."""
        if not self._has_turn:
            await self._pace.take_turn()
            self._has_turn = True

    def dispatch(self) -> None:
        """The interval begins now; a second call before the first byte moves its begin."""
        self._pace.dispatch()

    def leave(self) -> None:
        """The next request has its turn. A second call does nothing."""
        if self._has_turn:
            self._has_turn = False
            self._pace._turn.release()
        if self._entered:
            self._entered = False
            self._pace._places.release()
