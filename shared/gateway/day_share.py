"""Anonymous callers' share of the day: at most half of a model's requests per day, over all instances.

They have no credential that could be taken from them, and addresses are cheap: with their rate alone, a few of them spend
the whole day, and callers with the server's admin key get nothing until midnight Pacific time.

Decision: one small document per model holds how many requests the anonymous callers have taken of the day that it names. A
request takes its part before it waits for a permit, and gives it back if it was not sent. That is exact: what was not taken
cannot be sent, and a part of a day that has ended meanwhile is taken anew. Alternatives: the same count in the ledger's
document would have to be booked beside the permits (each of them of one kind of caller), in every instance's lease; counting
after the dispatch writes as often, and admits as many too many as are under way. With several projects the share is half of
the sum of their limits, since a part is taken before it is known which project serves the request.

All requests of a process that take at the same time are one write. What is given back stays with the process for its next
request, and is lost when it ends: then anonymous callers get less than half.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shared.accounts.account import Account
from shared.admission.admission import Admission
from shared.errors import DailyQuotaExhausted, GatewayError, LedgerUnavailable
from shared.ledger.grid import pacific_day
from shared.secret import Secret
from shared.stores.port import Change, CommitUnknown, Put, Store, StoreError

TRIES = 2
MAX_RETURNED = 256
KEPT_MS = 3_600_000
"""How long the document outlives its day."""


class Part(NamedTuple):
    """The right to send one request for `model` on the day with this ordinal."""

    model: str
    day: int


class PartOfDay:
    """What one request holds of its caller's share. `share`: None for callers that may use the whole day."""

    __slots__ = ("_part", "_share")

    def __init__(self, share: DayShare | None) -> None:
        self._share = share
        self._part: Part | None = None

    async def take(self, accounts: Sequence[Account], model: str) -> None:
        """For the next dispatch. Raises DailyQuotaExhausted, LedgerUnavailable."""
        if self._share is not None and self._part is None:
            self._part = await self._share.take(accounts, model)

    def is_over(self) -> bool:
        """Whether what it holds is of a day that has ended."""
        return self._part is not None and self._share is not None and self._share.is_over(self._part)

    def settle(self, *, spent: bool) -> None:
        part, self._part = self._part, None
        if part is not None and self._share is not None and not spent:
            self._share.give_back(part)


class Taken(NamedTuple):
    """What a transaction took: so many parts of a day, which ends at `end_ms`; `now_ms` is the store's time."""

    parts: int
    day: int
    end_ms: int
    now_ms: int


class DayShare:
    """Bound to one event loop."""

    def __init__(self, store: Store, admission: Admission) -> None:
        self._store, self._admission = store, admission
        self._returned: dict[Part, int] = {}
        self._waiting: dict[str, list[asyncio.Future[Part]]] = {}
        self._takers: dict[str, asyncio.Task[None]] = {}

    async def take(self, accounts: Sequence[Account], model: str) -> Part | None:
        """A part of the day that `accounts` have for `model`; None where their day is unlimited. Raises DailyQuotaExhausted
        with the time until midnight, LedgerUnavailable."""
        section, limit = self._limit(accounts, model)
        if limit is None:
            return None
        if self._admission.clock.known:
            part = Part(section, pacific_day(self._admission.clock.earliest_ms()).ordinal)
            if self._returned.get(part) and not self.is_over(part):
                self._returned[part] -= 1
                return part
        future: asyncio.Future[Part] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(section, []).append(future)
        if section not in self._takers:
            self._takers[section] = asyncio.create_task(self._take_for_all(section, limit // 2, model))
        return await future

    def give_back(self, part: Part) -> None:
        """No request was sent for it."""
        if len(self._returned) >= MAX_RETURNED:
            self._returned.clear()
        self._returned[part] = self._returned.get(part, 0) + 1

    def is_over(self, part: Part) -> bool:
        """Whether its day has ended, or may have."""
        clock = self._admission.clock
        return clock.known and pacific_day(clock.latest_ms()).ordinal != part.day

    def _limit(self, accounts: Sequence[Account], model: str) -> tuple[str, int | None]:
        """The section of the ledger in which `model` counts, and what the accounts' projects allow per day together."""
        by_project = {account.ledger_id: account for account in accounts}
        section, total = model, 0
        for project, account in by_project.items():
            limit, agent = account.limits_for(model).requests_per_day, self._admission.projects.get(project)
            if agent is not None:
                section, limit = agent.names.section(model), agent.permits_of(model).effective.requests_per_day
            if limit is None:
                return section, None
            total += limit
        return section, total

    async def _take_for_all(self, section: str, share: int, model: str) -> None:
        # All that arrive until the store is asked are in the first write, the others in the next one.
        await asyncio.sleep(0)
        waiting = self._waiting[section]
        while waiting:
            futures, waiting[:] = [future for future in waiting if not future.done()], []
            if not futures:
                continue
            taken = await self._transacted(section, len(futures), share)
            for at, future in enumerate(futures):
                if taken is None:
                    _refuse(future, _unreachable())
                elif at >= taken.parts:
                    _refuse(future, _spent(model, share, taken))
                elif future.done():
                    self.give_back(Part(section, taken.day))
                else:
                    future.set_result(Part(section, taken.day))
        del self._waiting[section], self._takers[section]

    async def _transacted(self, section: str, count: int, share: int) -> Taken | None:
        """None: the store could not be reached."""
        key = f"rate/{Secret(section).fingerprint('day')}"

        def step(values: Mapping[str, bytes | None], now_ms: int) -> Change[Taken]:
            return taken_of(key, values[key], now_ms, count, share)

        for left in reversed(range(TRIES)):
            try:
                outcome = await self._store.transact([key], step)
            except CommitUnknown:
                if not left:
                    break
            except StoreError:
                break
            else:
                for sample in outcome.samples:
                    self._admission.clock.observe(sample)
                return outcome.result
        return None


def taken_of(key: str, value: bytes | None, now_ms: int, count: int, share: int) -> Change[Taken]:
    """Take up to `count` parts of a day of which there are `share`; the new document, or no change if none is left."""
    today = pacific_day(now_ms)
    day, used = array("q", value) if value else (today.ordinal, 0)
    # An instance whose view of the store's clock is behind finds the next day begun.
    if day < today.ordinal:
        day, used = today.ordinal, 0
    end_ms = today.end_ms if day == today.ordinal else pacific_day(today.end_ms).end_ms
    granted = max(0, min(count, share - used))
    taken = Taken(granted, day, end_ms, now_ms)
    return Change(taken, {key: Put(array("q", (day, used + granted)).tobytes(), end_ms + KEPT_MS)} if granted else {})


def _spent(model: str, share: int, taken: Taken) -> DailyQuotaExhausted:
    return DailyQuotaExhausted(
        f"Callers without a credential have used their {share} requests of {model} for today. They can send more after "
        "midnight Pacific time; with a credential there may be more now.",
        retry_after_s=max(1.0, (taken.end_ms - taken.now_ms) / 1000),
        details={"model": model, "limit": share},
    )


def _unreachable() -> LedgerUnavailable:
    return LedgerUnavailable("The day's requests cannot be looked up, so nothing is sent; try again.", retry_after_s=5)


def _refuse(future: asyncio.Future[Part], error: GatewayError) -> None:
    if not future.done():
        future.set_exception(error)
