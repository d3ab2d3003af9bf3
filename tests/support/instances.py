"""Instances in one process, on one ledger that is a round trip away. Their writes, reads and served requests are counted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from shared.accounts.account import Account
from shared.admission.admission import Admission, AdmissionConfig
from shared.admission.config import ProcessConfig
from shared.clock import elapsed_s
from shared.generation import Caller, Cost
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.ledger.state import AS_USUAL, Exhaustion
from shared.secret import Secret
from shared.stores.memory import MemoryStore, Shelf
from shared.stores.port import Outcome, Reading, Step, StoreContended, TimeSample

T = TypeVar("T")

LEDGER = "p"
CONFLICT_PAUSE_S = 0.02


@dataclass(slots=True)
class Counts:
    commits: int = 0
    refused: int = 0
    reads: int = 0

    def since(self, before: Counts) -> Counts:
        return Counts(self.commits - before.commits, self.refused - before.refused, self.reads - before.reads)

    def copy(self) -> Counts:
        return Counts(self.commits, self.refused, self.reads)


class DistantStore(MemoryStore):
    """Reads and commits as Firestore does, each a round trip of about `rtt_s`; a commit on a changed document is rejected."""

    def __init__(self, shelf: Shelf, rtt_s: float) -> None:
        super().__init__(shelf)
        self.rtt_s, self.counts = rtt_s, Counts()
        self._seen: tuple[dict[str, bytes | None], tuple[int | None, ...], TimeSample] | None = None

    async def _travel(self) -> None:
        if self.rtt_s:
            await asyncio.sleep(self.rtt_s / 2 * random.uniform(0.7, 1.5))

    async def _look(self, keys: Sequence[str]) -> tuple[dict[str, bytes | None], tuple[int | None, ...], TimeSample]:
        sent_s = elapsed_s()
        await self._travel()
        sample = self._shelf.sample()
        values, versions = {key: self._value(key, sample) for key in keys}, self._shelf.versions(keys)
        self.counts.reads += 1
        await self._travel()
        return values, versions, TimeSample(sample.server_ms, sent_s - 1e-6, elapsed_s() + 1e-6)

    async def transact(
        self, keys: Sequence[str], step: Step[T], *, cached: bool = False, timeout_s: float = 5.0
    ) -> Outcome[T]:
        seen = self._seen if cached and self._seen is not None and self._seen[0].keys() == set(keys) else None
        conflicts, reads = 0, 0
        until_s = elapsed_s() + timeout_s
        samples: list[TimeSample] = []
        while elapsed_s() < until_s:
            if seen is None:
                seen, reads = await self._look(keys), reads + 1
                samples.append(seen[2])
            values, versions, sample = seen
            change = step(values, int(sample.server_ms))
            if not change.writes:
                return Outcome(change.result, tuple(samples), conflicts, reads, conflicts)
            sent_s = elapsed_s()
            await self._travel()
            self.counts.commits += 1
            if self._shelf.versions(keys) == versions:
                at = self._shelf.sample()
                self._shelf.apply(change.writes, at.server_ms)
                written = {key: put and put.value for key, put in change.writes.items()}
                sample = TimeSample(at.server_ms, sent_s - 1e-6, sent_s + 1e-6)
                self._seen = ({**values, **written}, self._shelf.versions(keys), sample)
                await self._travel()
                samples.append(TimeSample(at.server_ms, sent_s - 1e-6, elapsed_s() + 1e-6))
                return Outcome(change.result, tuple(samples), conflicts, reads, conflicts + 1)
            self.counts.refused += 1
            conflicts += 1
            seen = None
            await self._travel()
            await asyncio.sleep(random.uniform(0, CONFLICT_PAUSE_S * 2**conflicts))
        raise StoreContended("changed by others too often")

    async def read(self, key: str, *, timeout_s: float = 5.0) -> Reading:
        self._seen = values, _, sample = await self._look((key,))
        return Reading(values[key], sample)


@dataclass(frozen=True, slots=True)
class Served:
    instance: int
    arrived_s: float
    began_s: float
    ended_s: float
    caller: str = ""


@dataclass(slots=True)
class Site:
    """`account` is shared by all instances; `service_s` is the range of Gemini's response times."""

    account: Account
    service_s: tuple[float, float] = (0.3, 1.0)
    rtt_s: float = 0.03
    window_s: float = 60.0
    shelf: Shelf = field(default_factory=Shelf)
    stores: list[DistantStore] = field(default_factory=list)
    gates: list[Admission] = field(default_factory=list)
    served: list[Served] = field(default_factory=list)
    open: int = 0
    most_open: int = 0
    cost: Cost = Cost(1, 50)
    queue_timeout_s: float = 300.0
    holds_on: bool = False
    known: frozenset[str] | None = None
    exhaustion: Exhaustion = AS_USUAL

    def add(self) -> int:
        """Add an instance; returns its number."""
        store = DistantStore(self.shelf, self.rtt_s)
        name = random.randbytes(16).hex()
        agents = ProcessConfig(
            name, Grid.of(self.window_s), tau_s=120.0, holds_on=self.holds_on, known=self.known,
            exhaustion=self.exhaustion,
        )  # fmt: skip
        self.stores.append(store)
        self.gates.append(Admission(store, agents, AdmissionConfig(queue_timeout_s=self.queue_timeout_s)))
        return len(self.gates) - 1

    async def ask(
        self, instance: int, caller: str, model: str = "m", *, cost: Cost | None = None, batch: bool = False
    ) -> None:
        """One request; Gemini counts as many tokens as were reserved."""
        arrived_s, cost = elapsed_s(), cost or self.cost
        deadline_s = arrived_s + self.queue_timeout_s
        lease = await self.gates[instance].acquire(
            [self.account], model, cost, deadline_s, Caller(caller, "admin"), batch=batch
        )
        began_s = elapsed_s()
        lease.check()
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await asyncio.sleep(random.uniform(*self.service_s))
        finally:
            self.open -= 1
            self.served.append(Served(instance, arrived_s, began_s, elapsed_s(), caller))
            await lease.close(cost.input_tokens)

    @asynccontextmanager
    async def asking(self, instance: int, caller: str, at_once: int, **request: Any) -> AsyncIterator[None]:
        """One caller that always has this many requests under way."""

        async def ask_again() -> None:
            while True:
                await self.ask(instance, caller, **request)

        tasks = [asyncio.create_task(ask_again()) for _ in range(at_once)]
        try:
            yield
        finally:
            await _end(tasks)

    @asynccontextmanager
    async def callers(self, instance: int, count: int, think_s: float = 0.0) -> AsyncIterator[None]:
        """This many callers that send the next request as soon as they are answered, or after a pause of about `think_s`."""

        async def caller(number: int) -> None:
            while True:
                await self.ask(instance, f"caller-{instance}-{number}")
                if think_s:
                    await asyncio.sleep(random.expovariate(1 / think_s))

        tasks = [asyncio.create_task(caller(number)) for number in range(count)]
        try:
            yield
        finally:
            try:
                await _end(tasks)
            finally:
                await self.gates[instance].aclose()

    # -- results -----------------------------------------------------------------------------------------------------

    def counts(self) -> list[Counts]:
        return [store.counts.copy() for store in self.stores]

    def slot_seconds(self, since_s: float, until_s: float, instance: int | None = None) -> float:
        """The sum of the times in which ended requests used slots."""
        return sum(
            max(0.0, min(one.ended_s, until_s) - max(one.began_s, since_s))
            for one in self.served
            if instance is None or one.instance == instance
        )

    def waits_s(self, since_s: float, until_s: float, instance: int | None = None) -> list[float]:
        return sorted(
            one.began_s - one.arrived_s
            for one in self.served
            if since_s <= one.began_s < until_s and (instance is None or one.instance == instance)
        )


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Ends the tasks, and raises what one of them raised."""
    for task in tasks:
        task.cancel()
    for error in await asyncio.gather(*tasks, return_exceptions=True):
        if error is not None and not isinstance(error, asyncio.CancelledError):
            raise error


def quantile(values: Sequence[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def account(c: int, **limits: Any) -> Account:
    return Account(LEDGER, LEDGER, Secret("k"), c, Limits(**limits))
