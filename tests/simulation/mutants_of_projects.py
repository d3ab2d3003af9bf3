"""Defects in what holds for a project as a whole: whose limits apply, and how two documents of one project become one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from shared.admission import ledger_document, project
from shared.admission.model_permits import ModelPermits
from shared.ledger import merging, slots, throttling
from shared.ledger.state import State
from tests.simulation.mutant import Mutant, patched
from tests.simulation.scenario import Scenario
from tests.simulation.shapes import (
    changed_limits,
    merged_projects,
    merged_while_exchanges_last,
    merged_while_held,
)

SLOTS, COUNTED = "exchanges at once", "days that are counted wrong"
REQUESTS, SHARE = "requests in any window", "share of the saturated limit that was used"


def everyone_has_a_say(scenario: Scenario) -> Any:
    """Instances that have not read the newest configuration still hold the limits down."""
    wrong = lambda opinions: [opinion for _, opinion in opinions]  # noqa: E731 - a defect in one line reads like a diff
    return patched(scenario, (throttling, "newest", wrong), (slots, "newest", wrong))


def the_oldest_has_the_say(scenario: Scenario) -> Any:
    def wrong(opinions: Iterable[tuple[int, Any]]) -> list[Any]:
        known = list(opinions)
        oldest = min((version for version, _ in known), default=0)
        return [opinion for version, opinion in known if version == oldest]

    return patched(scenario, (throttling, "newest", wrong), (slots, "newest", wrong), *_anything_is_adopted())


def _anything_is_adopted() -> list[tuple[Any, str, Any]]:
    """Otherwise an instance returns what exceeds the limits that it has read."""
    right = ModelPermits.adopt

    def adopt(self: ModelPermits, allotment: Any, kept: Any, earliest_ms: float, *, newer: bool = False) -> None:
        right(self, allotment, kept, earliest_ms, newer=True)

    return [(ModelPermits, "adopt", adopt)]


# -- merging two documents of one project ------------------------------------------------------------------------------


def _merging(scenario: Scenario, spoil: Callable[[State], None]) -> Any:
    """Something of the closed document is lost before it is added to the survivor."""
    right = ledger_document.merge

    def wrong(survivor: State, closed: State, closed_id: str, survivor_id: str) -> State:
        spoil(closed)
        return right(survivor, closed, closed_id, survivor_id)

    return patched(scenario, (ledger_document, "merge", wrong))


def rings_stay_behind(scenario: Scenario) -> Any:
    def spoil(closed: State) -> None:
        for section in closed.sections.values():
            section.ring.clear()

    return _merging(scenario, spoil)


def days_stay_behind(scenario: Scenario) -> Any:
    def spoil(closed: State) -> None:
        for section in closed.sections.values():
            section.days.clear()

    return _merging(scenario, spoil)


def leases_stay_behind(scenario: Scenario) -> Any:
    return _merging(scenario, lambda closed: closed.leases.clear())


def moved_slots_are_free(scenario: Scenario) -> Any:
    def spoil(closed: State) -> None:
        for lease in closed.leases.values():
            lease.slots = 0

    return _merging(scenario, spoil)


def moved_bookings_are_free(scenario: Scenario) -> Any:
    def spoil(closed: State) -> None:
        for lease in closed.leases.values():
            lease.shares.clear()

    return _merging(scenario, spoil)


def one_lease_for_both(scenario: Scenario) -> Any:
    """The moved lease takes the place of the lease that its instance has of the survivor."""
    same = lambda name, closed: name  # noqa: E731 - a defect in one line reads like a diff
    return patched(scenario, (merging, "lease_name", same), (project, "lease_name", same))


def closed_document_books(scenario: Scenario) -> Any:
    """Instances go on with the closed document."""
    right = ledger_document.renew_step

    def wrong(state: State, message: Any, store_ms: int, grid: Any) -> Any:
        state.moved = ""
        return right(state, message, store_ms, grid)

    return patched(
        scenario,
        (ledger_document, "renew_step", wrong),
        (project.ProjectClient, "_follow", lambda self, survivor: None),
    )


MERGES = tuple(
    Mutant(name, change, shape=merged_projects, promise=promise, among_seeds=False)
    for name, change, promise in (
        ("the days of a merged ledger are lost", days_stay_behind, COUNTED),
        ("the leases of a merged ledger are lost", leases_stay_behind, SLOTS),
        ("a merged ledger's lease replaces another", one_lease_for_both, SLOTS),
        ("a closed ledger still books", closed_document_books, REQUESTS),
    )
)
PROJECTS = (
    *MERGES,
    Mutant(
        "the ring of a merged ledger is lost",
        rings_stay_behind,
        shape=merged_while_held,
        promise=REQUESTS,
        among_seeds=False,
    ),
    Mutant(
        "the slots of a merged ledger are free",
        moved_slots_are_free,
        shape=merged_while_exchanges_last,
        promise=SLOTS,
        among_seeds=False,
    ),
    Mutant(
        "the bookings of a merged ledger are free",
        moved_bookings_are_free,
        shape=merged_while_held,
        promise=REQUESTS,
        among_seeds=False,
    ),
    Mutant(
        "a raised limit waits for everyone", everyone_has_a_say, shape=changed_limits, promise=SHARE, among_seeds=False
    ),
    Mutant(
        "the oldest limits apply", the_oldest_has_the_say, shape=changed_limits, promise=REQUESTS, among_seeds=False
    ),
)
