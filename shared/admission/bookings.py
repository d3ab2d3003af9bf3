"""What one process may still draw from its bookings in the ledger. Plain data."""

from __future__ import annotations

from dataclasses import dataclass

from shared.generation import DIMENSIONS, NO_COST, Cost
from shared.ledger.state import SlotRange


@dataclass(slots=True)
class Booking:
    """What may still be drawn from one booking, and what was drawn from it but not yet dispatched."""

    available: Cost
    reserved: Cost = NO_COST


PermitDraw = tuple[tuple[SlotRange, Cost], ...]
"""What one request took from each booking; the parts add up to the request's cost."""


def covers(have: Cost, cost: Cost, metered: tuple[bool, ...]) -> bool:
    return all(have[k] >= cost[k] or not metered[k] for k in range(DIMENSIONS))


NOTHING = Booking(NO_COST)
