"""Instances with only batch requests, beside those that answer people."""

from __future__ import annotations

from shared.generation import Cost
from shared.ledger.limits import Limits
from shared.ledger.parties import HEADROOM, batch_horizon_ms, horizon_ms
from shared.ledger.state import BATCH_ONLY
from tests.unit.ledger.test_step import GRID, Ledger, requests

LIMITS = Limits(requests=1_200)
PER_S = 1_200 / 60


def busy_batch(ledger: Ledger, seconds: int) -> int:
    """Dispatches of a batch instance that renews each second and uses all that it gets; those of the last minute."""
    for _ in range(seconds):
        ledger.now_ms += 1_000
        booked = ledger.ask("batch", 200, LIMITS, callers=BATCH_ONLY)
        now = GRID.slot(ledger.now_ms)
        settled: dict[int, Cost] = {}
        for validity, cost in booked.items():
            slot = max(validity.first, now)
            settled[slot] = settled.get(slot, Cost()).plus(cost)
        ledger.ask("batch", 0, LIMITS, callers=BATCH_ONLY, settled=settled)
    (section,) = ledger.state.sections.values()
    return sum(cost.requests for slot, cost in section.ring.items() if slot > GRID.slot(ledger.now_ms) - GRID.span)


def test_beside_people_it_leaves_some_of_the_limit_free() -> None:
    """Their instance was here in the last minute, and holds nothing now."""
    ledger = Ledger(c=1000)
    for _ in range(7):
        ledger.ask("people", 1, LIMITS)
        used = busy_batch(ledger, 10)
        assert used <= 1_200 - int(HEADROOM * 1_200)


def test_a_person_is_served_at_once_beside_a_busy_batch() -> None:
    """Whatever the batch has booked."""
    ledger = Ledger(c=1000)
    for _ in range(7):
        ledger.ask("people", 1, LIMITS)
        busy_batch(ledger, 10)
    ledger.ask("batch", 200, LIMITS, callers=BATCH_ONLY)
    soon = GRID.slot(ledger.now_ms) + 1
    assert requests({v: cost for v, cost in ledger.ask("people", 3, LIMITS, kept={}).items() if v.first <= soon}) == 3


def test_a_batch_books_a_short_way_ahead() -> None:
    """What it has booked cannot serve a person who comes meanwhile. Only its first request is booked wherever there is room."""
    ledger = Ledger(c=1000)
    ledger.ask("batch", 500, LIMITS, callers=BATCH_ONLY)
    ledger.now_ms += 1_000
    booked = ledger.ask("batch", 500, LIMITS, callers=BATCH_ONLY)
    ahead_ms = [(validity.first - GRID.slot(ledger.now_ms)) * GRID.slot_ms for validity in booked]
    assert sorted(ahead_ms)[-2] <= batch_horizon_ms(1, GRID) < horizon_ms(1, GRID)


def test_many_batches_write_no_more_often_than_others() -> None:
    for instances in (1, 5, 20, 100):
        assert 1_000 <= batch_horizon_ms(instances, GRID) <= horizon_ms(instances, GRID)
        writes_per_s = instances / (0.52 * batch_horizon_ms(instances, GRID) / 1000)
        assert writes_per_s < 5
