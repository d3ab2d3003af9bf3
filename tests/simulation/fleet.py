"""What a fleet's ledger costs, and what it yields, by the number of instances: real admission and ledger in virtual time.

python -m tests.simulation.fleet                        every row of the table
python -m tests.simulation.fleet --only 20-300          rows whose name contains this; several separated by commas

The store takes 20 to 60 ms for a commit, serves commits on one document one after another, and fails where more than ten
wait. Messages to it take 10 to 30 ms each way, a request at Gemini 1 to 3 s. Callers stay at their instance. Of 100 s the
first 62 are not measured."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from shared.accounts.account import Account
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.secret import Secret
from tests.simulation.checker import wait_against_fifo, worst_instant, worst_window
from tests.simulation.history import History, Saturation
from tests.simulation.scenario import Client, Deployment, Kind, Scenario
from tests.simulation.world import World

WARM_S, MEASURED_S = 62.0, 38.0
SERVICE_S = 2.0
PATIENCE_S = 600.0
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

    @property
    def name(self) -> str:
        load = "saturated" if self.load is None else f"{100 * self.load:.0f}%"
        return f"{self.instances}-{self.requests}-{self.concurrency}-{load}"

    def scenario(self, seed: int = 0) -> Scenario:
        random = Random(f"fleet {self.name} {seed}")
        limits = Limits(self.requests, requests_per_day=1_000_000)
        account = Account("a0", "p0", Secret("a0"), self.concurrency, limits)
        kind = Kind(
            "m0", (0,), tokens=(1, 20), service_s=(1.0, 2 * SERVICE_S - 1.0), patience_s=(PATIENCE_S, PATIENCE_S)
        )
        count, end_s = self.instances * self.callers, WARM_S + MEASURED_S
        turn_s = 60 * count / (self.load * self.requests) if self.load is not None else 0.0
        spread_s = turn_s or 1.0
        clients = tuple(
            Client(
                f"c{at}", kind, max(0.0, turn_s - SERVICE_S), random.uniform(0, spread_s), end_s, at % self.instances
            )
            for at in range(count)
        )
        return Scenario(
            seed=seed, grid=Grid.of(60), tau_s=120.0, lease_s=None, busy_s=end_s, clients=clients,
            deployments=(Deployment((account,)),), population=((0.0, self.instances),), delay_s=(0.01, 0.03),
            commit_s=(0.02, 0.06), queue_timeout_s=PATIENCE_S, holds_on=True, cancels=False, drift=0.0,
        )  # fmt: skip


CELLS = (
    Cell(4, 1_000, 256, 16, attempts_per_s=2.0),
    Cell(40, 1_000, 256, 8, attempts_per_s=2.0),
    Cell(100, 1_000, 256, 4),
    Cell(100, 300, 64, 4),
    Cell(40, 4_000, 1_000, 8, attempts_per_s=2.0),
    Cell(20, 300, 15, 8),
    Cell(10, 300, 15, 8, 0.6),
    Cell(40, 1_000, 256, 4, 0.6),
    Cell(100, 1_000, 256, 4, 0.6),
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
    wait_p99_s: float
    ideal_p99_s: float
    sizes: tuple[int, ...]
    """How many requests each instance served."""


def measure(cell: Cell, seed: int = 0) -> Figures:
    world = World(cell.scenario(seed))
    with world.entered():
        world.begin()
        world.loop.run_until(WARM_S)
        before = _counts(world)
        world.loop.run_until(WARM_S + MEASURED_S)
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
    period = Saturation("p0", "m0", began_ms + 1000 * WARM_S, began_ms + 1000 * (WARM_S + MEASURED_S))
    served = [e for e in history.exchanges if period.from_ms <= e.arrived_ms < period.until_ms]
    came = sum(period.from_ms <= c.came_ms < period.until_ms for c in history.calls)
    came += sum(
        w.came_ms >= period.from_ms and w.came_ms < period.until_ms
        for instance in world.instances
        for w in instance.calls.values()
    )
    window = worst_window(history, "requests", lambda e: e.cost.requests, lambda b: b.limits.requests)
    counted = Counter(e.instance for e in served)
    waits, ideal = _waits(history, period)
    commits, refused, reads = (count / MEASURED_S for count in counts)
    per_min = 60 / MEASURED_S
    return Figures(
        commits, refused, reads, (commits + refused) * MEASURED_S / max(1, len(served)), len(served) * per_min,
        came * per_min, window.worst, worst_instant(history).worst, waits, ideal,
        tuple(sorted(counted[instance.process.name] for instance in world.instances)),
    )  # fmt: skip


def _waits(history: History, period: Saturation) -> tuple[float, float]:
    """p99 of the waits of all served callers, and that of one ideal queue (s)."""
    where = wait_against_fifo(history, period, None).where
    if not where:
        return 0.0, 0.0
    waits, ideal = (float(part.split()[-2]) / 1000 for part in where.split(","))
    return waits, ideal


HEAD = (
    "| instances | RPM, C, load (callers each) | commits/s + refused/s | reads/s | writes/request | served a minute "
    "| worst window | p99 wait, ideal (s) |\n|---|---|---|---|---|---|---|---|"
)


def row(cell: Cell, one: Figures) -> str:
    """What misses a goal is in bold."""
    load = "saturated" if cell.load is None else f"{100 * cell.load:.0f} %"
    most = cell.requests * MIN_USE if cell.load is None else min(cell.load * cell.requests, one.offered_per_min) * 0.97
    of = f"{cell.requests}" if cell.load is None else f"{one.offered_per_min:.0f} that came"
    cells = (
        str(cell.instances),
        f"{cell.requests:,}, {cell.concurrency:,}, {load} ({cell.callers})",
        _bold(
            f"{one.commits_per_s:.1f} + {one.refused_per_s:.1f}",
            one.commits_per_s + one.refused_per_s <= cell.attempts_per_s,
        ),
        _bold(f"{one.reads_per_s:.1f}", one.reads_per_s <= cell.reads_per_s),
        f"{one.writes_per_request:.2f}",
        _bold(f"{one.served_per_min:.0f} of {of}", one.served_per_min >= most),
        _bold(f"{one.worst_window:.0f}", one.worst_window <= cell.requests and one.worst_at_once <= cell.concurrency),
        f"{one.wait_p99_s:.1f}, {one.ideal_p99_s:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def _bold(text: str, good: bool) -> str:
    return text if good else f"**{text}**"


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
