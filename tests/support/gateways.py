"""The gateways of several processes on one store, in front of a scripted Gemini. On a virtual clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from shared.accounts.account import Account
from shared.accounts.pool import Pool
from shared.admission.admission import Admission, AdmissionConfig
from shared.admission.config import ProcessConfig
from shared.bounds.byte_budget import ByteBudget
from shared.bounds.large_work import LargeWork
from shared.clock import elapsed_s
from shared.gateway.cooldown import Cooldown
from shared.gateway.gateway import Gateway
from shared.gemini.errors import UpstreamFailure
from shared.generation import Caller, Generation, JsonObject
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.ledger.packing import unpack
from shared.ledger.state import COLLECTION, State
from shared.secret import Secret
from shared.stores.memory import Shelf
from tests.support.instances import DistantStore

RTT_S = 0.03
TIMEOUT_S = 60.0
ANSWER: JsonObject = {"candidates": [{"content": {"parts": [{"text": "Hello"}]}, "finishReason": "STOP"}]}


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that was written to Gemini."""

    at_s: float
    process: int
    account: str
    model: str
    rejected: bool


Judge = Callable[[str, str], UpstreamFailure | None]
"""`judge(account, model)`: the failure of a request that arrives now, None if it is answered."""


@dataclass
class Processes:
    """`accounts` are the server's; each process has its own pool. `rest_s`: KEY_COOLDOWN_SECONDS."""

    accounts: Sequence[Account]
    judge: Judge
    answer_s: float = 0.2
    rest_s: float = 0.0
    queue_timeout_s: float = 30.0
    shelf: Shelf = field(default_factory=Shelf)
    gateways: list[Gateway] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)

    def add(self) -> int:
        """Add a process; returns its number."""
        store = DistantStore(self.shelf, RTT_S)
        process = ProcessConfig(random.randbytes(16).hex(), Grid.of(60), TIMEOUT_S)
        config = AdmissionConfig(self.queue_timeout_s)
        admission, cooldown = Admission(store, process, config), None
        if self.rest_s:
            other = ProcessConfig(random.randbytes(16).hex(), Grid.of(60), TIMEOUT_S + self.rest_s)
            cooldown = Cooldown(Admission(store, other, config), self.rest_s)
        gateway = Gateway(
            Pool(self.accounts, caller_limits=Limits(), caller_concurrency=1),
            admission,
            cast(Any, ScriptedGemini(self, len(self.gateways))),
            request_timeout_s=TIMEOUT_S,
            byte_budget=ByteBudget(1 << 20),
            large_work=LargeWork(),
            cooldown=cooldown,
        )
        self.gateways.append(gateway)
        return len(self.gateways) - 1

    async def ask(self, process: int, model: str = "gemini-3.8-flash", *, deadline_s: float = TIMEOUT_S) -> str:
        """One request; returns the id of the account that answered. Raises GatewayError."""
        generation = Generation(model, {"contents": []}, Caller("c", "admin"), elapsed_s() + deadline_s)
        return (await self.gateways[process].generate(generation)).account_id

    def switch(self, process: int, *accounts: Account) -> None:
        """From now on these are the process's accounts, as when it has read a configuration in which others are switched off."""
        gateway = self.gateways[process]
        gateway.pool.replace(accounts, caller_limits=Limits(), caller_concurrency=1)
        usable = gateway.pool.usable()
        gateway.admission.accounts_changed(usable)
        if gateway.cooldown is not None:
            gateway.cooldown.accounts_changed(usable)

    def wall_s(self, at_s: float) -> float:
        """The store's time of day at an elapsed time."""
        return self.shelf.sample().server_ms / 1000 + at_s - elapsed_s()

    async def ledgers(self) -> dict[str, State]:
        """The ledgers in the store, by id."""
        store = DistantStore(self.shelf, 0.0)
        found = {}
        for key in await store.list(COLLECTION):
            blob = (await store.read(key)).value
            assert blob is not None
            found[key.removeprefix(COLLECTION)] = unpack(blob)
        return found

    @asynccontextmanager
    async def closing(self) -> AsyncIterator[None]:
        """Ends the processes at the end of the block, when no exchange may be open."""
        async with AsyncExitStack() as stack:
            for gateway in self.gateways:
                stack.push_async_callback(gateway.admission.aclose)
                if gateway.cooldown is not None:
                    stack.push_async_callback(gateway.cooldown.admission.aclose)
            yield
            admissions = [
                one for g in self.gateways for one in (g.admission, g.cooldown and g.cooldown.admission) if one
            ]
            open_ones = [project.holdings.open for one in admissions for project in one.projects.values()]
            assert not any(open_ones), "exchanges are open"


class ScriptedGemini:
    """The upstream of one process."""

    def __init__(self, processes: Processes, number: int) -> None:
        self.processes, self.number = processes, number

    def __getitem__(self, kind: str) -> ScriptedGemini:
        return self

    async def generate(self, exchange: Any) -> JsonObject:
        await asyncio.sleep(0.01)
        exchange.before_write()
        exchange.after_write()
        account = exchange.credential.reveal()
        failure = self.processes.judge(account, exchange.model)
        self.processes.sent.append(Sent(elapsed_s(), self.number, account, exchange.model, failure is not None))
        await asyncio.sleep(0.02 if failure is not None else self.processes.answer_s)
        if failure is not None:
            raise failure
        return ANSWER


def accounts_of(count: int, *, c: int = 10, limits: Limits | None = None) -> list[Account]:
    """Accounts of projects of their own, whose key is their id."""
    made = limits or Limits(requests=1_000)
    return [Account(f"key-{n}", f"project-{n}", Secret(f"key-{n}"), c, made) for n in range(count)]
