"""One project in one process: sets timers, makes the calls that `policy` decides on, applies their results to `holdings`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

from shared.accounts.account import Account
from shared.admission.bookings import PermitDraw
from shared.admission.budget import min_ahead_s
from shared.admission.call_log import LedgerCallLog
from shared.admission.config import ProcessConfig
from shared.admission.decisions import Contact, Linger, Looked, Message
from shared.admission.holdings import Holdings
from shared.admission.ledger_client import LedgerClient
from shared.admission.model_permits import ModelPermits
from shared.admission.policy import Policy
from shared.admission.returns import Returns
from shared.admission.server_clock import Instant, ServerClock
from shared.admission.wait_list import WaitList
from shared.clock import elapsed_s
from shared.generation import Cost
from shared.ledger.merging import lease_name
from shared.ledger.state import Named, QuotaSignal
from shared.stores.port import Liveness, Store

RETURN_TIMEOUT_S = 2.0
LATE_S = 1.0
"""Maximum time for which a caller whose deadline has passed waits until the ledger has taken back what was held."""


class ProjectClient:
    """Bound to one event loop. `changed(self)` is called whenever a request may be dispatched that could not be before, and
    after every call to the ledger; `moved(self, closed, survivor)` when the ledger was merged into another one."""

    def __init__(
        self,
        account: Account,
        store: Store,
        clock: ServerClock,
        config: ProcessConfig,
        call_log: LedgerCallLog,
        returns: Returns,
        changed: Callable[[ProjectClient], None],
        moved: Callable[[ProjectClient, str, str], None],
        liveness: Liveness | None = None,
    ) -> None:
        self.account, self.clock, self.config = account, clock, config
        self.holdings = Holdings(account, config)
        self.names = self.holdings.names
        self.wait_list = WaitList(self.names.section)
        self.ledger = LedgerClient(account, store, clock, config, call_log, liveness)
        self.policy = Policy(self.holdings, self.wait_list, random.uniform)
        self.accepted = not account.caller_key
        """Whether Gemini accepted the account's key."""
        self._returns, self._changed, self._moved = returns, changed, moved
        self._looked = Looked()
        self._task: asyncio.Task[None] | None = None
        """The call to the ledger that is under way."""
        self._return: asyncio.Task[None] | None = None
        self._contact: asyncio.TimerHandle | None = None
        self._contact_at_s = 0.0
        self._poked: asyncio.Handle | None = None
        self._opening: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._cancelled: asyncio.TimerHandle | None = None
        self._busy_lately = False

    # -- spending ----------------------------------------------------------------------------------------------------

    def reconfigure(self, account: Account) -> None:
        """Use the limits of `account`, which are from a newer configuration."""
        self.account = account
        self.holdings.reconfigure(account)
        self.poke()

    def permits_of(self, model: str) -> ModelPermits:
        """The permits of the section in which requests for the id `model` count."""
        return self.holdings.permits_of(model)

    def free_slots(self) -> int:
        return self.holdings.cap - self.holdings.in_use(elapsed_s())

    def draw(self, model: str, cost: Cost, ends_s: float) -> PermitDraw | None:
        """Reserve permits for one request for the id `model` with the deadline `ends_s`, now; None if permits or a slot are
        missing, or if the lease does not cover the deadline yet."""
        at = self.clock.instant()
        if self.holdings.covers(ends_s, at):
            return self.holdings.draw(self.names.section(model), cost, at)
        self.holdings.ask_to_cover(ends_s, at)
        return None

    def covers(self, ends_s: float) -> bool:
        """Whether a request with the deadline `ends_s` may begin, as far as its deadline is concerned."""
        return self.holdings.covers(ends_s, self.clock.instant())

    def expect(self, ends_s: float, now_s: float) -> None:
        """A request with the deadline `ends_s` came."""
        self.holdings.deadlines.expect(ends_s - now_s, now_s)

    def out_of_permits(self, section: str) -> bool:
        return self.holdings.out_of_permits(section, self.clock.instant())

    def begin(self, request: int, caller: str, ends_s: float, now_s: float) -> None:
        """`request`, whose deadline is `ends_s`, takes a slot."""
        self.holdings.begin(request, caller, now_s)
        self.holdings.deadlines.begin(request, ends_s, now_s)
        self.wait_list.enter(caller)
        self._busy_lately = True

    def end(self, request: int, took_s: float, runs_on_s: float, now_s: float) -> bool:
        """Give back the slot of `request`, on which Gemini may still work for `runs_on_s`. False if it had ended before."""
        caller = self.holdings.end(request, took_s, runs_on_s, now_s)
        if caller is None:
            return False
        self.wait_list.leave(caller)
        if runs_on_s > 0:
            self._expect_cancelled()
        return True

    def _expect_cancelled(self) -> None:
        """Serve waiting requests when the next cancelled exchange is over. Where the process is stopped before then, the ledger
        frees the slot by itself."""
        if self._cancelled is not None:
            self._cancelled.cancel()
            self._cancelled = None
        end_s = self.holdings.cancelled.next_end_s
        if end_s is not None:
            wait_s = max(0.0, end_s - elapsed_s()) + 0.001
            self._cancelled = asyncio.get_running_loop().call_later(wait_s, self._cancelled_over)

    def _cancelled_over(self) -> None:
        self._cancelled = None
        if self.holdings.cancelled.forget(elapsed_s()):
            self._changed(self)
            self.poke()
        self._expect_cancelled()

    def expect_opening(self) -> None:
        """Serve waiting requests when the next booking becomes valid that one of them needs."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if self.wait_list.count and self.free_slots() > 0:
            opens_s = self.holdings.next_opening_s(self.wait_list.models, self.clock.instant())
            if opens_s is not None:
                self._opening = asyncio.get_running_loop().call_later(opens_s + 0.0005, self._opened)

    def _opened(self) -> None:
        self._opening = None
        self._changed(self)
        self.poke()

    # -- calling the ledger ------------------------------------------------------------------------------------------

    def idle(self) -> bool:
        return not self.holdings.open and not self.wait_list.count

    def has_unreported(self) -> bool:
        """Whether the ledger must be sent anything, or holds anything for this process."""
        return self.ledger.pending is not None or self.holdings.has_unreported()

    def unused(self) -> bool:
        return (
            self.idle()
            and not self.has_unreported()
            and not self.holdings.cancelled.count(elapsed_s())
            and not self._task
        )

    def poke(self) -> None:
        """Something changed. Whether to contact the ledger is decided once for all changes of this turn of the event loop."""
        if self._task is None and self._poked is None:
            self._poked = asyncio.get_running_loop().call_soon(self._decide)

    def _decide(self) -> None:
        """Contact the ledger now, or later, or not at all."""
        self._poked = None
        if self._task is not None:
            return
        at = self.clock.instant()
        wait_s = self._next_contact_s(at)
        if wait_s is None:
            return  # A timer that is already set will find out.
        wait_s = max(wait_s, self.ledger.backoff_s(at.now_s))
        loop = asyncio.get_running_loop()
        if self._contact is not None:
            if wait_s > 0 and self._contact_at_s <= loop.time() + wait_s:
                return
            self._contact.cancel()
            self._contact = None
        if wait_s <= 0:
            self._call()
        else:
            self._contact_at_s = loop.time() + wait_s
            self._contact = loop.call_at(self._contact_at_s, self._contact_due)

    def _next_contact_s(self, at: Instant) -> float | None:
        action = self.policy.next_action(at, pending=self.ledger.pending is not None)
        if isinstance(action, Linger):
            self._keep_for(action.s)
        return action.after_s if isinstance(action, Contact) else None

    def _contact_due(self) -> None:
        self._contact = None
        if self._task is None and self._next_contact_s(self.clock.instant()) is not None:
            self._call()

    def _call(self, *, returning: bool = False) -> asyncio.Task[None]:
        self.ledger.begin_call()
        self._task = asyncio.get_running_loop().create_task(self._run(returning))
        return self._task

    async def _run(self, returning: bool) -> None:
        """One call to the ledger. After it, whether or not it failed, waiting requests are evaluated again. A loop that closes
        cancels the call: none follows it."""
        try:
            looked = not returning and self._read_suffices()
            if not looked or await self._read():
                await self._renew(looked=looked)
            self.ledger.succeeded()
        except Exception as error:  # noqa: BLE001 - logged there; waiting requests learn of it by `changed`.
            self.ledger.failed(error)
        finally:
            self._task = None
            self.ledger.end_call()
        self._changed(self)
        self.poke()

    def _read_suffices(self) -> bool:
        pending = self.ledger.pending is not None
        return self.policy.contact(self.clock.instant(), pending=pending) == "read"

    def _message(self) -> Message:
        away = self._returns.callers_away(self.account.ledger_id, self.wait_list.callers, elapsed_s())
        return Message(self.ledger.number + 1, away)

    async def _read(self) -> bool:
        """Read the ledger; returns whether a renew would help."""
        document, consistent = await self.ledger.read()
        if not consistent:
            self.holdings.lose_authority()
        if document is None:
            return True
        if document.state.moved:
            self._follow(document.state.moved)
            return True
        self._regroup(self.holdings.observe(document.state))
        at = self.clock.instant()
        found = self.policy.assess(document, self._looked, self._message(), at)
        self._looked = found.looked
        self.holdings.limit_slots(found.slots, at.now_s)
        return found.renew

    async def _renew(self, *, looked: bool) -> None:
        """Send one renew. A renew whose result is not known is sent again unchanged. `looked`: the document was just read."""
        request = self.ledger.pending
        if request is None:
            at = self.clock.instant()
            self.holdings.measure(at.now_s)
            plan = self.policy.plan(at, self._looked, self._message())
            self._looked = self._looked.claimed()
            request = self.holdings.prepare(plan, at.latest_ms)
        alone = self.holdings.grant is not None and self.holdings.grant.instances == 1
        grant, consistent = await self.ledger.renew(request, accepted=self.accepted, cached=alone or looked)
        if not consistent:
            self.holdings.lose_authority()
        if grant.moved:
            self._follow(grant.moved)
            return
        at = self.clock.instant()
        retry_s = at.now_s + self.policy.retry_s(grant)
        spare_retry_s = at.now_s + min_ahead_s(self.config.grid) / 5
        self._regroup(self.holdings.adopt(grant, request, at, retry_s, spare_retry_s))

    def _follow(self, survivor: str) -> None:
        """Go on at the ledger that this one was merged into. What is held stays valid: the survivor has the lease under the name
        that this process uses from now on, and the renew that the closed ledger did not apply is sent there."""
        closed = self.ledger.ledger_id
        self.config = self.holdings.config = replace(self.config, instance=lease_name(self.config.instance, closed))
        self.ledger.follow(survivor, self.config)
        self._looked = Looked()
        self._moved(self, closed, survivor)

    # -- giving back -------------------------------------------------------------------------------------------------

    def lingers(self) -> bool:
        """Whether an idle process keeps what it holds for a moment, so that the next request costs no write."""
        linger_s = self.policy.linger_s(self.clock.instant())
        if linger_s:
            self._keep_for(linger_s)
        return linger_s > 0

    def _keep_for(self, linger_s: float) -> None:
        if self._linger is None:
            self._linger = asyncio.get_running_loop().call_later(linger_s, self._lingered)

    def _lingered(self) -> None:
        self._linger = None
        if not self.has_unreported():
            return
        if self._busy_lately:
            self._busy_lately = False
            self._keep_for(self.policy.linger_s(self.clock.instant()) or self.config.linger_s)
        elif self.idle():
            self._return = asyncio.get_running_loop().create_task(self.give_back())

    async def give_back(self, *, late: bool = False) -> None:
        """Settle and return everything now, before the CPU may stop; nothing is open and nothing waits. What the ledger
        does not accept in time is returned as soon as it does. `late`: a caller whose deadline has passed waits for it."""
        give_up_s = elapsed_s() + RETURN_TIMEOUT_S
        if late:
            give_up_s = (self.ledger.began_s if self._task is not None else elapsed_s()) + LATE_S
        while self.idle() and self.has_unreported() and (left_s := give_up_s - elapsed_s()) > 0:
            if self._task is None:
                if self.ledger.backoff_s(elapsed_s()) > 0:
                    return
                if self._contact is not None:
                    self._contact.cancel()
                    self._contact = None
            await asyncio.wait({self._task or self._call(returning=True)}, timeout=left_s)

    async def aclose(self) -> None:
        for handle in filter(None, (self._poked, self._contact, self._linger, self._opening, self._cancelled)):
            handle.cancel()
        self._poked = self._contact = self._linger = self._opening = self._cancelled = None
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=RETURN_TIMEOUT_S)
        await self.give_back()

    # -- learning from Gemini ----------------------------------------------------------------------------------------

    def refuse(self, refusal: QuotaSignal) -> None:
        """Record Gemini's 429: the model is no longer dispatched here, and the next renew reports it."""
        self.holdings.refuse(refusal)
        self.poke()

    def learn_name(self, named: Named) -> None:
        """Record the model under which an id is metered."""
        if self._regroup(self.holdings.learn_name(named, self.clock.earliest_ms())):
            self.poke()

    def _regroup(self, renamed: bool) -> bool:
        """Move waiting requests to the sections in which their ids count now, where names changed."""
        if renamed:
            self.wait_list.rename()
        return renamed
