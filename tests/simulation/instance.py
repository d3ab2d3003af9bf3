"""One instance of the deployment, its connected callers, and what a machine knows of processes that have ended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from shared.accounts.account import Account
from shared.admission.admission import Admission
from tests.simulation.caller import Request, Story
from tests.simulation.history import Call
from tests.simulation.loop import Process
from tests.simulation.scenario import Deployment


@dataclass(slots=True)
class Waiting:
    """A connected caller, whose future gets the outcome of its request."""

    ask: Request
    number: int
    came_ms: float
    heard: asyncio.Future[Call]
    story: Story | None = None
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class Instance:
    process: Process
    admission: Admission
    deployment: Deployment
    accounts: tuple[Account, ...]
    """Those of its deployment, or of the last configuration that it read."""
    calls: dict[int, Waiting] = field(default_factory=dict)
    leaving: bool = False


class Ends:
    """The ends of processes that a machine knows (`Liveness`)."""

    def __init__(self) -> None:
        self.gone_names: set[str] = set()

    def claim(self, owner: str) -> None:
        """Every process of the simulation is known already."""

    def gone(self, owner: str) -> bool:
        return owner in self.gone_names


def configured(instance: Instance, ask: Request) -> list[Account]:
    """The accounts of the request that the instance is configured with now."""
    own = {account.id: account for account in instance.accounts}
    return [own[account.id] for account in ask.accounts if account.id in own]


def read_accounts(instance: Instance, accounts: tuple[Account, ...]) -> None:
    if not instance.process.killed:
        others_serve = {account.id for account in instance.accounts} != {account.id for account in accounts}
        instance.accounts = accounts
        instance.process.spawn(_apply(instance, accounts, others_serve=others_serve))


async def _apply(instance: Instance, accounts: tuple[Account, ...], *, others_serve: bool) -> None:
    instance.admission.clients.reconfigure(accounts)
    if others_serve:
        instance.admission.accounts_changed(accounts)


def hand_over(heard: asyncio.Future[Call], what: Call) -> None:
    if not heard.done():
        heard.set_result(what)
