"""What waits for one agent: its sums, its order, and that nothing of it grows with how many wait."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shared.admission.queue import FairQueue, Waiter
from shared.admission.wait_list import SCAN, WaitList
from shared.clock import elapsed_s
from shared.generation import Cost
from tests.support.instances import Site, account
from tests.support.virtual_time import run

NOBODY: Any = None
"""In place of a future: nobody awaits these."""


def waiter(
    caller: str = "a", model: str = "m", *, arrived_s: float = 1.0, tokens: int = 10, batch: bool = False
) -> Waiter:
    return Waiter(model, Cost(1, tokens), caller, batch, arrived_s, arrived_s + 30, 0, [], [], NOBODY)


def filled(waiters: list[Waiter]) -> tuple[FairQueue, WaitList]:
    queue, line = FairQueue(), WaitList()
    for one in waiters:
        queue.put(one)
        line.add(one)
    return queue, line


def test_sums_follow_added_and_removed_waiters() -> None:
    chance = random.Random(1)
    waiters = [waiter(chance.choice("abc"), chance.choice("mn"), arrived_s=n, tokens=n) for n in range(1, 60)]
    _, line = filled(waiters)
    left = list(waiters)
    while left:
        line.remove(left.pop(chance.randrange(len(left))))
        assert line.count == len(left)
        assert line.oldest_s == min((one.arrived_s for one in left), default=0.0)
        assert line.callers == {name: n for name in "abc" if (n := sum(one.caller == name for one in left))}
        for model in "mn":
            mine = [one for one in left if one.model == model]
            assert model in line.models or not mine
            if mine:
                assert line.models[model].cost == Cost(len(mine), sum(one.cost.input_tokens for one in mine))


def test_a_waiter_that_is_put_back_is_the_oldest_again() -> None:
    first, second = waiter(arrived_s=1.0), waiter(arrived_s=2.0)
    _, line = filled([first, second])
    line.remove(first)
    assert line.oldest_s == 2.0
    line.add(first)
    assert line.oldest_s == 1.0


def test_leaving_twice_counts_once_and_strangers_are_ignored() -> None:
    one = waiter()
    _, line = filled([one, waiter()])
    line.remove(one)
    line.remove(one)
    line.remove(waiter())
    assert (line.count, line.callers) == (1, {"a": 1})


def test_turns_over_several_models_are_those_of_the_queue() -> None:
    chance = random.Random(2)
    queue, line = filled(
        [waiter(chance.choice("abcd"), chance.choice("mno"), batch=chance.random() < 0.3) for _ in range(50)]
    )
    assert list(line.turns(queue.priorities(), 50, set())) == list(queue)


def test_turns_skip_models_without_permits() -> None:
    """Of each model only a few waiters are tried."""
    queue, line = filled([waiter(model="m") for _ in range(500)] + [waiter(model="n") for _ in range(5)])
    closed: set[str] = set()
    tried = []
    for one in line.turns(queue.priorities(), 1, closed):
        tried.append(one.model)
        if one.model == "m":
            closed.add("m")
    assert tried == ["m", *["n"] * 5]
    assert len(list(line.turns(queue.priorities(), 1, set()))) == SCAN + 1 + 5


def test_place_shows_the_waiters_ahead() -> None:
    waiters = [waiter() for _ in range(9)] + [waiter(batch=True)]
    _, line = filled(waiters)
    assert [line.models["m"].order.ahead(one)[0] for one in waiters] == list(range(10))


@contextmanager
def counting_calls() -> Iterator[list[int]]:
    """How many Python functions are called meanwhile: a measure of work that no busy machine changes."""
    count = [0]

    def see(frame: object, event: str, argument: object) -> None:
        count[0] += event == "call"

    sys.setprofile(see)
    try:
        yield count
    finally:
        sys.setprofile(None)


def calls_per_request(waiting: int) -> float:
    """Of one instance whose 4 slots are all in use, per request served."""

    async def main() -> float:
        random.seed(1)
        site = Site(account(4, requests=1_000_000, input_tokens=1_000_000_000), service_s=(0.02, 0.06))
        async with site.callers(site.add(), 4 + waiting):
            await asyncio.sleep(1)
            since_s = elapsed_s()
            with counting_calls() as calls:
                await asyncio.sleep(2)
            return calls[0] / len(site.waits_s(since_s, elapsed_s()))

    return run(main)


def test_work_per_request_is_constant() -> None:
    assert calls_per_request(1000) <= 1.3 * calls_per_request(10)
