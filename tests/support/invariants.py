"""The ledger's invariants as checks on one state, and what upstream must never see as checks on a history. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from shared.ledger.calendar import touched_days
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.ledger.slots import held_by_others
from shared.ledger.state import Bookings, State


def occupancy(state: State, model: str, k: int, slot: int, grid: Grid) -> int:
    """Dimension k at `slot`: what was dispatched and may share a window with it, and what may be dispatched by it."""
    ring = sum(cost[k] for d, cost in state.sections[model].ring.items() if slot < d + grid.span)
    booked = sum(
        cost[k]
        for bookings in bookings_of(state, model)
        for validity, cost in bookings.items()
        if validity.first <= slot < validity.last + grid.span
    )
    return ring + booked


def bookings_of(state: State, model: str) -> list[Bookings]:
    return [lease.shares[model].bookings for lease in state.leases.values() if model in lease.shares]


def check_windows(state: State, model: str, limits: Limits, grid: Grid) -> None:
    """I1: at every slot from now on, occupancy is within the limit."""
    now = grid.slot(state.now_ms)
    ends = [v.last + grid.span for bookings in bookings_of(state, model) for v in bookings]
    for k, limit in enumerate(limits.per_window):
        if limit is not None:
            for slot in range(now, max([now, *ends]) + 1):
                amount = occupancy(state, model, k, slot, grid)
                assert amount <= limit, f"I1: {amount} of dimension {k} at slot now+{slot - now}, limit {limit}"


def check_slots(state: State, c: int) -> None:
    """I2: the slots that instances hold add up to C at most."""
    held = held_by_others(state, "")
    assert held <= c, f"I2: {held} slots held, C is {c}"


def check_days(state: State, model: str, limits: Limits, grid: Grid) -> None:
    """I3: a day's dispatches and the bookings that may still fall on it are within the day's limit."""
    if limits.requests_per_day is None:
        return
    counts = dict(state.sections[model].days)
    for bookings in bookings_of(state, model):
        for validity, cost in bookings.items():
            for day in touched_days(grid, *validity):
                counts[day] = counts.get(day, 0) + cost.requests
    for day, count in counts.items():
        assert count <= limits.requests_per_day, f"I3: {count} on day {day}, limit {limits.requests_per_day}"


def worst_window(times: Iterable[float], window: float) -> int:
    """The most events in any half-open window of length `window`."""
    ordered = sorted(times)
    return max((at + 1 - bisect_right(ordered, time - window) for at, time in enumerate(ordered)), default=0)


def worst_weight(events: Sequence[tuple[float, int]], window: float) -> int:
    """As worst_window, for events with weights."""
    ordered = sorted(events)
    worst = total = start = 0
    for time, weight in ordered:
        total += weight
        while ordered[start][0] <= time - window:
            total -= ordered[start][1]
            start += 1
        worst = max(worst, total)
    return worst


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """The most of the half-open spans [begin, end) that overlap anywhere."""
    events = sorted(event for begin, end in spans for event in ((begin, 1), (end, -1)))
    most = now = 0
    for _, change in sorted(events):
        now += change
        most = max(most, now)
    return most
