"""Admission over a real ledger in memory: several processes are several Admissions on one shelf."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from shared.accounts.account import Account
from shared.admission.admission import Admission, AdmissionConfig
from shared.admission.config import ProcessConfig
from shared.admission.permit import Permit, PermitLapsed
from shared.clock import elapsed_s
from shared.errors import CostExceedsLimit, DailyQuotaExhausted, LedgerUnavailable, QueueTimeout
from shared.generation import Caller, Cost
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.ledger.packing import unpack
from shared.ledger.state import QuotaSignal, State
from shared.secret import Secret
from shared.stores.memory import MemoryStore, Shelf
from shared.stores.port import CommitUnknown, Outcome, Reading, Step, StoreUnavailable
from tests.support.virtual_time import run

CALLER = Caller("somebody", "admin")
ONE = Cost(1, 10)


class Flaky(MemoryStore):
    """A store whose next transactions fail as told: before being applied, or after (the reply is lost)."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self.down = False
        self.lose_replies = 0
        self.lose_requests = 0

    async def transact(
        self, keys: Sequence[str], step: Step[Any], *, cached: bool = False, timeout_s: float = 5.0
    ) -> Outcome[Any]:
        if self.down:
            raise StoreUnavailable("the store is down")
        if self.lose_requests:
            self.lose_requests -= 1
            raise CommitUnknown("no reply")
        outcome = await super().transact(keys, step, cached=cached, timeout_s=timeout_s)
        if self.lose_replies:
            self.lose_replies -= 1
            raise CommitUnknown("no reply")
        return outcome


class Hanging(MemoryStore):
    """A store whose transactions wait, before or after they are applied, for as long as `go` is not set."""

    def __init__(self, shelf: Shelf, *, applied: bool) -> None:
        super().__init__(shelf)
        self.applied, self.go = applied, asyncio.Event()

    async def transact(
        self, keys: Sequence[str], step: Step[Any], *, cached: bool = False, timeout_s: float = 5.0
    ) -> Outcome[Any]:
        if not self.applied:
            await self.go.wait()
        outcome = await super().transact(keys, step, cached=cached, timeout_s=timeout_s)
        await self.go.wait()
        return outcome


def account(name: str = "p", c: int = 4, **limits: int) -> Account:
    return Account(name, name, Secret("k"), c, Limits(**limits))


def admission(
    store: MemoryStore, *, window_s: float = 4.0, linger_s: float = 0.0, tau_s: float = 1.0, **config: Any
) -> Admission:
    agents = ProcessConfig(secrets.token_hex(16), Grid.of(window_s), tau_s=tau_s, lease_s=1.0, linger_s=linger_s)
    return Admission(store, agents, AdmissionConfig(**{"queue_timeout_s": 5.0, **config}))


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


async def take(
    gate: Admission, *accounts: Account, model: str = "m", cost: Cost = ONE, wait_s: float = 5.0, **more: Any
) -> Permit:
    return await gate.acquire(accounts or [account()], model, cost, elapsed_s() + wait_s, CALLER, **more)


@asynccontextmanager
async def exchange(gate: Admission, *accounts: Account, **more: Any) -> AsyncIterator[Permit]:
    lease = await take(gate, *accounts, **more)
    try:
        lease.check()
        yield lease
    finally:
        await lease.close(ONE.input_tokens)


async def ledger(shelf: Shelf, name: str = "p") -> State:
    reading = await MemoryStore(shelf).read(f"ledger/{name}")
    assert reading.value is not None
    return unpack(reading.value)


async def assert_nothing_is_held(shelf: Shelf, name: str = "p") -> State:
    state = await ledger(shelf, name)
    assert sum(lease.slots for lease in state.leases.values()) == 0
    assert not any(share.bookings for lease in state.leases.values() for share in lease.shares.values())
    return state


def counted(state: State, model: str = "m") -> Cost:
    total = Cost()
    for cost in state.sections[model].ring.values() if model in state.sections else ():
        total = total.plus(cost)
    return total


async def eventually(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    until_s = elapsed_s() + within_s
    while not condition():
        assert elapsed_s() < until_s, "it never came about"
        await asyncio.sleep(0.01)


async def test_exchange_counts_in_its_slot_and_frees_all(shelf: Shelf) -> None:
    gate = admission(MemoryStore(shelf))
    async with exchange(gate, account(requests=10)) as lease:
        assert lease.dispatched
    assert counted(await assert_nothing_is_held(shelf)) == ONE


async def test_a_lease_that_was_never_written_counts_nothing(shelf: Shelf) -> None:
    gate = admission(MemoryStore(shelf))
    lease = await take(gate, account(requests=10))
    await lease.close()
    assert counted(await assert_nothing_is_held(shelf)) == Cost()


async def test_debt_is_reported_with_its_dispatch(
    shelf: Shelf,
) -> None:
    """All of it falls into one slot, where a sum alone would tell of a dispatch and a refund."""
    gate = admission(MemoryStore(shelf))
    leases = [await take(gate, account(input_tokens=1000), cost=Cost(1, 100)) for _ in range(2)]
    for lease, used in zip(leases, (150, 10), strict=True):
        lease.check()
        await lease.close(used)
    state = await assert_nothing_is_held(shelf)
    assert state.sections["m"].debt_tokens == 50
    assert counted(state) == Cost(2, 160)


async def test_tokens_are_corrected_in_the_dispatch_slot(shelf: Shelf) -> None:
    gate = admission(MemoryStore(shelf))
    lease = await take(gate, account(input_tokens=1000), cost=Cost(1, 500))
    lease.check()
    await lease.close(120)
    assert counted(await assert_nothing_is_held(shelf)) == Cost(1, 120)


async def test_slow_body_counts_at_its_last_byte(shelf: Shelf) -> None:
    gate = admission(MemoryStore(shelf))
    lease = await take(gate, account(requests=10))
    lease.check()
    first_slot = gate.process_config.grid.slot(gate.clock.earliest_ms())
    await asyncio.sleep(0.1)
    lease.sent()
    await lease.close()
    state = await assert_nothing_is_held(shelf)
    assert counted(state) == ONE
    assert max(slot for slot, cost in state.sections["m"].ring.items() if cost.requests) > first_slot


async def test_processes_and_models_share_one_concurrency(shelf: Shelf) -> None:
    gates = [admission(MemoryStore(shelf)) for _ in range(2)]
    open_now = most = done = 0

    async def caller(gate: Admission, model: str) -> None:
        nonlocal open_now, most, done
        for _ in range(6):
            async with exchange(gate, account(c=3), model=model, wait_s=30):
                open_now += 1
                most = max(most, open_now)
                await asyncio.sleep(0.01)
                open_now -= 1
                done += 1

    await asyncio.gather(*(caller(gate, model) for gate in gates for model in ("m", "n") for _ in range(4)))
    assert (most, done) == (3, 96)
    await assert_nothing_is_held(shelf)


async def test_lost_reply_is_adopted_and_counts_once(shelf: Shelf) -> None:
    store = Flaky(shelf)
    gate = admission(store)
    store.lose_replies = 1
    async with exchange(gate, account(requests=10)):
        store.lose_replies = 1
    await eventually(lambda: not any(agent.has_unreported() for agent in gate.projects.values()))
    assert counted(await assert_nothing_is_held(shelf)) == ONE


async def test_a_commit_that_never_arrived_is_sent_again(shelf: Shelf) -> None:
    store = Flaky(shelf)
    store.lose_requests = 1
    async with exchange(admission(store), account(requests=10)):
        pass
    assert counted(await assert_nothing_is_held(shelf)) == ONE


async def test_freeze_before_the_socket_sends_nothing(shelf: Shelf) -> None:
    """The request keeps its place in the queue."""
    gate = admission(MemoryStore(shelf))
    lease = await take(gate, account(requests=10))
    frozen_s = 60.0
    gate.clock._elapsed = lambda: elapsed_s() + frozen_s
    with pytest.raises(PermitLapsed):
        lease.check()
    gate.clock._elapsed = elapsed_s
    await lease.close()
    again = await take(gate, account(requests=10), again=lease)
    assert again.waiter is lease.waiter
    await again.close()
    assert counted(await assert_nothing_is_held(shelf)) == Cost()


def two_keys_with_room_for_one(monkeypatch: pytest.MonkeyPatch, **limits: int) -> tuple[Account, Account]:
    """Callers' own keys, in a process that remembers one of them while it is not in use."""
    monkeypatch.setattr("shared.admission.clients.MAX_CALLER_KEY_PROJECTS", 1)
    mine, other = (replace(account(f"u-{name}", **limits), caller_key=True) for name in ("mine", "other"))
    return mine, other


async def test_forgotten_key_has_one_client(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two would renew under one name, each what the other holds: both would spend it."""
    mine, other = two_keys_with_room_for_one(monkeypatch, requests=10)
    gate = admission(MemoryStore(shelf))
    lapsed = await take(gate, mine)
    await lapsed.close()
    async with exchange(gate, other), exchange(gate, mine, again=lapsed) as lease:
        assert lease.waiter.candidates == [gate.projects["u-mine"]]
        assert len(gate.projects["u-mine"].holdings.open) == 1


async def test_accepted_key_keeps_its_daily_usage(
    shelf: Shelf,
) -> None:
    """Although another process saw no answer for the key."""
    mine = replace(account("u-mine", requests_per_day=10), caller_key=True)
    async with exchange(admission(MemoryStore(shelf)), mine) as lease:
        lease.accepted()
    left = await take(admission(MemoryStore(shelf)), mine)
    await left.close()
    expires_ms = shelf.entries["ledger/u-mine"].put.expires_at_ms
    assert expires_ms is not None
    assert expires_ms - shelf.sample().server_ms > 48 * 3_600_000


async def test_client_of_a_new_key_stays_while_needed(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = two_keys_with_room_for_one(monkeypatch, c=1)
    gate = admission(MemoryStore(shelf))
    async with exchange(gate, other), exchange(gate, mine) as first:
        waiting = asyncio.create_task(take(gate, mine))
        await eventually(lambda: len(gate.queue) == 1 or waiting.done())
        await asyncio.sleep(0.05)
        assert not waiting.done(), "two are open although C is 1"
        assert gate.projects["u-mine"] is first.waiter.candidates[0]
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert set(gate.projects) == {"u-mine", "u-other"}


async def test_freeze_after_the_last_check_waits_again(
    shelf: Shelf,
) -> None:
    """Nothing is counted."""
    gate = admission(MemoryStore(shelf))
    lease = await take(gate, account(requests=10))
    lease.check()
    gate.clock._elapsed = lambda: elapsed_s() + 60.0
    with pytest.raises(PermitLapsed):
        lease.check()
    gate.clock._elapsed = elapsed_s
    await lease.close()
    async with exchange(gate, account(requests=10), again=lease) as again:
        assert again.waiter is lease.waiter
    assert counted(await assert_nothing_is_held(shelf)) == ONE


async def test_a_permit_that_is_checked_again_in_time_counts_once(shelf: Shelf) -> None:
    gate = admission(MemoryStore(shelf))
    async with exchange(gate, account(requests=10)) as lease:
        lease.check()
    assert counted(await assert_nothing_is_held(shelf)) == ONE


async def test_a_contradictory_store_clock_drops_permits(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = admission(MemoryStore(shelf))
    async with exchange(gate, account(requests=10)):
        agent = next(iter(gate.projects.values()))
        reading = await gate.store.read("ledger/p")
        skewed = reading.sample._replace(server_ms=reading.sample.server_ms + 300_000)

        async def read(key: str) -> Reading:
            return Reading(reading.value, skewed)

        monkeypatch.setattr(gate.store, "read", read)
        await agent._read()
        assert agent.draw("m", ONE, elapsed_s() + 10.0) is None


async def test_a_caller_that_leaves_the_queue_leaves_nothing_behind(shelf: Shelf) -> None:
    gate = admission(MemoryStore(shelf))
    async with exchange(gate, account(c=1)):
        waiting = asyncio.create_task(take(gate, account(c=1)))
        await eventually(lambda: len(gate.queue) == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert len(gate.queue) == 0
    await assert_nothing_is_held(shelf)


async def test_cancelled_while_served_returns_the_permit(shelf: Shelf) -> None:
    gate = admission(MemoryStore(shelf))
    lease = await take(gate, account(c=1))
    waiting = asyncio.create_task(take(gate, account(c=1)))
    await eventually(lambda: len(gate.queue) == 1)
    waiter = next(iter(gate.queue))
    await lease.close()
    assert waiter.future.done() and not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await eventually(lambda: not next(iter(gate.projects.values())).holdings.open)
    await assert_nothing_is_held(shelf)


async def test_expired_waiter_gets_retry_after(shelf: Shelf) -> None:
    gate = admission(MemoryStore(shelf), window_s=60.0)
    for _ in range(2):
        async with exchange(gate, account(requests=2)):
            pass
    with pytest.raises(QueueTimeout) as refused:
        await take(gate, account(requests=2), wait_s=0.3)
    assert 50 < (refused.value.retry_after_s or 0) < 70
    assert refused.value.rejected_s == 0, "Gemini rejected nothing"
    await assert_nothing_is_held(shelf)


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({"requests": 2}, "requests"),
        ({"requests": 9, "input_tokens": 100}, "input_tokens"),
        ({"requests": 2, "input_tokens": 100}, "requests"),
    ],
)
async def test_a_rejected_waiter_is_told_the_limit(shelf: Shelf, limits: dict[str, int], named: str) -> None:
    gate = admission(MemoryStore(shelf), window_s=60.0)
    cost = Cost(1, 50)
    for _ in range(2):
        permit = await take(gate, account(**limits), cost=cost)
        permit.check()
        await permit.close(cost.input_tokens)
    with pytest.raises(QueueTimeout) as refused:
        await take(gate, account(**limits), cost=cost, wait_s=0.3)
    assert refused.value.details == {"limit": named}


async def test_unservable_request_is_rejected_at_once(shelf: Shelf) -> None:
    gate = admission(MemoryStore(shelf), window_s=60.0, queue_timeout_s=20.0)
    for _ in range(2):
        async with exchange(gate, account(requests=2)):
            pass
    waiting = asyncio.create_task(take(gate, account(requests=2), wait_s=1.0))
    await asyncio.sleep(0.2)
    began_s = elapsed_s()
    with pytest.raises(QueueTimeout):
        await take(gate, account(requests=2), wait_s=20.0)
    assert elapsed_s() - began_s < 5
    with pytest.raises(QueueTimeout):
        await waiting


async def test_a_spent_day_is_refused_until_midnight(shelf: Shelf) -> None:
    gate = admission(MemoryStore(shelf))
    async with exchange(gate, account(requests_per_day=1)):
        pass
    with pytest.raises(DailyQuotaExhausted) as refused:
        await take(gate, account(requests_per_day=1), wait_s=0.5)
    assert 0 < (refused.value.retry_after_s or 0) <= 25 * 3600


@pytest.mark.parametrize(
    ("limits", "cost", "named"),
    [
        ({"requests": 0}, ONE, "requests per minute"),
        ({"input_tokens": 100}, Cost(1, 101), "input tokens per minute"),
        ({"images": 1}, Cost(1, 1, 2), "images per minute"),
        ({"requests_per_day": 0}, ONE, "requests per day"),
    ],
)
async def test_cost_above_a_whole_limit_names_the_limit(
    shelf: Shelf, limits: dict[str, int], cost: Cost, named: str
) -> None:
    with pytest.raises(CostExceedsLimit, match=named):
        await take(admission(MemoryStore(shelf)), account(**limits), cost=cost)


async def test_without_a_ledger_nothing_is_dispatched_and_it_recovers(shelf: Shelf) -> None:
    store = Flaky(shelf)
    gate = admission(store)
    store.down = True
    with pytest.raises(LedgerUnavailable):
        await take(gate, account(requests=10))
    store.down = False
    agent = gate.projects["p"]
    await eventually(lambda: not agent.ledger.is_failing(), within_s=10.0)
    async with exchange(gate, account(requests=10), wait_s=10.0):
        pass
    assert counted(await assert_nothing_is_held(shelf)) == ONE


@pytest.mark.parametrize("applied", [False, True])
def test_silent_ledger_is_awaited_until_the_deadline(applied: bool) -> None:
    async def main() -> None:
        shelf = Shelf()
        store = Hanging(shelf, applied=applied)
        gate = admission(store)
        arrived_s = elapsed_s()
        with pytest.raises(LedgerUnavailable):
            await take(gate, account(c=1, requests=10), wait_s=1.5)
        assert elapsed_s() - arrived_s == pytest.approx(1.5, abs=0.01)
        store.go.set()
        await eventually(lambda: not any(agent.has_unreported() for agent in gate.projects.values()))
        assert counted(await assert_nothing_is_held(shelf)) == Cost()

    run(main)


@pytest.mark.parametrize("applied", [False, True])
def test_late_grant_is_used_once(applied: bool) -> None:
    open_now = most = 0

    async def use(gate: Admission) -> None:
        nonlocal open_now, most
        async with exchange(gate, account(c=1, requests=10)):
            open_now += 1
            most = max(most, open_now)
            await asyncio.sleep(0.3)
            open_now -= 1

    async def main() -> None:
        shelf = Shelf()
        store, other = Hanging(shelf, applied=applied), admission(MemoryStore(shelf))
        gate = admission(store)
        with pytest.raises(QueueTimeout):
            await take(gate, account(c=1, requests=10), wait_s=0.2)
        waiting = asyncio.gather(use(gate), use(other), use(gate), use(other))
        await asyncio.sleep(0.5)
        assert most == (0 if applied else 1), "what was applied is held, though its owner does not know"
        store.go.set()
        await waiting
        assert most == 1
        await eventually(
            lambda: not any(agent.has_unreported() for each in (gate, other) for agent in each.projects.values())
        )
        assert counted(await assert_nothing_is_held(shelf)) == Cost(4, 40)

    run(main)


def test_deadline_before_any_ledger_answer_is_a_timeout(shelf: Shelf) -> None:
    async def main() -> None:
        gate = admission(Hanging(shelf, applied=False))
        with pytest.raises(QueueTimeout):
            await take(gate, account(c=1, requests=10), wait_s=5e-324)

    run(main)


def test_closing_loop_begins_no_call(shelf: Shelf) -> None:
    """The loop's end cancels a call to the ledger; a next one would be destroyed before it ends."""
    begun: list[Sequence[str]] = []

    class Counting(Hanging):
        async def transact(self, keys: Sequence[str], *more: Any, **options: Any) -> Outcome[Any]:
            begun.append(keys)
            return await super().transact(keys, *more, **options)

    async def main() -> None:
        with pytest.raises(QueueTimeout):
            await take(admission(Counting(shelf, applied=False)), account(c=1, requests=10), wait_s=5e-324)

    run(main)
    assert len(begun) == 1


async def test_unlimited_request_may_be_the_probe(shelf: Shelf) -> None:
    gate, limited = admission(MemoryStore(shelf)), account(images=4)
    async with exchange(gate, limited) as lease:
        lease.refuse(QuotaSignal("m", until_ms=int(gate.clock.latest_ms()) + 300))
    async with exchange(gate, limited) as lease:
        lease.answered()


async def test_full_queue_is_not_a_ledger_failure(shelf: Shelf) -> None:
    gate = admission(MemoryStore(shelf))
    async with exchange(gate, account(c=1)):
        with pytest.raises(QueueTimeout):
            await take(gate, account(c=1), wait_s=0.3)


async def test_a_document_of_another_version_is_not_overwritten(shelf: Shelf) -> None:
    from shared.stores.port import Change, Put

    store = MemoryStore(shelf)
    await store.transact(["ledger/p"], lambda values, now: Change(None, {"ledger/p": Put(b"GL\x63later")}))
    with pytest.raises(LedgerUnavailable):
        await take(admission(store), account(requests=10), wait_s=3.0)
    assert (await store.read("ledger/p")).value == b"GL\x63later"


async def test_pending_read_does_not_undo_a_refusal(shelf: Shelf) -> None:
    gate = admission(MemoryStore(shelf), window_s=60.0)
    async with exchange(gate, account(requests=100)) as lease:
        agent, until_ms = gate.projects["p"], int(gate.clock.latest_ms()) + 30_000
        before = await agent.ledger.read()
        lease.refuse(QuotaSignal("m", until_ms=until_ms))
        assert before[0] is not None
        agent.holdings.observe(before[0].state)
        assert agent.permits_of("m").open_until_ms == until_ms


async def test_a_refusal_stops_the_other_processes_with_the_next_write(shelf: Shelf) -> None:
    gates = [admission(MemoryStore(shelf), window_s=60.0) for _ in range(2)]
    async with exchange(gates[0], account(requests=100)) as lease:
        lease.refuse(QuotaSignal("m", until_ms=int(gates[0].clock.latest_ms()) + 30_000))
    with pytest.raises(QueueTimeout) as refused:
        await take(gates[1], account(requests=100), wait_s=0.3)
    assert 20 < (refused.value.retry_after_s or 0) < 40


async def test_a_full_project_lets_another_serve_within_a_moment(shelf: Shelf) -> None:
    gate = admission(MemoryStore(shelf))
    first, second = account("first", c=1), account("second", c=1)
    async with exchange(gate, first, second) as one, exchange(gate, first, second, wait_s=3.0) as other:
        assert {one.account.id, other.account.id} == {"first", "second"}
    await assert_nothing_is_held(shelf, "first")
    await assert_nothing_is_held(shelf, "second")


async def test_a_request_bound_to_one_account_waits_for_that_one(shelf: Shelf) -> None:
    gate = admission(MemoryStore(shelf))
    first, second = account("first", c=1), account("second", c=1)
    async with exchange(gate, first):
        bound = asyncio.create_task(take(gate, first))
        free = await take(gate, first, second)
        assert free.account.id == "second"
        assert not bound.done()
        await free.close()
    lease = await bound
    assert lease.account.id == "first"
    await lease.close()


async def test_two_keys_of_one_project_take_turns_on_one_ledger(shelf: Shelf) -> None:
    gate = admission(MemoryStore(shelf))
    keys = [Account(name, "p", Secret(name), 4, Limits()) for name in ("a", "b")]
    served = []
    for _ in range(4):
        async with exchange(gate, *keys) as lease:
            served.append(lease.account.id)
    assert sorted(served) == ["a", "a", "b", "b"]
    assert len(gate.projects) == 1


async def test_lingering_process_spends_held_permits(shelf: Shelf) -> None:
    """Without a write, and it returns them later."""
    gate = admission(MemoryStore(shelf), linger_s=0.3)
    for _ in range(20):
        async with exchange(gate, account()):
            pass
    agent = gate.projects["p"]
    assert agent.ledger.writes < 10
    await eventually(lambda: not agent.has_unreported())
    await assert_nothing_is_held(shelf)


async def test_closing_returns_permits_and_rejects_waiters(shelf: Shelf) -> None:
    gate = admission(MemoryStore(shelf), linger_s=60.0)
    async with exchange(gate, account()):
        pass
    await gate.aclose()
    await assert_nothing_is_held(shelf)
