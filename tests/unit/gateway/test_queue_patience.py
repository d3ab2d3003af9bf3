"""How long a request waits for its permit where its caller said how long it waits for the answer. On a virtual clock."""

from __future__ import annotations

import pytest

from shared.accounts.account import Account
from shared.accounts.pool import Pool
from shared.admission.admission import Admission, AdmissionConfig
from shared.admission.answer_times import MIN_ANSWERS
from shared.admission.config import ProcessConfig
from shared.bounds.byte_budget import ByteBudget
from shared.bounds.large_work import LargeWork
from shared.clock import elapsed_s
from shared.errors import QueueTimeout
from shared.gateway.attempts import MIN_QUEUE_S
from shared.gateway.gateway import Gateway
from shared.generation import Caller, Cost, Generation
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.secret import Secret
from shared.stores.memory import MemoryStore, Shelf
from tests.support.virtual_time import run

MODEL = "gemini-3.8-flash"
CALLER = Caller("c", "admin")


def waited_s(
    patient_s: float | None, *, deadline_s: float = 100.0, answers_s: float | None = None, stream: bool = False
) -> float:
    """How long a request waits in vain behind one that holds the only slot."""

    async def tell() -> float:
        account = Account("p", "p", Secret("k"), 1, Limits())
        agents = ProcessConfig("i" * 32, Grid.of(60.0), tau_s=200.0)
        admission = Admission(MemoryStore(Shelf()), agents, AdmissionConfig(queue_timeout_s=20.0))
        pool = Pool([account], caller_limits=Limits(), caller_concurrency=1)
        gateway = Gateway(
            pool,
            admission,
            {},
            request_timeout_s=200.0,
            byte_budget=ByteBudget(1 << 20),
            large_work=LargeWork(),
        )
        # One fast answer: a request with less time than the fastest tenth would not wait at all.
        for took_s in [] if answers_s is None else [0.1, *[answers_s] * (MIN_ANSWERS - 1)]:
            admission.times.record(MODEL, took_s, elapsed_s(), streamed=stream)
        now_s = elapsed_s()
        holder = await admission.acquire([account], MODEL, Cost(1, 1), now_s + 150, CALLER)
        holder.check()
        now_s = elapsed_s()
        generation = Generation(
            MODEL,
            {"contents": []},
            CALLER,
            now_s + deadline_s,
            patient_until_s=None if patient_s is None else now_s + patient_s,
        )
        with pytest.raises(QueueTimeout):
            if stream:
                async with gateway.stream(generation):
                    pass
            else:
                await gateway.generate(generation)
        took_s = elapsed_s() - now_s
        await holder.close()
        await admission.aclose()
        return took_s

    return run(tell)


def test_without_one_the_queues_timeout_holds() -> None:
    assert waited_s(None) == pytest.approx(20)


@pytest.mark.parametrize("patient_s", [10.0, 60.0])
def test_a_stated_one_replaces_it(patient_s: float) -> None:
    assert waited_s(patient_s) == pytest.approx(patient_s)


@pytest.mark.parametrize("stream", [False, True])
def test_the_models_median_answer_must_still_fit(stream: bool) -> None:
    assert waited_s(60, answers_s=25, stream=stream) == pytest.approx(35)


def test_a_patience_shorter_than_an_answer_still_waits_a_moment() -> None:
    assert waited_s(5, deadline_s=5, answers_s=25) == pytest.approx(MIN_QUEUE_S)


def test_the_deadline_holds_in_any_case() -> None:
    assert waited_s(60, deadline_s=30) == pytest.approx(30)
