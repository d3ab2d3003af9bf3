"""Runs a generation: admission, exchange with Gemini, settlement; whole or streamed, with retries, also on other accounts.

`attempts` holds the state of one request, `retry` decides what follows a failure, `failures` what a failure means."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

from shared.accounts.account import Account
from shared.accounts.pool import Pool
from shared.accounts.signatures import LIFETIME_MS
from shared.admission.admission import Admission
from shared.admission.permit import PermitLapsed
from shared.bounds.byte_budget import ByteBudget, Claim
from shared.bounds.large_work import LargeWork
from shared.bounds.pace import PacedRequest
from shared.clock import elapsed_s
from shared.gateway.address_circuit import AddressCircuit
from shared.gateway.attempts import Attempts
from shared.gateway.cooldown import Cooldown
from shared.gateway.day_share import DayShare
from shared.gateway.generator import Generator
from shared.gateway.placement import Places
from shared.gateway.project_merges import ProjectMerges
from shared.gateway.recording import UnderPermit
from shared.gateway.request_bodies import RequestBodies
from shared.gateway.stream_reply import StreamReply
from shared.gateway.token_count import counted
from shared.gemini.errors import UpstreamFailure
from shared.gemini.missing import MissingModels
from shared.gemini.models import TABLE, ModelTable, max_input_tokens
from shared.gemini.upstream import Upstream
from shared.generation import Caller, Generation, Priority, Reply, Timeline

if TYPE_CHECKING:
    from shared.gemini.file_uploads import FileUploads

log = logging.getLogger(__name__)
DELETE_S = 5.0
"""Maximum time for the deletion of a file's copies at Gemini."""


class Gateway:
    """Bound to one event loop. `upstreams` has one for each kind of account."""

    def __init__(
        self,
        pool: Pool,
        admission: Admission,
        upstreams: Mapping[str, Upstream],
        *,
        request_timeout_s: float,
        byte_budget: ByteBudget,
        large_work: LargeWork,
        day_share: DayShare | None = None,
        table: ModelTable = TABLE,
        cooldown: Cooldown | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        signatures_ms: int = LIFETIME_MS,
        uploads: Callable[[], FileUploads] | None = None,
    ) -> None:
        """`signatures_ms`: how long it is known which backend made a thought signature. `uploads` returns the client of Gemini's
        Files API; None where no request has stored files."""
        self.pool, self.admission, self.upstreams = pool, admission, upstreams
        self.request_timeout_s = request_timeout_s
        self.day_share = day_share
        """None where anonymous callers may use the whole day."""
        self.cooldown = cooldown
        """None where accounts do not rest between dispatches."""
        self.bodies = RequestBodies(byte_budget, large_work)
        self.places = Places(
            pool, self.bodies, admission, signatures_ms, uploads=uploads, longest_upload_s=request_timeout_s
        )
        self.missing = MissingModels()
        self.table = table
        """The models, with the operator's aliases."""
        self.address = AddressCircuit(admission.store, pool.usable)
        self.merges = ProjectMerges(pool, admission)
        self.sleep = sleep

    def bind(
        self,
        caller: Caller,
        deadline_s: float,
        priority: Priority,
        timeline: Timeline,
        *,
        claim: Claim | None = None,
        patient_until_s: float | None = None,
        pace: PacedRequest | None = None,
    ) -> Generator:
        """A generator for one request, with the methods `generate` and `stream`. The arguments are its fields."""
        return Generator(self, caller, deadline_s, priority, timeline, claim, patient_until_s, pace)

    async def generate(self, generation: Generation) -> Reply:
        """One answer. Raises GatewayError."""
        encoded = await self.bodies.encoded(generation)
        with self.bodies.held(generation, encoded):
            attempts = Attempts(self, generation, encoded)
            while True:
                permit = await attempts.admit()
                try:
                    async with UnderPermit(attempts, permit):
                        exchange = attempts.exchange(permit, generation.verb)
                        body = await self.upstreams[permit.account.kind].generate(exchange)
                        reply = attempts.answered(permit, body)
                    await attempts.placement.record(permit.account)
                    return reply
                except (PermitLapsed, UpstreamFailure) as failure:
                    await attempts.prepare_retry(failure, permit)

    async def count(self, generation: Generation) -> int | None:
        """Gemini's count of the request's input tokens, which uses no quota; None if there is none now. Raises GatewayError."""
        encoded = await self.bodies.encoded(generation)
        with self.bodies.held(generation, encoded):
            return await counted(Attempts(self, generation, encoded))

    def input_limit(self, caller: Caller, model: str) -> int:
        """How many input tokens a request may have whose length is chosen here: what the model takes, and at most half of a
        minute's tokens, so that two such requests can follow each other. Raises NoServerKey, InvalidGeminiKey, BadRequest."""
        canonical = self.table.resolve(model).canonical
        of_model = max_input_tokens(canonical, self.table)
        limits = [account.limits_for(canonical).input_tokens for account in self.pool.candidates(caller)]
        return max(of_model if limit is None else min(limit // 2, of_model) for limit in limits)

    async def bind_thing(self, name: str, caller: Caller, account: Account, expires_at_ms: int) -> bool:
        """Records that `caller` made a thing with `account`: a file, cache, batch or interaction, by the name that Google gave
        it (`files/x`), until Google deletes it. False if the name is another caller's or another project's. With a caller's own
        key nothing is recorded: Gemini itself keeps its things apart. Raises LedgerUnavailable."""
        if caller.caller_key is not None:
            return True
        bindings = self.places.bindings
        return await bindings.bind(name, caller.id, account.ledger_id, expires_at_ms, account_id=account.id)

    async def delete_copies(self, caller: Caller, file_key: str) -> None:
        """Deletes Gemini's copies of a stored file that its caller deleted, as far as that works now: Google deletes the others
        when their 48 hours are over. The record is removed first, so that no request uses them. Raises LedgerUnavailable."""
        copies, until_s = self.places.copies, elapsed_s() + DELETE_S
        found = await copies.forget(file_key)
        accounts = self.pool.candidates(caller) if found else []
        holders = {project: self.places.accounts_of(project, accounts)[:1] for project in found}
        outcomes = await asyncio.gather(
            *(copies.delete(holder, found[project], until_s) for project, of in holders.items() for holder in of),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if isinstance(outcome, UpstreamFailure):
                log.info("A file's copy at Gemini could not be deleted (%s); it expires by itself.", outcome.kind)
            elif isinstance(outcome, BaseException):
                raise outcome

    def accepted(self, caller: Caller) -> bool:
        """Whether Gemini has accepted the caller's own key, as far as this process knows; True for callers without one.
        Raises InvalidGeminiKey for a key that Gemini rejected recently."""
        if caller.caller_key is None:
            return True
        agent = self.admission.clients.known(self.pool.candidates(caller)[0])
        return agent is not None and agent.accepted

    def stream(self, generation: Generation) -> AbstractAsyncContextManager[StreamReply]:
        """Entering waits for the first frame, so that a failure before it is an error with a status. Raises GatewayError,
        both when entered and while the frames are read."""
        return self._stream(generation)

    @asynccontextmanager
    async def _stream(self, generation: Generation) -> AsyncIterator[StreamReply]:
        encoded = await self.bodies.encoded(generation)
        with self.bodies.held(generation, encoded):
            attempts = Attempts(self, generation, encoded, streamed=True)
            while True:
                permit = await attempts.admit()
                try:
                    async with (
                        UnderPermit(attempts, permit),
                        self.upstreams[permit.account.kind].stream(
                            attempts.exchange(permit, "streamGenerateContent")
                        ) as frames,
                    ):
                        reply = attempts.begun(permit, await anext(frames), frames)
                        try:
                            yield reply
                        finally:
                            attempts.settle(permit, reply.usage)
                        return
                except (PermitLapsed, UpstreamFailure) as failure:
                    await attempts.prepare_retry(failure, permit)
