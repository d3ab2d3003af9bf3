"""No permit is spent on a request that has less time left than the model's fastest answers take. In virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from shared.accounts.account import Account
from shared.admission.admission import Admission
from shared.admission.permit import Permit
from shared.clock import elapsed_s
from shared.errors import QueueTimeout, UpstreamTimeout
from shared.generation import Caller, Cost
from tests.support.instances import Site, account
from tests.support.virtual_time import run

T = TypeVar("T")

MODEL = "m"


def story(tell: Callable[[Admission, Account], Awaitable[T]], c: int = 1) -> T:
    async def main() -> T:
        random.seed(1)
        site = Site(account(c, requests=100), queue_timeout_s=60.0)
        gate = site.gates[site.add()]
        try:
            return await tell(gate, site.account)
        finally:
            await gate.aclose()

    return run(main)


def answers(gate: Admission, took_s: float, count: int = 10, *, streamed: bool = False) -> None:
    for _ in range(count):
        gate.times.record(MODEL, took_s, elapsed_s(), streamed=streamed)


async def take(gate: Admission, of: Account, time_s: float, *, streamed: bool = False) -> Permit:
    deadline_s = elapsed_s() + time_s
    return await gate.acquire([of], MODEL, Cost(1, 10), deadline_s, Caller("c", "admin"), streamed=streamed)


def test_too_little_time_is_rejected_before_a_permit_is_taken() -> None:
    async def tell(gate: Admission, of: Account) -> int:
        answers(gate, 2.0)
        with pytest.raises(UpstreamTimeout, match=r"1\.90 s left.*2\.00 s"):
            await take(gate, of, 1.9)
        return gate.writes

    assert story(tell) == 0


def test_fewer_than_ten_answers_reject_nothing() -> None:
    async def tell(gate: Admission, of: Account) -> None:
        answers(gate, 2.0, 9)
        lease = await take(gate, of, 1.0)
        await lease.close()

    story(tell)


def test_streams_need_the_time_of_their_first_byte() -> None:
    async def tell(gate: Admission, of: Account) -> None:
        answers(gate, 20.0)
        answers(gate, 0.5, streamed=True)
        lease = await take(gate, of, 1.0, streamed=True)
        await lease.close()
        with pytest.raises(UpstreamTimeout):
            await take(gate, of, 1.0)

    story(tell)


def test_a_request_waits_only_while_enough_time_is_left() -> None:
    """It is rejected with Retry-After as soon as an answer could not come in time any more."""

    async def tell(gate: Admission, of: Account) -> float:
        answers(gate, 2.0)
        busy = await take(gate, of, 60.0)
        began_s = elapsed_s()
        with pytest.raises(QueueTimeout) as error:
            await take(gate, of, 5.0)
        assert error.value.retry_after_s is not None
        waited_s = elapsed_s() - began_s
        await busy.close()
        return waited_s

    assert story(tell) == pytest.approx(3.0, abs=0.1)


def test_late_request_gets_no_permit() -> None:
    """The model became slower while the request waited: the permit goes to the next one."""

    async def tell(gate: Admission, of: Account) -> None:
        busy = await take(gate, of, 60.0)
        impatient = asyncio.create_task(take(gate, of, 5.0))
        patient = asyncio.create_task(take(gate, of, 60.0))
        await asyncio.sleep(1.0)
        answers(gate, 10.0)
        await busy.close()
        lease = await patient
        with pytest.raises(QueueTimeout):
            await impatient
        assert lease.waiter.ends_s - elapsed_s() > 10.0
        await lease.close()

    story(tell)


def test_the_rule_ends_when_the_model_is_faster_again() -> None:
    """Answers to patient requests correct the record."""

    async def tell(gate: Admission, of: Account) -> None:
        answers(gate, 30.0, 50)
        with pytest.raises(UpstreamTimeout):
            await take(gate, of, 5.0)
        answers(gate, 1.0, 5)
        lease = await take(gate, of, 5.0)
        await lease.close()

    story(tell)
