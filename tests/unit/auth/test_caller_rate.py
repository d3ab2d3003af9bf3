"""A caller's rate: exact in every window, shared by all instances, closed when the store is down."""

from __future__ import annotations

import asyncio
import random
from array import array

import pytest

from shared.auth.caller_rate import CallerRate, counted
from shared.errors import LedgerUnavailable, RateLimited
from shared.stores.memory import MemoryStore, Shelf
from shared.stores.port import StoreUnavailable
from tests.support.faulty_store import FaultyStore

CALLER = ["name:team-a"]
WINDOW_MS = 60_000


def asked(times_ms: list[int], limit: int) -> list[int]:
    """The times of those that are let through, of requests at `times_ms`."""
    value: bytes | None = None
    passed = []
    for now_ms in times_ms:
        change = counted("k", value, now_ms, limit, WINDOW_MS)
        if change.result is None:
            put = change.writes["k"]
            assert put is not None
            value = put.value
            passed.append(now_ms)
        else:
            assert not change.writes
    return passed


@pytest.mark.parametrize("seed", range(10))
def test_limit_is_exact(seed: int) -> None:
    rng = random.Random(seed)
    times = sorted(rng.randrange(400_000) for _ in range(300))
    passed = asked(times, 10)
    for now_ms in times:
        held = [t for t in passed if now_ms - WINDOW_MS < t <= now_ms]
        assert len(held) <= 10
        assert now_ms in passed or len(held) == 10


@pytest.mark.parametrize("seed", range(5))
def test_retry_after_is_exact(seed: int) -> None:
    rng = random.Random(seed)
    value = array("q", sorted(rng.randrange(50_000, 100_000) for _ in range(5))).tobytes()
    wait_ms = counted("k", value, 100_000, 5, WINDOW_MS).result
    assert wait_ms is not None
    assert counted("k", value, 100_000 + wait_ms - 1, 5, WINDOW_MS).result == 1
    assert counted("k", value, 100_000 + wait_ms, 5, WINDOW_MS).result is None


def test_times_ahead_of_the_clock_count() -> None:
    value = array("q", [100_500]).tobytes()
    assert counted("k", value, 100_000, 1, WINDOW_MS).result == WINDOW_MS + 500
    change = counted("k", value, 100_000, 2, WINDOW_MS)
    assert array("q", change.writes["k"].value).tolist() == [100_500, 100_500]  # type: ignore[union-attr]


def test_document_is_small_and_expires_after_a_window() -> None:
    put = counted("k", array("q", range(0, 59_000, 1_000)).tobytes(), 59_500, 60, WINDOW_MS).writes["k"]
    assert put is not None
    assert (len(put.value), put.expires_at_ms) == (480, 119_500)


async def test_two_instances_on_one_store_share_a_caller_s_rate() -> None:
    shelf = Shelf()
    rates = [CallerRate(MemoryStore(shelf), 5), CallerRate(MemoryStore(shelf), 5)]
    results = await asyncio.gather(*(rates[n % 2].admit(CALLER) for n in range(12)), return_exceptions=True)
    assert results.count(None) == 5
    for result in results:
        if result is not None:
            assert isinstance(result, RateLimited)
            assert result.retry_after_s is not None
            assert 59 < result.retry_after_s <= 60
    await rates[0].admit(["name:team-b"])


async def test_without_a_limit_the_store_is_not_asked() -> None:
    store = FaultyStore()
    store.failure = StoreUnavailable
    await CallerRate(store, None).admit(CALLER)


async def test_with_the_store_down_it_fails_closed() -> None:
    store = FaultyStore()
    store.failure = StoreUnavailable
    with pytest.raises(LedgerUnavailable) as caught:
        await CallerRate(store, 5).admit(CALLER)
    assert caught.value.retry_after_s == 5


async def test_a_lost_reply_costs_a_place_and_never_gives_one() -> None:
    store = FaultyStore()
    rate = CallerRate(store, 3)
    store.lost_replies = 1
    await rate.admit(CALLER)
    await rate.admit(CALLER)
    with pytest.raises(RateLimited):
        await rate.admit(CALLER)


async def test_replies_that_stay_lost_fail_closed() -> None:
    store = FaultyStore()
    store.lost_replies = 2
    with pytest.raises(LedgerUnavailable):
        await CallerRate(store, 5).admit(CALLER)


async def test_no_caller_can_be_read_from_the_store() -> None:
    store = MemoryStore()
    await CallerRate(store, 5).admit(CALLER)
    (key,) = await store.list("rate/")
    assert "team-a" not in key


async def test_requests_that_count_for_two_need_room_in_both() -> None:
    rate = CallerRate(MemoryStore(), 2)
    await rate.admit(["key:1", "ip:192.0.2.1"])
    await rate.admit(["key:2", "ip:192.0.2.1"])
    with pytest.raises(RateLimited):
        await rate.admit(["key:3", "ip:192.0.2.1"])
    await rate.admit(["key:3", "ip:192.0.2.2"])
    await rate.admit(["key:3"])
    with pytest.raises(RateLimited):
        await rate.admit(["key:3"])


async def test_several_at_once_count_all_or_none() -> None:
    rate = CallerRate(MemoryStore(), 5, counted="fetched addresses")
    await rate.admit(["a"], 3)
    with pytest.raises(RateLimited, match="5 fetched addresses in 60 s"):
        await rate.admit(["a"], 3)
    await rate.admit(["a"], 2)


async def test_requests_and_fetches_are_counted_apart() -> None:
    store = MemoryStore()
    await CallerRate(store, 1).admit(["a"])
    await CallerRate(store, 1, counted="fetched addresses").admit(["a"])


@pytest.mark.parametrize(("held", "count", "freed"), [(5, 2, 2), (4, 2, 1), (4, 5, 4), (0, 6, None)])
def test_the_wait_for_several_ends_when_enough_are_over(held: int, count: int, freed: int | None) -> None:
    times = array("q", range(1_000, 1_000 * (held + 1), 1_000))
    wait_ms = counted("k", times.tobytes(), 10_000, 5, WINDOW_MS, count).result
    assert wait_ms == (WINDOW_MS if freed is None else 1_000 * freed + WINDOW_MS - 10_000)
