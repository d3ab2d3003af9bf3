"""Which accounts are out, for how long, and which keys turn out to be of one Google project."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.accounts.account import Account
from shared.accounts.pool import DISABLED_RETRY_S, MAX_REASON_CHARS, RESTRICTED_PAUSE_S, Pool
from shared.errors import InvalidGeminiKey, NoServerKey
from shared.generation import Caller
from shared.ledger.limits import Limits
from shared.secret import Secret

TEN = Limits(requests=10)
ADMIN = Caller("admin", "admin")
OWN = Caller("own", "caller_key", Secret("AQ.a-key-of-the-caller"))


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def pool_of(clock: Clock, *projects: str) -> Pool:
    accounts = [
        Account(f"gemini-api-key-{number}", project, Secret(f"AQ.key-{number}"), 5, TEN)
        for number, project in enumerate(projects, 1)
    ]
    return Pool(accounts, caller_limits=TEN, caller_concurrency=5, elapsed=clock)


def why_none(pool: Pool) -> NoServerKey:
    with pytest.raises(NoServerKey) as found:
        pool.candidates(ADMIN)
    return found.value


class TestPause:
    def test_ends_by_itself(self) -> None:
        clock = Clock()
        pool = pool_of(clock, "one", "two")
        one, two = pool.server
        pool.pause(one, "restricted", "User location is not supported.")
        assert (pool.candidates(ADMIN), pool.disabled()) == ([two], {one.id: "restricted"})
        clock.now_s += RESTRICTED_PAUSE_S
        assert (pool.candidates(ADMIN), pool.disabled()) == ([one, two], {})

    def test_error_has_googles_words_and_the_time(self) -> None:
        clock = Clock()
        pool = pool_of(clock, "one", "two")
        one, two = pool.server
        pool.pause(one, "restricted", "x")
        clock.now_s += 100
        pool.pause(two, "restricted", "User location\nis not supported. " + "x" * 1000)
        error = why_none(pool)
        assert "User location is not supported. xxx" in error.message
        assert len(error.message) < MAX_REASON_CHARS + 200
        assert error.retry_after_s == RESTRICTED_PAUSE_S - 100

    def test_failures_that_arrive_late_do_not_prolong_it(self) -> None:
        """Requests that were under way fail after the first one did."""
        clock = Clock()
        pool = pool_of(clock, "one")
        pool.pause(pool.server[0], "restricted", "x")
        clock.now_s += 30
        pool.pause(pool.server[0], "restricted", "x")
        assert pool.server_retry_s() == RESTRICTED_PAUSE_S - 30

    def test_does_not_end_being_out(self) -> None:
        clock = Clock()
        pool = pool_of(clock, "one")
        pool.disable(pool.server[0], "key_invalid", "API key expired.")
        pool.pause(pool.server[0], "restricted", "x")
        clock.now_s += RESTRICTED_PAUSE_S
        assert pool.disabled() == {"gemini-api-key-1": "key_invalid"}
        assert (why_none(pool).retry_after_s, "API key expired." in why_none(pool).message) == (DISABLED_RETRY_S, True)

    def test_being_out_replaces_it(self) -> None:
        clock = Clock()
        pool = pool_of(clock, "one")
        pool.pause(pool.server[0], "restricted", "x")
        pool.disable(pool.server[0], "account", "Your prepayment credits are depleted.")
        clock.now_s += RESTRICTED_PAUSE_S
        assert pool.disabled() == {"gemini-api-key-1": "account"}

    def test_callers_key_is_not_paused(self) -> None:
        pool = pool_of(Clock(), "one")
        (own,) = pool.candidates(OWN)
        pool.pause(own, "restricted", "x")
        assert pool.candidates(OWN) == [own]
        pool.disable(own, "key_invalid")
        with pytest.raises(InvalidGeminiKey):
            pool.candidates(OWN)


def test_error_without_server_keys_names_the_setting() -> None:
    error = why_none(pool_of(Clock()))
    assert "set GEMINI_API_KEY" in error.message
    assert error.retry_after_s == DISABLED_RETRY_S


def test_retry_time_is_zero_while_one_can_serve() -> None:
    pool = pool_of(Clock(), "one", "two")
    pool.disable(pool.server[0], "account", "x")
    assert pool.server_retry_s() == 0


class TestConsumers:
    def test_keys_of_one_project_are_found(self) -> None:
        pool = pool_of(Clock(), "one", "two", "three", "four")
        for account, consumer in zip(pool.server, ("7", "8", "7", "9"), strict=True):
            pool.learn_consumer(account, consumer)
        assert pool.same_projects() == [["gemini-api-key-1", "gemini-api-key-3"]]

    def test_keys_of_one_configured_project_are_no_finding(self) -> None:
        pool = pool_of(Clock(), "one", "one")
        for account in pool.server:
            pool.learn_consumer(account, "7")
        assert pool.same_projects() == []

    def test_kinds_have_quotas_of_their_own(self) -> None:
        pool = pool_of(Clock(), "one", "two")
        pool._server = (pool.server[0], replace(pool.server[1], kind="vertex"))
        for account in pool.server:
            pool.learn_consumer(account, "7")
        assert pool.same_projects() == []

    def test_newest_one_holds(self) -> None:
        pool = pool_of(Clock(), "one", "two")
        for consumer in ("7", "8"):
            pool.learn_consumer(pool.server[0], consumer)
        pool.learn_consumer(pool.server[1], "7")
        assert pool.same_projects() == []

    def test_callers_keys_are_not_kept(self) -> None:
        """So that what is kept is bounded by the configured keys."""
        pool = pool_of(Clock(), "one")
        for number in range(100):
            key = Caller("own", "caller_key", Secret(f"AQ.a-key-of-a-caller-{number}"))
            pool.learn_consumer(pool.candidates(key)[0], "7")
        assert pool._consumers == {}
