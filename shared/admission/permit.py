"""The right to one exchange with Gemini: checked at the socket, settled when the exchange is over."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from shared.accounts.account import Account
from shared.admission.answer_times import AnswerTimes
from shared.admission.bookings import PermitDraw
from shared.admission.cancelled import runs_on_s
from shared.admission.model_permits import ModelPermits
from shared.admission.project import ProjectClient
from shared.admission.queue import Waiter
from shared.clock import elapsed_s
from shared.generation import NO_COST, UNLIMITED_RATE, Cost, RateLimit, RateStatus
from shared.ledger.state import BATCHES, UNPROVEN, Named, QuotaSignal
from shared.ledger.step import MIN_DEADLINE_MS


class PermitLapsed(Exception):
    """Too much time passed between taking the permit and writing the request; nothing was written."""


class Owner(Protocol):
    """Serves waiting requests with what a closed permit leaves free."""

    def released(self, project: ProjectClient) -> None: ...

    async def settle_idle(self, waiter: Waiter) -> None: ...

    @property
    def durations(self) -> AnswerTimes: ...


class Permit:
    """The right to one exchange with Gemini on `account`. Call `check` right before the first byte, `close` at the end."""

    __slots__ = (
        "_dispatched_s", "_draw", "_epoch", "_named", "_owner", "_probe_ms", "_project", "_since_s", "_slot", "account", "cost",
        "deadline_s", "model", "queued_s", "section", "waiter",
    )  # fmt: skip

    def __init__(
        self, owner: Owner, project: ProjectClient, account: Account, waiter: Waiter, draw: PermitDraw, queued_s: float
    ) -> None:
        self._owner, self._project, self._draw = owner, project, draw
        self._slot: int | None = None
        self._named = False
        self._epoch = project.holdings.epoch
        self.account, self.model, self.cost, self.waiter = account, waiter.model, waiter.cost, waiter
        self.section = project.names.section(waiter.model)
        """The section of the ledger in which the permit was booked."""
        self.queued_s = queued_s
        self._since_s = self._dispatched_s = elapsed_s()
        self.deadline_s = waiter.ends_s
        """Latest time at which Gemini ends the exchange (elapsed time)."""
        permits = self._permits()
        self._probe_ms = permits.probing_ms if permits.open_until_ms else 0.0
        """The right to probe of a request that is a circuit's probe; 0 for any other."""
        project.begin(id(self), waiter.caller, waiter.ends_s, self._since_s)

    def _permits(self) -> ModelPermits:
        return self._project.holdings.permits(self.section)

    @property
    def dispatched(self) -> bool:
        return self._slot is not None

    @property
    def dispatched_ms(self) -> float:
        """When the request was dispatched, by the store's clock; the current time if it was not."""
        grid, latest_ms = self._project.config.grid, self._project.clock.latest_ms()
        return latest_ms if self._slot is None else min(latest_ms, grid.start_ms(self._slot))

    def check(self) -> None:
        """Count the request as dispatched now. Raises PermitLapsed if the permit does not hold at this moment. A second check
        before the first byte moves the dispatch to that moment, or takes it back."""
        project = self._project
        lapsed = self._is_moved() or self._epoch != project.holdings.epoch
        at, holdings = project.clock.instant(), project.holdings
        lapsed = lapsed or not holdings.covers(self.deadline_s, at)
        if lapsed or not holdings.may_write(self.section, self._draw, self._probe_ms, at):
            self._take_back()
            raise PermitLapsed
        holdings.deadlines.begin(id(self), self.deadline_s, at.now_s)
        if self._slot is not None:
            self.sent()
            return
        self._dispatched_s = at.now_s
        self._slot = project.config.grid.slot(at.latest_ms)
        self._permits().dispatch(self._draw, self.cost, self._slot)
        project.poke()  # However long the exchange takes, its dispatch is reported while its booking is still counted.

    def _is_moved(self) -> bool:
        """Whether an answer showed that requests for this id count in another section than the one of this permit."""
        return self.section != self._project.names.section(self.model)

    def _take_back(self) -> None:
        """Undo the dispatch of a request that was not written after all; its permit is spent."""
        if self._slot is not None:
            self._permits().correct(NO_COST.minus(self.cost), self._slot)
            self._slot, self._draw = None, ()

    def sent(self) -> None:
        """Record that the last byte was written: if that took until a later slot, the request counts there."""
        slot = self._project.config.grid.slot(self._project.clock.latest_ms())
        if self._slot is not None and slot != self._slot:
            permits = self._permits()
            permits.correct(NO_COST.minus(self.cost), self._slot)
            permits.correct(self.cost, slot)
            self._slot = slot

    def refuse(self, refusal: QuotaSignal, named: str | None = None) -> None:
        """Record Gemini's 429. If it names a model's quota, the model exists; `named` is that model."""
        names = self._project.names
        if not refusal.pressure and refusal.kind != "spend" and (named or names.section(self.model) == UNPROVEN):
            self.metered(named, served=False)
        section = BATCHES if refusal.model == BATCHES else names.section(refusal.model)
        self._project.refuse(replace(refusal, model=section))

    def metered(self, model: str | None, *, served: bool = True) -> None:
        """Record the metered model that Gemini's answer named. None: the answer named none, so the requested model counts unless
        another one is known. `served`: the answer is not a 429."""
        if self._slot is not None and (model is not None or self.section == UNPROVEN):
            self._named = True
            named = Named(self.model, model or self.model, self.section, self._slot, self.cost, served)
            self._project.learn_name(named)

    def not_found(self) -> None:
        """Record Gemini's 404: the request does not count in a day's quota, and the id is unproven again."""
        if self._slot is not None:
            self._permits().count_not_found(self.cost.requests, self._slot)
            self._project.learn_name(Named(self.model, None))

    def accepted(self) -> None:
        """Record that Gemini accepted the credential."""
        self._project.accepted = True

    def answered(self) -> None:
        """Record an answer other than 429: a probe has succeeded."""
        if self._probe_ms:
            self._permits().end_probe(self._probe_ms, answered=True)
            self._probe_ms = 0.0
            self._project.poke()  # The answer of a probe is reported at once.

    def completed(self) -> None:
        """Record how long the exchange took, when its answer is complete."""
        now_s = elapsed_s()
        self._owner.durations.record(self.model, now_s - self._dispatched_s, now_s)

    def _runs_on_s(self) -> float:
        """How long Gemini may still work on the exchange, which was just cancelled."""
        if self._slot is None or self._project.config.cancels:
            return 0.0
        now_s = elapsed_s()
        took_s = now_s - self._dispatched_s
        deadline_s = max(self.deadline_s - self._dispatched_s, MIN_DEADLINE_MS / 1000)
        return runs_on_s(took_s, deadline_s, self._owner.durations.left_s(self.model, took_s, now_s))

    def end_later(self, rests_s: float) -> None:
        """End the exchange here, but keep its slot taken for so long. `Admission.settle_idle` then returns what is not needed."""
        now_s = elapsed_s()
        if self._project.end(id(self), now_s - self._since_s, rests_s, now_s):
            self._owner.released(self._project)

    async def close(self, input_tokens: int | None = None, *, cancelled: bool = False) -> None:
        """End the exchange, which may never have begun. The reservation is corrected to the tokens that Gemini counted, if known.
        A `cancelled` exchange keeps its slot for as long as Gemini may still work on it.

        When nothing else is open or waiting, all that this process holds is settled and returned before this returns."""
        project, now_s = self._project, elapsed_s()
        if not project.end(id(self), now_s - self._since_s, self._runs_on_s() if cancelled else 0.0, now_s):
            return
        if self._slot is None:
            if project.names.root(self.section) == self.section:  # A merged section's bookings were returned.
                self._permits().put_back(self._draw)
        elif input_tokens is not None and input_tokens != self.cost.input_tokens:
            excess = input_tokens - self.cost.input_tokens
            permits, also = self._permits(), project.permits_of(self.model)
            permits.correct(Cost(0, excess), self._slot)
            if self._named and also is not permits:  # It also counts in the section that the answer named.
                also.correct(Cost(0, excess), self._slot)
            (also if self._named else permits).debt_tokens += max(0, excess)
        if self._probe_ms:
            self._permits().end_probe(self._probe_ms, answered=False)
        self._owner.released(project)
        await self._owner.settle_idle(self.waiter)

    def rate_status(self) -> RateStatus:
        """The limits that apply now, and what a window that ends now has left for this process. A limit resets when no window
        contains this dispatch any more."""
        permits = self._permits()
        if permits.effective[:2] == (None, None):
            return UNLIMITED_RATE
        grid, latest_ms = self._project.config.grid, self._project.clock.latest_ms()
        limits, free = permits.effective, permits.last.free if permits.last else NO_COST
        mine = permits.available(latest_ms)
        reset_s = 0.0 if self._slot is None else max(0.0, (grid.start_ms(self._slot + grid.span) - latest_ms) / 1000)
        return RateStatus(*(
            None if limit is None else RateLimit(limit, min(limit, free[k] + mine[k]), reset_s)
            for k, limit in enumerate(limits[:2])
        ))  # fmt: skip
