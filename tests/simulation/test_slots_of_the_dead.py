"""After `kill -9` the others get the slots when the longest request that the dead instance may have sent has ended."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from shared.accounts.account import Account
from shared.ledger.limits import Limits
from shared.secret import Secret
from tests.simulation.checker import worst_instant
from tests.simulation.instance import Instance
from tests.simulation.scenario import Client, Deployment, Kind, Scenario, grid_of
from tests.simulation.world import World

C, TAU_S, KILLED_AT_S = 15, 120.0, 30.0
OWN = Kind("m0", (0,), service_s=(2.0, 6.0), patience_s=(10.0, 10.0))
LONG = replace(OWN, patience_s=(TAU_S, TAU_S))
AUTHORITY_S = 12.0
"""The longest that an instance may dispatch without another renew."""
OPEN_S = 1.0 + TAU_S - KILLED_AT_S
"""How long a request that came after a second may still be open."""
SLACK_S = 1.0
"""The margin for travel and clocks, and the next reads of the instances that wait."""


def saturated(*more: Client) -> World:
    """Four instances and more callers than slots, each of which waits ten seconds at most."""
    random = Random(0)
    clients = tuple(Client(f"c{at}", OWN, 0.1, random.uniform(0, 1), 1_000.0) for at in range(24))
    account = Account("a0", "p0", Secret("a0"), C, Limits())
    return World(
        Scenario(
            seed=0, grid=grid_of(4_000, 100), tau_s=TAU_S, lease_s=None, busy_s=1_000.0,
            deployments=(Deployment((account,)),), population=((0.0, 4),), clients=(*clients, *more),
        )
    )  # fmt: skip


def missing_after_kill_s(world: World) -> float:
    """For how long the other instances do not hold all slots."""
    world.loop.run_until(KILLED_AT_S)
    victim: Instance = world.living()[0]
    name = victim.process.name
    world.kill(victim)
    assert world.ledgers()["p0"].leases[name].slots
    while sum(one.slots for i, one in world.ledgers()["p0"].leases.items() if i != name) < C:
        world.loop.run_until(world.loop.now_s + 0.05)
        assert world.loop.now_s < KILLED_AT_S + 2 * TAU_S, "the slots never came back"
    return world.loop.now_s - KILLED_AT_S


@pytest.mark.parametrize(
    ("long", "least_s", "most_s"),
    [
        ((), 10.0, AUTHORITY_S + 10.0),
        ((Client("long", LONG, 0.0, 1.0, 1.1, home=0),), 10.0, AUTHORITY_S + 10.0),
        ((Client("long", replace(LONG, hangs=1.0), 0.0, 1.0, 1.1, home=0),), OPEN_S, OPEN_S),
    ],
    ids=["own deadlines", "a long one that has ended", "a long one that is open"],
)
def test_slots_return_after_the_latest_deadline(long: tuple[Client, ...], least_s: float, most_s: float) -> None:
    """The latest of the requests that it may have had in flight, not the latest of any that an instance accepts."""
    world = saturated(*long)
    with world.entered():
        world.begin()
        missing_s = missing_after_kill_s(world)
        history = world.history()
    assert least_s < missing_s < most_s + SLACK_S
    assert worst_instant(history).ok
