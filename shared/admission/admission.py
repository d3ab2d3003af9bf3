"""Admission: one call that waits for a permit and a slot of any candidate account, whichever serves the queue's head first."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.accounts.account import Account
from shared.admission.agent import Agent, AgentConfig
from shared.admission.book import Draw
from shared.admission.cadence import Line
from shared.admission.queue import FairQueue, Waiter
from shared.admission.server_clock import ServerClock
from shared.clock import elapsed_s
from shared.errors import (
    CostExceedsLimit,
    DailyQuotaExhausted,
    GatewayError,
    LedgerUnavailable,
    QueueFull,
    QueueTimeout,
    RateLimited,
    Unavailable,
)
from shared.generation import NO_COST, Caller, Cost
from shared.ledger.grid import pacific_day
from shared.ledger.limits import Limits
from shared.ledger.state import Refusal
from shared.stores.port import Liveness, Store

OFFER_S = 0.25
"""What one project could not serve for so long is also asked of the next."""
SCAN = 64
"""So many waiters of one model are tried per turn before the model is held to be without permits."""
OWN_KEY_AGENTS = 1_000
DIMENSIONS = ("requests per minute", "input tokens per minute", "images per minute")


class PermitLapsed(Exception):
    """Between taking the permit and writing the request too much time passed; nothing was written."""


@dataclass(frozen=True, slots=True)
class AdmissionConfig:
    """Bounds of the queue, and how its callers are weighed."""

    queue_timeout_s: float = 30.0
    queue_bytes: int = 128 << 20
    weights: Mapping[str, float] | None = None


class Lease:
    """The right to one exchange with Gemini on `account`. `check` right before the first byte, `close` when it ended."""

    __slots__ = (
        "_admission", "_agent", "_draw", "_since_s", "_slot", "_tenure", "account", "cost", "model", "queued_s", "waiter",
    )  # fmt: skip

    def __init__(
        self, admission: Admission, agent: Agent, account: Account, waiter: Waiter, draw: Draw, queued_s: float
    ) -> None:
        self._admission, self._agent, self._draw = admission, agent, draw
        self._slot: int | None = None
        self._tenure = agent.tenure
        self.account, self.model, self.cost, self.waiter = account, waiter.model, waiter.cost, waiter
        self.queued_s = queued_s
        self._since_s = elapsed_s()
        agent.opened(id(self))

    @property
    def dispatched(self) -> bool:
        return self._slot is not None

    @property
    def dispatched_ms(self) -> float:
        """When it was dispatched, by the store's clock; now, if it was not."""
        grid, hi_ms = self._agent.config.grid, self._agent.clock.hi_ms()
        return hi_ms if self._slot is None else min(hi_ms, grid.start_ms(self._slot))

    def check(self) -> None:
        """Raises PermitLapsed unless the permit holds at this very moment; then the request counts as dispatched."""
        agent = self._agent
        if self._tenure != agent.tenure or not agent.may_write(self.model, self._draw):
            raise PermitLapsed
        hi_ms = agent.clock.hi_ms()
        self._slot = agent.config.grid.slot(hi_ms)
        agent.book(self.model).spend(self._draw, self.cost, self._slot)

    def sent(self) -> None:
        """The last byte was written: if that took until a later slot, the request counts there."""
        slot = self._agent.config.grid.slot(self._agent.clock.hi_ms())
        if self._slot is not None and slot != self._slot:
            book = self._agent.book(self.model)
            book.correct(NO_COST.minus(self.cost), self._slot)
            book.correct(self.cost, slot)
            self._slot = slot

    def refuse(self, refusal: Refusal) -> None:
        self._agent.refuse(refusal)

    def accepted(self) -> None:
        """Gemini took the credential."""
        self._agent.accepted = True

    async def close(self, input_tokens: int | None = None) -> None:
        """The exchange is over, or never began. With the tokens Gemini counted, the reservation is corrected to them.

        When nothing else is open or waiting, all that this process holds is settled and returned before this returns."""
        agent = self._agent
        if not agent.closed(id(self), elapsed_s() - self._since_s):
            return
        if self._slot is None:
            agent.book(self.model).put_back(self._draw)
        elif input_tokens is not None and input_tokens != self.cost.input_tokens:
            agent.book(self.model).correct(Cost(0, input_tokens - self.cost.input_tokens, 0), self._slot)
        self._admission.released(agent)
        await self._admission.settle_idle(self.waiter.candidates[: self.waiter.offered])

    def rate_headers(self) -> dict[str, str]:
        """OpenAI's x-ratelimit-* names: the limits that hold now, and what a window that ends now has left for this process."""
        book = self._agent.book(self.model)
        headers = {}
        for k, name in ((0, "requests"), (1, "tokens")):
            limit = book.effective[k]
            if limit is not None:
                free = book.last.free[k] if book.last else 0
                headers[f"x-ratelimit-limit-{name}"] = str(limit)
                mine = book.available(self._agent.clock.hi_ms())[k]
                headers[f"x-ratelimit-remaining-{name}"] = str(min(limit, free + mine))
        return headers


class Admission:
    """One per process and event loop."""

    def __init__(
        self, store: Store, agents: AgentConfig, config: AdmissionConfig, liveness: Liveness | None = None
    ) -> None:
        self.store, self.agent_config, self.config, self.liveness = store, agents, config, liveness
        self.clock = ServerClock()
        self.queue = FairQueue(weights=config.weights or {})
        self.agents: OrderedDict[str, Agent] = OrderedDict()
        self._wake: asyncio.TimerHandle | None = None
        self._turn = 0
        if liveness is not None:
            liveness.claim(agents.instance)

    # -- asking ------------------------------------------------------------------------------------------------------

    async def acquire(
        self,
        candidates: Sequence[Account],
        model: str,
        cost: Cost,
        deadline_s: float,
        caller: Caller,
        *,
        batch: bool = False,
        size_bytes: int = 0,
        again: Lease | None = None,
    ) -> Lease:
        """Wait for a permit of any candidate. `again`: a lapsed lease, whose place in the queue is kept.

        Raises CostExceedsLimit, DailyQuotaExhausted, QueueTimeout, QueueFull, LedgerUnavailable."""
        now_s = elapsed_s()
        servable = [account for account in candidates if exceeded(account.limits_for(model), model, cost) is None]
        if not servable:
            sentence = exceeded(candidates[0].limits_for(model), model, cost)
            raise CostExceedsLimit(sentence or "", details={"model": model})
        agents = self._ranked(servable)
        for agent in agents:
            agent.book(model).came(cost, now_s)
        waiter = again.waiter if again is not None else None
        if waiter is None:
            deadline_s = min(deadline_s, now_s + self.config.queue_timeout_s)
            future = asyncio.get_running_loop().create_future()
            waiter = Waiter(model, cost, caller.id, batch, now_s, deadline_s, size_bytes, agents, servable, future)
        if not len(self.queue):
            for agent in agents:
                lease = self._try(agent, waiter, now_s)
                if lease is not None:
                    return lease
        return await self._wait(waiter)

    def _ranked(self, accounts: Sequence[Account]) -> list[Agent]:
        """The agents of the accounts' projects, by rendezvous hash: instances begin with different ones."""
        ledgers = dict.fromkeys(account.ledger_id for account in accounts)
        by_id = {account.ledger_id: account for account in accounts}
        ranked = list(ledgers)
        if len(ranked) > 1:
            ranked.sort(key=lambda ledger: hashlib.blake2b(f"{self.agent_config.instance}{ledger}".encode()).digest())
        return [self._agent(by_id[ledger]) for ledger in ranked]

    def _agent(self, account: Account) -> Agent:
        agent = self.agents.get(account.ledger_id)
        if agent is None:
            agent = Agent(account, self.store, self.clock, self.agent_config, self, self.pump, self.liveness)
            self.agents[account.ledger_id] = agent
            self._forget_idle()
        elif account.passing:
            self.agents.move_to_end(account.ledger_id)
        return agent

    def _forget_idle(self) -> None:
        if len(self.agents) > OWN_KEY_AGENTS:
            for ledger, agent in list(self.agents.items()):
                if agent.account.passing and agent.idle() and not agent.holds():
                    del self.agents[ledger]
                    return

    def _try(self, agent: Agent, waiter: Waiter, now_s: float) -> Lease | None:
        draw = agent.draw(waiter.model, waiter.cost)
        if draw is None:
            return None
        of_project = [account for account in waiter.accounts if account.ledger_id == agent.account.ledger_id]
        self._turn += 1
        account = of_project[self._turn % len(of_project)]
        lease = Lease(self, agent, account, waiter, draw, now_s - waiter.came_s)
        agent.poke()
        return lease

    async def _wait(self, waiter: Waiter) -> Lease:
        loop = asyncio.get_running_loop()
        if self.queue.size_bytes + waiter.size_bytes > self.config.queue_bytes:
            raise QueueFull("Too many bytes wait for a permit here; send the request again later.", retry_after_s=1)
        waiter.future, waiter.offered_s = loop.create_future(), elapsed_s()
        self.queue.put(waiter)
        timeout = loop.call_later(max(0.0, waiter.deadline_s - elapsed_s()), self._expire, waiter)
        try:
            self.pump()
            for agent in waiter.candidates[: waiter.offered]:
                agent.poke()
            lease: Lease = await waiter.future
            return lease
        except BaseException:
            self.queue.remove(waiter)
            if waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None:
                await waiter.future.result().close()
            waiter.future.cancel()
            await self.settle_idle(waiter.candidates[: waiter.offered])
            raise
        finally:
            timeout.cancel()

    async def aclose(self) -> None:
        """Refuse what waits, return what is held. Requests in flight are the server's to end first."""
        for waiter in list(self.queue):
            if not waiter.future.done():
                waiter.future.set_exception(Unavailable("This instance is shutting down.", retry_after_s=1))
            self.queue.remove(waiter)
        if self._wake is not None:
            self._wake.cancel()
        for agent in list(self.agents.values()):
            await agent.aclose()

    async def settle_idle(self, agents: Sequence[Agent]) -> None:
        """What nobody here needs any more is settled and returned before the response ends: then the CPU may stop."""
        returns = [
            asyncio.shield(agent.give_back())
            for agent in agents
            if agent.idle() and agent.holds() and not agent.lingers()
        ]
        if returns:  # All at once: the caller waits for the slowest ledger, not for one after the other.
            await asyncio.gather(*returns)

    # -- serving -----------------------------------------------------------------------------------------------------

    def released(self, agent: Agent) -> None:
        self.pump()
        agent.poke()

    def pump(self) -> None:
        """Serve whoever can be served, in order; the first of a model that does not fit lets smaller ones pass."""
        now_s = elapsed_s()
        misses: dict[tuple[int, str], int] = {}
        for waiter in self.queue:
            if waiter.future.done():
                continue
            if waiter.offered < len(waiter.candidates) and now_s - waiter.offered_s >= OFFER_S:
                waiter.offered, waiter.offered_s = waiter.offered + 1, now_s
            for agent in waiter.candidates[: waiter.offered]:
                key = (id(agent), waiter.model)
                if misses.get(key, 0) >= SCAN:
                    continue
                lease = self._try(agent, waiter, now_s)
                if lease is None:
                    misses[key] = SCAN if agent.out_of_permits(waiter.model) else misses.get(key, 0) + 1
                    continue
                waiter.future.set_result(lease)
                self.queue.served(waiter)
                break
            else:
                error = self._hopeless(waiter)
                if error is not None:
                    waiter.future.set_exception(error)
        self._schedule()

    def _hopeless(self, waiter: Waiter) -> GatewayError | None:
        """What no waiting helps against. But for a ledger that cannot be reached, it is judged by what the ledger said
        since this waiter came: what it said before may be over."""
        books = [agent.book(waiter.model) for agent in waiter.candidates]
        if all(agent.failing() and not book.held for agent, book in zip(waiter.candidates, books, strict=True)):
            message = "The rate ledger cannot be reached, so nothing is sent to Gemini; try again."
            return LedgerUnavailable(message, retry_after_s=5)
        if waiter.judged or min(book.told_s for book in books) <= waiter.came_s:
            return None
        waiter.judged = True
        sentences = [exceeded(book.effective, waiter.model, waiter.cost) for book in books]
        if all(sentences):
            return CostExceedsLimit(sentences[0] or "", details={"model": waiter.model})
        eta_s = self._eta_s(waiter)
        too_late = eta_s is not None and eta_s > waiter.deadline_s - elapsed_s()
        return self._refusal(waiter) if too_late or self._day_is_spent(waiter) else None

    def _schedule(self) -> None:
        """Wake up when the next booking opens, or when a waiter may be offered to another project."""
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if not len(self.queue):
            return
        models: dict[int, tuple[Agent, set[str]]] = {}
        wait_s = math.inf
        now_s = elapsed_s()
        for waiter in self.queue:
            for agent in waiter.candidates[: waiter.offered]:
                models.setdefault(id(agent), (agent, set()))[1].add(waiter.model)
            if waiter.offered < len(waiter.candidates):
                wait_s = min(wait_s, max(0.0, waiter.offered_s + OFFER_S - now_s))
        for agent, names in models.values():
            opens_s = agent.opens_in_s(names) if len(agent.open) < agent.cap else None
            if opens_s is not None:
                wait_s = min(wait_s, opens_s)
        if wait_s < math.inf:
            self._wake = asyncio.get_running_loop().call_later(wait_s + 0.0005, self._woken)

    def _woken(self) -> None:
        self._wake = None
        self.pump()
        for agent in list(self.agents.values()):
            agent.poke()

    def line(self, agent: Agent) -> Line:
        """What waits for `agent`, in serving order."""
        result = Line({}, {}, 0.0, 0, 0)
        callers = set()
        for waiter in self.queue:
            if agent in waiter.candidates[: waiter.offered] and not waiter.future.done():
                result.costs.setdefault(waiter.model, []).append(waiter.cost)
                patience_s = waiter.deadline_s - elapsed_s()
                result.patience_s[waiter.model] = max(patience_s, result.patience_s.get(waiter.model, 0.0))
                result.oldest_s = min(waiter.came_s, result.oldest_s or waiter.came_s)
                result.count += 1
                callers.add(waiter.caller)
        result.callers = len(callers)
        return result

    # -- refusing ----------------------------------------------------------------------------------------------------

    def _eta_s(self, waiter: Waiter) -> float | None:
        """When the waiter would be served as things stand, by the project that is soonest; None: not known."""
        ahead = NO_COST
        for other in self.queue:
            if other is waiter:
                break
            if other.model == waiter.model:
                ahead = ahead.plus(other.cost)
        etas = [agent.eta_s(waiter.model, ahead) for agent in waiter.candidates]
        known = [eta for eta in etas if eta is not None]
        return min(known) if len(known) == len(etas) else None

    def _refusal(self, waiter: Waiter) -> RateLimited:
        """Why the waiter is not served, and when it would be."""
        if self._day_is_spent(waiter):
            return self._day_spent(waiter)
        return QueueTimeout(
            "No permit becomes free before this request's deadline; send it again after the time in Retry-After.",
            retry_after_s=max(1.0, self._eta_s(waiter) or 1.0),
        )

    def _day_is_spent(self, waiter: Waiter) -> bool:
        lo_ms = self.clock.lo_ms()
        return all(agent.book(waiter.model).day_is_spent(lo_ms) for agent in waiter.candidates)

    def _day_spent(self, waiter: Waiter) -> DailyQuotaExhausted:
        now_ms = self.clock.lo_ms()
        left_s = (pacific_day(now_ms).end_ms - now_ms) / 1000
        return DailyQuotaExhausted(
            f"The daily limit of {waiter.model} is spent; it begins anew at midnight Pacific time.",
            retry_after_s=left_s,
        )

    def _expire(self, waiter: Waiter) -> None:
        if not waiter.future.done():
            waiter.future.set_exception(self._refusal(waiter))


def exceeded(limits: Limits, model: str, cost: Cost) -> str | None:
    """The sentence that says which whole limit one request of `cost` is larger than; None when it fits."""
    for name, limit, amount in zip(DIMENSIONS, limits.per_window, cost, strict=True):
        if limit is not None and amount > limit:
            return f"This request needs {amount} {name}, and the limit of {model} is {limit}."
    if limits.requests_per_day is not None and cost.requests > limits.requests_per_day:
        return f"The limit of {model} is {limits.requests_per_day} requests per day."
    return None
