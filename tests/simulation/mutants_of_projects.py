"""Defects in what holds for a project as a whole: whose limits apply, and how two documents of one project become one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from shared.admission.model_permits import ModelPermits
from shared.ledger import slots, throttling
from tests.simulation.mutant import Mutant, patched
from tests.simulation.scenario import Scenario
from tests.simulation.shapes import changed_limits

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


PROJECTS = (
    Mutant(
        "a raised limit waits for everyone", everyone_has_a_say, shape=changed_limits, promise=SHARE, among_seeds=False
    ),
    Mutant(
        "the oldest limits apply", the_oldest_has_the_say, shape=changed_limits, promise=REQUESTS, among_seeds=False
    ),
)
