"""Defects in the quota of batches of embeddings, which all models of a project share."""

from __future__ import annotations

from typing import Any

from shared.admission.model_permits import ModelPermits
from shared.generation import Cost
from shared.ledger import batches
from shared.ledger.limits import Limits
from tests.simulation.mutant import Mutant, patched
from tests.simulation.scenario import Scenario
from tests.simulation.shapes import scarce_batches

BATCHES, REQUESTS = "batches in any window", "requests in any window"


def batches_dispatched_elsewhere_forgotten(scenario: Scenario) -> Any:
    return patched(scenario, (batches, "ring_with_others", lambda state, model: state.sections[model].ring))


def batches_booked_elsewhere_forgotten(scenario: Scenario) -> Any:
    return patched(scenario, (batches, "booked_elsewhere", lambda state, model: []))


def batches_unlimited(scenario: Scenario) -> Any:
    return patched(scenario, (Limits, "per_window", property(lambda limits: (*limits[:3], None))))


def a_batch_counts_as_one_request(scenario: Scenario) -> Any:
    """What was dispatched is reported as one request, however many the batch has."""
    right = ModelPermits.dispatch

    def wrong(self: ModelPermits, draw: Any, cost: Cost, slot: int) -> None:
        right(self, draw, cost._replace(requests=1), slot)

    return patched(scenario, (ModelPermits, "dispatch", wrong))


BATCHES_OF_EMBEDDINGS = (
    Mutant(
        "batches sent to another model are forgotten", batches_dispatched_elsewhere_forgotten,
        shape=scarce_batches, promise=BATCHES, among_seeds=False,
    ),
    Mutant(
        "batches booked for another model are forgotten", batches_booked_elsewhere_forgotten,
        shape=scarce_batches, promise=BATCHES, among_seeds=False,
    ),
    Mutant("batches do not bind", batches_unlimited, shape=scarce_batches, promise=BATCHES, among_seeds=False),
    Mutant(
        "a batch counts as one request", a_batch_counts_as_one_request,
        shape=scarce_batches, promise=REQUESTS, among_seeds=False,
    ),
)  # fmt: skip
"""No ordinary seed sends batches."""
