"""Runs seeds from the command line. A failing seed is printed with the command that replays it.

python -m tests.simulation --seed 17 --trace     one seed, and what happened in it
python -m tests.simulation --seeds 10000         seeds 0 to 9999
python -m tests.simulation --seeds 2000 --shape uncertain_tokens     seeds of one of the shapes in shapes.py
python -m tests.simulation --mutants             after how many seeds each deliberate defect is noticed
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation import shapes
from tests.simulation.drawn_scenarios import scenario_of
from tests.simulation.judge import Result, judge
from tests.simulation.mutant import caught
from tests.simulation.mutants import MUTANTS
from tests.simulation.runner import run


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, help="run this one alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: show what happens")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--mutants", action="store_true", help="put in one defect after the other; each must be caught")
    parser.add_argument("--shape", help="a deployment of shapes.py in place of a drawn one")
    wanted = parser.parse_args()
    scenario_by = getattr(shapes, wanted.shape) if wanted.shape else scenario_of
    if wanted.mutants:
        return mutants(wanted.first)
    if wanted.seed is not None:
        result = judge(scenario_by(wanted.seed), print if wanted.trace else None)
        print(report(result))
        return 1 if result.failures else 0
    began_s, failed = time.perf_counter(), 0
    for batch in run(wanted.first, wanted.seeds, wanted.workers, scenario_by):
        failed += len(batch.failures)
        for line in batch.failures:
            print(line, flush=True)
    took_s = time.perf_counter() - began_s
    print(f"{wanted.seeds} seeds from {wanted.first}, {failed} failed, {took_s:.0f} s")
    return 1 if failed else 0


def report(result: Result) -> str:
    lines = [str(verdict) for verdict in result.verdicts]
    history = result.history
    lines.append(
        f"seed {result.seed}: {len(history.exchanges)} exchanges, {len(history.calls)} calls, {result.commits} commits, "
        f"{result.virtual_s:.0f} s virtual in {result.wall_s:.2f} s, digest {result.digest}"
    )
    return "\n".join(lines)


def mutants(first: int) -> int:
    survived = 0
    for mutant in MUTANTS:
        seeds = range(first, first + mutant.seeds)
        if mutant.among_seeds or mutant.shape is None:
            result = caught(mutant, seeds)
        else:
            result = caught(mutant, seeds, mutant.shape, mutant.promise)
        survived += result is None
        found = "SURVIVED" if result is None else f"seed {result.seed}: {result.failures[0]}"
        print(f"{mutant.name}: {found}", flush=True)
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
