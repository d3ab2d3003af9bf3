"""One project's ledger as seen by this process: spends what is booked, and decides when to write the next renew."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from shared.accounts.account import Account
from shared.admission.book import Book, Draw
from shared.admission.server_clock import ServerClock
from shared.clock import elapsed_s
from shared.generation import NO_COST, Cost
from shared.ledger.grid import Grid
from shared.ledger.packing import pack, unpack
from shared.ledger.slots import concurrency, in_turn
from shared.ledger.state import Demand, Grant, Refusal, Renew, State
from shared.ledger.step import renew as renew_step
from shared.stores.port import Change, CommitUnknown, Liveness, Outcome, Put, Store, StoreError, TimeSample

log = logging.getLogger(__name__)

FLEX_S = 5.0
SPARE_FACTOR = 1.5
POLL_S = 0.25
"""While something is scarce the document is read this often; a write follows only if it would gain something."""
RETURN_TIMEOUT_S = 2.0
DRAIN_S = 0.05
BACKOFF_LEAST_S, BACKOFF_MOST_S = 0.2, 5.0
GAIN_SHARE = 0.25
OWN_KEY_TTL_S, ACCEPTED_KEY_TTL_S = 600, 49 * 3600


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What every agent of a process has in common."""

    instance: str
    grid: Grid
    tau_s: float
    lease_s: float | None = None
    linger_s: float = 0.0
    """How long to hold on to permits after the last request. More than 0 only where this process keeps its CPU between
    requests and the store learns of its end (`Liveness`)."""


@dataclass(slots=True)
class Line:
    """What waits for this agent, as its queue sees it: per model the costs in serving order, and the patience of the head."""

    costs: dict[str, list[Cost]]
    patience_s: dict[str, float]
    oldest_s: float
    """When the oldest of them came (elapsed time); 0.0 when none waits."""
    callers: int
    count: int


class Queue(Protocol):
    def line(self, agent: Agent) -> Line: ...


class Agent:
    """Bound to one event loop. `changed()` is called whenever something may be dispatched that could not be before."""

    def __init__(
        self,
        account: Account,
        store: Store,
        clock: ServerClock,
        config: AgentConfig,
        queue: Queue,
        changed: Callable[[], None],
        liveness: Liveness | None = None,
    ) -> None:
        self.key = f"ledger/{account.ledger_id}"
        self.account, self.store, self.clock, self.config = account, store, clock, config
        self.queue, self.changed, self.liveness = queue, changed, liveness
        self.books: dict[str, Book] = {}
        self.open: set[int] = set()
        """Requests that hold a slot: from the moment a permit was taken until the exchange is over."""
        self.cap = 0
        self.held = 0
        """Slots that the ledger keeps for this process; more than `cap` while it drains."""
        self.service_s = 0.0
        """How long an exchange takes, lately."""
        self.authority_ms = 0.0
        self.grant: Grant | None = None
        self.number = 0
        self.refusals: list[Refusal] = []
        self.accepted = not account.own_key
        self.writes = 0
        self.conflicts = 0
        self.error: StoreError | None = None
        self._pending: Renew | None = None
        self._failures = 0
        self._not_before_s = 0.0
        self._peak = 0
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = 0.0
        self._linger: asyncio.TimerHandle | None = None
        self._return: asyncio.Task[None] | None = None
        self._busy_lately = False

    # -- spending ----------------------------------------------------------------------------------------------------

    def book(self, model: str) -> Book:
        book = self.books.get(model)
        if book is None:
            limits = self.account.limits_for(model)
            book = self.books[model] = Book(self.config.grid, limits, limits)
        return book

    def draw(self, model: str, cost: Cost) -> Draw | None:
        """Permits and a slot for one request, now; None when one of them is missing."""
        if len(self.open) >= self.cap:
            return None
        lo_ms, hi_ms = self.clock.bounds_ms()
        if hi_ms > self.authority_ms:
            return None
        return self.book(model).draw(cost, lo_ms, hi_ms)

    def opened(self, request: int) -> None:
        self.open.add(request)
        self._busy_lately = True
        self._peak = max(self._peak, len(self.open))

    def closed(self, request: int, took_s: float) -> bool:
        """False when it was closed before."""
        if request not in self.open:
            return False
        self.open.discard(request)
        self.service_s = took_s if not self.service_s else 0.9 * self.service_s + 0.1 * took_s
        return True

    def out_of_permits(self, model: str) -> bool:
        """Whether not even the smallest request of `model` could be dispatched now."""
        book = self.book(model)
        if len(self.open) >= self.cap:
            return True
        lo_ms, hi_ms = self.clock.bounds_ms()
        return hi_ms > self.authority_ms or not book.any_open(lo_ms, hi_ms)

    def failing(self) -> bool:
        """The ledger could not be reached more than once, and is left alone for a moment."""
        return self._failures >= 2 and elapsed_s() < self._not_before_s

    def may_write(self, model: str, draw: Draw) -> bool:
        """The last check, right before the first byte: is all of it still ours at this moment?"""
        lo_ms, hi_ms = self.clock.bounds_ms()
        return self.clock.known and hi_ms <= self.authority_ms and self.book(model).open_now(draw, lo_ms, hi_ms)

    def opens_in_s(self, models: set[str]) -> float | None:
        """When the next booking of one of `models` opens that is not open yet."""
        lo_ms, slot_ms = self.clock.lo_ms(), self.config.grid.slot_ms
        starts = [
            v.first * slot_ms - lo_ms
            for m in models
            if m in self.books
            for v, held in self.books[m].held.items()
            if held.available.requests and v.first * slot_ms > lo_ms
        ]
        return min(starts) / 1000 if starts else None

    # -- deciding ----------------------------------------------------------------------------------------------------

    def idle(self) -> bool:
        return not self.open and not self.queue.line(self).count

    def holds(self) -> bool:
        unsaid = any(book.held or book.settled for book in self.books.values())
        return bool(unsaid or self.cap or self._pending or self.refusals)

    def poke(self) -> None:
        """Something changed: renew now, or later, or not at all."""
        if self._task is not None:
            return
        wait_s = self._wait_s(self.queue.line(self))
        if wait_s is None:
            return
        wait_s = max(wait_s, self._not_before_s - elapsed_s())
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if wait_s > 0 and self._timer_at_s <= loop.time() + wait_s:
                return
            self._timer.cancel()
            self._timer = None
        if wait_s <= 0:
            self._task = loop.create_task(self._run())
        else:
            self._timer_at_s = loop.time() + wait_s
            self._timer = loop.call_at(self._timer_at_s, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self.poke()

    def _wait_s(self, line: Line) -> float | None:
        """How long until a renew is of use; None: nothing asks for one."""
        if self._pending or self.refusals:
            return 0.0
        if not line.count and not self.open:
            return None
        now_s = elapsed_s()
        lo_ms, hi_ms = self.clock.bounds_ms() if self.clock.known else (0.0, 0.0)
        if line.count and hi_ms >= self.authority_ms:
            return 0.0
        waits: list[float] = []
        if line.count:
            if len(self.open) >= self.cap:
                waits.append(0.0 if self.grant is None or not self.grant.scarce_slots else self._poll_s())
            waits += [self._permit_wait_s(book, line.costs.get(m, []), now_s) for m, book in self.books.items()]
            waits += [0.0 for m in line.costs if m not in self.books]
            waits.append(max(0.0, (self.authority_ms - hi_ms - self._lease_ms() / 2) / 1000))
        elif self.grant is not None and self.grant.scarce_slots and len(self.open) < self.cap:
            waits.append(self._poll_s())
        if self._owes_slots():
            waits.append(DRAIN_S)
        if any(self._runs_low(book, lo_ms) for book in self.books.values()):
            waits.append(0.0)
        return min(waits, default=None)

    def _permit_wait_s(self, book: Book, costs: list[Cost], now_s: float) -> float:
        if not costs or not any(book.effective.metered):
            return POLL_S * 4
        costs, have = costs[: max(1, self._soon())], book.available()
        enough = 2 * have.requests >= len(costs) or not book.effective.metered[0]
        if enough and (2 * have.input_tokens >= sum(c.input_tokens for c in costs) or not book.effective.metered[1]):
            return POLL_S * 4
        if now_s >= book.retry_s:
            return 0.0
        return min(book.retry_s - now_s, self._poll_s())

    @staticmethod
    def _poll_s() -> float:
        return POLL_S * random.uniform(0.5, 1.0)

    def _spare(self, book: Book) -> int:
        return round(book.per_s * FLEX_S * SPARE_FACTOR * self.config.grid.window_ms / 60_000)

    def _runs_low(self, book: Book, lo_ms: float) -> bool:
        """In plenty: less than 40 % of what is expected soon is booked for it."""
        if book.last is None or book.last.unmet.requests or not any(book.effective.metered):
            return False
        spare = self._spare(book)
        soon_slot = self.config.grid.slot(lo_ms + 0.35 * FLEX_S * self.config.grid.window_ms / 60)
        fresh = sum(h.available.requests for v, h in book.held.items() if v.last >= soon_slot)
        return spare >= 2 and fresh < 0.4 * spare and elapsed_s() >= max(book.retry_s, book.spare_retry_s)

    # -- renewing ----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._renew_or_look()
        finally:
            self._task = None
        self.changed()
        self.poke()

    async def _renew_or_look(self) -> None:
        try:
            if self._only_polls() and not await self._gains():
                return
            await self._renew()
            self._failures, self.error = 0, None
        except StoreError as error:
            self._failures += 1
            self.error = error
            longest = min(BACKOFF_MOST_S, BACKOFF_LEAST_S * 2**self._failures)
            self._not_before_s = elapsed_s() + random.uniform(BACKOFF_LEAST_S / 4, longest)
            log.warning("ledger write failed: %s", error)

    def _only_polls(self) -> bool:
        """Nothing is due: the ledger said that something is scarce, so first look whether that changed."""
        if self._pending or self.refusals or self.grant is None or not self.clock.known:
            return False
        now_s, (lo_ms, hi_ms) = elapsed_s(), self.clock.bounds_ms()
        line = self.queue.line(self)
        if hi_ms >= self.authority_ms or any(self._runs_low(b, lo_ms) for b in self.books.values()):
            return False
        half_gone = self.authority_ms - hi_ms < self._lease_ms() / 2
        due = any(
            costs and (m not in self.books or self._permit_wait_s(self.books[m], costs, now_s) <= 0)
            for m, costs in line.costs.items()
        )
        needs_slot = line.count > 0 and len(self.open) >= self.cap and not self.grant.scarce_slots
        return not (half_gone or due or needs_slot or self._owes_slots())

    def _owes_slots(self) -> bool:
        """The ledger lowered the cap below what was open then; by now enough of it has ended."""
        return self.held > self.cap and len(self.open) <= self.cap

    def _lease_ms(self) -> float:
        return self.config.lease_s * 1000 if self.config.lease_s else 10_000

    async def _gains(self) -> bool:
        """Read the ledger and try the renew on a copy: would it get slots or permits that it does not have, or owe some?"""
        reading = await self.store.read(self.key)
        self._observe((reading.sample,))
        if reading.value is None:
            return True
        state = unpack(reading.value)
        line = self.queue.line(self)
        message = self._message(line, peek=True)
        c = concurrency(state, self.account.concurrency, int(reading.sample.server_ms))
        waits_for_slot = line.count > 0 and len(self.open) >= self.cap
        turn = in_turn(state, self.config.instance, c)
        grant = renew_step(state, message, int(reading.sample.server_ms), self.config.grid)
        if grant.cap < self.cap or (waits_for_slot and turn and grant.cap > self.cap):
            return True
        for model, demand in message.demands.items():
            book, got = self.books[model], grant.allotments[model].bookings
            new = sum(c.requests for c in got.values()) - sum(c.requests for c in demand.kept.values())
            share = (book.last.per_s if book.last else 0.0) * grant.horizon_ms / 1000
            if demand.wants and new >= max(1.0, GAIN_SHARE * share):
                return True
        return False

    async def _renew(self) -> None:
        """Write one renew; when its fate is unknown the very same one is sent again next time."""
        if self._pending is None:
            self._measure()
            self._pending = self._message(self.queue.line(self))
            self.refusals.clear()
            for book in self.books.values():
                book.settled = {}
        message = self._pending
        cached = self.grant is not None and self.grant.instances == 1
        outcome: Outcome[Grant] = await self.store.transact(
            [self.key], lambda v, now: self._step(v, now, message), cached=cached
        )
        self._pending = None
        self.number = message.number
        self.writes += outcome.writes
        self.conflicts += outcome.conflicts
        self._observe(outcome.samples)
        self._adopt(outcome.result, message)

    def _step(self, values: dict[str, bytes | None] | object, now_ms: int, message: Renew) -> Change[Grant]:
        blob = values[self.key]  # type: ignore[index]
        state = unpack(blob) if blob else State(self.config.grid.window_ms)
        if self.liveness is not None:
            gone = frozenset(i for i in state.leases if i != message.instance and self.liveness.gone(i))
            message = replace(message, gone=gone)
        grant = renew_step(state, message, now_ms, self.config.grid)
        if not grant.fresh:
            return Change(grant)
        expires_ms = None
        if self.account.own_key:
            expires_ms = state.now_ms + 1000 * (ACCEPTED_KEY_TTL_S if self.accepted else OWN_KEY_TTL_S)
        return Change(grant, {self.key: Put(pack(state), expires_ms)})

    def _measure(self) -> None:
        now_s = elapsed_s()
        for book in self.books.values():
            book.measure(now_s)
        self._peak = max(len(self.open), int(self._peak * 0.8))

    def _soon(self) -> int:
        """How many requests can be dispatched before the horizon, by the slots at hand and the time one takes."""
        if self.grant is None or not self.service_s or not self.cap:
            return self.account.concurrency * 4
        return self.cap - len(self.open) + int(self.cap * self.grant.horizon_ms / 1000 / self.service_s) + 1

    def _message(self, line: Line, *, peek: bool = False) -> Renew:
        """What to tell the ledger now. A peek changes nothing here."""
        lo_ms, hi_ms = self.clock.bounds_ms() if self.clock.known else (0.0, 0.0)
        wanted = len(self.open) + line.count
        demands: dict[str, Demand] = {}
        for model in list(self.books):
            book, costs = self.books[model], line.costs.get(model, [])[: max(1, self._soon())]
            spare = self._spare(book) if wanted else 0
            if not peek:
                book.trim((len(costs) + spare) if wanted else 0)
                book.expire(hi_ms)
                if not (costs or book.held or book.settled or wanted):
                    del self.books[model]
                    continue
            demands[model] = book.demand(costs, spare, int(line.patience_s.get(model, 0.0) * 1000))
        for model in line.costs.keys() - self.books.keys():
            book = self.book(model)
            demands[model] = book.demand(line.costs[model], 0, int(line.patience_s[model] * 1000))
        waited_ms = (elapsed_s() - line.oldest_s) * 1000 if line.oldest_s else 0.0
        busy = any(self._spare(book) for book in self.books.values())
        return Renew(
            instance=self.config.instance,
            number=self.number + 1,
            lo_ms=int(lo_ms),
            concurrency=self.account.concurrency,
            tau_ms=int(self.config.tau_s * 1000),
            lease_ms=int((self.config.lease_s or 0) * 1000),
            open_requests=len(self.open),
            want_slots=wanted,
            spare_slots=(max(0, self._peak - wanted) + 2) if wanted and busy else 0,
            oldest_ms=int(lo_ms - waited_ms) if line.oldest_s else 0,
            callers=max(1, line.callers),
            demands=demands,
            refusals=tuple(self.refusals),
        )

    def _adopt(self, grant: Grant, message: Renew) -> None:
        self.grant, self.cap, self.authority_ms = grant, grant.cap, float(grant.authority_ms)
        self.held = max(message.open_requests, grant.cap)
        retry_s = elapsed_s() + grant.horizon_ms / 2000 * random.uniform(0.9, 1.1)
        for model, allotment in grant.allotments.items():
            book = self.books.get(model)
            if book is not None:
                book.adopt(allotment, message.demands[model].kept)
                book.retry_s = retry_s if allotment.unmet.requests else 0.0
                book.spare_retry_s = elapsed_s() + 0.2 * FLEX_S * self.config.grid.window_ms / 60_000

    def _observe(self, samples: tuple[TimeSample, ...]) -> None:
        for sample in samples:
            if not self.clock.observe(sample):
                log.warning("the store's clock contradicts itself: permits are dropped and asked for again")
                self.authority_ms = 0.0

    def lingers(self) -> bool:
        """Where nobody misses what is held, it is given back a little later: the next request then costs no write."""
        linger_s = self.config.linger_s
        if not linger_s or self.grant is None or self.grant.scarce_slots or self.grant.instances > 1:
            return False
        if self._linger is None:
            self._linger = asyncio.get_running_loop().call_later(linger_s, self._lingered)
        return True

    def _lingered(self) -> None:
        self._linger = None
        if not self.holds():
            return
        if self._busy_lately:
            self._busy_lately = False
            self._linger = asyncio.get_running_loop().call_later(self.config.linger_s, self._lingered)
        elif self.idle():
            self._return = asyncio.get_running_loop().create_task(self.give_back())

    async def give_back(self) -> None:
        """Nothing is open and nothing waits: settle and return all of it now, before the CPU may stop."""
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + RETURN_TIMEOUT_S
        while self.idle() and self.holds() and loop.time() < give_up_s:
            if self._task is None:
                if self._not_before_s > elapsed_s():
                    return
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
                self._task = loop.create_task(self._run_return())
            await asyncio.wait({self._task}, timeout=max(0.0, give_up_s - loop.time()))

    async def aclose(self) -> None:
        for handle in filter(None, (self._timer, self._linger)):
            handle.cancel()
        self._timer = self._linger = None
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=RETURN_TIMEOUT_S)
        await self.give_back()

    async def _run_return(self) -> None:
        try:
            await self._renew()
            self._failures, self.error = 0, None
        except StoreError as error:
            self.error = error
            self._not_before_s = elapsed_s() + BACKOFF_LEAST_S
            log.warning("giving permits back failed, they lapse by themselves: %s", error)
        finally:
            self._task = None
        self.changed()
        self.poke()

    # -- telling -----------------------------------------------------------------------------------------------------

    def eta_s(self, model: str, ahead: Cost) -> float | None:
        """When a request behind `ahead` is served, as far as the calendar tells (seconds from now); None: not known."""
        book = self.books.get(model)
        if book is None or book.last is None:
            return None
        last, lo_ms = book.last, self.clock.lo_ms()
        behind = ahead.requests - book.available().requests
        if behind < 0:
            return self.opens_in_s({model}) or 0.0
        if not last.next_ms and not last.per_s:
            return None
        first_s = max(0.0, (last.next_ms - lo_ms) / 1000) if last.next_ms else 0.0
        return first_s + (behind / last.per_s if last.per_s else 0.0)

    def refuse(self, refusal: Refusal) -> None:
        """Gemini said no: nothing more of that model is dispatched here, and every instance learns it with the next write."""
        self.refusals.append(refusal)
        book = self.books.get(refusal.model)
        if book is not None and not refusal.pressure:
            for held in book.held.values():
                held.available = NO_COST
        self.poke()


__all__ = ["Agent", "AgentConfig", "CommitUnknown", "Line", "Queue"]
