"""What one renew costs the ledger: CPU of the transition and of packing, and the document's size, while a rate binds.

`python -m tests.benchmarks.step_cost`. Every instance has more waiting than there is, prompts of many sizes, and renews
twice per horizon; what it holds it dispatches as soon as it may. A step is everything from the document's bytes to the new
ones. The goals: it takes at most 0.5 ms with 4 instances and 1 ms with 40; the document stays below 4, 16 and 64 KB with 4, 20
and 100."""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import time
from dataclasses import dataclass, field

from shared.admission.model_permits import ModelPermits
from shared.generation import Cost
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.ledger.packing import pack, unpack
from shared.ledger.state import RenewRequest
from shared.ledger.step import State, renew

GRID = Grid.of(60)
START_MS = 1_800_000_000_000
FLEETS, RATES = (4, 40, 100), (10, 300, 1_000, 4_000, 10_000)
WARM_S = 65.0
MAX_WAITING = 400
"""An instance describes no more than it can begin before the horizon; this is of the order of what that is at most."""


@dataclass
class Figures:
    renew_ms: list[float] = field(default_factory=list)
    pack_ms: list[float] = field(default_factory=list)
    unpack_ms: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def row(self) -> str:
        median = statistics.median
        steps_ms = list(map(sum, zip(self.unpack_ms, self.renew_ms, self.pack_ms, strict=True)))
        worst = statistics.quantiles(steps_ms, n=20)[-1]
        times = (median(steps_ms), worst, median(self.unpack_ms), median(self.renew_ms), median(self.pack_ms))
        return " | ".join([*(f"{ms:.2f}" for ms in times), f"{max(self.sizes) / 1000:.1f} KB"])


def timed_ms(since_s: float) -> float:
    return 1000 * (time.process_time() - since_s)


def saturated(instances: int, rpm: int, measure_s: float) -> Figures:
    rng, figures = random.Random(1), Figures()
    limits = Limits(requests=rpm, input_tokens=1_000 * rpm, requests_per_day=10_000_000)
    books = {f"{n:032x}": ModelPermits(GRID, limits, limits) for n in range(instances)}
    due_ms = {i: START_MS + rng.uniform(0, 4_000) for i in books}
    numbers = dict.fromkeys(books, 0)
    blob, now_ms = pack(State(GRID.window_ms)), START_MS
    while now_ms < START_MS + 1000 * (WARM_S + measure_s):
        now_ms += 50
        for i, book in books.items():
            cost = Cost(1, rng.randrange(20, 1_500))
            while (draw := book.draw(cost, now_ms, now_ms + 2)) is not None:
                book.dispatch(draw, cost, GRID.slot(now_ms))
            if due_ms[i] > now_ms:
                continue
            numbers[i] += 1
            book.expire(now_ms)
            ahead = min(MAX_WAITING, max(2, round(1.5 * rpm / 60 * 20 / instances)))
            demand = book.demand([Cost(1, rng.randrange(20, 1_500)) for _ in range(ahead)], 0, 30_000, now_ms)
            book.settled = {}
            message = RenewRequest(i, numbers[i], now_ms - 2, 10_000, 120_000, want_slots=50, demands={"m": demand})
            began_s = time.process_time()
            state = unpack(blob)
            unpacked_ms = timed_ms(began_s)
            began_s = time.process_time()
            grant = renew(state, message, now_ms, GRID)
            renew_ms = timed_ms(began_s)
            began_s = time.process_time()
            blob = pack(state)
            if now_ms > START_MS + 1000 * WARM_S:
                figures.pack_ms.append(timed_ms(began_s))
                figures.unpack_ms.append(unpacked_ms)
                figures.renew_ms.append(renew_ms)
                figures.sizes.append(len(blob))
            book.adopt(grant.allotments["m"], demand.kept, now_ms)
            due_ms[i] = now_ms + grant.horizon_ms / 2 * rng.uniform(0.9, 1.1)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.step_cost", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="simulated seconds per row")
    options = parser.parse_args()
    print("| instances | RPM | step, median (ms) | 95 % | unpack | renew | pack | document |")
    print("|---|---|---|---|---|---|---|---|")
    gc.disable()
    for instances in FLEETS:
        for rpm in RATES:
            print(f"| {instances} | {rpm:,} | {saturated(instances, rpm, options.seconds).row()} |", flush=True)
            gc.collect()


if __name__ == "__main__":
    main()
