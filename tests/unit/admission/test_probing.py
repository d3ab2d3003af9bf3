"""After a cool-down one request of all instances tries first; the others follow when it was answered. In virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from shared.clock import elapsed_s
from shared.errors import QueueTimeout
from shared.generation import Caller, Cost
from shared.ledger.circuit import PROBE_MS
from shared.ledger.packing import pack, unpack
from shared.ledger.state import Circuit, Exhaustion, InstanceLease, ModelState, QuotaSignal, State
from shared.stores.port import Change, Put
from tests.support.instances import LEDGER, Site, account
from tests.support.virtual_time import run

KEY = f"ledger/{LEDGER}"
limited = pytest.mark.parametrize("limits", [{"requests": 600}, {}], ids=["600 RPM", "unlimited"])


@dataclass(frozen=True, slots=True)
class Exchange:
    instance: int
    began_s: float
    ended_s: float
    refused: bool


@dataclass
class Gemini:
    """Refuses what arrives in one of the `closed` spans of time; it names the end of it, or `retry_s`, and no quota."""

    retry_s: float | None = None
    answer_s: float = 0.5
    closed: list[tuple[float, float]] = field(default_factory=list)
    seen: list[Exchange] = field(default_factory=list)
    under_way: int = 0

    def closes(self, for_s: float) -> None:
        self.closed.append((elapsed_s(), elapsed_s() + for_s))

    async def ask(self, site: Site, instance: int, caller: str, patience_s: float = 300.0) -> None:
        """Until it is answered."""
        deadline_s, refused = elapsed_s() + patience_s, True
        while refused:
            lease = await site.gates[instance].acquire(
                [site.account], "m", Cost(1, 50), deadline_s, Caller(caller, "admin")
            )
            try:
                lease.check()
                began_s = elapsed_s()
                refused = any(since <= began_s < until for since, until in self.closed)
                self.under_way += 1
                await asyncio.sleep(0.05 if refused else self.answer_s)
                self.under_way -= 1
                self.seen.append(Exchange(instance, began_s, elapsed_s(), refused))
                if refused:
                    now_ms = site.gates[instance].clock.latest_ms()
                    end_s = max(until for since, until in self.closed if since <= began_s < until)
                    retry_s = end_s - elapsed_s() if self.retry_s is None else self.retry_s
                    until_ms = int(now_ms + 1000 * retry_s) + 1
                    lease.refuse(QuotaSignal("m", until_ms, sent_ms=int(lease.dispatched_ms)))
                else:
                    lease.answered()
            finally:
                await lease.close(50)

    @asynccontextmanager
    async def callers(self, site: Site, instance: int, count: int) -> AsyncIterator[None]:
        async def caller(number: int) -> None:
            while True:
                await self.ask(site, instance, f"{instance}-{number}")

        tasks = [asyncio.create_task(caller(number)) for number in range(count)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            await site.gates[instance].aclose()
            assert all(isinstance(error, asyncio.CancelledError) for error in done), done

    def began(self, since_s: float, until_s: float = float("inf")) -> list[Exchange]:
        return sorted((one for one in self.seen if since_s <= one.began_s < until_s), key=lambda one: one.began_s)


def busy(
    limits: dict[str, int], then: Callable[[Site, Gemini], Awaitable[None]], instances: int = 4, **gemini: float
) -> tuple[Site, Gemini]:
    """`then`, ten seconds after so many instances of ten callers each began."""

    async def main() -> tuple[Site, Gemini]:
        random.seed(4)
        # However often Gemini rejects a probe, the next one is sent after the delay that it named.
        site = Site(account(40, **limits), exhaustion=Exhaustion(rejections=1_000))
        upstream = Gemini(**gemini)
        async with AsyncExitStack() as stack:
            for _ in range(instances):
                await stack.enter_async_context(upstream.callers(site, site.add(), 10))
            await asyncio.sleep(10)
            await then(site, upstream)
        return site, upstream

    return run(main)


async def cool_ms(site: Site) -> int:
    blob = (await site.stores[0].read(KEY)).value
    assert blob is not None
    return unpack(blob).sections["m"].circuit.open_until_ms


@limited
def test_one_probe_reopens_all_instances_in_a_second(limits: dict[str, int]) -> None:
    async def refuse(_: Site, gemini: Gemini) -> None:
        gemini.closes(3.0)
        await asyncio.sleep(12)

    _, gemini = busy(limits, refuse)
    [(_, open_s)] = gemini.closed
    first, *others = gemini.began(open_s)
    assert first.began_s <= open_s + 0.6, "the next slot, and the clock's uncertainty"
    assert others[0].began_s >= first.ended_s, "the others wait for its answer"
    rate = limits.get("requests", 0) / 60
    served = len(gemini.began(first.ended_s, first.ended_s + 4.0))
    assert served >= 0.9 * 3.0 * rate, "a second is lost at the most"
    if not rate:
        firsts = [min(one.began_s for one in others if one.instance == instance) for instance in range(4)]
        assert max(firsts) - first.ended_s <= 1.0


@limited
def test_refused_probe_is_repeated_after_each_pause(limits: dict[str, int]) -> None:
    async def refuse(_: Site, gemini: Gemini) -> None:
        gemini.closes(14.0)
        await asyncio.sleep(20)

    _, gemini = busy(limits, refuse, retry_s=2.0)
    since_s, until_s = gemini.closed[0]
    # By then also those have looked at the ledger that held permits for the next seconds.
    tries = gemini.began(since_s + 5.0, until_s)
    assert 2 <= len(tries) <= 5, "one for every two seconds"
    assert all(b.began_s - a.ended_s >= 1.9 for a, b in pairwise(tries))


def test_open_circuit_costs_few_writes() -> None:
    commits = 0

    async def refuse(site: Site, gemini: Gemini) -> None:
        nonlocal commits
        gemini.closes(1.0)
        await asyncio.sleep(1.5)
        before = sum(one.commits for one in site.counts())
        await asyncio.sleep(20)
        assert await cool_ms(site) > 0
        commits = sum(one.commits for one in site.counts()) - before

    busy({}, refuse, retry_s=30.0)
    assert commits <= 4 * (20 / 5 + 1), "who waits renews its lease every five seconds"


@limited
def test_probe_moves_on_when_its_instance_ended(limits: dict[str, int]) -> None:
    async def main() -> tuple[float, Gemini]:
        random.seed(5)
        site, gemini = Site(account(40, **limits)), Gemini()
        instances = [site.add(), site.add()]

        def step(_: object, now_ms: int) -> Change[None]:
            dead = InstanceLease(seen_ms=now_ms, authority_ms=now_ms + 60_000, reuse_ms=now_ms + 60_000, concurrency=40)
            stop = Circuit(open_until_ms=now_ms + 1_000, owner="dead", model="m", probe_ms=now_ms + 1_000 + PROBE_MS)
            section = ModelState(circuit=stop)
            state = State(60_000, now_ms, {"dead": dead}, {"m": section})
            return Change(None, {KEY: Put(pack(state))})

        await site.stores[0].transact([KEY], step)
        until_s = elapsed_s() + 1 + PROBE_MS / 1000
        async with AsyncExitStack() as stack:
            for instance in instances:
                await stack.enter_async_context(gemini.callers(site, instance, 5))
            await asyncio.sleep(16)
        return until_s, gemini

    until_s, gemini = run(main)
    first, second = gemini.began(0.0)[:2]
    assert until_s <= first.began_s <= until_s + 1.5
    assert second.began_s >= first.ended_s


def test_single_instance_probes_with_two_renews() -> None:
    """A caller's own key: one instance, one request after the other, nothing held in between."""

    async def main() -> tuple[int, int]:
        site, gemini = Site(account(5, requests=100)), Gemini(retry_s=1.0)
        here = site.add()
        await gemini.ask(site, here, "c")
        usual = site.stores[0].counts.commits
        gemini.closes(0.5)
        with pytest.raises(QueueTimeout):
            await gemini.ask(site, here, "c", patience_s=0.6)
        await asyncio.sleep(3)
        before = site.stores[0].counts.commits
        await gemini.ask(site, here, "c")
        assert await cool_ms(site) == 0
        return usual, site.stores[0].counts.commits - before

    usual, after = run(main)
    assert after == usual


@pytest.mark.parametrize("wait_s", [0.0, 10.0])
def test_rejection_has_the_end_of_the_pause(wait_s: float) -> None:
    async def main() -> float:
        site, gemini = Site(account(5, requests=100)), Gemini(retry_s=30.0)
        here = site.add()
        gemini.closes(0.5)
        for patience_s in (0.3, 0.3):
            with pytest.raises(QueueTimeout) as told:
                await gemini.ask(site, here, "c", patience_s=patience_s)
            await asyncio.sleep(wait_s)
        return told.value.retry_after_s or 0.0

    assert run(main) == pytest.approx(30.0 - wait_s, abs=1.0)


def test_cancelled_probe_lets_the_next_one_try() -> None:
    async def main() -> float:
        site, gemini = Site(account(5)), Gemini(retry_s=1.0, answer_s=8.0)
        here = site.add()
        gemini.closes(0.5)
        first = asyncio.create_task(gemini.ask(site, here, "a"))
        await asyncio.sleep(2)
        assert gemini.under_way == 1
        second = asyncio.create_task(gemini.ask(site, here, "b"))
        await asyncio.sleep(1)
        assert gemini.under_way == 1, "the second waits"
        first.cancel()
        cancelled_s = elapsed_s()
        await second
        await asyncio.gather(first, return_exceptions=True)
        await site.gates[here].aclose()
        return gemini.seen[-1].began_s - cancelled_s

    assert run(main) <= 1.0
