"""Access tokens: when they are refreshed, who waits for it, and what a failed refresh means. On a clock of the test's own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from shared.gemini.errors import Kind, UpstreamFailure
from shared.gemini.oauth import (
    JITTER_S,
    MAX_CREDENTIALS,
    MAX_PAUSE_S,
    MIN_AGE_S,
    MIN_EARLY_S,
    MIN_PAUSE_S,
    RESERVE_S,
    AccessTokens,
    Minted,
)
from shared.secret import Secret

ONE, TWO = Secret("one"), Secret("two")
HOUR_S = 3600.0


class Google:
    """Mints numbered tokens. `kind`: it fails so. `open` is cleared: it does not answer."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.lifetime_s = HOUR_S
        self.jitter = 0.0
        self.minted: list[str] = []
        self.kind: Kind | None = None
        self.open = threading.Event()
        self.open.set()
        self.tokens = AccessTokens(self, elapsed=lambda: self.now_s, jitter=lambda: self.jitter)

    def __call__(self, credential: Secret) -> Minted:
        assert self.open.wait(30)
        self.minted.append(credential.reveal())
        if self.kind is not None:
            raise UpstreamFailure(self.kind, "Why not.", reason="invalid_grant", written=False)
        return Minted(Secret(f"{credential.reveal()}-{len(self.minted)}"), self.lifetime_s)

    async def token(self, credential: Secret = ONE, timeout_s: float = 30.0) -> str:
        got = await self.tokens.get(credential, timeout_s)
        assert got.headers == {"Authorization": f"Bearer {got.secret.reveal()}"}
        return got.secret.reveal()

    async def settled(self) -> None:
        """Returns when no refresh is in progress."""
        for entry in self.tokens._entries.values():
            if entry.refresh is not None:
                await asyncio.wait({entry.refresh})

    async def failure(self) -> UpstreamFailure:
        with pytest.raises(UpstreamFailure) as caught:
            await self.token()
        assert not caught.value.written
        return caught.value


@pytest.fixture
async def google() -> AsyncIterator[Google]:
    made = Google()
    yield made
    made.open.set()
    await made.tokens.aclose()


class TestRefresh:
    async def test_a_token_is_used_until_five_minutes_before_its_expiry(self, google: Google) -> None:
        assert await google.token() == "one-1"
        google.now_s += HOUR_S - MIN_EARLY_S - 1
        assert await google.token() == "one-1"
        await google.settled()
        assert google.minted == ["one"]

    async def test_refreshes_are_spread_over_a_minute(self, google: Google) -> None:
        google.jitter = 1.0
        got = await google.tokens.get(ONE, 30.0)
        assert got.refresh_s == 1000 + HOUR_S - MIN_EARLY_S - JITTER_S

    async def test_requests_use_the_old_token_during_a_refresh(self, google: Google) -> None:
        await google.token()
        google.open.clear()
        google.now_s += HOUR_S - MIN_EARLY_S
        assert [await google.token() for _ in range(5)] == ["one-1"] * 5
        google.open.set()
        await google.settled()
        assert await google.token() == "one-2"
        assert len(google.minted) == 2

    async def test_concurrent_requests_share_one_refresh(self, google: Google) -> None:
        assert set(await asyncio.gather(*(google.token() for _ in range(50)))) == {"one-1"}
        google.now_s += HOUR_S
        assert set(await asyncio.gather(*(google.token() for _ in range(50)))) == {"one-2"}

    async def test_a_token_is_not_sent_in_its_last_seconds(self, google: Google) -> None:
        await google.token()
        google.now_s += HOUR_S - RESERVE_S
        assert await google.token() == "one-2"

    async def test_each_credential_has_a_token_of_its_own(self, google: Google) -> None:
        assert [await google.token(ONE), await google.token(TWO), await google.token(Secret("one"))] == [
            "one-1",
            "two-2",
            "one-1",
        ]

    async def test_a_token_with_little_time_left_is_used_for_most_of_it(self, google: Google) -> None:
        """Metadata servers return the same token until a few minutes before its expiry."""
        google.lifetime_s = 310.0
        await google.token()
        google.now_s += 200
        assert await google.token() == "one-1"
        await google.settled()
        assert len(google.minted) == 1

    async def test_a_token_that_has_expired_on_arrival_is_a_failure(self, google: Google) -> None:
        google.lifetime_s = 0.0
        assert (await google.failure()).kind == "token"

    async def test_the_refresh_goes_on_when_its_request_ends(self, google: Google) -> None:
        google.open.clear()
        task = asyncio.create_task(google.token())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        google.open.set()
        assert await google.token() == "one-1"
        assert len(google.minted) == 1

    async def test_a_request_waits_no_longer_than_its_deadline(self, google: Google) -> None:
        google.open.clear()
        with pytest.raises(UpstreamFailure) as caught:
            await google.token(timeout_s=0.0)
        assert (caught.value.kind, caught.value.written) == ("timeout", False)

    async def test_old_credentials_are_forgotten(self, google: Google) -> None:
        for number in range(MAX_CREDENTIALS + 1):
            google.tokens.reject(Secret(str(number)), ONE)
        assert len(google.tokens._entries) == MAX_CREDENTIALS


class TestFailure:
    async def test_a_failure_is_every_requests_own(self, google: Google) -> None:
        google.kind = "key_invalid"
        failures = await asyncio.gather(*(google.token() for _ in range(3)), return_exceptions=True)
        assert {(failure.kind, failure.reason) for failure in failures if isinstance(failure, UpstreamFailure)} == {
            ("key_invalid", "invalid_grant")
        }
        assert len({id(failure) for failure in failures}) == 3
        assert len(google.minted) == 1

    async def test_a_failed_refresh_is_repeated_after_a_pause(self, google: Google) -> None:
        google.kind, google.jitter = "token", 1.0
        pause_s = MIN_PAUSE_S
        for tries in range(1, 8):
            await google.failure()
            google.now_s += pause_s - 0.01
            await google.failure()
            assert len(google.minted) == tries
            google.now_s += 0.01
            pause_s = min(2 * pause_s, MAX_PAUSE_S)
        google.kind = None
        google.now_s += MAX_PAUSE_S
        assert await google.token() == "one-8"

    async def test_a_living_token_is_used_while_refreshes_fail(self, google: Google) -> None:
        await google.token()
        google.kind, google.jitter = "token", 1.0
        google.now_s += HOUR_S - MIN_EARLY_S
        for _ in range(3):
            assert await google.token() == "one-1"
            await google.settled()
        assert len(google.minted) == 2
        google.now_s += MIN_PAUSE_S
        assert await google.token() == "one-1"
        await google.settled()
        assert len(google.minted) == 3

    async def test_an_error_of_our_own_reaches_the_request(self) -> None:
        def broken(_: Secret) -> Minted:
            raise LookupError("a mistake")

        tokens = AccessTokens(broken)
        with pytest.raises(LookupError):
            await tokens.get(ONE, 30.0)
        await tokens.aclose()


class TestRejection:
    async def test_a_rejected_token_is_replaced_once(self, google: Google) -> None:
        old = (await google.tokens.get(ONE, 30.0)).secret
        google.now_s += MIN_AGE_S
        assert google.tokens.reject(ONE, old)
        assert google.tokens.reject(ONE, old)
        assert await google.token() == "one-2"
        # A request that was sent with the old token comes back later.
        assert google.tokens.reject(ONE, old)
        assert await google.token() == "one-2"

    async def test_a_new_token_that_is_rejected_is_kept(self, google: Google) -> None:
        new = (await google.tokens.get(ONE, 30.0)).secret
        google.now_s += MIN_AGE_S - 1
        assert not google.tokens.reject(ONE, new)
        assert await google.token() == "one-1"


async def test_closing_ends_a_refresh(google: Google) -> None:
    google.open.clear()
    task = asyncio.create_task(google.token())
    await asyncio.sleep(0)
    await google.tokens.aclose()
    with pytest.raises(asyncio.CancelledError):
        await task
