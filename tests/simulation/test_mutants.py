"""Each defect that is put in on purpose is noticed: the simulation can fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation.judge import judge
from tests.simulation.mutant import Mutant, caught
from tests.simulation.mutants import MUTANTS
from tests.simulation.scenario import Scenario

MAX_SEEDS, FEWER = 40, 3
"""A defect is usually noticed in one of the first seeds. The rarest one needs about eight."""
SHAPED = [mutant for mutant in MUTANTS if mutant.shape is not None]
SHAPES = list(dict.fromkeys(mutant.shape for mutant in SHAPED))


@pytest.mark.parametrize("mutant", SHAPED, ids=lambda mutant: mutant.name)
def test_a_defect_is_noticed_where_what_it_spoils_is_scarce(mutant: Mutant) -> None:
    assert mutant.shape is not None
    assert caught(mutant, range(MAX_SEEDS), mutant.shape, mutant.promise) is not None


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_unmutated_deployments_keep_every_promise(shape: Callable[[int], Scenario]) -> None:
    for seed in range(FEWER):
        assert judge(shape(seed)).failures == []


@pytest.mark.heavy
@pytest.mark.parametrize("mutant", [mutant for mutant in MUTANTS if mutant.among_seeds], ids=lambda mutant: mutant.name)
def test_every_defect_is_noticed_among_the_seeds(mutant: Mutant) -> None:
    assert caught(mutant, range(mutant.seeds)) is not None
