"""One call to the ledger: what is read, that a renew without a result is repeated unchanged, and how a failure backs off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import pytest

from shared.accounts.account import Account
from shared.admission import ledger_client as module
from shared.admission.call_log import MAX_CALLS, LedgerCall, LedgerCallLog
from shared.admission.config import ProcessConfig
from shared.admission.ledger_client import MAX_BACKOFF_S, MAX_CALL_S, SILENCE_S, LedgerClient
from shared.admission.server_clock import ServerClock
from shared.ledger.state import RenewRequest
from shared.secret import Secret
from shared.stores.memory import Shelf
from shared.stores.port import CommitUnknown, Outcome, Step, StoreContended, StoreError, StoreUnavailable
from tests.unit.admission.test_admission import Flaky
from tests.unit.admission.test_holdings import GRID, LIMITS, START_MS

T = TypeVar("T")


@pytest.fixture
def store() -> Flaky:
    return Flaky(Shelf())


@pytest.fixture
def client(store: Flaky) -> LedgerClient:
    account = Account("p", "p", Secret("k"), 4, LIMITS)
    return LedgerClient(account, store, ServerClock(), ProcessConfig("me", GRID, tau_s=60.0), LedgerCallLog())


def request(client: LedgerClient) -> RenewRequest:
    return RenewRequest("me", client.number + 1, START_MS, 4, 60_000, want_slots=2)


async def test_a_renew_is_granted_and_read_back(client: LedgerClient) -> None:
    assert await client.read() == (None, True)
    sent = request(client)
    grant, consistent = await client.renew(sent, accepted=False, cached=False)
    assert (grant.cap, consistent, client.pending, client.number) == (2, True, None, sent.number)
    document, _ = await client.read()
    assert document is not None
    assert document.state.leases["me"].cap == 2


@pytest.mark.parametrize("fate", ["lose_replies", "lose_requests"])
async def test_a_renew_without_a_result_is_repeated(client: LedgerClient, store: Flaky, fate: str) -> None:
    """Whether it was applied or not, the repetition has the effect of one."""
    setattr(store, fate, 1)
    sent = request(client)
    with pytest.raises(CommitUnknown):
        await client.renew(sent, accepted=False, cached=False)
    assert client.pending is sent
    assert client.writes == 1, "it may have been written"
    grant, _ = await client.renew(sent, accepted=False, cached=False)
    assert (grant.cap, client.pending) == (2, None)


async def test_numbers_grow_over_clients_of_one_process(client: LedgerClient, store: Flaky) -> None:
    account = Account("p", "p", Secret("k"), 4, LIMITS)
    later = LedgerClient(account, store, ServerClock(), ProcessConfig("me", GRID, tau_s=60.0), LedgerCallLog())
    assert later.number >= client.number


class TestHealth:
    @pytest.fixture
    def now(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """Elapsed time, to be set."""
        now = [1_000.0]
        monkeypatch.setattr(module, "elapsed_s", lambda: now[0])
        return now

    def fail(
        self, client: LedgerClient, now: list[float], took_s: float = 0.1, error: type[StoreError] = StoreUnavailable
    ) -> None:
        client.begin_call()
        now[0] += took_s
        client.failed(error("the call was not applied"))
        client.end_call()

    def test_two_failures_in_a_row_are_a_failing_ledger(self, client: LedgerClient, now: list[float]) -> None:
        self.fail(client, now)
        assert not client.is_failing()
        self.fail(client, now)
        assert client.is_failing()
        assert 0 < client.backoff_s(now[0]) <= MAX_BACKOFF_S
        now[0] += MAX_BACKOFF_S
        assert not client.is_failing(), "the next call is due"
        client.succeeded()
        self.fail(client, now)
        assert not client.is_failing()

    def test_suspension_is_not_a_ledger_failure(self, client: LedgerClient, now: list[float]) -> None:
        self.fail(client, now)
        self.fail(client, now, took_s=MAX_CALL_S)
        assert not client.is_failing()

    def test_a_contended_document_is_no_outage(self, client: LedgerClient, now: list[float]) -> None:
        """The store answers: requests go on waiting, and the next call waits for a while."""
        asked_s = now[0]
        self.fail(client, now)
        for _ in range(3):
            self.fail(client, now, error=StoreContended)
            assert not client.is_failing()
            assert 0 <= client.backoff_s(now[0]) <= MAX_BACKOFF_S / 2
        client.begin_call()
        now[0] += SILENCE_S
        assert not client.is_silent_since(asked_s), "it has answered since then"
        self.fail(client, now)
        assert not client.is_failing(), "the failures before it are not counted"

    async def test_rejected_commits_are_answers(
        self, client: LedgerClient, store: Flaky, now: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While others change the document before each commit, the ledger is not silent, however long that lasts."""
        asked_s, silent = now[0], []

        async def transact(
            keys: Sequence[str], step: Step[T], *, cached: bool = False, timeout_s: float = 5.0
        ) -> Outcome[T]:
            for _ in range(2):
                now[0] += SILENCE_S
                step({keys[0]: None}, START_MS)
                silent.append(client.is_silent_since(asked_s))
            raise StoreContended("the entry had conflicts")

        monkeypatch.setattr(store, "transact", transact)
        client.begin_call()
        with pytest.raises(StoreContended):
            await client.renew(request(client), accepted=False, cached=True)
        assert silent == [True, False]

    def test_silence_needs_a_failure_or_time(self, client: LedgerClient, now: list[float]) -> None:
        asked_s = now[0]
        assert not client.is_silent_since(asked_s), "it was not called"
        self.fail(client, now)
        assert client.is_silent_since(asked_s)
        client.succeeded()
        assert not client.is_silent_since(asked_s)


def test_the_log_remembers_recent_calls_in_order() -> None:
    log = LedgerCallLog()
    for number in range(MAX_CALLS + 5):
        log.add("p", LedgerCall(number, number + 0.5, wrote=False))
    log.add("q", LedgerCall(3.0, 70.0, wrote=True))
    assert len(log.since(0.0)) == MAX_CALLS + 1
    assert [call.began_s for call in log.since(67.0)] == [3.0, 67.0, 68.0]
