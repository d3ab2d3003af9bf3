"""How often one caller may ask, over all instances: so many requests in any minute, kept in the store.

One small document per caller holds the times of its requests in the last minute, and is gone a minute after the last of
them. A request that is refused writes nothing, and does not count. The window is exact by the store's clock.

Decision: without the store it fails closed. The ledger is in the same store, so that nothing could be generated anyway;
open, it would let callers spend on a ledger that comes back in the middle of a flood. A commit of unknown fate is made
again: at worst one request counts twice, never not at all.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address

from shared.errors import LedgerUnavailable, RateLimited
from shared.generation import Caller
from shared.secret import Secret
from shared.stores.port import Change, CommitUnknown, Put, Step, Store, StoreError

TRIES = 2
_IPV6_SITE_BITS = 64


class CallerRate:
    """`limit` requests in `window_s` for each caller; None: as many as they like."""

    def __init__(self, store: Store, limit: int | None, window_s: float = 60.0) -> None:
        self.limit = limit
        self._store = store
        self._window_ms = int(window_s * 1000)

    async def admit(self, caller: Caller) -> None:
        """Counts one request. Raises RateLimited with the time until there is room again, LedgerUnavailable."""
        limit = self.limit
        if limit is None:
            return
        key = f"rate/{Secret(bucket_of(caller)).fingerprint('rate')}"

        def step(values: Mapping[str, bytes | None], now_ms: int) -> Change[int | None]:
            return counted(key, values[key], now_ms, limit, self._window_ms)

        wait_ms = await self._transacted(key, step)
        if wait_ms is not None:
            raise RateLimited(
                f"This caller may ask {limit} times in {self._window_ms / 1000:g} s; that is used up for now.",
                retry_after_s=wait_ms / 1000,
                details={"limit": limit, "window_s": self._window_ms / 1000},
            )

    async def _transacted(self, key: str, step: Step[int | None]) -> int | None:
        """Not `cached`: on values seen earlier a step is told the time at which they were seen."""
        for left in reversed(range(TRIES)):
            try:
                return (await self._store.transact([key], step)).result
            except CommitUnknown:
                if not left:
                    break
            except StoreError:
                break
        raise LedgerUnavailable(
            "The callers' rates cannot be looked up, so nothing is sent; try again.", retry_after_s=5
        )


def counted(key: str, value: bytes | None, now_ms: int, limit: int, window_ms: int) -> Change[int | None]:
    """One more request at `now_ms`: None and the new document; or the milliseconds until it would fit, and no change."""
    times = array("q", value or b"")
    # An instance whose view of the store's clock is behind finds times ahead of it: they are in the window too.
    recent = times[bisect_right(times, now_ms - window_ms) :]
    if len(recent) >= limit:
        return Change(recent[len(recent) - limit] + window_ms - now_ms if limit else window_ms)
    recent.append(max(now_ms, recent[-1] if recent else now_ms))
    return Change(None, {key: Put(recent.tobytes(), recent[-1] + window_ms)})


def bucket_of(caller: Caller) -> str:
    """The caller's id; of an anonymous one with an IPv6 address its network, since a household has 2**64 addresses."""
    if caller.kind == "anonymous":
        try:
            address = ip_address(caller.id.removeprefix("ip:"))
        except ValueError:
            return caller.id
        if isinstance(address, IPv6Address):
            return f"ip6:{int(address) >> (128 - _IPV6_SITE_BITS):x}"
    return caller.id
