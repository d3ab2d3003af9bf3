"""What a fleet's ledger costs, and what it yields, by the number of instances: real admission and ledger in virtual time.

python -m tests.simulation.fleet                        every row of the table
python -m tests.simulation.fleet --only 20-300          rows whose name contains this; several separated by commas

The store takes 20 to 60 ms for a commit, serves commits on one document one after another, and fails where more than ten
wait. Messages to it take 10 to 30 ms each way, a request at Gemini 1 to 3 s. Callers stay at their instance. Of 100 s the
first 62 are not measured.
In the rows of hurried callers each waits 5 s at most, and returns at the time of its Retry-After. Five rows are about the
order: their requests take 0.1 or 0.2 s, so that 64 callers can use the whole limit, and more time is measured."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from shared.accounts.account import Account
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.secret import Secret
from tests.simulation.checker import quantile, worst_instant, worst_window
from tests.simulation.history import History, Saturation
from tests.simulation.retry_after import GivenTime, given_times, share_of
from tests.simulation.scenario import Client, Deployment, Kind, Scenario
from tests.simulation.world import World
from tests.support.goals import Goal
from tests.support.ideal_queue import ideal_fifo, ideal_round

WARM_S, MEASURED_S = 62.0, 38.0
SERVICE_S = 2.0
PATIENCE_S, HURRY_S = 600.0, 5.0
"""How long a caller waits: long enough for any permit, or so short that most are rejected and come back at their Retry-After."""
RETURN_S = 10.0
"""A Retry-After in the last seconds is not judged: its caller had no time to be served."""
MAX_INACCURATE = 0.01
MIN_USE = 0.97
"""Of a saturated limit."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One row. `load`: the requests that arrive as a share of the limit; None: every caller asks again at once."""

    instances: int
    requests: int
    concurrency: int
    callers: int
    """Per instance."""
    load: float | None = None
    attempts_per_s: float = 5.0
    """The goals: commits that all instances together may attempt, and reads."""
    reads_per_s: float = 20.0
    patience_s: float = PATIENCE_S
    service_s: float = SERVICE_S
    """How long a request takes at Gemini on average: half of it to one and a half."""
    measured_s: float = MEASURED_S
    max_wait: tuple[float, float] | None = None
    """The goal of the p99 wait: the ideal one times the first number and plus the second (s)."""
    max_difference: int | None = None
    """The goal of the largest difference between how many requests two instances serve."""
    roams: bool = False
    """Whether each request goes to any instance, as a load balancer's do."""

    @property
    def name(self) -> str:
        load = "saturated" if self.load is None else f"{100 * self.load:.0f}%"
        load += f"-{self.measured_s:.0f}s" * (self.measured_s != MEASURED_S)
        hurried = "-hurried" * (self.patience_s < PATIENCE_S) + "-roams" * self.roams
        return f"{self.instances}-{self.requests}-{self.concurrency}-{load}{hurried}"

    def scenario(self, seed: int = 0) -> Scenario:
        random = Random(f"fleet {self.name} {seed}")
        limits = Limits(self.requests, requests_per_day=1_000_000)
        account = Account("a0", "p0", Secret("a0"), self.concurrency, limits)
        kind = Kind(
            "m0",
            (0,),
            tokens=(1, 20),
            service_s=(0.5 * self.service_s, 1.5 * self.service_s),
            patience_s=(self.patience_s,) * 2,
        )
        count, end_s = self.instances * self.callers, WARM_S + self.measured_s
        turn_s = 60 * count / (self.load * self.requests) if self.load is not None else 0.0
        spread_s = turn_s or 1.0
        clients = tuple(
            Client(
                f"c{at}",
                kind,
                max(0.0, turn_s - self.service_s),
                random.uniform(0, spread_s),
                end_s,
                -1 if self.roams else at % self.instances,
            )
            for at in range(count)
        )
        return Scenario(
            seed=seed, grid=Grid.of(60), tau_s=120.0, lease_s=None, busy_s=end_s, clients=clients,
            deployments=(Deployment((account,)),), population=((0.0, self.instances),), delay_s=(0.01, 0.03),
            commit_s=(0.02, 0.06), queue_timeout_s=PATIENCE_S, holds_on=True, cancels=False, drift=0.0,
        )  # fmt: skip


CELLS = (
    Cell(4, 10, 256, 16, service_s=0.2, measured_s=605.0, max_difference=2),
    Cell(4, 300, 256, 16, service_s=0.2, measured_s=121.0, max_wait=(1.3, 0.0)),
    Cell(4, 1_000, 256, 16, attempts_per_s=2.0, service_s=0.2, measured_s=121.0, max_wait=(1.3, 0.0)),
    Cell(4, 4_000, 256, 16, attempts_per_s=2.0, service_s=0.2, measured_s=121.0, max_wait=(1.0, 0.5)),
    Cell(4, 10_000, 256, 16, service_s=0.1, measured_s=61.0, max_wait=(1.0, 0.5)),
    Cell(4, 1_000, 256, 16, attempts_per_s=2.0),
    Cell(40, 1_000, 256, 8, attempts_per_s=2.0),
    Cell(100, 1_000, 256, 4),
    Cell(100, 300, 64, 4),
    Cell(40, 4_000, 1_000, 8, attempts_per_s=2.0),
    Cell(20, 300, 15, 8),
    Cell(10, 300, 15, 8),
    Cell(10, 300, 15, 8, 0.6),
    Cell(40, 1_000, 256, 4, 0.6),
    Cell(100, 1_000, 256, 4, 0.6),
    Cell(4, 300, 15, 16, patience_s=HURRY_S),
    Cell(20, 300, 15, 8, patience_s=HURRY_S),
    Cell(40, 300, 15, 8, patience_s=HURRY_S),
    Cell(4, 1_000, 256, 64, attempts_per_s=2.0, patience_s=HURRY_S),
    Cell(20, 1_000, 256, 16, attempts_per_s=2.0, patience_s=HURRY_S),
    Cell(40, 1_000, 256, 8, attempts_per_s=2.0, patience_s=HURRY_S),
    Cell(4, 1_000, 256, 64, attempts_per_s=2.0, patience_s=HURRY_S, roams=True),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one cell gave. Rates are per second of the measured time."""

    commits_per_s: float
    refused_per_s: float
    reads_per_s: float
    writes_per_request: float
    served_per_min: float
    offered_per_min: float
    worst_window: float
    worst_at_once: float
    rejected: int
    """Requests that Gemini answered with 429, from the first one on."""
    wait_p99_s: float
    ideal_p99_s: float
    sizes: tuple[int, ...]
    """How many requests each instance served."""
    given: int = 0
    """How many callers came back at the time of a Retry-After; the next three figures are of them."""
    accurate: float = 1.0
    early_p99_s: float = 0.0
    late_p99_s: float = 0.0


def measure(cell: Cell, seed: int = 0) -> Figures:
    world = World(cell.scenario(seed))
    with world.entered():
        world.begin()
        world.loop.run_until(WARM_S)
        before = _counts(world)
        world.loop.run_until(WARM_S + cell.measured_s)
        after = _counts(world)
        history = world.history()
    errors = [*world.errors, *world.loop.errors]
    if errors:
        raise RuntimeError(f"{cell.name}: {errors[0]}")
    return _figures(cell, history, [b - a for a, b in zip(before, after, strict=True)], world)


def _counts(world: World) -> tuple[int, int, int]:
    server = world.server
    return server.commits, server.conflicts + server.contended, server.reads


def _figures(cell: Cell, history: History, counts: Sequence[int], world: World) -> Figures:
    began_ms = world.scenario.began_ms
    period = Saturation("p0", "m0", began_ms + 1000 * WARM_S, began_ms + 1000 * (WARM_S + cell.measured_s))
    served = [e for e in history.exchanges if period.from_ms <= e.arrived_ms < period.until_ms]
    came = sum(period.from_ms <= c.came_ms < period.until_ms for c in history.calls)
    came += sum(
        w.came_ms >= period.from_ms and w.came_ms < period.until_ms
        for instance in world.instances
        for w in instance.calls.values()
    )
    window = worst_window(history, "requests", lambda e: e.cost.requests, lambda b: b.limits.requests)
    counted = Counter(e.instance for e in served)
    waits, ideal = _waits(cell, history, period)
    if cell.load is None:
        ideal = _ideal_round_p99_s(cell)
    commits, refused, reads = (count / cell.measured_s for count in counts)
    per_min = 60 / cell.measured_s
    return Figures(
        commits, refused, reads, (commits + refused) * cell.measured_s / max(1, len(served)), len(served) * per_min,
        came * per_min, window.worst, worst_instant(history).worst, sum(e.status == 429 for e in history.exchanges),
        waits, ideal,
        tuple(sorted(counted[instance.process.name] for instance in world.instances)),
        *_retry_after(list(given_times(history.calls, period.from_ms, period.until_ms - 1000 * RETURN_S))),
    )  # fmt: skip


def _retry_after(given: Sequence[GivenTime]) -> tuple[int, float, float, float]:
    if not given:
        return 0, 1.0, 0.0, 0.0
    early_s, late_s = [time.early_s for time in given], [time.late_s for time in given]
    return len(given), share_of([time.accurate for time in given]), quantile(early_s, 0.99), quantile(late_s, 0.99)


def _waits(cell: Cell, history: History, period: Saturation) -> tuple[float, float]:
    """p99 of the waits of the callers who were served in the period, and that of one ideal queue (s)."""
    calls = sorted((c.came_ms, c.served_ms) for c in history.calls if c.served_ms is not None)
    ideal = ideal_fifo([came_ms / 1000 for came_ms, _ in calls], cell.requests, 60.0)
    found = [
        ((served_ms - came_ms) / 1000, at_s - came_ms / 1000)
        for (came_ms, served_ms), at_s in zip(calls, ideal, strict=True)
        if period.from_ms <= served_ms < period.until_ms
    ]
    return quantile([wait_s for wait_s, _ in found], 0.99), quantile([ideal_s for _, ideal_s in found], 0.99)


def _ideal_round_p99_s(cell: Cell) -> float:
    """p99 of the waits in one queue that serves evenly and whose callers ask again when it, and not this ledger, served them."""
    rounds = ideal_round(cell.instances * cell.callers, cell.requests, 60.0, cell.service_s, WARM_S + cell.measured_s)
    return quantile([at_s - came_s for came_s, at_s in rounds if at_s >= WARM_S], 0.99)


COMMITS, READS, SERVED, WORST, REJECTED, WAIT, RETRY = (
    "commits/s + refused/s", "reads/s", "served a minute", "worst window, at once", "rejected by Gemini",
    "p99 wait, ideal (s); served by an instance",
    "Retry-After accurate; p99 too early, too late (s)",
)  # fmt: skip
COLUMNS = (
    "instances", "RPM, C, load (callers each)", COMMITS, READS, "writes/request", SERVED, WORST, REJECTED, WAIT, RETRY,
)  # fmt: skip
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def goals(cell: Cell, one: Figures) -> list[Goal]:
    """A goal has the name of the column that shows its figure."""
    offered = float(cell.requests) if cell.load is None else min(cell.load * cell.requests, one.offered_per_min)
    order = []
    if cell.max_wait is not None:
        order.append(Goal(WAIT, one.wait_p99_s, cell.max_wait[0] * one.ideal_p99_s + cell.max_wait[1]))
    if cell.max_difference is not None:
        order.append(Goal(WAIT, max(one.sizes) - min(one.sizes), cell.max_difference))
    return [
        *order,
        Goal(COMMITS, one.commits_per_s + one.refused_per_s, cell.attempts_per_s),
        Goal(READS, one.reads_per_s, cell.reads_per_s),
        Goal(SERVED, one.served_per_min, offered * MIN_USE, at_least=True),
        Goal(WORST, one.worst_window, cell.requests),
        Goal(WORST, one.worst_at_once, cell.concurrency),
        Goal(REJECTED, one.rejected, 0),
        Goal(RETRY, 1 - one.accurate, MAX_INACCURATE),
    ]


def load_of(cell: Cell) -> str:
    load = "saturated" if cell.load is None else f"{100 * cell.load:.0f} %"
    load += ", hurried" * (cell.patience_s < PATIENCE_S) + ", any instance" * cell.roams
    return f"{cell.requests:,}, {cell.concurrency:,}, {load} ({cell.callers})"


def columns(cell: Cell, one: Figures) -> Mapping[str, str]:
    """One row by column. A figure that misses its goal is in bold."""
    of = f"{cell.requests:,}" if cell.load is None else f"{one.offered_per_min:,.0f} that came"
    texts = (
        str(cell.instances),
        load_of(cell),
        f"{one.commits_per_s:.1f} + {one.refused_per_s:.1f}",
        f"{one.reads_per_s:.1f}",
        f"{one.writes_per_request:.2f}",
        f"{one.served_per_min:,.0f} of {of}",
        f"{one.worst_window:,.0f}, {one.worst_at_once:.0f}",
        f"{one.rejected}",
        f"{one.wait_p99_s:.1f}, {one.ideal_p99_s:.1f}; {min(one.sizes)}-{max(one.sizes)}",
        f"{100 * one.accurate:.0f} % of {one.given}; {one.early_p99_s:.1f}, {one.late_p99_s:.1f}" if one.given else "-",
    )
    missed = {goal.name for goal in goals(cell, one) if not goal.met}
    return {name: f"**{text}**" if name in missed else text for name, text in zip(COLUMNS, texts, strict=True)}


def row(cell: Cell, one: Figures) -> str:
    return f"| {' | '.join(columns(cell, one).values())} |"


def chosen(only: str) -> Iterator[Cell]:
    parts = [part for part in only.split(",") if part]
    return (cell for cell in CELLS if not parts or any(part in cell.name for part in parts))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.fleet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default="", help="rows whose names contain one of these, separated by commas")
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    print(HEAD)
    for cell in chosen(wanted.only):
        print(row(cell, measure(cell, wanted.seed)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
