"""With the faults of any seed, no limit is exceeded, every caller is answered, nothing stays held, and service resumes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from shared.accounts.account import Account
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.secret import Secret
from tests.simulation.checker import COUNTED_TOKENS, Goals, check
from tests.simulation.history import Call, Exchange, History
from tests.simulation.judge import judge
from tests.simulation.runner import run
from tests.simulation.scenario import CALM_EVERY, Client, Deployment, Kind, Saturated, Scenario, scenario_of
from tests.simulation.shapes import changed_limits, embeddings, merged_projects, uncertain_tokens
from tests.support.processes import ROOT

SEEDS, WORKERS, STEPPED, LISTS = 200, 2, 5, 50


def test_two_hundred_seeds_keep_every_promise() -> None:
    """A load that stays below every limit would prove nothing."""
    batches = list(run(0, SEEDS, WORKERS))
    assert [line for batch in batches for line in batch.failures] == []
    reached = sum((batch.reached for batch in batches), Counter())
    for promise in ("requests in any window", "images in any window", "requests in any day", "exchanges at once"):
        assert reached[promise] >= 10, f"{promise}: {reached}"


def test_lists_of_embeddings_exceed_no_limit() -> None:
    """Batches of two models share one quota, beside single requests; processes freeze, die and lose messages."""
    batches = list(run(0, LISTS, WORKERS, embeddings))
    assert [line for batch in batches for line in batch.failures] == []
    reached = sum((batch.reached for batch in batches), Counter())
    assert reached["batches in any window"] >= 10
    assert reached["requests in any window"] >= 5


def test_seed_is_deterministic_across_processes() -> None:
    seeds = (3, 17, 26, 49)
    here = [judge(scenario_of(seed)).digest for seed in seeds]
    program = (
        "from tests.simulation.judge import judge; from tests.simulation.scenario import scenario_of; "
        f"print(*(judge(scenario_of(seed)).digest for seed in {seeds}))"
    )
    env = {**os.environ, "PYTHONHASHSEED": "1"}
    there = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=True
    )  # fmt: skip
    assert there.stdout.split() == here


def told(history: History) -> tuple[list[Exchange], list[Call]]:
    """The trace without the last request, which comes later after more faults."""
    exchanges = [e for e in history.exchanges if e.caller != "probe"]
    return exchanges, [c for c in history.calls if c.caller != "probe"]


def test_a_wall_clock_that_steps_by_minutes_changes_nothing() -> None:
    stepped = [s for s in map(scenario_of, range(60)) if any(fault.kind == "wall" for fault in s.faults)]
    assert len(stepped) >= STEPPED
    for scenario in stepped[:STEPPED]:
        others = tuple(fault for fault in scenario.faults if fault.kind != "wall")
        with_steps, without = judge(scenario), judge(replace(scenario, faults=others))
        assert told(with_steps.history) == told(without.history), f"seed {scenario.seed}"


@pytest.mark.heavy
def test_counted_tokens_stay_within_the_limit_and_the_debt() -> None:
    """Two thousand seeds of answers without token counts, and of estimates that are too high and too low."""
    batches = list(run(0, 2_000, WORKERS, uncertain_tokens))
    assert [line for batch in batches for line in batch.failures] == []
    reached = sum((batch.reached for batch in batches), Counter())
    assert reached[COUNTED_TOKENS] >= 10


@pytest.mark.heavy
def test_merges_under_load_exceed_no_limit() -> None:
    """Two thousand seeds of ledgers that turn out to be of one project."""
    batches = list(run(0, 2_000, WORKERS, merged_projects))
    assert [line for batch in batches for line in batch.failures] == []
    reached = sum((batch.reached for batch in batches), Counter())
    for promise in ("requests in any window", "requests in any day", "exchanges at once"):
        assert reached[promise] >= 10, f"{promise}: {reached}"


@pytest.mark.heavy
def test_changed_limits_are_used_and_not_exceeded() -> None:
    assert [line for batch in run(0, 1_000, WORKERS, changed_limits) for line in batch.failures] == []


@pytest.mark.heavy
def test_a_thousand_calm_seeds_lose_no_capacity() -> None:
    """Seeds without faults in which demand exceeds a limit: the median over all such seeds, not only the worst one."""
    shares = []
    for seed in range(CALM_EVERY - 2, 1_000, CALM_EVERY):
        result = judge(scenario_of(seed))
        assert result.failures == []
        shares += [v.worst for v in result.verdicts if v.promise.startswith("share of the saturated limit")]
    assert sorted(shares)[len(shares) // 2] >= 0.95


def busy_minutes(requests: int, instances: int, callers: int, minutes: int) -> Scenario:
    """The real grid: windows of a minute, slots of 250 ms, and a store 20 to 60 ms away."""
    random, end_s = Random(f"{requests} {callers}"), 60.0 * minutes
    account = Account("a0", "p0", Secret("a0"), 200, Limits(requests))
    kind = Kind("m0", (0,), tokens=(1, 20), service_s=(0.3, 1.5), patience_s=(600.0, 600.0))
    clients = tuple(
        Client(f"c{at}", kind, 0.0, random.uniform(0, 1), end_s, home=at % instances) for at in range(callers)
    )
    return Scenario(
        seed=0, grid=Grid.of(60), tau_s=60.0, lease_s=None, busy_s=end_s, deployments=(Deployment((account,)),),
        population=((0.0, instances),), clients=clients, delay_s=(0.01, 0.03), queue_timeout_s=600.0,
        saturated=Saturated("p0", "m0", 120.0, end_s, tuple(client.name for client in clients)),
    )  # fmt: skip


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("requests", "callers", "minutes", "writes"), [(10, 16, 12, 10.0), (300, 64, 5, 0.4), (1_000, 120, 4, 0.15)]
)
def test_real_grid_uses_the_limit_fairly(requests: int, callers: int, minutes: int, writes: float) -> None:
    result = judge(busy_minutes(requests, 4, callers, minutes))
    goals = Goals(used_share=0.985, jain=0.95, wait_ratio=3.0)
    assert result.failures == []
    assert [str(verdict) for verdict in check(result.history, goals) if not verdict.ok] == []
    assert result.commits / len(result.history.exchanges) <= writes
