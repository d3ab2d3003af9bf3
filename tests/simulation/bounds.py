"""Which limits apply when: of a deployment, of each configuration that its running instances read, and of a merged project."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from shared.accounts.account import Account
from tests.simulation.history import FOREVER, Bound
from tests.simulation.scenario import Deployment, Scenario

Life = tuple[Deployment, float, float | None]
"""An instance: its deployment, when it started, and when it ended (None: it did not)."""
DRAIN_WINDOWS = 3
"""After so many windows all bookings that were made under an older configuration are used or expired, and out of every window."""
LATE_WINDOWS = 6
"""The same after the end of a deployment's last instance."""


def bounds(scenario: Scenario, started: Iterable[Life], models: Sequence[str]) -> Iterator[Bound]:
    """A deployment's limits apply from its first instance until the bookings of its last one have expired (A6); those of a
    configuration from its time until the bookings under it have expired, which begins when all instances have read the next."""
    known, changes = list(started), scenario.reconfigurations
    if scenario.merged:
        yield from _bounds_of([replace(scenario.merged[0], ledger_id=scenario.one_project)], models, 0.0, FOREVER)
        return
    for deployment in scenario.deployments:
        lives = [(since, until) for of, since, until in known if of is deployment]
        if lives:
            ended = [until for _, until in lives if until is not None]
            late_ms = LATE_WINDOWS * scenario.grid.window_ms
            until_ms = max(ended) + late_ms if len(ended) == len(lives) else FOREVER
            until_ms = _drained_ms(scenario, 0) if changes else until_ms
            yield from _bounds_of(deployment.accounts, models, min(since for since, _ in lives), until_ms)
    for at, change in enumerate(changes):
        from_ms = scenario.began_ms + 1000 * change.at_s
        yield from _bounds_of(change.accounts, models, from_ms, _drained_ms(scenario, at + 1))


def _drained_ms(scenario: Scenario, at: int) -> float:
    """When the bookings have expired that were made before all instances had read the configuration number `at`."""
    if at >= len(scenario.reconfigurations):
        return FOREVER
    change = scenario.reconfigurations[at]
    return scenario.began_ms + 1000 * (change.at_s + change.within_s) + DRAIN_WINDOWS * scenario.grid.window_ms


def _bounds_of(accounts: Sequence[Account], models: Sequence[str], from_ms: float, until_ms: float) -> Iterator[Bound]:
    for account in accounts:
        for model in models:
            yield Bound(account.ledger_id, model, account.limits_for(model), account.concurrency, from_ms, until_ms)
