"""What one request does inside its process: admit, check, write, wait, settle. The path of the gateway without HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.accounts.account import Account
from shared.admission.admission import Admission
from shared.admission.permit import Permit, PermitLapsed
from shared.admission.queue import AccountsChanged
from shared.clock import elapsed_s
from shared.errors import ModelNotFound, NoServerKey, RateLimited, UpstreamTimeout
from shared.gateway.failures import refusal_of
from shared.gemini.errors import UpstreamFailure
from shared.generation import Caller, Cost
from shared.ledger.limits import UNLIMITED
from shared.ledger.state import QuotaSignal
from tests.simulation.history import FOREVER, Refused
from tests.simulation.upstream import Answer, Open, VirtualGemini, Work

ATTEMPTS, LAPSES = 4, 20
WORDS = "You exceeded your current quota, please check your plan and billing details."
MIN_EXCHANGE_S = 0.05


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a caller, and how Gemini will handle it."""

    accounts: Sequence[Account]
    caller: Caller
    model: str
    cost: Cost
    used_tokens: int
    patience_s: float
    service_s: float
    batch: bool = False
    hangs: bool = False
    connect_s: float = 0.0
    """Time between taking the permit and the last check."""
    body_s: float = 0.0
    """Time between the first and the last byte."""
    leaves_after_s: float | None = None
    uncounted: bool = False
    """Whether Gemini's answer omits its token counts."""


class Story:
    """One request in one process. `served_ms` is when its first permit was used."""

    def __init__(
        self,
        ask: Request,
        number: int,
        admission: Admission,
        gemini: VirtualGemini,
        instance: str,
        accounts: Callable[[], Sequence[Account]],
        named_ms: Callable[[str, str], float] = lambda project, asked: FOREVER,
    ) -> None:
        self.ask, self.number, self.admission, self.gemini, self.instance = ask, number, admission, gemini, instance
        self.accounts, self._named_ms = accounts, named_ms
        """`accounts` returns those of the request that this instance is configured with now."""
        self.served_ms: float | None = None
        self._lapsed: Permit | AccountsChanged | None = None
        self._connected = False
        self._request: Open | None = None
        """The one that this attempt wrote."""

    async def run(self) -> None:
        """Returns when the request is answered. Raises GatewayError."""
        deadline_s = elapsed_s() + self.ask.patience_s
        tries = lapses = 0
        while tries < ATTEMPTS and lapses < LAPSES:
            answer = await self._attempt(deadline_s)
            if answer is None:
                lapses += 1
                continue
            if answer.status == 200:
                return
            tries += 1
            if answer.retry_s is None and not answer.violations:
                await asyncio.sleep(min(0.1, max(0.0, deadline_s - elapsed_s())))
        raise RateLimited("Gemini refused for now, or this process stalls", retry_after_s=1.0)

    async def _attempt(self, deadline_s: float) -> Answer | None:
        """One try; None if the permit lapsed before anything was written."""
        ask = self.ask
        lease = await self._acquire(deadline_s)
        self._request = None
        used: int | None = None
        over = False
        timeout_s = max(MIN_EXCHANGE_S, min(deadline_s - elapsed_s(), self.admission.process_config.tau_s))
        lease.deadline_s = elapsed_s() + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._exchange(lease, timeout_s)
            over = True
            lease.accepted()
            if answer.status == 200:
                lease.completed()
                lease.metered(answer.model)
                lease.answered()
                used = None if ask.uncounted else ask.used_tokens
            elif answer.status == 404:
                lease.answered()
                lease.not_found()
                raise ModelNotFound("There is no such model.")
            else:
                self._learn(lease, answer)
            return answer
        except PermitLapsed:
            self._lapsed = lease
            return None
        except TimeoutError:
            raise UpstreamTimeout("Gemini did not answer in time.") from None
        finally:
            if self._request is not None:
                self._request.settled_tokens = used
            await lease.close(used, cancelled=not over)

    async def _acquire(self, deadline_s: float) -> Permit:
        """A permit of an account that may serve now."""
        ask = self.ask
        while True:
            accounts = self.accounts()
            if not accounts:
                raise NoServerKey("All accounts of this request are switched off.")
            try:
                permit = await self.admission.acquire(
                    accounts, ask.model, ask.cost, deadline_s, ask.caller, batch=ask.batch, again=self._lapsed
                )
            except AccountsChanged as changed:
                self._lapsed = changed
                continue
            self._lapsed = None
            if any(account.id == permit.account.id for account in self.accounts()):
                return permit
            await permit.close()

    async def _exchange(self, lease: Permit, timeout_s: float) -> Answer:
        ask = self.ask
        began_s = elapsed_s()
        if ask.connect_s and not self._connected:
            self._connected = True
            await asyncio.sleep(ask.connect_s)
        lease.check()
        self.served_ms = self.gemini.now_ms() if self.served_ms is None else self.served_ms
        project = self.gemini.project_of(lease.account)
        model = self.gemini.metered(ask.model)
        work = Work(
            project, model, ask.caller.id, ask.cost, ask.used_tokens, ask.service_s, ask.hangs, self.number,
            "" if ask.model == model else ask.model, "" if lease.section == model else lease.section,
            self._named_ms(project, ask.model),
        )  # fmt: skip
        request = self.gemini.write(work, self.instance, timeout_s - (elapsed_s() - began_s))
        self._request = request
        try:
            if ask.body_s:
                await asyncio.sleep(ask.body_s)
            lease.sent()
            self.gemini.deliver(request)
            return await request.answer
        finally:
            self.gemini.close(request)

    def _learn(self, lease: Permit, answer: Answer) -> None:
        if answer.violations:
            self._learn_as_the_gateway(lease, answer)
            return
        if answer.retry_s is None:
            lease.refuse(QuotaSignal(self.ask.model, pressure=True))
            return
        until_ms = self.admission.clock.latest_ms() + answer.retry_s * 1000
        now_ms = self.gemini.now_ms()
        until_told_ms = now_ms + answer.retry_s * 1000
        self.gemini.refused.append(
            Refused(
                self.gemini.project_of(lease.account),
                answer.model or self.ask.model,
                self.instance,
                now_ms,
                until_told_ms,
            )
        )
        lease.refuse(
            QuotaSignal(
                self.ask.model,
                until_ms=int(until_ms) + 1,
                learned=answer.limits or UNLIMITED,
                minute=answer.exceeded,
                sent_ms=int(lease.dispatched_ms),
            ),
            answer.model,
        )

    def _learn_as_the_gateway(self, lease: Permit, answer: Answer) -> None:
        admission = self.admission
        failure = UpstreamFailure(
            "quota", WORDS, status=429, retry_delay_s=answer.retry_s, violations=answer.violations
        )
        window_s = admission.process_config.grid.window_ms / 1000
        latest_ms = admission.clock.latest_ms()
        refusal = refusal_of(failure, self.ask.model, lease.dispatched_ms, latest_ms, window_s)
        assert refusal is not None
        now_ms = self.gemini.now_ms()
        self.gemini.refused.append(
            Refused(
                self.gemini.project_of(lease.account),
                answer.model or self.ask.model,
                self.instance,
                now_ms,
                now_ms + refusal.until_ms - latest_ms,
            )
        )
        lease.refuse(refusal, answer.model)
