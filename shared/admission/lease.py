"""The right to one exchange with Gemini: checked at the socket, settled when the exchange is over."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from shared.accounts.account import Account
from shared.admission.agent import Agent
from shared.admission.answer_times import AnswerTimes
from shared.admission.book import Draw
from shared.admission.cancelled import runs_on_s
from shared.admission.queue import Waiter
from shared.clock import elapsed_s
from shared.generation import NO_COST, Cost, RateLimit, RateStatus
from shared.ledger.state import UNPROVEN, Refusal
from shared.ledger.step import MIN_DEADLINE_MS


class PermitLapsed(Exception):
    """Between taking the permit and writing the request too much time passed; nothing was written."""


class Owner(Protocol):
    """Who serves what a closed lease leaves free."""

    def released(self, agent: Agent) -> None: ...

    async def settle_idle(self, waiter: Waiter) -> None: ...

    @property
    def durations(self) -> AnswerTimes: ...


class Lease:
    """The right to one exchange with Gemini on `account`. `check` right before the first byte, `close` when it ended."""

    __slots__ = (
        "_agent", "_dispatched_s", "_draw", "_named", "_owner", "_since_s", "_slot", "_tenure", "_tried_ms", "account", "cost",
        "deadline_s", "model", "queued_s", "section", "waiter",
    )  # fmt: skip

    def __init__(
        self, owner: Owner, agent: Agent, account: Account, waiter: Waiter, draw: Draw, queued_s: float
    ) -> None:
        self._owner, self._agent, self._draw = owner, agent, draw
        self._slot: int | None = None
        self._named = False
        self._tenure = agent.tenure
        self.account, self.model, self.cost, self.waiter = account, waiter.model, waiter.cost, waiter
        self.section = agent.names.section(waiter.model)
        """Of the ledger, in which its permit was booked."""
        self.queued_s = queued_s
        self._since_s = self._dispatched_s = elapsed_s()
        self.deadline_s = waiter.ends_s
        """When Gemini ends the exchange at the latest (elapsed time)."""
        book = agent.book(self.section)
        self._tried_ms = book.tried_ms if book.blocked_ms else 0.0
        """Not 0: this is the request that tries whether a cool-down is over."""
        agent.opened(id(self), waiter.caller)

    @property
    def dispatched(self) -> bool:
        return self._slot is not None

    @property
    def dispatched_ms(self) -> float:
        """When it was dispatched, by the store's clock; now, if it was not."""
        grid, hi_ms = self._agent.config.grid, self._agent.clock.hi_ms()
        return hi_ms if self._slot is None else min(hi_ms, grid.start_ms(self._slot))

    def check(self) -> None:
        """Raises PermitLapsed unless the permit holds at this very moment; then the request counts as dispatched. Asked once
        more before the first byte, it counts as dispatched at that moment, or not at all."""
        agent = self._agent
        proven = self.section == UNPROVEN != agent.names.section(self.model)  # Meanwhile: it counts elsewhere now.
        if self._tenure != agent.tenure or proven or not agent.may_write(self.section, self._draw, self._tried_ms):
            self._take_back()
            raise PermitLapsed
        if self._slot is not None:
            self.sent()
            return
        hi_ms = agent.clock.hi_ms()
        self._dispatched_s = elapsed_s()
        self._slot = agent.config.grid.slot(hi_ms)
        agent.book(self.section).spend(self._draw, self.cost, self._slot)
        agent.poke()  # However long the exchange takes, its dispatch is reported while its booking is still counted.

    def _take_back(self) -> None:
        """What counted as dispatched was not; its permit is spent."""
        if self._slot is not None:
            self._agent.book(self.section).correct(NO_COST.minus(self.cost), self._slot)
            self._slot, self._draw = None, ()

    def sent(self) -> None:
        """The last byte was written: if that took until a later slot, the request counts there."""
        slot = self._agent.config.grid.slot(self._agent.clock.hi_ms())
        if self._slot is not None and slot != self._slot:
            book = self._agent.book(self.section)
            book.correct(NO_COST.minus(self.cost), self._slot)
            book.correct(self.cost, slot)
            self._slot = slot

    def refuse(self, refusal: Refusal, named: str | None = None) -> None:
        """A 429. Where it is about a model's quota it proves that the model exists; `named` is the model whose quota it is."""
        names = self._agent.names
        if not refusal.pressure and refusal.kind != "spend" and (named or names.section(self.model) == UNPROVEN):
            self.metered(named)
        self._agent.refuse(replace(refusal, model=names.section(refusal.model)))

    def metered(self, model: str | None) -> None:
        """Gemini answered, and named the model that was metered. None: it named none; then it is the requested one, unless
        something else is known of that."""
        if self._slot is not None and (model is not None or self.section == UNPROVEN):
            self._named = True
            self._agent.metered(self.model, model or self.model, self.section, self._slot, self.cost)

    def not_found(self) -> None:
        """Gemini has no such model: no day counts the request, and an id that was proven is not any more."""
        if self._slot is not None:
            void = self._agent.book(self.section).void
            void[self._slot] = void.get(self._slot, 0) + self.cost.requests
            self._agent.renamed(self._agent.names.forget(self.model))

    def accepted(self) -> None:
        """Gemini took the credential."""
        self._agent.accepted = True

    def answered(self) -> None:
        """Gemini did not refuse the request for want of a quota, whatever else it answers."""
        if self._tried_ms:
            self._agent.book(self.section).tried(self._tried_ms, answered=True)
            self._tried_ms = 0.0
            self._agent.poke()  # It is told at once.

    def completed(self) -> None:
        """The whole answer is here: it tells how long exchanges with the model take."""
        now_s = elapsed_s()
        self._owner.durations.record(self.model, now_s - self._dispatched_s, now_s)

    def _runs_on_s(self) -> float:
        """For how long Gemini may still work on the exchange, which was cancelled just now."""
        if self._slot is None or self._agent.config.cancels:
            return 0.0
        now_s = elapsed_s()
        deadline_s = max(self.deadline_s, self._dispatched_s + MIN_DEADLINE_MS / 1000)
        usual_s = self._owner.durations.left_s(self.model, now_s - self._dispatched_s, now_s)
        return runs_on_s(deadline_s - now_s, usual_s)

    async def close(self, input_tokens: int | None = None, *, cancelled: bool = False) -> None:
        """The exchange is over, or never began. With the tokens Gemini counted, the reservation is corrected to them. One that
        was `cancelled` before Gemini had ended it keeps its slot for as long as Gemini may work on it.

        When nothing else is open or waiting, all that this process holds is settled and returned before this returns."""
        agent = self._agent
        if not agent.closed(id(self), elapsed_s() - self._since_s, self._runs_on_s() if cancelled else 0.0):
            return
        if self._slot is None:
            agent.book(self.section).put_back(self._draw)
        elif input_tokens is not None and input_tokens != self.cost.input_tokens:
            excess = input_tokens - self.cost.input_tokens
            book, also = agent.book(self.section), agent.book_of(self.model)
            book.correct(Cost(0, excess), self._slot)
            if self._named and also is not book:  # In the section that its answer named it counts too.
                also.correct(Cost(0, excess), self._slot)
            (also if self._named else book).debt_tokens += max(0, excess)
        if self._tried_ms:
            agent.book(self.section).tried(self._tried_ms, answered=False)
        self._owner.released(agent)
        await self._owner.settle_idle(self.waiter)

    def rate_status(self) -> RateStatus:
        """The limits that apply now, and what a window that ends now has left for this process. A limit is whole again when
        no window holds this dispatch any more."""
        grid, latest_ms = self._agent.config.grid, self._agent.clock.hi_ms()
        book = self._agent.book(self.section)
        limits, free, mine = book.effective, book.last.free if book.last else NO_COST, book.available(latest_ms)
        reset_s = 0.0 if self._slot is None else max(0.0, (grid.start_ms(self._slot + grid.span) - latest_ms) / 1000)
        return RateStatus(*(
            None if limit is None else RateLimit(limit, min(limit, free[k] + mine[k]), reset_s)
            for k, limit in enumerate(limits[:2])
        ))  # fmt: skip
