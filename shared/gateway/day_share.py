"""The share of anonymous callers in the daily quota: at most half of a model's requests per day, over all instances.

An anonymous caller has no credential that could be revoked, and addresses are cheap: limited by their rates alone, a few of
them could use up the daily quota, and callers with the server's admin key would get nothing until midnight Pacific time.

Decision: one small document per model counts the requests that anonymous callers have reserved for the day that it names. A
request reserves its part before it waits for a permit, and returns it if it was not sent. The count is exact: a request
without a part is not sent, and a request whose part is of a day that has ended reserves another one. Alternatives: the same
count in the ledger's document would have to be kept with the permits, separately for each kind of caller, in every instance's
lease; counting after the dispatch writes as often, and exceeds the share by all requests in progress. With several projects
the share is half of the sum of their limits, because a part is reserved before a project is chosen.

All requests of a process that reserve at the same time share one write. A returned part stays in the process for its next
request, and is lost when the process ends: anonymous callers then get less than half.
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
from shared.stores.port import Change, Put, Store, StoreError, transact_repeated

MAX_RETURNED = 256
RETENTION_MS = 3_600_000
"""How long the document is kept after its day."""


class Part(NamedTuple):
    """The right to send one request for `model` on the day with this ordinal."""

    model: str
    day: int


class PartOfDay:
    """The parts that one dispatch holds: one for each of its `requests`. `share`: None for a caller that may use the whole daily
    quota."""

    __slots__ = ("_parts", "_requests", "_share")

    def __init__(self, share: DayShare | None, requests: int = 1) -> None:
        self._share, self._requests = share, requests
        self._parts: list[Part] = []

    async def take(self, accounts: Sequence[Account], model: str) -> None:
        """Reserves the parts for the next dispatch. Raises DailyQuotaExhausted, LedgerUnavailable."""
        share = self._share
        if share is None or self._parts:
            return
        if self._requests == 1:
            part = await share.take(accounts, model)
            self._parts = [part] if part is not None else []
            return
        taken = await asyncio.gather(
            *(share.take(accounts, model) for _ in range(self._requests)), return_exceptions=True
        )
        self._parts = [part for part in taken if isinstance(part, Part)]
        for error in taken:
            if isinstance(error, BaseException):
                self.settle(spent=False)
                raise error

    def is_over(self) -> bool:
        """Whether the day of any part has ended."""
        return self._share is not None and any(map(self._share.is_over, self._parts))

    def settle(self, *, spent: bool) -> None:
        parts, self._parts = self._parts, []
        if self._share is not None and not spent:
            for part in parts:
                self._share.give_back(part)


class Taken(NamedTuple):
    """The number of parts that a transaction reserved, and their day, which ends at `end_ms`; `now_ms` is the store's time."""

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
        """A part of the daily quota that `accounts` have for `model`; None if that is unlimited. Raises DailyQuotaExhausted
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
        """Returns a part for which no request was sent."""
        if len(self._returned) >= MAX_RETURNED:
            self._returned.clear()
        self._returned[part] = self._returned.get(part, 0) + 1

    def is_over(self, part: Part) -> bool:
        """Whether the part's day has ended, or may have."""
        clock = self._admission.clock
        return clock.known and pacific_day(clock.latest_ms()).ordinal != part.day

    def _limit(self, accounts: Sequence[Account], model: str) -> tuple[str, int | None]:
        """The section of the ledger in which `model` counts, and the sum of the projects' limits per day."""
        by_project = {self._admission.clients.ledger_of(account): account for account in accounts}
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
        # Requests that arrive before the transaction begins share it; later ones share the next.
        await asyncio.sleep(0)
        waiting = self._waiting[section]
        while waiting:
            futures, waiting[:] = [future for future in waiting if not future.done()], []
            if not futures:
                continue
            taken = await self._transacted(section, len(futures), share)
            for at, future in enumerate(futures):
                if taken is None:
                    _fail(future, _unreachable())
                elif at >= taken.parts:
                    _fail(future, _spent(model, share, taken))
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

        try:
            outcome = await transact_repeated(self._store, [key], step)
        except StoreError:
            return None
        for sample in outcome.samples:
            self._admission.clock.observe(sample)
        return outcome.result


def taken_of(key: str, value: bytes | None, now_ms: int, count: int, share: int) -> Change[Taken]:
    """Reserves up to `count` parts of a day that has `share` of them: the new document, or no change if none is left."""
    today = pacific_day(now_ms)
    day, used = array("q", value) if value else (today.ordinal, 0)
    # The document may be of the next day already: this instance's estimate of the store's time can be behind.
    if day < today.ordinal:
        day, used = today.ordinal, 0
    end_ms = today.end_ms if day == today.ordinal else pacific_day(today.end_ms).end_ms
    granted = max(0, min(count, share - used))
    taken = Taken(granted, day, end_ms, now_ms)
    return Change(
        taken, {key: Put(array("q", (day, used + granted)).tobytes(), end_ms + RETENTION_MS)} if granted else {}
    )


def _spent(model: str, share: int, taken: Taken) -> DailyQuotaExhausted:
    return DailyQuotaExhausted(
        f"Daily quota for {model} exceeded by callers without a credential ({share} requests). It resets at midnight Pacific "
        "time; send a credential to use the rest.",
        retry_after_s=max(1.0, (taken.end_ms - taken.now_ms) / 1000),
        details={"model": model, "limit": share},
    )


def _unreachable() -> LedgerUnavailable:
    return LedgerUnavailable("The daily quota cannot be read, so no request is sent; retry later.", retry_after_s=5)


def _fail(future: asyncio.Future[Part], error: GatewayError) -> None:
    if not future.done():
        future.set_exception(error)
