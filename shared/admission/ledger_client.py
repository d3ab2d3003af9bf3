"""One project's ledger as a remote service: read its document, or send one renew, which is repeated until its result is known.

This module decides nothing and waits only for the store: `project` has the timers."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from dataclasses import replace

from shared.accounts.account import Account
from shared.admission.call_log import LedgerCall, LedgerCallLog
from shared.admission.config import ProcessConfig
from shared.admission.ledger_document import Document, Renewal, document_of
from shared.admission.server_clock import ServerClock
from shared.clock import elapsed_s
from shared.ledger.state import COLLECTION, RenewRequest, RenewResult
from shared.stores.port import Change, CommitUnknown, Liveness, Store, StoreContended, StoreError, TimeSample

log = logging.getLogger(__name__)

MIN_BACKOFF_S, MAX_BACKOFF_S = 0.2, 5.0
SILENCE_S = 1.0
"""Minimum wait before a missing reply counts as the ledger being down."""
MAX_CALL_S = 12.0
"""A call longer than any timeout means that this process was suspended: its outcome is no health signal."""


class LedgerClient:
    """The calls of one process to one ledger, one at a time: `begin_call`, then `read` or `renew` or both, then `end_call`."""

    def __init__(
        self,
        account: Account,
        store: Store,
        clock: ServerClock,
        config: ProcessConfig,
        call_log: LedgerCallLog,
        liveness: Liveness | None = None,
    ) -> None:
        self.key = COLLECTION + account.ledger_id
        self.store = store
        self.number = int(elapsed_s() * 1000)
        """Number of the last renew. It starts above the numbers of an earlier client of this process for the same ledger."""
        self.pending: RenewRequest | None = None
        """A renew that was sent and whose result is not known: it is sent again unchanged."""
        self.writes = self.conflicts = 0
        self.began_s = 0.0
        """When the last call began (elapsed time)."""
        self._account, self._clock, self._config = account, clock, config
        self._call_log, self._liveness = call_log, liveness
        self._calling = False
        self._writes_before = 0
        self._failures, self._not_before_s, self._answered_s = 0, 0.0, 0.0

    @property
    def ledger_id(self) -> str:
        """The ledger that is called."""
        return self.key.removeprefix(COLLECTION)

    # -- health ------------------------------------------------------------------------------------------------------

    def backoff_s(self, now_s: float) -> float:
        """How long to wait after a failed call before the next one; negative if there is no reason to wait."""
        return self._not_before_s - now_s

    def is_failing(self) -> bool:
        """Whether two calls or more failed in a row, and the next one is not due yet."""
        return self._failures >= 2 and elapsed_s() < self._not_before_s

    def is_silent_since(self, since_s: float) -> bool:
        """Whether the ledger has not answered since then, although a call failed or had enough time."""
        unanswered = self._calling and elapsed_s() - max(since_s, self.began_s) >= SILENCE_S
        return self._answered_s < since_s and (unanswered or self._failures > 0)

    # -- calling -----------------------------------------------------------------------------------------------------

    def begin_call(self) -> None:
        self._calling, self.began_s, self._writes_before = True, elapsed_s(), self.writes

    def succeeded(self) -> None:
        self._failures, self._answered_s = 0, elapsed_s()

    def failed(self, error: Exception) -> None:
        """Delay the next call, longer with every failure in a row."""
        if not isinstance(error, StoreError):
            log.error("the ledger's document cannot be used", exc_info=error)
        now_s = elapsed_s()
        if isinstance(error, StoreContended):  # The ledger answers: waiting requests go on waiting.
            self._failures, self._answered_s = 0, now_s
            self._not_before_s = now_s + random.uniform(0.0, MAX_BACKOFF_S / 2)
            log.info("the ledger's document is changed too often by others: %s", error)
            return
        self._failures = self._failures + 1 if now_s - self.began_s < MAX_CALL_S else 1
        longest_s = min(MAX_BACKOFF_S, MIN_BACKOFF_S * 2**self._failures)
        self._not_before_s = now_s + random.uniform(MIN_BACKOFF_S / 4, longest_s)
        log.warning("a call to the ledger failed (%d in a row): %s", self._failures, error)

    def end_call(self) -> None:
        self._calling = False
        self._call_log.add(self.key, LedgerCall(self.began_s, elapsed_s(), self.writes > self._writes_before))

    async def read(self) -> tuple[Document | None, bool]:
        """The document, None if there is none yet; and whether the store's clock is consistent with earlier samples."""
        reading = await self.store.read(self.key)
        consistent = self.observe((reading.sample,))
        self.succeeded()
        return document_of(reading), consistent

    async def renew(self, request: RenewRequest, *, accepted: bool, cached: bool) -> tuple[RenewResult, bool]:
        """Send `request`, which stays `pending` until its result is known, and also if the ledger was merged into another one.
        Returns the grant, and whether the store's clock is consistent. `accepted`: Gemini accepted the account's key. `cached`:
        whether the store may assume that nobody else writes.

        Raises StoreError."""
        self.pending = request
        renewal = Renewal(self.key, request, self._account, self._config, accepted, self._liveness)
        is_repeated = False

        def step(values: Mapping[str, bytes | None], now_ms: int) -> Change[RenewResult]:
            nonlocal is_repeated
            if is_repeated:  # The ledger rejected a commit: it answers, however long others change it first.
                self._answered_s = elapsed_s()
            is_repeated = True
            return renewal.step(values, now_ms)

        try:
            outcome = await self.store.transact([self.key], step, cached=cached)
        except CommitUnknown:
            self._count_writes(1)
            raise
        except StoreContended as error:
            self._count_writes(error.writes)
            self.conflicts += error.writes
            raise
        if not outcome.result.moved:
            self.pending, self.number = None, request.number
        self._count_writes(outcome.writes)
        self.conflicts += outcome.conflicts
        return outcome.result, self.observe(outcome.samples)

    def follow(self, survivor: str, config: ProcessConfig) -> None:
        """Call the ledger that this one was merged into, under the name of this instance in `config`."""
        self.key, self._config = COLLECTION + survivor, config
        if self.pending is not None:
            self.pending = replace(self.pending, instance=config.instance)

    def _count_writes(self, commits: int) -> None:
        self.writes += commits
        self._call_log.writes += commits

    def observe(self, samples: tuple[TimeSample, ...]) -> bool:
        consistent = True
        for sample in samples:
            if not self._clock.observe(sample):
                log.critical("the store's clock contradicts itself: permits are dropped and requested again")
                consistent = False
        return consistent
