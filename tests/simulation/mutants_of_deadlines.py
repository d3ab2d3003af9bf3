"""Defects in what a lease covers: how long the requests of a process that died may still be open at Gemini."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from shared.admission.holdings import Holdings, Plan
from shared.admission.policy import Policy
from shared.ledger import step
from tests.simulation.mutant import Mutant, patched
from tests.simulation.scenario import Scenario
from tests.simulation.shapes import short_and_long_deadlines

SLOTS = "exchanges at once"


def open_requests_forgotten(scenario: Scenario) -> Any:
    """A lease covers the requests that are expected, but not those that are open, which may end later."""
    right = Policy.plan
    return patched(
        scenario,
        (Policy, "plan", lambda *given: _without_open(right(*given))),
    )


def _without_open(plan: Plan) -> Plan:
    return replace(plan, request=replace(plan.request, open_until_ms=0))


def deadlines_ignored(scenario: Scenario) -> Any:
    """A request begins whatever its deadline is, although the ledger may give its slot to others before it ends."""
    return patched(scenario, (Holdings, "covers", lambda self, ends_s, at: True))


def time_counts_from_the_renew(scenario: Scenario) -> Any:
    """The longest request is expected to begin with the lease, not as late as its end."""

    def wrong(lease: Any, message: Any) -> None:
        lease.reuse_ms = max(lease.seen_ms + message.tau_ms, lease.authority_ms, message.open_until_ms)

    return patched(scenario, (step, "_cover", wrong), (Holdings, "covers", lambda self, ends_s, at: True))


DEADLINES = tuple(
    Mutant(name, change, shape=short_and_long_deadlines, promise=SLOTS, among_seeds=False)
    for name, change in (
        ("a lease forgets open requests", open_requests_forgotten),
        ("a request begins whatever its deadline", deadlines_ignored),
        ("the longest request begins with the lease", time_counts_from_the_renew),
    )
)
"""An ordinary seed rarely kills a process between the dispatch of a longer request and the next renew."""
