"""The anonymous callers' share of a day: exact over instances, half at most, and given back where nothing was sent."""

from __future__ import annotations

import asyncio
import random
from array import array
from typing import Any

import pytest

from shared.accounts.account import Account
from shared.errors import DailyQuotaExhausted, LedgerUnavailable
from shared.gateway.day_share import DayShare, Part, PartOfDay, Taken, taken_of
from shared.ledger.grid import pacific_day
from shared.ledger.limits import Limits
from shared.secret import Secret
from shared.stores.memory import MemoryStore, Shelf
from shared.stores.port import StoreUnavailable
from tests.support.faulty_store import FaultyStore
from tests.unit.admission.test_admission import admission

NOON_MS = pacific_day(1_800_000_000_000).start_ms + 12 * 3_600_000
TODAY = pacific_day(NOON_MS)


class CountingStore(MemoryStore):
    transactions = 0

    async def transact(self, *arguments: Any, **named: Any) -> Any:
        self.transactions += 1
        return await super().transact(*arguments, **named)


def account(rpd: int | None, name: str = "p") -> Account:
    return Account(name, name, Secret("k"), 4, Limits(requests_per_day=rpd))


def share(store: Any) -> DayShare:
    return DayShare(store, admission(store))


def taken(used: int | None, now_ms: int, count: int, most: int, day: int = TODAY.ordinal) -> tuple[Taken, list[int]]:
    value = None if used is None else array("q", (day, used)).tobytes()
    change = taken_of("k", value, now_ms, count, most)
    put = change.writes.get("k")
    return change.result, [] if put is None else array("q", put.value).tolist()


def test_no_more_than_the_share_is_taken() -> None:
    assert taken(None, NOON_MS, 3, 10)[1] == [TODAY.ordinal, 3]
    assert taken(8, NOON_MS, 3, 10) == (Taken(2, TODAY.ordinal, TODAY.end_ms, NOON_MS), [TODAY.ordinal, 10])
    assert taken(10, NOON_MS, 3, 10) == (Taken(0, TODAY.ordinal, TODAY.end_ms, NOON_MS), [])
    assert taken(12, NOON_MS, 1, 10)[0].parts == 0, "the limit was lowered"


def test_a_day_ends_at_midnight_pacific_time() -> None:
    assert taken(10, TODAY.end_ms - 1, 1, 10)[0].parts == 0
    assert taken(10, TODAY.end_ms, 1, 10)[1] == [TODAY.ordinal + 1, 1]


def test_an_instance_behind_takes_of_the_day_that_has_begun() -> None:
    tomorrow = pacific_day(TODAY.end_ms)
    result, value = taken(9, TODAY.end_ms - 1, 3, 10, day=tomorrow.ordinal)
    assert (result.parts, result.end_ms, value) == (1, tomorrow.end_ms, [tomorrow.ordinal, 10])


@pytest.mark.parametrize("seed", range(5))
async def test_instances_take_half_of_the_day_together(seed: int) -> None:
    rng, shelf = random.Random(seed), Shelf()
    shares = [share(MemoryStore(shelf)) for _ in range(3)]
    results = await asyncio.gather(
        *(rng.choice(shares).take([account(25)], "m") for _ in range(40)), return_exceptions=True
    )
    errors = [result for result in results if isinstance(result, DailyQuotaExhausted)]
    assert (len(results) - len(errors), len(errors)) == (12, 28)
    assert errors[0].retry_after_s is not None
    assert 0 < errors[0].retry_after_s <= 25 * 3600
    assert await shares[0].take([account(25)], "another") is not None


async def test_requests_at_once_are_one_write() -> None:
    store = CountingStore()
    of_one = share(store)
    await asyncio.gather(*(of_one.take([account(100)], "m") for _ in range(50)))
    assert store.transactions == 1


async def test_projects_have_a_share_together_and_unlimited_ones_none() -> None:
    both = share(MemoryStore())
    for _ in range(3):
        await both.take([account(4), account(2, "q")], "m")
    with pytest.raises(DailyQuotaExhausted):
        await both.take([account(4), account(2, "q")], "m")
    assert await both.take([account(4), account(None, "q")], "m") is None


async def test_what_was_not_sent_is_taken_again() -> None:
    of_one = share(MemoryStore())
    for _ in range(5):
        part = PartOfDay(of_one)
        await part.take([account(2)], "m")
        part.settle(spent=False)
    part = PartOfDay(of_one)
    await part.take([account(2)], "m")
    part.settle(spent=True)
    with pytest.raises(DailyQuotaExhausted):
        await PartOfDay(of_one).take([account(2)], "m")


async def test_one_that_leaves_while_it_takes_gives_it_back() -> None:
    store = FaultyStore()
    of_one = share(store)
    store.hangs = True
    leaving = asyncio.create_task(of_one.take([account(2)], "m"))
    await asyncio.sleep(0.05)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    store.hangs = False
    await asyncio.gather(*of_one._takers.values())
    assert await of_one.take([account(2)], "m") is not None


async def test_a_part_of_yesterday_is_over() -> None:
    of_one = share(MemoryStore())
    part = await of_one.take([account(10)], "m")
    assert part is not None
    assert not of_one.is_over(part)
    assert of_one.is_over(Part("m", part.day - 1))


async def test_without_the_store_nothing_is_taken() -> None:
    store = FaultyStore()
    store.failure = StoreUnavailable
    with pytest.raises(LedgerUnavailable):
        await share(store).take([account(10)], "m")


async def test_callers_that_may_use_the_whole_day_take_nothing() -> None:
    part = PartOfDay(None)
    await part.take([account(0)], "m")
    assert not part.is_over()
    part.settle(spent=True)


async def test_a_batch_takes_a_part_for_each_request_or_none() -> None:
    store = CountingStore()
    of_one = share(store)
    batch = PartOfDay(of_one, 4)
    await batch.take([account(10)], "m")
    assert store.transactions == 1
    with pytest.raises(DailyQuotaExhausted):
        await PartOfDay(of_one, 2).take([account(10)], "m")
    single = PartOfDay(of_one)
    await single.take([account(10)], "m")
    batch.settle(spent=False)
    await PartOfDay(of_one, 4).take([account(10)], "m")
