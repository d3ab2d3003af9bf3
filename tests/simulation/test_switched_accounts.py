"""An operator switches accounts off and on under load; instances read that within some seconds."""

from __future__ import annotations

from random import Random

from shared.accounts.account import Account
from shared.configuration.store import MAX_AGE_S
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.secret import Secret
from tests.simulation.checker import check
from tests.simulation.history import Exchange
from tests.simulation.scenario import Client, Deployment, Kind, Reconfiguration, Scenario
from tests.simulation.world import World
from tests.support.switched import Switch, strays, used_share

GRID = Grid.of(10.0)
PERIOD_S = GRID.window_ms / 1000 / GRID.best_use()
PERIODS, MIN_USE = 2, 0.97
LIMITS = Limits(60, 1_000_000, requests_per_day=1_000_000)
PROJECTS = ("one", "two", "one")
ACCOUNTS = tuple(Account(f"a{at}", project, Secret(f"a{at}"), 12, LIMITS) for at, project in enumerate(PROJECTS))
SETTLE_S = MAX_AGE_S + 1.0
EVERY_S = SETTLE_S + PERIODS * PERIOD_S + 1.0
SWITCHED = (ACCOUNTS[:1] + ACCOUNTS[2:], ACCOUNTS)
"""The only account of a project is switched off, and on again."""


def scenario() -> Scenario:
    random, first_s = Random("switched accounts"), MAX_AGE_S + PERIOD_S
    end_s = first_s + len(SWITCHED) * EVERY_S
    kind = Kind("m0", (0, 1, 2), tokens=(10, 20), service_s=(0.3, 0.32), patience_s=(120.0, 120.0))
    return Scenario(
        seed=0, grid=GRID, tau_s=60.0, lease_s=None, busy_s=end_s, deployments=(Deployment(ACCOUNTS),),
        population=((0.0, 3),), delay_s=(0.002, 0.008), commit_s=(0.002, 0.01), queue_timeout_s=120.0, drift=0.0,
        clients=tuple(Client(f"c{at}", kind, 0.0, random.uniform(0.0, 0.5), end_s, at % 3) for at in range(48)),
        reconfigurations=tuple(
            Reconfiguration(accounts, first_s + at * EVERY_S, MAX_AGE_S) for at, accounts in enumerate(SWITCHED)
        ),
    )  # fmt: skip


def projects(accounts: tuple[Account, ...]) -> frozenset[str]:
    return frozenset(account.ledger_id for account in accounts)


def test_limits_are_used_after_each_switch() -> None:
    """As tests/system/test_same_project.py with real processes. Every request is served, and none is sent to a project whose
    account is off."""
    world = World(made := scenario())
    with world.entered():
        world.begin()
        world.loop.run_until(made.busy_s)
        history = world.history()
    assert [*world.errors, *world.loop.errors] == []
    assert [verdict for verdict in check(history) if not verdict.ok] == []
    assert {call.fate for call in history.calls} == {"answered"}

    def at_s(exchange: Exchange) -> float:
        return (exchange.arrived_ms - made.began_ms) / 1000

    arrivals_s = {name: sorted(at_s(e) for e in history.exchanges if e.project == name) for name in PROJECTS}
    before = projects(ACCOUNTS)
    for change in made.reconfigurations:
        switch = Switch(change.at_s, change.at_s + SETTLE_S, before, projects(change.accounts))
        assert used_share(arrivals_s, switch, LIMITS.requests or 0, PERIOD_S, PERIODS) >= MIN_USE
        assert strays(arrivals_s, switch, change.at_s + EVERY_S) == 0
        before = switch.serving
