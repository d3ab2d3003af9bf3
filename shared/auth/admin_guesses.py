"""Slows down guesses of the admin key: a network may send this process a few wrong keys per minute, then each one is delayed.

The right key is compared first and always accepted at once, so that nobody is locked out by others behind the same address.
The key is therefore protected by its length (shared/settings/keys.py); this module bounds what guesses cost, and slows down
a client that waits for responses.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable

from shared.auth.credentials import network_of
from shared.clock import elapsed_s
from shared.errors import RateLimited

MAX_WRONG_KEYS = 10
"""Wrong admin keys per network and WINDOW_S that are rejected without a delay."""
WINDOW_S = 60.0
DELAY_S = 1.0
MAX_DELAYED = 32
"""Maximum of delayed requests; others are rejected without a delay, so that they hold no memory."""
MAX_NETWORKS = 4096
"""Maximum of networks that are remembered; the one whose last guess is oldest is forgotten first."""


class AdminGuesses:
    """The wrong admin keys of the last minute, by network."""

    def __init__(
        self, elapsed: Callable[[], float] = elapsed_s, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._elapsed, self._sleep = elapsed, sleep
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()
        self._delayed = 0

    async def wrong_key(self, address: str) -> None:
        """Counts one wrong admin key from `address`. Raises RateLimited, after a delay, if its network has sent too many."""
        wait_s = self._count(network_of(address))
        if not wait_s:
            return
        if self._delayed < MAX_DELAYED:
            self._delayed += 1
            try:
                await self._sleep(DELAY_S)
            finally:
                self._delayed -= 1
        raise RateLimited(
            f"More than {MAX_WRONG_KEYS} wrong admin keys came from this network within {WINDOW_S:g} s. Correct or remove the "
            "header Admin-API-Key; the right key is accepted at once.",
            retry_after_s=wait_s,
        )

    def _count(self, network: str) -> float:
        """The seconds until the network may send a wrong key again, 0 if it may now."""
        now_s = self._elapsed()
        times = self._wrong.setdefault(network, deque(maxlen=MAX_WRONG_KEYS + 1))
        self._wrong.move_to_end(network)
        if len(self._wrong) > MAX_NETWORKS:
            self._wrong.popitem(last=False)
        times.append(now_s)
        # Rejected guesses count too: a client that goes on guessing stays slow.
        if len(times) <= MAX_WRONG_KEYS or times[0] + WINDOW_S <= now_s:
            return 0.0
        return times[1] + WINDOW_S - now_s
