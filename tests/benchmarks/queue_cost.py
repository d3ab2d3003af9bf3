"""What a request costs in admission while others wait for the same slots or permits: CPU per request by how many wait.

`python -m tests.benchmarks.queue_cost`. One instance, in virtual time: all CPU that is spent is its own, the callers' and
the simulated ledger's. The goal: 1,000 that wait cost each request no more than 1.3 times what 10 do. Where a rate binds,
10 that wait all have their bookings at once; more do not, and the ledger is looked at several times a second for them: that
is a cost per second, the same for 100 and for 1,000."""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

from tests.support.instances import Site, account
from tests.support.virtual_time import run

WAITERS = (10, 100, 400, 1000)
SERVICE_S = (0.3, 0.7)
WARM_S = 15.0
GOAL = 1.3


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    c: int
    limits: Mapping[str, int]


CASES = (
    Case("C binds, limits far away", 15, {"requests": 1_000_000, "input_tokens": 1_000_000_000}),
    Case("C binds, no limits", 15, {}),
    Case("1,000 RPM binds", 100, {"requests": 1_000}),
)


def cpu_ms(case: Case, waiting: int, measure_s: float) -> float:
    """CPU per request (ms) of this process, once everything runs evenly."""

    async def main() -> float:
        random.seed(1)
        site = Site(account(case.c, **case.limits), service_s=SERVICE_S)
        async with site.callers(site.add(), case.c + waiting):
            await asyncio.sleep(WARM_S)
            gc.collect()
            served, used_s = len(site.served), time.process_time()
            await asyncio.sleep(measure_s)
            return 1000 * (time.process_time() - used_s) / (len(site.served) - served)

    return run(main)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.queue_cost", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="virtual seconds per cell")
    parser.add_argument("--rounds", type=int, default=3, help="each figure is the least of so many")
    options = parser.parse_args()
    print("| | " + " | ".join(f"{waiting:,} wait" for waiting in WAITERS) + f" | ratio (goal {GOAL}) |")
    print("|---|" + "---|" * (len(WAITERS) + 1))
    cpu_ms(CASES[0], WAITERS[0], 1.0)
    for case in CASES:
        # In turns, so that a busy machine slows all of them.
        rounds = [[cpu_ms(case, n, options.seconds) for n in WAITERS] for _ in range(options.rounds)]
        least = [min(figures) for figures in zip(*rounds, strict=True)]
        cells = " | ".join(f"{ms:.3f} ms" for ms in least)
        print(f"| {case.name} | {cells} | {least[-1] / least[0]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
