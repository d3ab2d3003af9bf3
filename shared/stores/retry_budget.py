"""How long one call is retried: exponential backoff with full jitter, within a timeout and a number of tries."""

from __future__ import annotations

import asyncio
import math
import random

from shared.clock import elapsed_s


class RetryBudget:
    """The timeout starts at construction. Each pause is random between 0 and the bound, so that contenders spread out."""

    def __init__(self, timeout_s: float, *, first_pause_s: float, max_pause_s: float, tries: int = 10_000) -> None:
        self._end_s = elapsed_s() + timeout_s
        self._bound_s, self._max_pause_s = first_pause_s, max_pause_s
        self._tries_left = tries - 1

    @property
    def bound_s(self) -> float:
        """The bound of the next pause."""
        return self._bound_s

    def left_s(self) -> float:
        return self._end_s - elapsed_s()

    async def pause(self, at_most_s: float = math.inf) -> bool:
        """Waits before the next try. Returns False at once if the budget is used up."""
        self._bound_s = min(self._bound_s, at_most_s)
        wait_s = random.uniform(0, self._bound_s)
        if self._tries_left <= 0 or wait_s >= self.left_s():
            return False
        self._tries_left -= 1
        self._bound_s = min(self._max_pause_s, self._bound_s * 2)
        await asyncio.sleep(wait_s)
        return True
