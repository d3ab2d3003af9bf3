"""The one story of a request: admit, generate, settle; unary and streamed, with retries and rotation."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial

from shared.accounts.account import Account
from shared.accounts.pool import Pool
from shared.admission.admission import Admission
from shared.admission.permit import Permit, PermitLapsed
from shared.bounds.byte_budget import ByteBudget
from shared.bounds.large_work import LargeWork
from shared.clock import elapsed_s
from shared.errors import GatewayError, UpstreamTimeout
from shared.gateway.day_share import DayShare, PartOfDay
from shared.gateway.failures import PRESSURE_DELAY_S, caller_error, kind_of, refusal_of
from shared.gateway.request_bodies import RequestBodies
from shared.gateway.stream_reply import StreamReply
from shared.gemini import models, wire
from shared.gemini.client import Exchange, GeminiClient
from shared.gemini.counting import count_input_tokens, worth_counting
from shared.gemini.errors import UpstreamFailure
from shared.gemini.missing import MissingModels
from shared.generation import UNKNOWN_USAGE, Attempt, Caller, Cost, Encoded, Generation, JsonObject, Reply, Stage, Usage

ATTEMPTS = 4
"""Dispatches of one request at the most, over all accounts; every one takes its own permit."""
BACKOFF_S = 0.25
LEAST_EXCHANGE_S = 0.05
LEAST_AFTER_DEADLINE_S = 1.5
"""Gemini is told its deadline in whole seconds: what it gave up then has no time for another try."""
MIN_QUEUE_S = 1.0
"""A caller whose patience is shorter than the usual answer still waits so long: the ledger takes a part of it to reply."""
LAPSES = 20


class Gateway:
    """Bound to one event loop."""

    def __init__(
        self,
        pool: Pool,
        admission: Admission,
        client: GeminiClient,
        *,
        request_timeout_s: float,
        byte_budget: ByteBudget,
        large_work: LargeWork,
        day_share: DayShare | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.pool, self.admission, self.client = pool, admission, client
        self.request_timeout_s = request_timeout_s
        self.day_share = day_share
        """None where anonymous callers may use the whole day."""
        self.bodies = RequestBodies(byte_budget, large_work)
        self.missing = MissingModels()
        self.sleep = sleep

    async def generate(self, generation: Generation) -> Reply:
        """One answer. Raises GatewayError."""
        encoded = await self.bodies.encoded(generation)
        with self.bodies.held(generation, encoded):
            attempts = _Attempts(self, generation, encoded)
            while True:
                async with attempts.lease() as lease:
                    body = await self.client.generate(attempts.exchange(lease, "generateContent"))
                    attempts.record_time()
                    attempts.complete(lease)
                    attempts.proven(lease, body)
                    attempts.answered(lease, wire.usage(body))
                    return attempts.reply(lease, body)

    def accepted(self, caller: Caller) -> bool:
        """Whether Gemini has accepted the caller's own key, as far as this process knows; True for callers without one.
        Raises InvalidGeminiKey for a key that Gemini refused lately."""
        if caller.own_key is None:
            return True
        agent = self.admission.projects.get(self.pool.candidates(caller)[0].ledger_id)
        return agent is not None and agent.accepted

    def stream(self, generation: Generation) -> AbstractAsyncContextManager[StreamReply]:
        """Entering waits for the first frame, so that what fails before it is an error with a status. Raises GatewayError,
        both when entered and while its frames are read."""
        return self._stream(generation)

    @asynccontextmanager
    async def _stream(self, generation: Generation) -> AsyncIterator[StreamReply]:
        encoded = await self.bodies.encoded(generation)
        with self.bodies.held(generation, encoded):
            attempts = _Attempts(self, generation, encoded, streamed=True)
            while True:
                async with (
                    attempts.lease() as lease,
                    self.client.stream(attempts.exchange(lease, "streamGenerateContent")) as frames,
                ):
                    first = await anext(frames)
                    attempts.record_time()
                    reply = StreamReply(attempts, lease, first, frames)
                    attempts.proven(lease, first)
                    lease.answered()
                    try:
                        yield reply
                    finally:
                        attempts.answered(lease, reply.usage)
                    return


def _pause_s(failure: UpstreamFailure, tries: int, *, elsewhere: bool) -> float:
    """Seconds between a failure and the next try: Google's own delay where it names one, for the project that it named it
    to. The random part keeps callers who failed together from coming back together."""
    if failure.retry_delay_s is not None and not elsewhere:
        return failure.retry_delay_s + random.uniform(0, BACKOFF_S)
    if failure.kind == "pressure":
        return min(failure.retry_delay_s or PRESSURE_DELAY_S, PRESSURE_DELAY_S) * random.uniform(0.5, 1)
    return random.uniform(0, BACKOFF_S * 2**tries)


class _Attempts:
    """One request's tries: which accounts are left, how long is left, and what was spent so far."""

    def __init__(self, gateway: Gateway, generation: Generation, encoded: Encoded, *, streamed: bool = False) -> None:
        resolved = models.resolve(generation.model)
        self.gateway, self.generation, self.resolved, self.streamed = gateway, generation, resolved, streamed
        self.model = resolved.canonical
        self.body = encoded.data
        self.cost = Cost(1, encoded.input_tokens or 0, self._images())
        self._counted = False
        self.usable: list[Account] = self._candidates()
        """The accounts that have not failed this request."""
        self.next: list[Account] = self.usable
        """Those of them that the next try may use."""
        self.journal = generation.journal
        if resolved.known:
            self.journal.model = self.model
        self.attempt = Attempt(0.0, 0.0, "")
        """The one under way, or the last."""
        self.over = False
        """Whether Gemini has ended the exchange under way."""
        self.tries = self.lapses = 0
        self._lapsed: Permit | None = None
        self._of_day = PartOfDay(gateway.day_share if generation.caller.kind == "anonymous" else None)

    def _candidates(self) -> list[Account]:
        """The caller's accounts whose project may have the model. Raises ModelNotFound in the words in which Gemini said that
        none has, up to 10 minutes ago: nothing is asked again for that."""
        candidates = self.gateway.pool.candidates(self.generation.caller)
        said = [self.gateway.missing.message(account.ledger_id, self.model) for account in candidates]
        if candidates and all(said):
            failure = UpstreamFailure("not_found", said[0] or "", status=404)
            raise caller_error(failure, self.model, 0.0, 0.0, self._window_s(), own_key=candidates[0].own_key)
        return [account for account, message in zip(candidates, said, strict=True) if message is None]

    def _images(self) -> int:
        """One for each request that may answer with an image: by its model, or (of one that the table has not) by itself."""
        info = models.MODELS.get(self.model)
        makes = info.image_output if info is not None else wire.asks_for_image(self.generation.body)
        return int(makes and not wire.asks_for_text_only(self.generation.body))

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Permit]:
        """A permit for one exchange. A failure inside that another try may mend ends here, after its backoff; the caller
        loops. Any other one is raised as the GatewayError that it means."""
        try:
            lease = await self._admitted()
        except BaseException:
            self._of_day.settle(spent=False)
            raise
        now_s = elapsed_s()
        self.attempt = Attempt(now_s, now_s, lease.account.id)
        self.journal.attempts.append(self.attempt)
        self.over = False
        failed: UpstreamFailure | None = None
        try:
            yield lease
        except PermitLapsed:
            # Nothing was sent: the time counts as waiting for a permit that can be used.
            self.journal.attempts.remove(self.attempt)
            self.journal.waits.append(self.attempt)
            self._lapsed = lease
            self.lapses += 1
            if self.lapses > LAPSES:
                raise UpstreamTimeout("This process stalls: no permit could be used in time.") from None
        except UpstreamFailure as failure:
            failed = failure
            self.learn(failure, lease)
        except (asyncio.CancelledError, GeneratorExit):
            self.attempt.failure = "cancelled"
            raise
        finally:
            self.journal.dispatched_s = None
            self.measure()
            self._of_day.settle(spent=lease.dispatched and not (failed is not None and failed.kind == "not_found"))
            used = self.attempt.usage
            # What Gemini did not count stays reserved.
            await lease.close(None if used is None else used.prompt_tokens, cancelled=not self.over)
        if failed is not None:
            await self._prepare_next(failed, lease)

    async def _admitted(self) -> Permit:
        """A lease of an account that may serve. Another request may have learned that it cannot while this one waited."""
        if not self._counted:
            self._counted = True
            await self._count()
        while True:
            now_s = elapsed_s()
            with self._waiting():
                await self._of_day.take(self.usable, self.model)
                lease = await self.gateway.admission.acquire(
                    self.next,
                    self.model,
                    self.cost,
                    self.generation.deadline_s,
                    self.generation.caller,
                    batch=self.generation.priority == "batch",
                    again=self._lapsed,
                    patient_until_s=self._patient_until_s(now_s),
                    streamed=self.streamed,
                )
            self._lapsed = None
            missing = self.gateway.missing.message(lease.account.ledger_id, self.model)
            if missing is None and not self.gateway.pool.is_out(lease.account):
                return lease
            await lease.close()
            self.next = self.usable = self._candidates()

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """What happens in the block is a wait in the queue."""
        now_s = elapsed_s()
        wait = Stage(now_s, now_s)
        self.journal.waits.append(wait)
        try:
            yield
        finally:
            wait.ended_s = elapsed_s()

    async def _count(self) -> None:
        """A large request reserves what Gemini counts, not what is estimated. What is waited for it is no time of the queue's."""
        limits = {account.limits_for(self.model).input_tokens for account in self.usable}
        if worth_counting(self.cost.input_tokens, limits) and "model" not in self.generation.body:
            left_s = max(LEAST_EXCHANGE_S, (self.generation.deadline_s - elapsed_s()) / 2)
            account = random.choice(self.usable)
            with self._waiting():
                held = await self.gateway.admission.connect(account, left_s)
            if not held:
                return
            try:
                tokens = await count_input_tokens(
                    self.gateway.client, account.credential, self.model, self.body, left_s
                )
            finally:
                self.gateway.admission.disconnect(account)
            if tokens is not None:
                self.cost = self.cost._replace(input_tokens=tokens)

    def exchange(self, lease: Permit, verb: str) -> Exchange:
        now_s = elapsed_s()
        timeout_s = max(LEAST_EXCHANGE_S, min(self.generation.deadline_s - now_s, self.gateway.request_timeout_s))
        lease.deadline_s = now_s + timeout_s
        return Exchange(
            api_key=lease.account.credential,
            model=self.model,
            verb=verb,
            body=self.body,
            timeout_s=timeout_s,
            before_write=partial(self._check, lease),
            after_write=lease.sent,
        )

    def _check(self, lease: Permit) -> None:
        """Raises PermitLapsed; else the request counts as dispatched."""
        if self._of_day.is_over():
            raise PermitLapsed
        lease.check()
        self.journal.dispatched_s = elapsed_s()

    def _patient_until_s(self, now_s: float) -> float | None:
        """How long a permit may be waited for by a caller that stated its patience: an answer must still fit into it."""
        until_s = self.generation.patient_until_s
        if until_s is None:
            return None
        usual_s = self.gateway.admission.times.median_s(self.model, now_s, streamed=self.streamed)
        return max(now_s + MIN_QUEUE_S, until_s - (usual_s or 0.0))

    def answered(self, lease: Permit, usage: Usage) -> None:
        """Gemini took the request; `usage` is what it has counted so far."""
        self.attempt.usage = usage
        lease.accepted()
        lease.answered()

    def complete(self, lease: Permit) -> None:
        """The answer is here to its last byte."""
        if not self.over:
            self.over = True
            lease.completed()

    def proven(self, lease: Permit, body: JsonObject) -> None:
        """An answer shows that the model exists, and which one Gemini metered."""
        self.journal.model = self.model
        lease.metered(models.model_id(wire.model_version(body)))

    def reply(self, lease: Permit, body: JsonObject) -> Reply:
        headers = lease.rate_headers()
        headers["x-model-requested"] = self.resolved.requested
        headers["x-model-used"] = used = models.model_id(wire.model_version(body)) or self.model
        self.attempt.model_used = used
        self.measure()
        return Reply(body, self.resolved.requested, used, lease.account.id, wire.usage(body), headers)

    def measure(self) -> None:
        self.attempt.ended_s = elapsed_s()

    def record_time(self) -> None:
        """The answer is here, or its first frame: it tells how long the model takes at present."""
        now_s = elapsed_s()
        self.gateway.admission.times.record(self.model, now_s - self.attempt.began_s, now_s, streamed=self.streamed)

    def _least_s(self) -> float:
        """With less time left no other try is of use."""
        times = self.gateway.admission.times
        return max(LEAST_EXCHANGE_S, times.fastest_tenth_s(self.model, elapsed_s(), streamed=self.streamed))

    def learn(self, failure: UpstreamFailure, lease: Permit) -> None:
        """What a failure says about the account goes to the ledger or the pool before anything else happens."""
        self.attempt.failure = failure.kind
        self.over = not failure.severed
        if failure.status == 200 and self.attempt.usage is None:
            self.attempt.usage = UNKNOWN_USAGE  # An answer came and was paid for, and its counts were lost with it.
        now_ms = self.gateway.admission.clock.latest_ms()
        refusal = refusal_of(failure, self.model, lease.dispatched_ms, now_ms, self._window_s())
        if refusal is not None:
            lease.accepted()
            named = [models.model_id(violation.model) for violation in failure.violations if violation.model]
            lease.refuse(refusal, named[0] if named else None)
        elif failure.status not in (None, 429):
            lease.answered()
        if failure.kind == "not_found" and models.says_missing(failure.message):
            self.gateway.missing.add(lease.account.ledger_id, self.model, failure.message)
            lease.not_found()
        pool = self.gateway.pool
        if failure.remedy == "account_out":
            pool.put_out(lease.account, failure.kind, failure.message)
        elif failure.remedy == "account_paused":
            pool.pause(lease.account, failure.kind, failure.message)
        if failure.consumer is not None:
            pool.learn_consumer(lease.account, failure.consumer)

    async def _prepare_next(self, failure: UpstreamFailure, lease: Permit) -> None:
        """Choose and wait for the next try, or raise what the caller is told."""
        self.tries += 1
        others = [account for account in self.usable if account.id != lease.account.id]
        waits = failure.kind == "pressure" or (failure.kind == "quota" and kind_of(failure) != "day")
        alone = failure.remedy != "same_account" and not others and not waits
        least_s = LEAST_AFTER_DEADLINE_S if failure.kind == "deadline" else self._least_s()
        over = self.generation.deadline_s - elapsed_s() < least_s
        if self.tries >= ATTEMPTS or alone or over or failure.remedy in ("caller", "none"):
            raise self.error(failure, lease)
        if failure.remedy == "same_account":
            self.next = [lease.account]
            await self._back_off(_pause_s(failure, self.tries, elsewhere=False), failure, lease)
        elif failure.kind == "pressure":
            self.next = others or self.usable
            await self._back_off(_pause_s(failure, self.tries, elsewhere=bool(others)), failure, lease)
        elif waits:
            self.next = self.usable  # A quota's end is waited for in the queue, where other projects may serve first.
        else:
            self.next = self.usable = others

    def error(self, failure: UpstreamFailure, lease: Permit) -> GatewayError:
        now_ms = self.gateway.admission.clock.latest_ms()
        return caller_error(
            failure,
            self.model,
            lease.dispatched_ms,
            now_ms,
            self._window_s(),
            own_key=lease.account.own_key,
            key_retry_s=self.gateway.pool.server_retry_s(),
        )

    def _window_s(self) -> float:
        return self.gateway.admission.process_config.grid.window_ms / 1000

    async def _back_off(self, wait_s: float, failure: UpstreamFailure, lease: Permit) -> None:
        if elapsed_s() + wait_s + self._least_s() >= self.generation.deadline_s:
            raise self.error(failure, lease)
        await self.gateway.sleep(wait_s)
