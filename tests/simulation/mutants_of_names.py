"""Defects in what counts where: aliases, ids that nothing is known of, and the turns of requests for these."""

from __future__ import annotations

from typing import Any

from shared.admission import names as admission_names
from shared.admission.model_permits import Booking, ModelPermits
from shared.generation import NO_COST
from shared.ledger import names as ledger_names
from shared.ledger import step
from shared.ledger.state import UNPROVEN
from tests.simulation.mutant import Mutant, patched
from tests.simulation.scenario import Scenario
from tests.simulation.shapes import aliases, an_alias_in_demand, unproven_ids

REQUESTS = "requests in any window"
ELSEWHERE, UNPROVEN_ONES = "booked elsewhere than metered, though it was known", "unproven requests at once"


def permits_of_an_alias_are_kept(scenario: Scenario) -> Any:
    """Permits that were booked for an alias are spent as permits of its target."""
    right = ModelPermits.absorb

    def wrong(self: ModelPermits, moved: ModelPermits) -> None:
        right(self, moved)
        for validity, booking in moved.bookings.items():
            mine = self.bookings.setdefault(validity, Booking(NO_COST))
            mine.available = mine.available.plus(booking.available)

    return patched(scenario, (ModelPermits, "absorb", wrong))


def aliases_keep_their_sections(scenario: Scenario) -> Any:
    """An id that is known to be metered as another model keeps its own section."""
    itself = lambda names, model: model  # noqa: E731 - a defect in one line reads like a diff
    return patched(scenario, (ledger_names, "section_of", itself), (admission_names, "section_of", itself))


def everyone_has_the_turn(scenario: Scenario) -> Any:
    """Each instance sends an unproven request of its own."""

    def wrong(state: Any, message: Any, turn_ms: int) -> bool:
        turn = state.sections[UNPROVEN].circuit
        turn.owner, turn.model, turn.probe_ms = message.instance, UNPROVEN, state.now_ms + turn_ms
        return bool(message.demands[UNPROVEN].waiting)

    return patched(scenario, (step, "takes_turn", wrong))


def turns_end_with_their_right(scenario: Scenario) -> Any:
    """The turn of an unproven request ends with its right to begin, although the request is still open."""
    right = step.takes_turn

    def wrong(state: Any, message: Any, turn_ms: int) -> bool:
        turn = state.sections[UNPROVEN].circuit
        if turn.owner and turn.owner != message.instance:
            turn.owner = ""
        return right(state, message, turn_ms)

    return patched(scenario, (step, "takes_turn", wrong))


NAMES = (
    Mutant("an alias's permits are kept", permits_of_an_alias_are_kept, shape=an_alias_in_demand, promise=REQUESTS),
    Mutant("an alias keeps its section", aliases_keep_their_sections, shape=aliases, promise=ELSEWHERE),
    Mutant("everyone has the turn", everyone_has_the_turn, shape=unproven_ids, promise=UNPROVEN_ONES),
    Mutant("a turn ends too soon", turns_end_with_their_right, shape=unproven_ids, promise=UNPROVEN_ONES),
)
