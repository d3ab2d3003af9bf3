"""A deliberate defect, and the search for a seed that notices it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from tests.simulation.drawn_scenarios import scenario_of
from tests.simulation.judge import Result, judge
from tests.simulation.scenario import Scenario

MAX_SEEDS = 1_000


@dataclass(frozen=True, slots=True)
class Mutant:
    """`change` patches the code while it is entered, or returns a changed scenario."""

    name: str
    change: Callable[[Scenario], Any]
    seeds: int = MAX_SEEDS
    shape: Callable[[int], Scenario] | None = None
    """Deployments made for this defect: one of the first few notices it, so that every test run can check it."""
    promise: str = ""
    """The promise that it breaks there."""
    among_seeds: bool = True
    """Whether one of the ordinary seeds notices it too."""


@contextmanager
def patched(scenario: Scenario, *places: tuple[Any, str, Any]) -> Iterator[Scenario]:
    patches = [patch.object(where, name, new) for where, name, new in places]
    for one in patches:
        one.start()
    try:
        yield scenario
    finally:
        for one in reversed(patches):
            one.stop()


def caught(
    mutant: Mutant, seeds: Iterable[int], scenario_by: Callable[[int], Scenario] = scenario_of, promise: str = ""
) -> Result | None:
    """The first seed that fails (in `promise`, if it is given); None if none does."""
    for seed in seeds:
        with mutant.change(scenario_by(seed)) as scenario:
            result = judge(scenario)
        errors = [verdict for verdict in result.failures if verdict.promise == "no error inside"]
        assert not errors, f"{mutant.name} does not fit the code that it is put into: {errors[0]}"
        if any(verdict.promise == (promise or verdict.promise) for verdict in result.failures):
            return result
    return None
