"""How long one call is retried: pauses that double up to a maximum, until the tries or the time are used up."""

from __future__ import annotations

import pytest

from shared.stores import retry_budget as module
from shared.stores.retry_budget import RetryBudget


@pytest.fixture(autouse=True)
def slept_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Each pause lasts as long as it may, and is recorded instead of slept."""
    slept_s: list[float] = []

    async def sleep(wait_s: float) -> None:
        slept_s.append(wait_s)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    monkeypatch.setattr(module.random, "uniform", lambda _low, high: high)
    monkeypatch.setattr(module, "elapsed_s", lambda: 100.0 + sum(slept_s))
    return slept_s


async def test_pauses_double_up_to_the_maximum(slept_s: list[float]) -> None:
    budget = RetryBudget(100.0, first_pause_s=0.2, max_pause_s=1.0)
    bounds_s = []
    for _ in range(5):
        bounds_s.append(budget.bound_s)
        assert await budget.pause()
    assert slept_s == bounds_s == pytest.approx([0.2, 0.4, 0.8, 1.0, 1.0])


async def test_the_tries_are_counted(slept_s: list[float]) -> None:
    budget = RetryBudget(100.0, first_pause_s=0.2, max_pause_s=1.0, tries=3)
    assert [await budget.pause() for _ in range(3)] == [True, True, False]
    assert len(slept_s) == 2


async def test_a_pause_that_would_outlast_the_timeout_is_none(slept_s: list[float]) -> None:
    """The bound stays as it was: nothing was waited for."""
    budget = RetryBudget(1.0, first_pause_s=0.4, max_pause_s=8.0)
    assert await budget.pause()
    assert (budget.left_s(), budget.bound_s) == (pytest.approx(0.6), 0.8)
    assert not await budget.pause()
    assert (budget.bound_s, slept_s) == (0.8, [0.4])
