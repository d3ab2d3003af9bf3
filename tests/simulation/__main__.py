"""`python -m tests.simulation`: one seed with its trace, or many seeds.

python -m tests.simulation --seed 17 --trace     replay a seed and show what happened
python -m tests.simulation --seeds 10000         seeds 0..9999; stops at nothing, lists what failed
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.judge import Result, judge
from tests.simulation.scenario import scenario_of


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one alone")
    parser.add_argument("--trace", action="store_true", help="show what happened")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=200)
    wanted = parser.parse_args()
    if wanted.seed is not None:
        result = judge(scenario_of(wanted.seed), print if wanted.trace else None)
        print(report(result))
        return 1 if result.failures else 0
    began_s, failed = time.perf_counter(), 0
    for seed in range(wanted.first, wanted.first + wanted.seeds):
        result = judge(scenario_of(seed))
        if result.failures:
            failed += 1
            print(f"seed {seed}: " + " | ".join(map(str, result.failures)), flush=True)
    took_s = time.perf_counter() - began_s
    print(f"{wanted.seeds} seeds, {failed} failed, {took_s:.1f} s, {took_s / wanted.seeds:.3f} s per seed")
    return 1 if failed else 0


def report(result: Result) -> str:
    lines = [str(verdict) for verdict in result.verdicts]
    history = result.history
    lines.append(
        f"seed {result.seed}: {len(history.exchanges)} exchanges, {len(history.calls)} calls, {result.commits} commits, "
        f"{result.virtual_s:.0f} s virtual in {result.wall_s:.2f} s, digest {result.digest}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
