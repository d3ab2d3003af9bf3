"""Rate limits of a caller over all instances: requests and fetched addresses within any minute, uploads and
stored messages within any day.

One small document per caller holds the times of its requests in the last minute, and expires a minute after the last of
them. A rejected request writes nothing and does not count. The window is exact by the store's clock.

A made-up key costs nothing, so a rate by key alone would limit nobody. Until Gemini has accepted a caller's key, its requests
count in the rate of its network too, and are admitted only if both have room (`Call.holders`).

Decision: if the store is unreachable, requests are rejected. The ledger is in the same store, so nothing could be generated
anyway; if they were admitted, they would flood the ledger when it returns. A commit with an unknown outcome is repeated: at
worst one request counts twice; it always counts at least once.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Literal

from shared.errors import LedgerUnavailable, RateLimited
from shared.secret import Secret
from shared.stores.port import Change, Put, Step, Store, StoreError, transact_repeated

Counted = Literal["requests", "fetched addresses", "uploaded megabytes", "stored messages"]
_PURPOSES: Mapping[Counted, str] = {
    "requests": "rate",
    "fetched addresses": "fetches",
    "uploaded megabytes": "uploads",
    "stored messages": "messages",
}


class CallerRate:
    """At most `limit` of `counted` within `window_s` for each caller; None: unlimited."""

    def __init__(
        self, store: Store, limit: int | None, window_s: float = 60.0, *, counted: Counted = "requests"
    ) -> None:
        self.limit = limit
        self._store = store
        self._window_ms = int(window_s * 1000)
        self._counted: Counted = counted

    async def admit(self, callers: Sequence[str], count: int = 1) -> None:
        """Counts `count` for all of `callers` (ids), or for none. Raises RateLimited with the time until there is room again,
        and LedgerUnavailable."""
        limit = self.limit
        if limit is None or not count:
            return
        purpose = _PURPOSES[self._counted]
        keys = [f"rate/{Secret(caller).fingerprint(purpose)}" for caller in dict.fromkeys(callers)]

        def step(values: Mapping[str, bytes | None], now_ms: int) -> Change[int | None]:
            changes = [counted(key, values[key], now_ms, limit, self._window_ms, count) for key in keys]
            waits_ms = [change.result for change in changes if change.result is not None]
            if waits_ms:
                return Change(max(waits_ms))
            return Change(None, {key: put for change in changes for key, put in change.writes.items()})

        wait_ms = await self._transacted(keys, step)
        if wait_ms is not None:
            raise RateLimited(
                f"Rate limit exceeded: {limit} {self._counted} in {self._window_ms / 1000:g} s. Retry after the time in "
                "the header Retry-After.",
                retry_after_s=wait_ms / 1000,
                details={"limit": limit, "window_s": self._window_ms / 1000},
            )

    async def _transacted(self, keys: Sequence[str], step: Step[int | None]) -> int | None:
        """Not `cached`: with cached values, `now_ms` would be the time at which they were read."""
        try:
            return (await transact_repeated(self._store, keys, step)).result
        except StoreError:
            raise LedgerUnavailable(
                "The rate limits cannot be read, so the request was not sent. Retry later.", retry_after_s=5
            ) from None


def counted(
    key: str, value: bytes | None, now_ms: int, limit: int, window_ms: int, count: int = 1
) -> Change[int | None]:
    """Counts `count` at `now_ms`: None with the new document; or, beyond `limit`, the milliseconds until they fit, without
    a change."""
    times = array("q", value or b"")
    # If this instance's estimate of the store's clock is behind, some times are ahead of it: they are in the window too.
    recent = times[bisect_right(times, now_ms - window_ms) :]
    over = len(recent) + count - limit
    if over > 0:
        return Change(recent[min(over, len(recent)) - 1] + window_ms - now_ms if recent else window_ms)
    at_ms = max(now_ms, recent[-1] if recent else now_ms)
    recent.extend([at_ms] * count)
    return Change(None, {key: Put(recent.tobytes(), at_ms + window_ms)})
