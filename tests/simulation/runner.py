"""Many seeds on several cores."""

from __future__ import annotations

import gc
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from tests.simulation.drawn_scenarios import scenario_of
from tests.simulation.judge import judge
from tests.simulation.scenario import Scenario

BATCH = 10


@dataclass(frozen=True, slots=True)
class Batch:
    """A line for every seed that failed, and how often each limit was reached without being exceeded."""

    failures: list[str] = field(default_factory=list)
    reached: Counter[str] = field(default_factory=Counter)


def run(first: int, seeds: int, workers: int, scenario_by: Callable[[int], Scenario] = scenario_of) -> Iterator[Batch]:
    """Workers are new processes, since gRPC does not survive a fork."""
    batches = [range(at, min(at + BATCH, first + seeds)) for at in range(first, first + seeds, BATCH)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(partial(judge_all, scenario_by=scenario_by), batches)


def judge_all(seeds: range, scenario_by: Callable[[int], Scenario] = scenario_of) -> Batch:
    batch = Batch()
    gc.disable()  # Reference cycles of seeds are collected once per batch.
    for seed in seeds:
        result = judge(scenario_by(seed))
        batch.reached.update(v.promise for v in result.verdicts if v.limit and v.worst == v.limit)
        if result.failures:
            told = "; ".join(map(str, result.failures))
            shape = "" if scenario_by is scenario_of else f" --shape {scenario_by.__name__}"
            replay = f"python -m tests.simulation --seed {seed}{shape} --trace"
            batch.failures.append(f"seed {seed}: {told}\n    replay: {replay}")
    gc.enable()
    gc.collect()
    return batch
