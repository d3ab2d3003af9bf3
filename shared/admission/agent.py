"""One project's ledger as seen by this process: spends what is booked, reports what was spent, and gives back the rest."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable

from shared.accounts.account import Account
from shared.admission.book import Book, Draw
from shared.admission.cadence import Cadence
from shared.admission.cancelled import Cancelled
from shared.admission.config import AgentConfig
from shared.admission.journal import Conversation, Journal
from shared.admission.line import Line
from shared.admission.names import Names
from shared.admission.renewal import Renewal
from shared.admission.server_clock import ServerClock
from shared.clock import elapsed_s
from shared.generation import Cost
from shared.ledger.state import COLLECTION, UNPROVEN, Grant, Refusal, Renew
from shared.stores.port import CommitUnknown, Liveness, Outcome, Store, StoreError, TimeSample

log = logging.getLogger(__name__)

RETURN_TIMEOUT_S = 2.0
LATE_S = 1.0
"""A caller whose time is up waits no longer for the ledger to take back what was held; it takes that later."""
NO_ROOM_S = 5.0
"""A model that the ledger has no room to count today is asked about again this much later."""
BACKOFF_LEAST_S, BACKOFF_MOST_S = 0.2, 5.0
SILENCE_S = 1.0
"""A ledger that is well answers sooner: who has waited less long cannot say that it does not."""
STALE_S = 12.0
"""A call that took longer than any may was interrupted by a process that stood still: it says nothing of the ledger now."""


class Agent:
    """Bound to one event loop. `changed(self)` is called whenever something may be dispatched that could not be before,
    and when the ledger has spoken."""

    def __init__(
        self,
        account: Account,
        store: Store,
        clock: ServerClock,
        config: AgentConfig,
        journal: Journal,
        changed: Callable[[Agent], None],
        liveness: Liveness | None = None,
    ) -> None:
        self.key = COLLECTION + account.ledger_id
        self.account, self.store, self.clock, self.config = account, store, clock, config
        self.journal, self.changed, self.liveness = journal, changed, liveness
        self.names = Names(account, config.known)
        self.callers_away: Callable[[], int] = lambda: 0
        """How many callers were rejected and are expected back."""
        self.books: dict[str, Book] = {}
        """By section."""
        self.line = Line(self.names.section)
        self.open: dict[int, str] = {}
        """Requests, each with its caller, that hold a slot: from the moment a permit was taken until the exchange is over."""
        self.cancelled = Cancelled(self._slot_freed)
        self.cap = 0
        self.held = 0
        """Slots that the ledger keeps for this process; more than `cap` while it drains."""
        self.claimed = 0
        """Slots that the ledger was last told are wanted here."""
        self.busiest = 0
        """The most requests open at once since the last look at the ledger."""
        self.service_s = 0.0
        """How long an exchange takes, lately."""
        self.authority_ms = 0.0
        self.tenure = 0
        """Grows when authority had lapsed before it was renewed: what was taken before has no slot any more."""
        self.grant: Grant | None = None
        self.number = int(elapsed_s() * 1000)
        """Of the last renew. It begins above those of an agent that this process had for the same ledger before."""
        self.refusals: list[Refusal] = []
        self.accepted = not account.caller_key
        self.writes = self.conflicts = 0
        self.pending: Renew | None = None
        """Sent, and nothing heard of it: it is sent again as it is."""
        self.peak = 0
        """The most requests open at once, lately."""
        self.cadence = Cadence(self)
        self._failures, self._not_before_s = 0, 0.0
        self._heard_s = 0.0
        """When the ledger last answered (elapsed time)."""
        self._task: asyncio.Task[None] | None = None
        self._task_s = self._timer_at_s = 0.0
        self._wake: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._return: asyncio.Task[None] | None = None
        self._busy_lately = False

    # -- spending ----------------------------------------------------------------------------------------------------

    def book(self, section: str) -> Book:
        section = self.names.root(section)
        book = self.books.get(section)
        if book is None:
            limits = self.names.limits(section)
            book = self.books[section] = Book(self.config.grid, limits, limits, single=section == UNPROVEN)
        return book

    def book_of(self, model: str) -> Book:
        """The one in which requests for the id `model` count."""
        return self.book(self.names.section(model))

    def draw(self, section: str, cost: Cost) -> Draw | None:
        """Permits and a slot for one request, now; None when one of them is missing."""
        if self.in_use() >= self.cap:
            return None
        lo_ms, hi_ms = self.clock.bounds_ms()
        if hi_ms > self.authority_ms:
            return None
        return self.book(section).draw(cost, lo_ms, hi_ms)

    def in_use(self) -> int:
        """Slots that exchanges hold now."""
        return len(self.open) + len(self.cancelled)

    def opened(self, request: int, caller: str) -> None:
        self.open[request] = caller
        self.line.enter(caller)
        self._busy_lately = True
        in_use = self.in_use()
        self.peak, self.busiest = max(self.peak, in_use), max(self.busiest, in_use)

    def closed(self, request: int, took_s: float, runs_on_s: float = 0.0) -> bool:
        """`runs_on_s`: for how long Gemini may still work on it. False when it was closed before."""
        if request not in self.open:
            return False
        self.line.leave(self.open.pop(request))
        if runs_on_s > 0:
            self.cancelled.add(runs_on_s)
            took_s += runs_on_s
        self.service_s = took_s if not self.service_s else 0.9 * self.service_s + 0.1 * took_s
        return True

    def out_of_permits(self, section: str) -> bool:
        """Whether not even the smallest request that counts in `section` could be dispatched now."""
        book = self.book(section)
        if self.in_use() >= self.cap:
            return True
        lo_ms, hi_ms = self.clock.bounds_ms()
        return hi_ms > self.authority_ms or not book.any_open(lo_ms, hi_ms)

    def failing(self) -> bool:
        """The ledger could not be reached more than once, and is left alone for a moment."""
        return self._failures >= 2 and elapsed_s() < self._not_before_s

    def silent_since(self, since_s: float) -> bool:
        """The ledger has not answered since then: it failed, or had time enough for one."""
        unanswered = self._task is not None and elapsed_s() - max(since_s, self._task_s) >= SILENCE_S
        return self._heard_s < since_s and (unanswered or self._failures > 0)

    def may_write(self, section: str, draw: Draw, tried_ms: float) -> bool:
        """The last check, right before the first byte: is all of it still ours at this moment?"""
        lo_ms, hi_ms = self.clock.bounds_ms()
        lasts = self.clock.known and hi_ms <= self.authority_ms
        return lasts and self.book(section).may_write(draw, tried_ms, lo_ms, hi_ms)

    def opens_in_s(self, sections: Iterable[str]) -> float | None:
        """When the next booking of one of `sections` opens that is not open yet."""
        lo_ms = self.clock.lo_ms()
        opens = [self.books[section].opens_ms(lo_ms) for section in sections if section in self.books]
        known = [at_ms for at_ms in opens if at_ms is not None]
        return (min(known) - lo_ms) / 1000 if known else None

    def expect(self) -> None:
        """Look again when the next booking opens that somebody waits for."""
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        opens_s = self.opens_in_s(self.line.models) if self.line.count and self.in_use() < self.cap else None
        if opens_s is not None:
            self._wake = asyncio.get_running_loop().call_later(opens_s + 0.0005, self._woken)

    def _woken(self) -> None:
        self._wake = None
        self.changed(self)
        self.poke()

    def _slot_freed(self) -> None:
        """A cancelled exchange is over at Gemini."""
        self.changed(self)
        self.poke()

    # -- deciding ----------------------------------------------------------------------------------------------------

    def idle(self) -> bool:
        return not self.open and not self.line.count

    def holds(self) -> bool:
        unsaid = any(book.has_news or book.held or book.settled for book in self.books.values())
        return bool(unsaid or self.held or self.pending or self.refusals or self.names.unsaid)

    def unused(self) -> bool:
        return self.idle() and not self.holds() and not self.cancelled and self._task is None

    def poke(self) -> None:
        """Something changed: renew now, or later, or not at all."""
        if self._task is not None:
            return
        wait_s = self.cadence.wait_s()
        if wait_s is None:
            return  # An armed timer finds that out by itself.
        wait_s = max(wait_s, self._not_before_s - elapsed_s())
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if wait_s > 0 and self._timer_at_s <= loop.time() + wait_s:
                return
            self._timer.cancel()
            self._timer = None
        if wait_s <= 0:
            self._converse()
        else:
            self._timer_at_s = loop.time() + wait_s
            self._timer = loop.call_at(self._timer_at_s, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        if self._task is None and self.cadence.wait_s() is not None:
            self._converse()

    # -- renewing ----------------------------------------------------------------------------------------------------

    def _converse(self, *, returning: bool = False) -> asyncio.Task[None]:
        self._task, self._task_s = asyncio.get_running_loop().create_task(self._run(returning)), elapsed_s()
        return self._task

    async def _run(self, returning: bool) -> None:
        """One conversation with the ledger. Whatever becomes of it, those who wait are looked at again after it."""
        writes = self.writes
        try:
            if returning or not self.cadence.only_looks() or await self._look():
                await self._renew()
            self._failures, self._heard_s = 0, elapsed_s()
        except Exception as error:  # Whoever waits here must be told, whatever it is.
            if not isinstance(error, StoreError):
                log.exception("the ledger's document cannot be used")
            self._failures = self._failures + 1 if elapsed_s() - self._task_s < STALE_S else 1
            longest_s = min(BACKOFF_MOST_S, BACKOFF_LEAST_S * 2**self._failures)
            self._not_before_s = elapsed_s() + random.uniform(BACKOFF_LEAST_S / 4, longest_s)
            log.warning("the ledger did not take a renew (%d in a row): %s", self._failures, error)
        finally:
            self._task = None
            self.journal.note(self.key, Conversation(self._task_s, elapsed_s(), self.writes > writes))
            self.changed(self)
            self.poke()

    async def _look(self) -> bool:
        """Read the ledger; whether a renew is of use."""
        reading = await self.store.read(self.key)
        self._observe((reading.sample,))
        self._failures, self._heard_s = 0, elapsed_s()
        return self.cadence.gains(reading)

    def _wrote(self, commits: int) -> None:
        self.writes += commits
        self.journal.writes += commits

    async def _renew(self) -> None:
        """Write one renew; when its fate is unknown the very same one is sent again next time."""
        if self.pending is None:
            self._measure()
            self.pending = self.cadence.message()
            self.refusals.clear()
            self.names.unsaid.clear()
            for book in self.books.values():
                book.settled, book.void, book.debt_tokens, book.answered_ms = {}, {}, 0, 0.0
            # What is given up with this message must not be used while it travels.
            self.cap = min(self.cap, self.pending.hold) if self.pending.want_slots else 0
        message = self.pending
        cached = self.grant is not None and self.grant.instances == 1
        renewal = Renewal(self.key, message, self.account, self.config, self.accepted, self.liveness)
        try:
            outcome: Outcome[Grant] = await self.store.transact([self.key], renewal.step, cached=cached)
        except CommitUnknown:
            self._wrote(1)
            raise
        self.pending = None
        self.number = message.number
        self._wrote(outcome.writes)
        self.conflicts += outcome.conflicts
        self._observe(outcome.samples)
        self._adopt(outcome.result, message)

    def _measure(self) -> None:
        now_s = elapsed_s()
        for book in self.books.values():
            book.measure(now_s)
        self.busiest = self.in_use()
        self.peak = max(self.busiest, int(self.peak * 0.8))

    def _adopt(self, grant: Grant, message: Renew) -> None:
        if self.clock.hi_ms() > self.authority_ms:
            self.tenure += 1
        self.grant, self.cap, self.authority_ms = grant, grant.cap, float(grant.authority_ms)
        # The slots of cancelled exchanges that an idle instance leaves with the ledger end by themselves.
        self.held, self.claimed = (max(message.hold, grant.cap) if message.want_slots else 0), message.want_slots
        self.cadence.scarce = grant.scarce_slots
        retry_s = elapsed_s() + grant.horizon_ms / 1000 * random.uniform(0.48, 0.56)
        self.renamed(self.names.hear(grant.names))
        kept, allotments = self.names.regrouped(message, grant)
        for section in kept.keys() & self.books.keys():
            self.books[section].retry_s = elapsed_s() + NO_ROOM_S
        for section, allotment in allotments.items():
            book = self.books.get(section)
            if book is not None:
                book.adopt(allotment, kept.get(section, {}), self.clock.lo_ms())
                book.told_s = elapsed_s()
                book.retry_s = retry_s if allotment.unmet.requests else 0.0
                book.spare_retry_s = elapsed_s() + self.cadence.flex_s() / 5
        self.keep_refusals()

    def _observe(self, samples: tuple[TimeSample, ...]) -> None:
        for sample in samples:
            if not self.clock.observe(sample):
                log.warning("the store's clock contradicts itself: permits are dropped and asked for again")
                self.authority_ms = 0.0

    def lingers(self) -> bool:
        """Where nobody misses what is held, it is given back a little later: the next request then costs no write."""
        linger_s = self.cadence.linger_s()
        if not linger_s:
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
            linger_s = self.cadence.linger_s() or self.config.linger_s
            self._linger = asyncio.get_running_loop().call_later(linger_s, self._lingered)
        elif self.idle():
            self._return = asyncio.get_running_loop().create_task(self.give_back())

    async def give_back(self, *, late: bool = False) -> None:
        """Nothing is open and nothing waits: settle and return all of it now, before the CPU may stop. What the ledger does
        not take in time is given back as soon as it does."""
        give_up_s = elapsed_s() + RETURN_TIMEOUT_S
        if late:
            give_up_s = (self._task_s if self._task is not None else elapsed_s()) + LATE_S
        while self.idle() and self.holds() and (left_s := give_up_s - elapsed_s()) > 0:
            if self._task is None:
                if self._not_before_s > elapsed_s():
                    return
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
            await asyncio.wait({self._task or self._converse(returning=True)}, timeout=left_s)

    async def aclose(self) -> None:
        for handle in filter(None, (self._timer, self._linger, self._wake)):
            handle.cancel()
        self._timer = self._linger = self._wake = None
        self.cancelled.close()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=RETURN_TIMEOUT_S)
        await self.give_back()

    # -- learning ----------------------------------------------------------------------------------------------------

    def refuse(self, refusal: Refusal) -> None:
        """Gemini said no: nothing more of that model is dispatched here, and every instance learns it with the next write."""
        self.refusals.append(refusal)
        self.keep_refusals()
        self.poke()

    def keep_refusals(self) -> None:
        """What Gemini said meanwhile holds, whatever the ledger, which has not heard of it yet, says of those models."""
        for refusal in self.refusals:
            stopped = self.names.root(refusal.model)
            for section, book in self.books.items():
                if not refusal.pressure and (refusal.kind == "spend" or section == stopped):
                    book.refused(refusal.reason)

    def metered(self, model: str, metered: str, section: str, slot: int, cost: Cost) -> None:
        """An answer to the id `model` named the model `metered`; the request was booked in `section`."""
        if self.renamed(self.names.learn(model, metered, section, slot, cost, self.clock.lo_ms())):
            self.poke()

    def renamed(self, news: bool) -> bool:
        """On news of names, what is held and who waits moves to the sections in which their ids count by now."""
        if news:
            for section, book in list(self.books.items()):
                if self.names.root(section) != section:
                    self.book(section).absorb(self.books.pop(section))
                book.limits = self.names.limits(section)
            self.line.rename()
        return news
