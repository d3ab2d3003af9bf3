"""Cells by the number of instances: simulated ones, which `make fleet` has too, and ones with functions-framework's processes."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.benchmarks.board.cells import RTT_S, period_s
from tests.benchmarks.board.link import FarFirestore
from tests.benchmarks.figures import percentile
from tests.simulation import fleet as simulation
from tests.simulation.fleet import SERVICE_S, Cell, Figures
from tests.support.fleet import MODELS, Quota, Seen, fleet
from tests.support.ideal_queue import ideal_round
from tests.support.invariants import worst_window
from tests.support.load import CallerBehaviour, Load, closed_loop
from tests.support.load_balancer import load_balancer

WINDOW_S = 60.0
CALLERS = 64
TIMEOUT_S = 150.0
"""A caller's own; the gateway rejects a request long before that."""


@dataclass(frozen=True)
class FleetCell:
    """Callers of a simulated cell stay at their instance, and `cell.callers` is for each. Those of real processes share one
    load balancer, and `cell.callers` is for all."""

    name: str
    cell: Cell
    is_simulated: bool

    @property
    def ends_s(self) -> float:
        """About how long it takes: a simulation, or two periods and the last answers."""
        return 5.0 + self.cell.instances if self.is_simulated else 2 * period_s(WINDOW_S) + 15.0


@dataclass(frozen=True)
class Measured:
    """`answers`: how many callers' requests had each outcome, from the first one on."""

    figures: Figures
    answers: Mapping[str, int]


def _fleets() -> dict[str, FleetCell]:
    processes = (Cell(instances, 300, 15, CALLERS) for instances in (4, 12))
    cells = [FleetCell(f"processes-{cell.name}", cell, is_simulated=False) for cell in processes]
    cells += [
        FleetCell(f"simulated-{cell.name.replace('%', '')}", cell, is_simulated=True) for cell in simulation.CELLS
    ]
    return {cell.name: cell for cell in cells}


FLEETS = _fleets()


async def run_processes(cell: Cell, firestore_host: str) -> Measured:
    """Functions-framework's processes, a proxy that counts what they send to Firestore's emulator, one load balancer. One
    period warms up, and one is measured."""
    quota = Quota(cell.requests, cell.concurrency, WINDOW_S)
    service = CallerBehaviour(directive=_takes_1_to_3_s, obeys_retry_after=True)
    async with (
        FarFirestore(firestore_host, RTT_S) as link,
        fleet(firestore_host, quota, instances=cell.instances, ledger_host=link.host) as site,
        load_balancer(site.urls) as balancer,
    ):
        async with closed_loop(
            [balancer.url], callers=cell.callers, models=MODELS[:1], timeout_s=TIMEOUT_S, behaviour=service
        ) as load:
            since_s = time.monotonic() + period_s(WINDOW_S)
            until_s = since_s + period_s(WINDOW_S)
            await _until(since_s)
            before = balancer.answered.copy()
            await _until(until_s)
            sizes = balancer.answered - before
        seen = await site.seen()
    served = tuple(sorted(sizes[server] for server in range(cell.instances)))
    figures = figures_of(cell, seen, load, link, (since_s, until_s), served)
    return Measured(figures, answers_of(load))


def answers_of(load: Load) -> dict[str, int]:
    """By outcome: "answered", or the status and the code of the error."""
    return dict(Counter(one.told.partition(":")[0] or "answered" for one in load.sent))


def _takes_1_to_3_s(number: int) -> str:
    """The directive that tells the offline Gemini how long this request takes."""
    return f"[[latency:{random.Random(number).randint(1000, round(2000 * SERVICE_S) - 1000)}]]"


async def _until(at_s: float) -> None:
    await asyncio.sleep(max(0.0, at_s - time.monotonic()))


def figures_of(
    cell: Cell, seen: Seen, load: Load, link: FarFirestore, period: tuple[float, float], sizes: tuple[int, ...]
) -> Figures:
    """Raises ValueError when nothing arrived while it was measured."""
    since_s, until_s = period
    span_s, arrivals_s = until_s - since_s, seen.arrivals_s.get(MODELS[0], [])
    count = _within(arrivals_s, period)
    if not count:
        raise ValueError("nothing arrived at Gemini while it was measured")
    attempts, refused, reads = (
        _within(times_s, period) for times_s in (link.commits_s, link.conflicts_s, link.reads_s)
    )
    waits = [one.queued_s for one in load.sent if one.queued_s is not None and since_s <= one.end_s < until_s]
    rounds = ideal_round(cell.callers, cell.requests, WINDOW_S, SERVICE_S, until_s - load.started_s)
    ideal = [at_s - came_s for came_s, at_s in rounds if load.started_s + at_s >= since_s]
    rejected = sum(seen.refused.values())
    return Figures(
        commits_per_s=(attempts - refused) / span_s,
        refused_per_s=refused / span_s,
        reads_per_s=reads / span_s,
        writes_per_request=attempts / count,
        served_per_min=60 * count / span_s,
        offered_per_min=60 * _within([one.start_s for one in load.sent], period) / span_s,
        worst_window=worst_window(arrivals_s, WINDOW_S),
        worst_at_once=seen.most_at_once,
        rejected=rejected,
        wait_p99_s=percentile(sorted(waits), 0.99) if waits else 0.0,
        ideal_p99_s=percentile(sorted(ideal), 0.99) if ideal else 0.0,
        sizes=sizes,
    )


def _within(times_s: Sequence[float], period: tuple[float, float]) -> int:
    return sum(period[0] <= at_s < period[1] for at_s in times_s)
