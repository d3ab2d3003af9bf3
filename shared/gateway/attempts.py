"""The attempts of one request: which accounts may serve it, how much time is left, and how each exchange is evaluated."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TYPE_CHECKING

from shared.accounts.account import Account
from shared.admission.permit import Permit, PermitLapsed
from shared.admission.queue import AccountsChanged
from shared.clock import elapsed_s
from shared.errors import DailyQuotaExhausted, GatewayError, NoQuota, QueueTimeout, UpstreamTimeout
from shared.gateway.able import able, embedding, served_model
from shared.gateway.address_circuit import ENOUGH
from shared.gateway.clearance import Clearance
from shared.gateway.day_share import PartOfDay
from shared.gateway.frames import Frames
from shared.gateway.lessons import error_of, not_found
from shared.gateway.placement import Placement
from shared.gateway.recording import Waiting
from shared.gateway.retry import MIN_EXCHANGE_S, Decision, Others, Raise, Requeue, SameAccount, decide
from shared.gateway.stream_reply import StreamReply
from shared.gateway.token_count import cost_of, count
from shared.gemini import models, wire
from shared.gemini.errors import UpstreamFailure
from shared.gemini.upstream import Exchange
from shared.generation import (
    Attempt,
    EncodedBody,
    Generation,
    JsonObject,
    Reply,
    Usage,
)

if TYPE_CHECKING:
    from shared.gateway.gateway import Gateway

MIN_QUEUE_S = 1.0
"""Minimum time in the queue for a caller whose patience is shorter than the usual answer; a part of it passes until the ledger
replies."""
MAX_LAPSES = 20
"""Maximum permits of one request that lapse before they are used."""


class Attempts:
    """Used in a loop: `admit` returns a permit; under it one exchange is made; `answered` or `begun` takes its answer.
    After a failure, `prepare_retry` returns before the next attempt, or raises if there is none."""

    def __init__(
        self, gateway: Gateway, generation: Generation, encoded: EncodedBody, *, streamed: bool = False
    ) -> None:
        resolved = gateway.table.resolve(generation.model)
        self.gateway, self.generation, self.resolved, self.streamed = gateway, generation, resolved, streamed
        self.model = resolved.canonical
        if models.is_stand_in(resolved.requested):
            self.model = served_model(resolved, gateway.pool.candidates(generation.caller))
        self.body, self.message = encoded.data, encoded.body
        self.cost = cost_of(generation, encoded, self.model, gateway.table)
        self.placement = Placement(gateway.places, generation, encoded)
        self.usable: list[Account] = self._candidates()
        """The accounts that may still serve this request."""
        self.next: list[Account] = self.usable
        """The ones among `usable` that the next attempt may use."""
        self.timeline = generation.timeline
        if resolved.known:
            self.timeline.model = self.model
        self.attempt = Attempt(0.0, 0.0, "")
        """The current exchange, or the latest one."""
        self.over = False
        """Whether Gemini has ended the current exchange."""
        self._not_found: GatewayError | None = None
        """The error for the caller if no account has the model, once one account's project answered that."""
        self._prepared = False
        self._tries = self._lapses = 0
        self._free_tries = ENOUGH
        """Tries on further accounts that are not counted: they tell whether the server's address is throttled, or which project
        has the model."""
        self._lapsed: Permit | AccountsChanged | None = None
        """What keeps the request's place in the queue."""
        self.clearance = Clearance(
            gateway.address, gateway.cooldown, generation, gateway.admission.config.queue_timeout_s
        )
        self.part_of_day = PartOfDay(
            gateway.day_share if generation.caller.kind == "anonymous" else None, self.cost.requests
        )

    # -- before an exchange ------------------------------------------------------------------------------------------

    async def admit(self) -> Permit:
        """A permit for one exchange. Raises GatewayError."""
        try:
            if not self._prepared:
                self._prepared = True
                if self.placement.needed:
                    with Waiting(self.timeline):
                        await self.placement.look_up(max(MIN_EXCHANGE_S, self.generation.deadline_s - elapsed_s()))
                    await self._choose()
                await count(self)
            while True:
                try:
                    permit = await self._acquire()
                except AccountsChanged:
                    await self._choose()
                    continue
                except (DailyQuotaExhausted, NoQuota, QueueTimeout) as error:
                    if not await self._leave(error):
                        raise
                    continue
                # While this request waited, another one may have learned that the account cannot serve.
                if not self._having([permit.account]) or self.gateway.pool.is_disabled(permit.account):
                    await self.clearance.give_back(permit)
                    await self._choose()
                elif await self.clearance.confirm(permit):
                    return permit
        except BaseException:
            self.part_of_day.settle(spent=False)
            await self.clearance.close()
            if isinstance(self._lapsed, AccountsChanged):  # The request does not come back.
                await self.gateway.admission.settle_idle(self._lapsed.waiter)
            raise

    async def _acquire(self) -> Permit:
        """Raises GatewayError, or AccountsChanged when other accounts may serve than those that the request waited for."""
        accounts = self.next
        with Waiting(self.timeline):
            if self.clearance.needs_waiting():
                accounts = await self.clearance.wait(accounts, self._patient_until_s())
            await self.part_of_day.take(self.usable, self.model)
            try:
                permit = await self.gateway.admission.acquire(
                    accounts,
                    self.model,
                    self.cost,
                    self.generation.deadline_s,
                    self.generation.caller,
                    batch=self.generation.priority == "batch",
                    again=self._lapsed,
                    patient_until_s=self._patient_until_s(),
                    streamed=self.streamed,
                )
            except AccountsChanged as changed:
                self._lapsed = changed
                raise
        self._lapsed = None
        return permit

    def _candidates(self) -> list[Account]:
        """The caller's accounts whose project may have the model. If Gemini answered within the last 10 minutes that no
        project has it, raises ModelNotFound with Gemini's sentence, and sends nothing."""
        held = self.placement.holding(self.gateway.pool.candidates(self.generation.caller))
        embeds = self.generation.verb != "generateContent"
        candidates = embedding(held) if embeds else able(held, self.model, self.message)
        having = self._having(candidates)
        if candidates and not having:
            failure = UpstreamFailure("not_found", self._missing_message(candidates[0]) or "", status=404)
            raise not_found(self, failure, candidates[0])
        return self.placement.of_backend(having)

    def _having(self, accounts: list[Account]) -> list[Account]:
        """The accounts whose project may have the model."""
        if not len(self.gateway.missing):
            return accounts
        return [account for account in accounts if self._missing_message(account) is None]

    def _missing_message(self, account: Account) -> str | None:
        return self.gateway.missing.message(self.gateway.admission.clients.ledger_of(account), self.model)

    async def _choose(self) -> None:
        """The accounts for the next attempt, and the body for their backend. Raises GatewayError."""
        self.usable = self._candidates()
        await self.placement.place(self.usable, self.model, self.cost)
        self.next = self.usable = self.placement.holding(self.usable)
        encoded = await self.placement.body()
        self.body, self.message = encoded.data, encoded.body

    async def _leave(self, error: Exception) -> bool:
        """Turns to another project or backend, because the one to which files or thought signatures bind the request cannot
        serve it."""
        left = self.placement.leave(error, self._having)
        if left:
            await self._choose()
        return left

    def _patient_until_s(self) -> float | None:
        """Elapsed time until which the request may wait for a permit, if its caller stated a patience: the usual answer must
        still fit into it."""
        until_s = self.generation.patient_until_s
        if until_s is None:
            return None
        now_s = elapsed_s()
        usual_s = self.gateway.admission.times.median_s(self.model, now_s, streamed=self.streamed)
        return max(now_s + MIN_QUEUE_S, until_s - (usual_s or 0.0))

    # -- one exchange ------------------------------------------------------------------------------------------------

    def exchange(self, permit: Permit, verb: str) -> Exchange:
        now_s = elapsed_s()
        timeout_s = max(MIN_EXCHANGE_S, min(self.generation.deadline_s - now_s, self.gateway.request_timeout_s))
        permit.deadline_s = now_s + timeout_s
        return self.exchange_on(
            permit.account, verb, timeout_s, partial(self._check, permit), partial(self._sent, permit)
        )

    def exchange_on(
        self,
        account: Account,
        verb: str,
        timeout_s: float,
        before_write: Callable[[], None] | None = None,
        after_write: Callable[[], None] | None = None,
    ) -> Exchange:
        return Exchange(
            account.credential,
            self.model,
            verb,
            self.body,
            timeout_s,
            before_write,
            after_write,
            account.place,
            self.message,
        )

    def _check(self, permit: Permit) -> None:
        """Raises PermitLapsed; else the request counts as dispatched."""
        if self.part_of_day.is_over():
            raise PermitLapsed
        self.clearance.check()
        permit.check()
        self.clearance.dispatch()
        self.timeline.dispatched_s = elapsed_s()

    def _sent(self, permit: Permit) -> None:
        permit.sent()
        self.clearance.sent()

    def answered(self, permit: Permit, body: JsonObject) -> Reply:
        """The reply of a whole answer."""
        self._record_time()
        self.complete(permit)
        reply = self._reply(permit, body)
        self.placement.note(body)
        self.settle(permit, reply.usage)
        return reply

    def begun(self, permit: Permit, first: JsonObject, frames: AsyncIterator[JsonObject]) -> StreamReply:
        """The reply of a stream whose first frame has arrived; `settle` follows when its reader is done."""
        self._record_time()
        self.placement.note(first)
        reply = StreamReply(self._reply(permit, first), Frames(self, permit, frames))
        permit.answered()
        return reply

    async def noted(self, permit: Permit, frame: JsonObject) -> None:
        """Notes the signatures of a stream's frame. They are written before the caller gets the frame that ends the answer, since
        its next turn may follow at once."""
        if self.placement.note(frame) and any(map(wire.finishes, wire.candidates(frame))):
            await self.placement.record(permit.account)

    def settle(self, permit: Permit, usage: Usage) -> None:
        """Gemini accepted the request; `usage` holds the counts so far."""
        self.attempt.usage = usage
        permit.accepted()
        permit.answered()

    def complete(self, permit: Permit) -> None:
        """The last byte of the answer has arrived."""
        if not self.over:
            self.over = True
            permit.completed()

    def _record_time(self) -> None:
        """Records how long the answer, or its first frame, took: a sample of how long the model takes."""
        now_s = elapsed_s()
        self.gateway.address.answered(self.timeline.dispatched_s)
        self.gateway.admission.times.record(self.model, now_s - self.attempt.began_s, now_s, streamed=self.streamed)

    def _reply(self, permit: Permit, body: JsonObject) -> Reply:
        """`body` is an answer or a stream's first frame: it proves that the model exists, and names what Gemini metered."""
        self.timeline.model = self.model
        metered = models.model_id(wire.model_version(body))
        permit.metered(metered)
        used = self.attempt.model_used = metered or self.model
        self.measure()
        reply = Reply(body, self.resolved.requested, used, permit.account.id, wire.usage(body), permit.rate_status())
        reply.signatures_replaced = self.placement.replaces
        self.timeline.answered(reply)
        return reply

    def measure(self) -> None:
        self.attempt.ended_s = elapsed_s()

    # -- after a failure ---------------------------------------------------------------------------------------------

    async def prepare_retry(self, failure: PermitLapsed | UpstreamFailure, permit: Permit) -> None:
        """Returns when the next attempt may begin; raises the caller's error if there is none."""
        if isinstance(failure, PermitLapsed):
            self._lapsed = permit
            self._lapses += 1
            if self._lapses > MAX_LAPSES:
                raise UpstreamTimeout(
                    "This instance is overloaded: no permit could be used in time. Retry later."
                ) from None
            return
        if await self.placement.renew(failure):
            await self._choose()
            return
        missing = self.placement.missing(failure)
        if missing is not None:
            raise missing from failure
        others = [account for account in self.usable if account.id != permit.account.id]
        if failure.kind == "pressure" and self.gateway.address.is_open:
            self.next = self.usable  # A rejected probe is no try of its request, which waits with the others.
            return
        if failure.lacks_model:
            others, free = self._having(others), bool(self._free_tries)
            self._not_found = error_of(self, failure, permit)
        elif failure.kind == "pressure" and self._free_tries and (untried := self.gateway.address.untried(others)):
            others, free = untried, True
        else:
            free = False
        if free:
            self._free_tries -= 1
        else:
            self._tries += 1
        decision = self._decide(failure, others=bool(others))
        if isinstance(decision, Raise) and not others:
            instead = self._decide(failure, others=True)
            if isinstance(instead, Others) and await self._leave(failure):
                return
        match decision:
            case Raise():
                # An account that is out now says nothing of the model, which none of the others has.
                if self._not_found is not None and not others and self.gateway.pool.is_disabled(permit.account):
                    raise self._not_found from failure
                raise error_of(self, failure, permit) from failure
            case SameAccount(wait_s):
                self.next = [permit.account]
                await self.gateway.sleep(wait_s)
            case Others(wait_s, excludes):
                self.next = others
                if excludes:
                    self.usable = others
                if wait_s:
                    await self.gateway.sleep(wait_s)
            case Requeue():
                self.next = self.usable

    def _decide(self, failure: UpstreamFailure, *, others: bool) -> Decision:
        left_s = self.generation.deadline_s - elapsed_s()
        return decide(failure, self._tries, others, left_s, min_s=self._min_retry_s(), jitter=random.random())

    def _min_retry_s(self) -> float:
        """Minimum time left for a retry to be of use."""
        times = self.gateway.admission.times
        return max(MIN_EXCHANGE_S, times.fastest_tenth_s(self.model, elapsed_s(), streamed=self.streamed))
