"""KEY_COOLDOWN_SECONDS: an account rests after each dispatch, over all processes. On a virtual clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from shared.clock import elapsed_s
from shared.errors import GatewayError, QueueTimeout
from tests.support.gateways import Processes, accounts_of
from tests.support.virtual_time import run

REST_S = 5.0


def processes(
    accounts: int,
    count: int,
    then: Callable[[Processes], Awaitable[None]],
    *,
    rest_s: float = REST_S,
) -> Processes:
    async def main() -> Processes:
        random.seed(9)
        found = Processes(accounts_of(accounts), lambda account, model: None, rest_s=rest_s, queue_timeout_s=60.0)
        for _ in range(count):
            found.add()
        async with found.closing():
            await then(found)
        return found

    return run(main)


def gaps_s(found: Processes) -> list[float]:
    """The times between two dispatches on one account."""
    by_account: dict[str, list[float]] = {}
    for one in sorted(found.sent, key=lambda one: one.at_s):
        by_account.setdefault(one.account, []).append(one.at_s)
    return [b - a for times in by_account.values() for a, b in pairwise(times)]


async def busy(found: Processes, for_s: float) -> None:
    """Two callers at each process that always have a request under way."""

    async def caller(process: int) -> None:
        while True:
            await found.ask(process)

    tasks = [asyncio.create_task(caller(n % len(found.gateways))) for n in range(2 * len(found.gateways))]
    await asyncio.sleep(for_s)
    for task in tasks:
        task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in done), done


@pytest.mark.parametrize(("accounts", "count"), [(1, 1), (1, 3), (4, 1), (4, 3)])
def test_no_process_uses_an_account_before_it_has_rested(accounts: int, count: int) -> None:
    async def then(found: Processes) -> None:
        await busy(found, 100.0)

    found = processes(accounts, count, then)
    assert min(gaps_s(found)) >= REST_S - 0.05
    assert len(found.sent) >= 0.85 * accounts * 100.0 / REST_S
    assert {one.account for one in found.sent} == {f"key-{n}" for n in range(accounts)}


def test_a_request_waits_for_the_rest_of_the_cooldown() -> None:
    async def then(found: Processes) -> None:
        await found.ask(0)
        began_s = elapsed_s()
        await found.ask(1)
        assert elapsed_s() - began_s == pytest.approx(REST_S, abs=0.7)

    processes(1, 2, then)


def test_a_rested_account_serves_at_once() -> None:
    async def then(found: Processes) -> None:
        for _ in range(3):
            began_s = elapsed_s()
            await found.ask(0)
            assert elapsed_s() - began_s <= 0.6

    found = processes(3, 1, then)
    assert len({one.account for one in found.sent}) == 3


def test_retry_after_of_a_request_that_cannot_wait() -> None:
    """The cooldown lasts longer than the caller's patience."""
    errors: list[GatewayError] = []

    async def then(found: Processes) -> None:
        await found.ask(0)
        with pytest.raises(QueueTimeout) as caught:
            await found.ask(0, deadline_s=2.0)
        errors.append(caught.value)

    found = processes(1, 1, then)
    assert len(found.sent) == 1
    assert 3.0 <= (errors[0].retry_after_s or 0.0) <= REST_S + 2.0


def test_a_request_that_was_not_sent_begins_no_cooldown() -> None:
    async def then(found: Processes) -> None:
        task = asyncio.create_task(found.ask(0))
        await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not found.sent
        began_s = elapsed_s()
        await found.ask(1)
        assert elapsed_s() - began_s <= 1.0

    processes(1, 2, then)


def test_a_request_that_is_cancelled_begins_its_cooldown() -> None:
    """It was sent; its caller left before the answer."""

    async def then(found: Processes) -> None:
        found.answer_s = 20.0
        task = asyncio.create_task(found.ask(0))
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        found.answer_s = 0.2
        await found.ask(1)

    found = processes(1, 2, then)
    assert REST_S <= gaps_s(found)[0] <= REST_S + 0.7


def test_a_long_answer_does_not_lengthen_the_cooldown() -> None:
    async def then(found: Processes) -> None:
        found.answer_s = 20.0
        await asyncio.gather(*(found.ask(0) for _ in range(3)))

    found = processes(1, 1, then)
    assert all(REST_S - 0.05 <= gap_s <= REST_S + 0.7 for gap_s in gaps_s(found))


def test_a_dead_process_leaves_no_account_unrested() -> None:
    """Its request was dispatched, and nothing of that was reported. Its lease and its deadline end before the cooldown."""

    async def then(found: Processes) -> None:
        found.answer_s = 30.0
        task = asyncio.create_task(found.ask(0, deadline_s=2.0))
        await asyncio.sleep(0.2)
        assert found.sent
        for admission in (found.gateways[0].admission, found.gateways[0].cooldown.admission):  # type: ignore[union-attr]
            for project in admission.projects.values():
                project.poke = lambda: None  # type: ignore[method-assign]
        found.answer_s = 0.2
        await found.ask(1, deadline_s=59.0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    found = processes(1, 2, then, rest_s=30.0)
    assert 30.0 <= gaps_s(found)[0] <= 50.0
