"""Who is served when all want more than there is: shares of callers, the order between instances, large beside small."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import pairwise

import pytest

from shared.clock import elapsed_s
from shared.generation import Cost
from shared.ledger.grid import Grid
from tests.support.instances import Served, Site, account, quantile
from tests.support.virtual_time import WALL_S, run

WINDOW_S = 60.0
BEST = Grid.of(WINDOW_S).best_use()
FLOOD = 60
"""So many under way at a time that some of them wait all the time: of 200 no more are served."""


@dataclass(frozen=True, slots=True)
class Asking:
    """One caller at one instance, with so many requests under way at a time."""

    caller: str
    instance: int
    at_once: int
    batch: bool = False
    cost: Cost = Cost(1, 50)


@dataclass(frozen=True, slots=True)
class Seen:
    served: list[Served]
    minutes: float

    def counts(self, of: str = "caller") -> dict[str | int, int]:
        return dict(Counter(getattr(one, of) for one in self.served))

    def waits_s(self) -> list[float]:
        return sorted(one.began_s - one.arrived_s for one in self.served)

    def used(self, rpm: int) -> float:
        """Of what the limit allows at best."""
        return len(self.served) / (rpm * self.minutes * BEST)


def seen(
    limits: Mapping[str, int],
    asking: Sequence[Asking],
    minutes: float,
    then: Callable[[Site], Awaitable[None]] | None = None,
    rtt_s: float = 0.03,
    wall_s: float = WALL_S,
    c: int = 15,
    warm: float = 2.0,
) -> Seen:
    """What was begun in the minutes after `warm` ones that are not measured; `then` happens meanwhile. `wall_s` is when it
    begins."""

    async def main() -> Seen:
        random.seed(1)
        site = Site(account(c, **limits), window_s=WINDOW_S, queue_timeout_s=3_600, rtt_s=rtt_s)
        for _ in range(1 + max(one.instance for one in asking)):
            site.add()
        async with AsyncExitStack() as stack:
            for one in asking:
                caller = site.asking(one.instance, one.caller, one.at_once, batch=one.batch, cost=one.cost)
                await stack.enter_async_context(caller)
            await asyncio.sleep(warm * WINDOW_S)
            since_s = elapsed_s()
            if then is not None:
                await then(site)
            await asyncio.sleep(minutes * WINDOW_S - (elapsed_s() - since_s))
            until_s = elapsed_s()
        return Seen([one for one in site.served if since_s <= one.began_s < until_s], minutes)

    return run(main, wall_s)


# -- shares ----------------------------------------------------------------------------------------------------------


def modest(*instances: int) -> list[Asking]:
    return [Asking(f"modest-{at}", instance, at_once=4) for at, instance in enumerate(instances)]


@pytest.mark.parametrize("rpm", [60, 300])
def test_flood_leaves_equal_shares_at_one_instance(rpm: int) -> None:
    minutes = 600 / rpm
    found = seen({"requests": rpm}, [Asking("flood", 0, FLOOD), *modest(0, 0, 0)], minutes)
    counts = found.counts()
    assert max(counts.values()) - min(counts.values()) <= 0.02 * rpm * minutes / 4
    assert found.used(rpm) >= 0.985


@pytest.mark.parametrize(
    ("where", "rpm", "minutes", "least"),
    [((0, 1, 1), 60, 6, 0.9), ((0, 1, 1), 300, 2, 0.9), ((1, 1, 1), 60, 10, 0.8), ((1, 1, 1), 300, 2, 0.9)],
    ids=[
        "one of them beside it-60",
        "one of them beside it-300",
        "none of them beside it-60",
        "none of them beside it-300",
    ],
)
def test_flood_leaves_shares_at_another_instance(
    where: tuple[int, ...], rpm: int, minutes: float, least: float
) -> None:
    """Four callers, so a quarter each. Those with few requests under way do not always ask for what comes next in time: with
    none of them beside it, they get 0.83 to 0.92 of it at 60 a minute (0.88 on the average of where in a slot the story may
    begin), and 0.93 to 0.97 at 300. Before, an instance whose few requests were all booked ahead was not counted as one that
    shares, and the flood took 0.55 of all at 300."""
    found = seen({"requests": rpm}, [Asking("flood", 0, FLOOD), *modest(*where)], minutes)
    counts, share = found.counts(), rpm * minutes * BEST / 4
    assert min(counts.values()) >= least * share
    assert found.used(rpm) >= 0.985


def test_flood_through_two_instances_gets_two_shares() -> None:
    """Callers are counted per instance: no document says who is the same (a share is 0.2 here, and the flood has two)."""
    found = seen({"requests": 300}, [Asking("flood", at, FLOOD // 2) for at in (0, 1)] + modest(0, 1, 1), 2)
    counts, share = found.counts(), 300 * 2 * BEST / 5
    assert counts["flood"] <= 2.1 * share
    assert min(counts.values()) >= 0.9 * share


def test_batch_gets_the_rest_and_at_least_a_twentieth() -> None:
    live, bulk = Asking("live", 0, at_once=40), Asking("bulk", 0, at_once=40, batch=True)
    both = seen({"requests": 300}, [live, bulk], 3)
    assert both.counts()["bulk"] == pytest.approx(0.05 * len(both.served), rel=0.1)
    few = seen({"requests": 300}, [Asking("live", 0, at_once=1), bulk], 2)
    assert few.used(300) >= 0.985
    assert few.counts()["bulk"] >= 0.6 * len(few.served)


# -- order -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("instances", [2, 4, 8])
def test_longest_wait_of_all_instances_is_served_first(instances: int) -> None:
    """10 requests a minute are spent; then one request comes to each instance, two seconds after the one before."""

    async def main() -> list[str]:
        random.seed(1)
        site = Site(account(15, requests=10), window_s=WINDOW_S)
        for _ in range(instances):
            site.add()
        asked = [asyncio.create_task(site.ask(0, "before")) for _ in range(10)]
        await asyncio.sleep(10)
        for at in range(instances):
            asked.append(asyncio.create_task(site.ask(at, f"{at}")))
            await asyncio.sleep(2)
        await asyncio.gather(*asked)
        return [one.caller for one in sorted(site.served, key=lambda one: one.began_s) if one.caller != "before"]

    assert run(main) == [f"{at}" for at in range(instances)]


def test_small_limit_is_shared_over_four_instances() -> None:
    """10 requests a minute, one caller at each. The goal, a difference of 1 in ten minutes, is missed: it is 4 to 12 of 25, and
    6 to 8 on the average of where in a slot the story may begin. About once a minute the pace lets two go together; the second
    is for whoever asks right then, and that is the one who was just served. Those who wait have a later booking already, and
    look for no earlier one."""
    differences = []
    for begin in range(5):
        found = seen(
            {"requests": 10}, [Asking("x", at, at_once=1) for at in range(4)], 10, wall_s=WALL_S + 0.259 * begin
        )
        counts = found.counts("instance").values()
        differences.append(max(counts) - min(counts))
        assert found.used(10) >= 0.95
    assert sum(differences) / len(differences) <= 10


def sixty_four() -> list[Asking]:
    """Callers who always have one request under way, 16 at each of four instances."""
    return [Asking(f"{at}-{number}", at, at_once=1) for at in range(4) for number in range(16)]


@pytest.mark.parametrize(("rpm", "most"), [(300, 1.7), (1_000, 1.35), (4_000, 1.1)])
def test_waits_are_close_to_those_of_one_queue(rpm: int, most: float) -> None:
    """p99 against a whole round of one queue, over two minutes. Measured: 1.49 to 1.6 at 300 a minute, where the first minute's
    burst makes the next round longer; 1.14 to 1.23 at 1,000; 0.81 to 0.97 at 4,000. There it was 4.6 to 6.2 while an instance
    could book all that came next for requests that it expected: the others waited until that was over."""
    found = seen({"requests": rpm}, sixty_four(), 2, c=256, warm=1.01)
    round_s = 64 / (rpm / WINDOW_S * BEST)
    assert quantile(found.waits_s(), 0.99) <= most * round_s
    counts = list(found.counts("instance").values())
    assert sum(counts) ** 2 / (4 * sum(count * count for count in counts)) >= 0.98, "Jain's index"
    assert found.used(rpm) >= 0.98


def test_nothing_stalls_after_a_burst() -> None:
    """Before, what was dispatched and not yet reported did not slow the pace, nor did a lack that was a few seconds ahead:
    then nothing was left for up to the last second."""
    found = seen({"requests": 4_000}, sixty_four(), 1.05, c=256, warm=0)
    began = sorted(one.began_s for one in found.served)
    assert max(after - before for before, after in pairwise(began)) <= 0.4


@pytest.mark.parametrize("rtt_s", [0.02, 0.2])
def test_a_slow_store_costs_no_capacity(rtt_s: float) -> None:
    callers = [Asking(f"{at}-{number}", at, at_once=1) for at in range(3) for number in range(12)]
    assert seen({"requests": 300}, callers, 2, rtt_s=rtt_s).used(300) >= 0.985


# -- tokens ----------------------------------------------------------------------------------------------------------

TPM = 100_000
SMALL, LARGE = Cost(1, 1_000), Cost(1, 60_000)


@pytest.mark.parametrize("instance", [0, 1], ids=["beside the small", "at another instance"])
def test_large_prompt_is_served_among_small_ones(instance: int) -> None:
    """It waits for its caller's turn (it is worth 16 requests) and then for room: 71 s beside them, 38 s at an instance of its
    own. An equal share of the tokens would give it one in 3.6 minutes. The small ones go on, but the minute before it and the
    one after it both have to leave it room, so that all together use less once: by 41,000 tokens, of at most 60,000."""

    async def ask_large(site: Site) -> None:
        await site.ask(instance, "large", cost=LARGE)

    small = [Asking(f"small-{at}", 0, at_once=8, cost=SMALL) for at in range(5)]
    # The other instance is there, and idle.
    idle = [Asking("nobody", 1, at_once=0)]
    found = seen({"input_tokens": TPM}, [*small, *idle], 4, ask_large)
    large = next(one for one in found.served if one.caller == "large")
    assert large.began_s - large.arrived_s <= 1.4 * WINDOW_S
    tokens = sum((LARGE if one.caller == "large" else SMALL).input_tokens for one in found.served)
    assert tokens >= TPM * 4 * BEST - LARGE.input_tokens, "small ones fill what it leaves"
