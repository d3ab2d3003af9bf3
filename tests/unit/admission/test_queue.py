"""Who is served next in one process."""

from __future__ import annotations

from collections import Counter
from typing import Any

from shared.admission.queue import FairQueue, Waiter
from shared.auth.credentials import network_of
from shared.generation import Cost

NOBODY: Any = None
"""In place of a future: nobody awaits these."""


def waiter(caller: str, tokens: int = 0, *, batch: bool = False) -> Waiter:
    return Waiter("m", Cost(1, tokens), caller, batch, 0.0, 10.0, [], [], NOBODY)


def drain(queue: FairQueue) -> list[str]:
    order = []
    while len(queue):
        first = next(iter(queue))
        order.append(first.caller)
        queue.served(first)
    return order


def test_one_caller_is_served_first_come_first_served() -> None:
    queue = FairQueue()
    waiters = [waiter("a") for _ in range(5)]
    for one in waiters:
        queue.put(one)
    assert list(queue) == waiters


def test_a_flooder_does_not_delay_others_by_more_than_a_turn() -> None:
    queue = FairQueue()
    for _ in range(50):
        queue.put(waiter("flood"))
    queue.put(waiter("quiet"))
    queue.put(waiter("quiet"))
    order = drain(queue)
    assert [order.index("quiet"), order.index("quiet", order.index("quiet") + 1)] <= [2, 4]


def test_addresses_of_one_network_take_turns_as_one_caller() -> None:
    """A household has 2**64 IPv6 addresses: sixty of them put another caller's requests at places 61, 62 and 63."""
    queue = FairQueue()
    for number in range(60):
        queue.put(waiter(network_of(f"2001:db8:1:2::{number:x}")))
    for _ in range(3):
        queue.put(waiter("name:quiet"))
    order = drain(queue)
    assert [at for at, caller in enumerate(order, 1) if caller == "name:quiet"] == [2, 4, 6]


def test_weights_give_more_turns() -> None:
    queue = FairQueue(weights={"gold": 3.0})
    for _ in range(40):
        queue.put(waiter("gold"))
        queue.put(waiter("plain"))
    share = Counter(drain(queue)[:40])
    assert 28 <= share["gold"] <= 32


def test_large_prompts_take_more_of_a_callers_turn() -> None:
    queue = FairQueue()
    for _ in range(20):
        queue.put(waiter("large", tokens=4096 * 4))
        queue.put(waiter("small"))
    assert Counter(drain(queue)[:18])["large"] <= 4


def test_small_differences_in_size_do_not_change_the_order() -> None:
    """Callers that take turns keep their order, whatever their last prompts cost."""
    queue = FairQueue()
    for caller, tokens in (("a", 500), ("b", 3), ("c", 200)):
        queue.put(waiter(caller, tokens))
    assert drain(queue) == ["a", "b", "c"]


def test_an_idle_caller_saves_no_turns_up() -> None:
    queue = FairQueue()
    for _ in range(20):
        queue.put(waiter("busy"))
    for _ in range(10):
        queue.served(next(iter(queue)))
    for _ in range(10):
        queue.put(waiter("late"))
    assert Counter(drain(queue)[:10])["late"] <= 6


def test_batch_gets_the_rest_and_at_least_a_twentieth() -> None:
    queue = FairQueue()
    for _ in range(100):
        queue.put(waiter("live"))
        queue.put(waiter("bulk", batch=True))
    assert Counter(drain(queue)[:100])["bulk"] == 5


def test_a_waiter_that_is_put_back_keeps_its_place() -> None:
    queue = FairQueue()
    first, second = waiter("a"), waiter("a")
    queue.put(first)
    queue.put(second)
    queue.served(first)
    queue.put(first)
    assert list(queue) == [first, second]


def test_removing_a_waiter_keeps_the_order() -> None:
    queue = FairQueue()
    waiters = [waiter("abc"[number % 3], tokens=number * 100, batch=number % 5 == 0) for number in range(60)]
    for one in waiters:
        queue.put(one)
    order = list(queue)
    for one in waiters[::2]:
        assert queue.remove(one)
        assert not queue.remove(one)
        order.remove(one)
        assert list(queue) == order


def test_waiting_requests_are_counted_by_priority() -> None:
    queue = FairQueue()
    first = waiter("a")
    for one in (first, waiter("b", batch=True), waiter("c", batch=True)):
        queue.put(one)
    assert queue.waiting == (1, 2)
    queue.remove(first)
    assert queue.waiting == (0, 2)
