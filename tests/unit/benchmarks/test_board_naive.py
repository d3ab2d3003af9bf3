"""The naive lease that the board compares with: it keeps its limits, and costs two writes a request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

import pytest

from shared.ledger.grid import Grid
from shared.stores.memory import MemoryStore, Shelf
from shared.stores.port import CommitUnknown, Outcome, Step, StoreUnavailable
from tests.benchmarks.board.naive import NaiveLease, Rule, Window, acquire, packed, unpacked
from tests.support.faulty_store import FaultyStore
from tests.support.invariants import worst_window

RULE = Rule(requests=3, concurrency=10, grid=Grid.of(60), ttl_ms=120_000)
KEY = "naive/project"


def open_requests(store: MemoryStore) -> set[str]:
    blob = store._shelf.entries[KEY].put.value
    return set(unpacked(blob).open)


def test_full_window_names_its_next_free_time() -> None:
    window = Window()
    assert [acquire(window, name, 1_000, RULE) for name in "abc"] == [None, None, None]
    again_ms = acquire(window, "d", 2_000, RULE)
    assert again_ms == 1_000 + RULE.grid.span * RULE.grid.slot_ms
    assert acquire(window, "d", again_ms - 1, RULE) == again_ms
    assert acquire(window, "d", again_ms, RULE) is None


def test_naive_lease_is_exact_with_jitter() -> None:
    window, arrived_ms, now_ms = Window(), [], 0
    for number in range(40):
        while (again_ms := acquire(window, f"{number}", now_ms, RULE)) is not None:
            now_ms = again_ms
        # Early and late in turn, as far as the rule allows for.
        arrived_ms.append(now_ms + (250 if number % 2 else 0))
        now_ms += 7_013
    assert worst_window(arrived_ms, 60_000) == RULE.requests


def test_requests_in_flight_are_bounded() -> None:
    rule = Rule(requests=100, concurrency=2, grid=RULE.grid, ttl_ms=5_000)
    window = Window()
    assert acquire(window, "a", 0, rule) is None
    assert acquire(window, "b", 1_000, rule) is None
    assert acquire(window, "c", 4_999, rule) == 4_999
    assert acquire(window, "c", 5_000, rule) is None


def test_asking_again_under_the_same_name_counts_once() -> None:
    window = Window()
    assert acquire(window, "a", 0, RULE) is None
    assert acquire(window, "a", 10, RULE) is None
    assert sum(window.counts.values()) == 1


def test_a_window_survives_being_stored() -> None:
    window = Window({3: 2, 7: 1}, {"a": 99})
    assert unpacked(packed(window)) == window
    assert unpacked(None) == Window()


async def test_naive_leases_grant_the_limit_together() -> None:
    shelf = Shelf()
    leases = [NaiveLease(MemoryStore(shelf), KEY, RULE) for _ in range(2)]
    asking = [asyncio.create_task(leases[number % 2].acquire(f"{number}")) for number in range(5)]
    done, waiting = await asyncio.wait(asking, timeout=0.3)
    for task in waiting:
        task.cancel()
    assert (len(done), len(waiting)) == (3, 2)


async def test_a_request_costs_two_writes() -> None:
    store = CountingStore()
    lease = NaiveLease(store, KEY, RULE)
    await lease.acquire("a")
    await lease.release("a")
    assert store.writes == 2
    assert open_requests(store) == set()


async def test_giving_back_what_is_forgotten_writes_nothing() -> None:
    store = CountingStore()
    await NaiveLease(store, KEY, RULE).release("a")
    assert store.writes == 0


async def test_a_lost_reply_takes_one_permit_and_not_two() -> None:
    store = FaultyStore()
    store.lost_replies = 1
    async with asyncio.timeout(10):
        await NaiveLease(store, KEY, RULE).acquire("a")
    assert sum(unpacked(store._shelf.entries[KEY].put.value).counts.values()) == 1


@pytest.mark.parametrize("failure", [StoreUnavailable, CommitUnknown])
async def test_a_store_that_fails_is_asked_until_it_answers(failure: type[Exception]) -> None:
    store = FaultyStore()
    store.failure = failure
    asking = asyncio.create_task(NaiveLease(store, KEY, RULE).acquire("a"))
    done, _ = await asyncio.wait({asking}, timeout=0.1)
    assert not done
    store.failure = None
    async with asyncio.timeout(10):
        await asking
    assert open_requests(store) == {"a"}


T = TypeVar("T")


class CountingStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    async def transact(
        self, keys: Sequence[str], step: Step[T], *, cached: bool = False, timeout_s: float = 5.0
    ) -> Outcome[T]:
        outcome = await super().transact(keys, step, cached=cached, timeout_s=timeout_s)
        self.writes += outcome.writes
        return outcome
