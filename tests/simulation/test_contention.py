"""The simulated store's resistance: commits on one document take turns, and too many at once fail."""

from __future__ import annotations

from random import Random

import pytest

from tests.simulation.contention import Contention, TooMuchContention
from tests.simulation.drawn_scenarios import CONTENDED_EVERY, scenario_of


def test_commits_on_one_document_take_turns() -> None:
    contention = Contention(Random(1), (0.04, 0.04))
    assert [contention.enter("a", 10.0) for _ in range(3)] == pytest.approx([0.04, 0.08, 0.12])
    assert contention.enter("b", 10.0) == pytest.approx(0.04)
    assert contention.enter("a", 10.1) == pytest.approx(0.06)
    assert contention.enter("a", 10.1, rejected=True) == pytest.approx(0.07)


def test_too_many_waiting_commits_fail() -> None:
    """One is being served and two wait: the next one is turned away, until one of them is served."""
    contention = Contention(Random(1), (0.04, 0.04), max_waiting=2)
    for _ in range(3):
        contention.enter("a", 10.0)
    with pytest.raises(TooMuchContention):
        contention.enter("a", 10.0)
    assert contention.enter("a", 10.05) == pytest.approx(0.11)


def test_commits_take_various_times_drawn_from_the_seed() -> None:
    def drawn(seed: int) -> list[float]:
        contention = Contention(Random(seed), (0.02, 0.06))
        return [contention.enter("a", at) for at in range(20)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert all(0.02 <= one <= 0.06 for one in drawn(1))
    assert len(set(drawn(1))) == 20


def test_a_store_that_does_not_resist_makes_nobody_wait() -> None:
    contention = Contention(Random(1))
    assert [contention.enter("a", 0.0) for _ in range(100)] == [0.0] * 100


def test_a_third_of_the_seeds_runs_on_a_store_that_resists() -> None:
    resisting = [seed for seed in range(60) if scenario_of(seed).commit_s[1]]
    assert resisting == list(range(1, 60, CONTENDED_EVERY))
