"""Many seeds on several cores."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Iterator

from tests.simulation.judge import judge
from tests.simulation.scenario import scenario_of

BATCH = 10


def run(first: int, seeds: int, workers: int) -> Iterator[str]:
    """A line for every seed that fails. Workers are begun anew: gRPC does not survive a fork."""
    batches = [range(at, min(at + BATCH, first + seeds)) for at in range(first, first + seeds, BATCH)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for lines in pool.imap(failures, batches):
            yield from lines


def failures(seeds: range) -> list[str]:
    lines = []
    gc.disable()  # What a seed leaves in cycles is collected once a batch.
    for seed in seeds:
        found = judge(scenario_of(seed)).failures
        if found:
            told = "; ".join(map(str, found))
            lines.append(f"seed {seed}: {told}\n    replay: python -m tests.simulation --seed {seed} --trace")
    gc.enable()
    gc.collect()
    return lines
