"""Each defect that is put in on purpose is noticed: the simulation can fail."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS, Mutant, caught

SOON = 25


@pytest.mark.heavy
@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.quick], ids=lambda mutant: mutant.name)
def test_a_gross_defect_is_noticed_within_few_seeds(mutant: Mutant) -> None:
    assert caught(mutant, seeds=SOON) is not None


@pytest.mark.heavy
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_defect_is_noticed(mutant: Mutant) -> None:
    assert caught(mutant) is not None
