"""The OAuth access tokens of service accounts: one refresh for each expiry, which all requests of the process share.

    age of the token                      a request
    ------------------------------------------------------------------------------------------
    none, or expired, or rejected         waits for the refresh
    in its last 5 to 6 minutes            starts the refresh, and uses the token that still lives
    younger                               uses the token

Nothing runs between requests: a refresh is started by a request. A failed one is repeated after a pause at the earliest; until
then requests use the token that still lives, or fail as the refresh did.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from shared.clock import elapsed_s
from shared.gemini.errors import UpstreamFailure
from shared.secret import Secret

MIN_EARLY_S = 300.0
"""How long before its expiry a token is refreshed, at least: a stream that begins now ends before that."""
JITTER_S = 60.0
"""Instances that got their tokens together do not refresh them together."""
MAX_EARLY_SHARE = 0.25
"""Maximum share of a token's lifetime by which it is refreshed early: metadata servers return tokens with a few minutes left."""
RESERVE_S = 10.0
"""In the last seconds a token may expire on the way."""
MIN_AGE_S = 60.0
"""A younger token that is rejected is not refreshed: the next one would be rejected too."""
MIN_PAUSE_S, MAX_PAUSE_S = 1.0, 30.0
MAX_THREADS = 8
MAX_CREDENTIALS = 2_000


class Minted(NamedTuple):
    """A new token, and in how many seconds it expires."""

    token: Secret
    lifetime_s: float


@dataclass(frozen=True, slots=True)
class AccessToken:
    """Times are elapsed seconds."""

    secret: Secret
    headers: dict[str, str]
    refresh_s: float
    """From then on it is refreshed."""
    expires_s: float
    """Until then it may be sent."""
    min_age_s: float
    """From then on a new token may be fetched if this one is rejected."""


class _Entry:
    """The token of one credential, and its refresh."""

    __slots__ = ("failed", "failure", "refresh", "retry_s", "token")

    def __init__(self) -> None:
        self.token: AccessToken | None = None
        self.refresh: asyncio.Task[None] | None = None
        self.failure: UpstreamFailure | None = None
        self.failed = 0
        """Refreshes that failed in a row."""
        self.retry_s = 0.0
        """Elapsed time from which another refresh may begin."""


class AccessTokens:
    """Bound to the event loop of its first call. `mint` fetches one token; it runs in a thread and raises UpstreamFailure."""

    def __init__(
        self,
        mint: Callable[[Secret], Minted],
        *,
        elapsed: Callable[[], float] = elapsed_s,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._mint, self._elapsed, self._jitter = mint, elapsed, jitter
        self._entries: OrderedDict[Secret, _Entry] = OrderedDict()
        # Not the loop's own threads: these may wait for a slow endpoint, and look-ups of names need those.
        self._threads: ThreadPoolExecutor | None = None

    async def get(self, credential: Secret, timeout_s: float) -> AccessToken:
        """A token that lives. Raises UpstreamFailure, `written` False, also if there is none within `timeout_s`."""
        entry = self._entry(credential)
        now_s = self._elapsed()
        token = entry.token
        if token is not None and now_s < token.expires_s:
            if now_s >= token.refresh_s and entry.refresh is None and now_s >= entry.retry_s:
                self._start(entry, credential)
            return token
        refresh = entry.refresh
        if refresh is None:
            if entry.failure is not None and now_s < entry.retry_s:
                raise _again(entry.failure)
            refresh = self._start(entry, credential)
        # The refresh goes on if this request ends: others wait for it.
        done, _ = await asyncio.wait({refresh}, timeout=timeout_s)
        if not done:
            late = "Google's token endpoint did not answer before the deadline."
            raise UpstreamFailure("timeout", late, written=False)
        refresh.result()
        token = entry.token
        if token is not None and self._elapsed() < token.expires_s:
            return token
        if entry.failure is not None:
            raise _again(entry.failure)
        raise UpstreamFailure("token", "Google's token endpoint returned a token that has expired.", written=False)

    def reject(self, credential: Secret, token: Secret) -> bool:
        """Google rejected `token` (401): the next request fetches another one. False if that would not help, because this one is
        new."""
        entry = self._entry(credential)
        held = entry.token
        if held is None or held.secret is not token:
            return True
        if self._elapsed() < held.min_age_s:
            return False
        entry.token = None
        return True

    async def aclose(self) -> None:
        """Cancels what is being fetched."""
        tasks = [entry.refresh for entry in self._entries.values() if entry.refresh is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _entry(self, credential: Secret) -> _Entry:
        entry = self._entries.get(credential)
        if entry is None:
            entry = self._entries[credential] = _Entry()
            if len(self._entries) > MAX_CREDENTIALS:
                self._entries.popitem(last=False)
        return entry

    def _start(self, entry: _Entry, credential: Secret) -> asyncio.Task[None]:
        refresh = entry.refresh = asyncio.get_running_loop().create_task(self._refresh(entry, credential))
        return refresh

    async def _refresh(self, entry: _Entry, credential: Secret) -> None:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="access-tokens")
        entry.retry_s = self._elapsed() + MIN_PAUSE_S
        try:
            minted = await asyncio.get_running_loop().run_in_executor(self._threads, self._mint, credential)
        except UpstreamFailure as failure:
            entry.failure = failure
            pause_s = min(MIN_PAUSE_S * 2**entry.failed, MAX_PAUSE_S)
            entry.failed = min(entry.failed + 1, 10)
            entry.retry_s = self._elapsed() + pause_s * (1 + self._jitter()) / 2
        else:
            entry.token, entry.failure, entry.failed = self._held(minted), None, 0
        finally:
            entry.refresh = None

    def _held(self, minted: Minted) -> AccessToken:
        now_s, lifetime_s = self._elapsed(), minted.lifetime_s
        early_s = min(MIN_EARLY_S + JITTER_S * self._jitter(), MAX_EARLY_SHARE * lifetime_s)
        return AccessToken(
            minted.token,
            {"Authorization": f"Bearer {minted.token.reveal()}"},
            refresh_s=now_s + lifetime_s - early_s,
            expires_s=now_s + lifetime_s - min(RESERVE_S, lifetime_s / 10),
            min_age_s=now_s + min(MIN_AGE_S, lifetime_s / 4),
        )


def _again(failure: UpstreamFailure) -> UpstreamFailure:
    """A copy for one more request: a raised exception keeps the frames that it passed."""
    return UpstreamFailure(failure.kind, failure.message, reason=failure.reason, written=False)
