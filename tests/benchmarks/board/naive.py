"""What the calendar is compared with: a lease that asks the ledger twice for every request, written as well as that can be.

One document holds a sliding window of counters (250 ms each, with the same allowance for jitter as ours) and the requests
in flight. One compare-and-swap takes a permit before a request, one gives its slot back after it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import orjson

from shared.ledger.grid import Grid
from shared.stores.port import Change, CommitUnknown, Put, Store, StoreUnavailable

FIRST_PAUSE_S, MAX_PAUSE_S = 0.02, 1.0


@dataclass(frozen=True)
class Rule:
    """At most `requests` in any window, `concurrency` at once; a request that is never given back is forgotten after
    `ttl_ms`."""

    requests: int
    concurrency: int
    grid: Grid
    ttl_ms: int


@dataclass
class Window:
    """What the document holds: dispatches by slot, and for each request in flight when it is forgotten (ms)."""

    counts: dict[int, int] = field(default_factory=dict)
    open: dict[str, int] = field(default_factory=dict)


def acquire(window: Window, request: str, now_ms: int, rule: Rule) -> int | None:
    """None: `request` may be sent now (also when it is asked again). Otherwise when to ask again (ms)."""
    slot = rule.grid.slot(now_ms)
    window.counts = {at: count for at, count in window.counts.items() if at + rule.grid.span > slot}
    window.open = {name: until for name, until in window.open.items() if until > now_ms}
    if request in window.open:
        return None
    if sum(window.counts.values()) >= rule.requests:
        return rule.grid.start_ms(min(window.counts) + rule.grid.span)
    if len(window.open) >= rule.concurrency:
        return now_ms
    window.counts[slot] = window.counts.get(slot, 0) + 1
    window.open[request] = now_ms + rule.ttl_ms
    return None


def packed(window: Window) -> bytes:
    return orjson.dumps([[*window.counts.items()], [*window.open.items()]])


def unpacked(blob: bytes | None) -> Window:
    if blob is None:
        return Window()
    counts, in_flight = orjson.loads(blob)
    return Window(dict(counts), dict(in_flight))


class NaiveLease:
    """One per process. What the store says is full is waited for as long as it says; then, and after every conflict, comes
    a pause with full jitter that doubles."""

    def __init__(self, store: Store, key: str, rule: Rule) -> None:
        self._store, self._key, self._rule = store, key, rule

    async def acquire(self, request: str) -> None:
        """Wait for a permit, however long that takes."""
        pause_s = FIRST_PAUSE_S
        while True:
            wait_s = 0.0
            try:
                outcome = await self._store.transact([self._key], partial(self._taken, request))
                if outcome.result is None:
                    return
                wait_s = outcome.result
            except (StoreUnavailable, CommitUnknown):
                pass  # Lost to others too often, or nobody knows: asked again under the same name.
            await asyncio.sleep(wait_s + random.uniform(0, pause_s))
            pause_s = min(MAX_PAUSE_S, 2 * pause_s)

    async def release(self, request: str) -> None:
        """Give the slot back. If the store takes it in none of three tries, it is forgotten later."""
        for _ in range(3):
            try:
                await self._store.transact([self._key], partial(self._given_back, request))
                return
            except (StoreUnavailable, CommitUnknown):
                await asyncio.sleep(random.uniform(0, MAX_PAUSE_S))

    def _taken(self, request: str, values: Mapping[str, bytes | None], now_ms: int) -> Change[float | None]:
        """The result is how long to wait (s); None when it was granted."""
        window = unpacked(values[self._key])
        known = request in window.open
        again_ms = acquire(window, request, now_ms, self._rule)
        if again_ms is not None:
            return Change((again_ms - now_ms) / 1000)
        return Change(None) if known else Change(None, {self._key: Put(packed(window))})

    def _given_back(self, request: str, values: Mapping[str, bytes | None], _now_ms: int) -> Change[None]:
        window = unpacked(values[self._key])
        if window.open.pop(request, None) is None:
            return Change(None)
        return Change(None, {self._key: Put(packed(window))})
