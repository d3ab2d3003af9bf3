"""Stops all requests of the fleet while Gemini throttles its address: while it rejects every account and names no quota.

              every account was rejected without a quota, none was answered meanwhile
    CLOSED --------------------------------------------------------------------------> OPEN
       ^                                                                                 |  one probe per PROBE_INTERVAL_S,
       +------------------------- the first answer of a request sent since ------------- +  of all processes together

The circuit is one entry of the store with the time of the next probe. A process that was answered lately, or read the entry
lately, does not read it again. No account's state changes: while every account may be concerned, rejections without a quota are
held back from the ledger, and dropped when the circuit opens. With one account nothing tells its address from the capacity that
Google's customers share, so the circuit stays closed.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass

from shared.accounts.account import Account
from shared.clock import elapsed_s
from shared.errors import QueueTimeout
from shared.stores.port import Change, Put, Store, StoreError

log = logging.getLogger(__name__)

KEY = "rate/address-circuit"
PROBE_INTERVAL_S = 2.0
LOOK_S, POLL_S = 5.0, 0.5
"""How old an answer or a reading may be: while the circuit is closed, and while requests wait for it to close."""
ENOUGH = 8
"""So many different accounts stand for all of them."""
HELD_S, MAX_HELD = 60.0, 1_000
"""Rejections are held back for this time and number, then reported to the ledger."""
KEPT_MS = 3_600_000
_MESSAGE = (
    "Gemini rejects the requests of all this server's accounts and names no quota, so it may throttle the server's address. "
    "One request at a time tests whether it accepts them again. Send this one again after the time in Retry-After."
)


@dataclass(slots=True)
class Passage:
    """One request's way through the circuit."""

    guest: bool = False
    """Whether it brings a key of its own, which may be made up: it is a probe only where no other request is."""
    probe_until_s: float = 0.0
    """Until when it may be sent as the probe (elapsed time); 0 if it is none."""


class AddressCircuit:
    """One per process and event loop. `accounts` returns the server's accounts that can serve now."""

    def __init__(
        self, store: Store, accounts: Callable[[], Sequence[Account]], interval_s: float = PROBE_INTERVAL_S
    ) -> None:
        self._store, self._accounts, self._interval_s = store, accounts, interval_s
        self._next_s: float | None = None
        """When the next probe may be sent; None while the circuit is closed."""
        self._opened_s = 0.0
        self._known_s = -math.inf
        """When an answer of Gemini's or the entry last showed the circuit's state."""
        self._held: dict[str, list[Callable[[], None]]] = {}
        """The reports of rejections since the last answer, by account."""
        self._since_s = 0.0
        """When the first of them came."""
        self._candidate: Passage | None = None
        """The request here that takes a permit to be the next probe, until `_candidate_until_s`."""
        self._candidate_until_s = 0.0
        self._closed = asyncio.Event()
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    # -- before an exchange ------------------------------------------------------------------------------------------

    async def enter(self, passage: Passage, until_s: float) -> None:
        """Returns at once while the circuit is closed, as far as this process knows; else when it closes, or when the request may
        try to be the probe. Raises QueueTimeout at `until_s`."""
        passage.probe_until_s = 0.0
        while self._next_s is not None:
            now_s = elapsed_s()
            if now_s >= until_s:
                raise QueueTimeout(_MESSAGE, retry_after_s=self.retry_s())
            free_s = self._next_s + self._interval_s * passage.guest
            if now_s >= free_s and (self._candidate is None or now_s >= self._candidate_until_s):
                self._candidate, self._candidate_until_s = passage, now_s + self._interval_s
                return
            due_s = free_s if now_s < free_s else self._candidate_until_s
            await self._wait(min(until_s, due_s, now_s + POLL_S) - now_s)
            await self._look(POLL_S)

    async def pass_with_permit(self, passage: Passage) -> bool:
        """Whether the request, which has a permit now, may be sent: the circuit is closed, or this is its probe."""
        if self._next_s is None and elapsed_s() - self._known_s >= LOOK_S and len(self._accounts()) > 1:
            await self._look(LOOK_S)
        if self._next_s is None:
            return True
        try:
            await self._claim(passage)
        finally:
            self.leave(passage)
        return not self.stops(passage)

    def leave(self, passage: Passage) -> None:
        """The request does not try to be the probe any more."""
        if self._candidate is passage:
            self._candidate = None

    def stops(self, passage: Passage) -> bool:
        """Whether the request may not be sent at this moment."""
        return self._next_s is not None and elapsed_s() >= passage.probe_until_s

    @property
    def is_open(self) -> bool:
        """As far as this process knows."""
        return self._next_s is not None

    def retry_s(self) -> float:
        """Seconds until Gemini has answered the next probe; 0 while the circuit is closed."""
        return 0.0 if self._next_s is None else max(1.0, self._next_s - elapsed_s() + self._interval_s / 2)

    # -- after an exchange -------------------------------------------------------------------------------------------

    def answered(self, dispatched_s: float | None) -> None:
        """Gemini accepted a request that was dispatched then (elapsed time). None: it was not dispatched here."""
        if dispatched_s is None:
            return
        if self._next_s is not None:
            if dispatched_s >= self._opened_s:
                self._close()
                self._later(self._write(None))
            return
        self._known_s = elapsed_s()
        if self._held and dispatched_s >= self._since_s:
            self._report()

    def rejected(self, account: Account, report: Callable[[], None]) -> None:
        """Gemini rejected a request and named no quota. `report` tells the ledger of it."""
        known = {one.id for one in self._accounts()}
        if account.caller_key or len(known) < 2:
            report()
            return
        if self._next_s is not None:
            return
        now_s = elapsed_s()
        self._known_s = -math.inf  # Another process may have opened the circuit: it is read before the next request.
        held = sum(map(len, self._held.values()))
        if self._held and (now_s - self._since_s > HELD_S or held >= MAX_HELD):
            self._report()
        if not self._held:
            self._since_s = now_s
        self._held.setdefault(account.id, []).append(report)
        concerned = self._held.keys() & known
        if len(concerned) >= min(len(known), ENOUGH):
            self._open(now_s + self._interval_s)
            self._later(self._write(self._interval_s))

    def untried(self, accounts: Sequence[Account]) -> list[Account]:
        """The accounts that were not rejected since the last answer: the next rejection of one of them may open the circuit."""
        return [account for account in accounts if account.id not in self._held] if self._held else []

    def _report(self) -> None:
        held, self._held = self._held, {}
        for report in (one for reports in held.values() for one in reports):
            report()

    # -- the entry in the store --------------------------------------------------------------------------------------

    async def _look(self, max_age_s: float) -> None:
        """Read the entry, unless its state was known so recently. Requests share one reading."""
        async with self._turn:
            if elapsed_s() - self._known_s < max_age_s:
                return
            try:
                reading = await self._store.read(KEY)
            except StoreError as error:  # The ledger is in the same store, and decides whether anything is sent.
                log.warning("the circuit of the address cannot be read: %s", error)
                return
            self._adopt(reading.value, reading.sample.server_ms)

    async def _claim(self, passage: Passage) -> None:
        """Take the next probe for the request, if it is due and no other process took it."""

        def step(values: Mapping[str, bytes | None], now_ms: int) -> Change[tuple[bool, bytes | None, int]]:
            value = values[KEY]
            if value is None or now_ms < int(value):
                return Change((False, value, now_ms))
            following = b"%d" % (now_ms + int(1000 * self._interval_s))
            return Change((True, following, now_ms), {KEY: Put(following, now_ms + KEPT_MS)})

        async with self._turn:
            began_s = elapsed_s()
            if self._next_s is None or began_s < self._next_s:
                return
            try:
                claimed, value, now_ms = (await self._store.transact([KEY], step)).result
            except StoreError as error:
                log.warning("the circuit of the address cannot be changed: %s", error)
                self._next_s = elapsed_s() + self._interval_s
                return
            self._adopt(value, now_ms)
            if claimed:
                passage.probe_until_s = began_s + self._interval_s

    async def _write(self, probe_after_s: float | None) -> None:
        """Open the circuit for the fleet with a probe after that time, or close it. An open one keeps the time of its probe."""

        def step(values: Mapping[str, bytes | None], now_ms: int) -> Change[tuple[bytes | None, int]]:
            value = values[KEY]
            if probe_after_s is None:
                return Change((None, now_ms), {} if value is None else {KEY: None})
            if value is not None:
                return Change((value, now_ms))
            opened = b"%d" % (now_ms + int(1000 * probe_after_s))
            return Change((opened, now_ms), {KEY: Put(opened, now_ms + KEPT_MS)})

        async with self._turn:
            try:
                value, now_ms = (await self._store.transact([KEY], step)).result
            except StoreError as error:
                log.warning("the circuit of the address cannot be changed: %s", error)
                return
            self._adopt(value, now_ms)

    def _adopt(self, value: bytes | None, now_ms: float) -> None:
        self._known_s = elapsed_s()
        if value is None:
            self._close()
        else:
            self._open(self._known_s + (int(value) - now_ms) / 1000)

    def _open(self, next_s: float) -> None:
        if self._next_s is None:
            self._opened_s = elapsed_s()
            self._closed = asyncio.Event()
            self._held.clear()
            log.warning("Gemini rejects every account without a quota: requests wait, and one at a time is sent")
        self._next_s = next_s

    def _close(self) -> None:
        if self._next_s is not None:
            log.warning("Gemini answers again: requests are sent as usual")
        self._next_s, self._candidate = None, None
        self._closed.set()

    async def _wait(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._closed.wait()
        except TimeoutError:
            return

    # -- tasks -------------------------------------------------------------------------------------------------------

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        """Wait until the store knows what was learned here: after a response the CPU may stop."""
        if self._tasks:
            await asyncio.shield(asyncio.gather(*self._tasks))
