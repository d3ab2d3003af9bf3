"""The calendar played on: when demand that found no place will be granted."""

from __future__ import annotations

import math

import pytest

from shared.ledger.grid import Grid
from shared.ledger.supply import MAX_WINDOWS, DimensionSupply, Supply

GRID = Grid.of(60.0)
NOW = 1_000_000


def supply_of(limit: int, begins: dict[int, int] | None = None, *, share: float = 1.0) -> Supply:
    """Of requests; `begins` by slot, counted from now."""
    return Supply(GRID.slot_ms, share, [dimension_of(0, limit, begins or {})])


def dimension_of(k: int, limit: int, begins: dict[int, int]) -> DimensionSupply:
    return DimensionSupply(k, limit, GRID.span, NOW, [begins.get(slot, 0) for slot in range(-300, 1)], NOW - 300, 4)


def times_s(supply: Supply, count: int) -> list[float]:
    """When each of the next requests is granted (seconds from now)."""
    return [(supply.granted_ms((n, 0, 0)) - NOW * GRID.slot_ms) / 1000 for n in range(1, count + 1)]


def test_a_full_window_grants_when_its_burst_leaves() -> None:
    first_s, second_s, *_ = times_s(supply_of(10, {-1: 10}), 10)
    assert 60.0 <= first_s <= 60.5
    assert second_s > first_s or second_s <= 61


@pytest.mark.parametrize("limit", [5, 20, 100, 300, 1000, 4000])
def test_no_window_grants_more_than_the_limit(limit: int) -> None:
    granted_s = times_s(supply_of(limit, {-1: limit // 3}), 3 * limit)
    assert all(later - first > 60.0 for first, later in zip(granted_s, granted_s[limit:], strict=False))


@pytest.mark.parametrize("limit", [20, 100, 300, 1000, 4000])
def test_the_limit_is_used(limit: int) -> None:
    """Three limits' worth of demand is granted in little more than three windows."""
    assert times_s(supply_of(limit), 3 * limit)[-1] <= 3 * 61.5


def test_a_share_takes_longer() -> None:
    alone, half = supply_of(300), supply_of(300, share=0.5)
    assert half.granted_ms((50, 0, 0)) == alone.granted_ms((100, 0, 0))


def test_a_dimension_that_costs_nothing_is_not_waited_for() -> None:
    full = dimension_of(2, 10, {-1: 10})
    open_now = dimension_of(0, 300, {})
    supply = Supply(GRID.slot_ms, 1.0, [open_now, full])
    assert supply.granted_ms((1, 0, 0)) < supply.granted_ms((1, 0, 1))


def test_beyond_the_forecast_the_limit_is_the_rate() -> None:
    one = dimension_of(0, 10, {})
    amount = 10 * (MAX_WINDOWS + 5)
    assert one.slot_of(amount) == pytest.approx(NOW + (MAX_WINDOWS + 5) * GRID.span, abs=GRID.span)


def test_a_limit_of_zero_never_grants() -> None:
    assert supply_of(0).granted_ms((1, 0, 0)) == math.inf
