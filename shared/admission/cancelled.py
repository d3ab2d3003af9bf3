"""Cancelled exchanges on which Gemini may still work: each keeps its slot until it is over there.

That a connection was closed does not show that Gemini stopped (assumption A4b of the ledger's README)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush

from shared.clock import elapsed_s

JITTER_S = 0.25
"""The travel of requests to Gemini differs by this much at most (A1): one that took longer to arrive also ends later."""
DRIFT = 1e-3
"""Other clocks count the rest of an exchange at most this much faster (A3 allows 500 ppm for each of two)."""


def runs_on_s(left_s: float, usual_s: float | None) -> float:
    """How long Gemini may work on an exchange that was cancelled `left_s` before its deadline; `usual_s`: how much longer such an
    answer usually takes, None if unknown."""
    if usual_s is not None:
        left_s = min(left_s, usual_s + JITTER_S)
    return max(0.0, left_s) * (1 + DRIFT)


class Cancelled:
    """The cancelled exchanges of one ledger. Bound to one event loop; `over()` is called when a slot becomes free."""

    def __init__(self, over: Callable[[], None]) -> None:
        self._over = over
        self._ends_s: list[float] = []
        """A heap of elapsed times."""
        self._timer: asyncio.TimerHandle | None = None

    def add(self, runs_on_s: float) -> None:
        heappush(self._ends_s, elapsed_s() + runs_on_s)
        self._expect()

    def __len__(self) -> int:
        """How many keep a slot now."""
        if self._ends_s:
            now_s = elapsed_s()
            while self._ends_s and self._ends_s[0] <= now_s:
                heappop(self._ends_s)
        return len(self._ends_s)

    def ends_ms(self, hi_ms: float) -> tuple[int, ...]:
        """When they are over, by a clock that shows `hi_ms` now at most."""
        now_s = elapsed_s()
        return tuple(int(hi_ms + 1000 * (end_s - now_s)) + 1 for end_s in sorted(self._ends_s))

    def _expect(self) -> None:
        """Call `over` at the next end. Where the process is stopped before then, the ledger frees the slot by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ends_s:
            wait_s = max(0.0, self._ends_s[0] - elapsed_s()) + 0.001
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._ended)

    def _ended(self) -> None:
        self._timer = None
        before = len(self._ends_s)
        if len(self) < before:
            self._over()
        self._expect()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
