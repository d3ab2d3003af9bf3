"""Many seeds on several cores."""

from __future__ import annotations

import gc
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.simulation.judge import judge
from tests.simulation.scenario import scenario_of

BATCH = 10


@dataclass(frozen=True, slots=True)
class Batch:
    """A line for every seed that failed, and how often each limit was reached and not passed."""

    failures: list[str] = field(default_factory=list)
    reached: Counter[str] = field(default_factory=Counter)


def run(first: int, seeds: int, workers: int) -> Iterator[Batch]:
    """Workers are begun anew: gRPC does not survive a fork."""
    batches = [range(at, min(at + BATCH, first + seeds)) for at in range(first, first + seeds, BATCH)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(judge_all, batches)


def judge_all(seeds: range) -> Batch:
    batch = Batch()
    gc.disable()  # What a seed leaves in cycles is collected once a batch.
    for seed in seeds:
        result = judge(scenario_of(seed))
        batch.reached.update(v.promise for v in result.verdicts if v.limit and v.worst == v.limit)
        if result.failures:
            told = "; ".join(map(str, result.failures))
            batch.failures.append(f"seed {seed}: {told}\n    replay: python -m tests.simulation --seed {seed} --trace")
    gc.enable()
    gc.collect()
    return batch
