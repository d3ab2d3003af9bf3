"""Which accounts are out, for how long, and which keys turn out to be of one Google project."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared.accounts.account import Account
from shared.accounts.pool import DISABLED_RETRY_S, MAX_REASON_CHARS, RESTRICTED_PAUSE_S, Pool
from shared.accounts.records import OutReason
from shared.errors import InvalidGeminiKey, LedgerUnavailable, NoServerKey
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

    @pytest.mark.parametrize(("status", "details"), [(403, {"upstream_status": 403}), (None, None)])
    def test_rejected_key_keeps_the_status_of_its_rejection(self, status: int | None, details: Any) -> None:
        pool = pool_of(Clock(), "one")
        (own,) = pool.candidates(OWN)
        pool.disable(own, "account", "Suspended.", status)
        with pytest.raises(InvalidGeminiKey) as raised:
            pool.candidates(OWN)
        assert raised.value.details == details


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


class TestReplace:
    """The operator changes the stored accounts while the process runs."""

    FIRST, SECOND = (Account(f"a-{n}", f"p{n}", Secret(f"AQ.key-of-account-{n}"), 5, TEN) for n in (1, 2))

    def pool(self) -> Pool:
        pool = Pool([], caller_limits=TEN, caller_concurrency=5)
        self.replace(pool, self.FIRST, self.SECOND)
        return pool

    def replace(
        self, pool: Pool, *accounts: Account, out: dict[str, OutReason] | None = None, revisions: int = 0
    ) -> bool:
        return pool.replace(
            accounts,
            caller_limits=TEN,
            caller_concurrency=5,
            version=3,
            out=out,
            revisions=dict.fromkeys([account.id for account in accounts], revisions),
        )

    def test_says_whether_others_serve_than_before(self) -> None:
        pool = self.pool()
        assert not self.replace(pool, self.FIRST, self.SECOND)
        assert self.replace(pool, self.FIRST)
        assert self.replace(pool, self.FIRST, self.SECOND)
        assert self.replace(pool, self.FIRST, self.SECOND, out={"a-2": OutReason("key_invalid", "x", 1)})

    def test_permit_of_a_removed_account_is_not_used(self) -> None:
        pool = self.pool()
        self.replace(pool, self.FIRST)
        assert (pool.is_disabled(self.FIRST), pool.is_disabled(self.SECOND)) == (False, True)

    @pytest.mark.parametrize("change", [{"credential": Secret("AQ.another-key")}, {"ledger_id": "other"}])
    def test_nor_of_an_earlier_secret_or_project(self, change: dict[str, Any]) -> None:
        pool = self.pool()
        self.replace(pool, replace(self.FIRST, **change), self.SECOND)
        assert pool.is_disabled(self.FIRST)
        pool.disable(self.FIRST, "key_invalid", "of the earlier key")
        assert ("a-1" in pool.disabled()) == ("credential" not in change)

    def test_new_value_of_the_same_account_serves_on(self) -> None:
        pool = self.pool()
        self.replace(pool, replace(self.FIRST, concurrency=9), self.SECOND)
        assert not pool.is_disabled(self.FIRST)

    def test_rejection_stays_until_the_operator_acts(self) -> None:
        """The next version may be another's change, from before the rejection was recorded."""
        pool = self.pool()
        pool.disable(self.FIRST, "key_invalid", "x")
        self.replace(pool, self.FIRST, self.SECOND)
        assert pool.candidates(ADMIN) == [self.SECOND]
        self.replace(pool, self.FIRST, self.SECOND, revisions=1)
        assert pool.candidates(ADMIN) == [self.FIRST, self.SECOND]

    def test_rejection_of_another_process_is_known(self) -> None:
        pool = self.pool()
        self.replace(pool, self.FIRST, self.SECOND, out={"a-1": OutReason("account", "Credits are depleted.", 1)})
        assert pool.disabled() == {"a-1": "account"}
        self.replace(pool, self.SECOND)
        self.replace(pool, self.FIRST, self.SECOND)
        assert pool.disabled() == {}

    def test_rejection_of_a_stored_account_is_reported_once(self) -> None:
        pool, told = self.pool(), []
        pool.on_disabled = lambda *about: told.append(about)
        self.replace(pool, self.FIRST, self.SECOND, revisions=4)
        for _ in range(3):
            pool.disable(self.FIRST, "key_invalid", "x")
        assert told == [("a-1", 4, "key_invalid", "x")]

    def test_rejection_of_an_environment_key_is_not_reported(self) -> None:
        pool = pool_of(Clock(), "one")
        pool.on_disabled = lambda *about: pytest.fail("it has no record")
        pool.disable(pool.server[0], "key_invalid", "x")

    def test_nobody_is_served_while_the_accounts_are_unknown(self) -> None:
        pool = self.pool()
        pool.hold(LedgerUnavailable("The stored configuration cannot be read.", retry_after_s=5))
        for caller in (ADMIN, OWN):
            with pytest.raises(LedgerUnavailable):
                pool.candidates(caller)
        self.replace(pool, self.FIRST)
        assert pool.candidates(ADMIN) == [self.FIRST]

    def test_callers_keys_have_the_version_of_their_limits(self) -> None:
        (own,) = self.pool().candidates(OWN)
        assert own.limits_version == 3
