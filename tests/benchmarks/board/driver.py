"""One process of a cell: its callers, and the gateway that they call, without HTTP between them.

`python -m tests.benchmarks.board.driver '<Order as JSON>'` prints `ready`, reads when to run as a line of JSON (`Times`),
runs, and writes what it saw into a file. It ends at once when its standard input does."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import orjson
import uvloop

from shared.bootstrap import Services
from shared.clock import elapsed_s
from shared.errors import GatewayError
from shared.gemini.errors import UpstreamFailure
from shared.gemini.upstream import Exchange
from shared.generation import Caller, Generation
from shared.ledger.grid import Grid
from shared.settings.settings import Settings
from shared.stores.port import Change, Outcome, Put, Reading, Step, Store, StoreError
from tests.benchmarks.board.judge import LEFT, OK, Asked
from tests.benchmarks.board.naive import NaiveLease, Rule

T = TypeVar("T")

MODEL = "gemini-3.8-flash"
_AFTER_AN_ERROR_S = 0.1
_WARM_S, _QUICK_S = 45.0, 0.25
_PATIENCE_S = 3600.0
"""A caller's own; the queue's timeout is shorter."""


@dataclass(frozen=True)
class Order:
    """`per_s`: at which each caller asks, whatever became of its last request; None: as soon as it was answered."""

    process: int
    lease: str
    callers: int
    per_s: float | None
    output: str


@dataclass(frozen=True)
class Times:
    """CLOCK_MONOTONIC (s). CPU is counted in [since_s, until_s)."""

    begin_s: float
    since_s: float
    until_s: float
    end_s: float


@dataclass
class Steps:
    """Transitions of the ledger that were decided in this process."""

    cpu_ms: list[float] = field(default_factory=list)
    most_bytes: int = 0


class MeasuredStore:
    """A store that passes everything on, and measures the steps (CPU of this thread) and what they write."""

    def __init__(self, store: Store) -> None:
        self._store, self.kind, self.steps = store, store.kind, Steps()

    async def transact(
        self, keys: Sequence[str], step: Step[T], *, cached: bool = False, timeout_s: float = 5.0
    ) -> Outcome[T]:
        def measured(values: Mapping[str, bytes | None], now_ms: int) -> Change[T]:
            began_s = time.thread_time()
            change = step(values, now_ms)
            self.steps.cpu_ms.append((time.thread_time() - began_s) * 1000)
            sizes = [len(put.value) for put in change.writes.values() if put is not None]
            self.steps.most_bytes = max([self.steps.most_bytes, *sizes])
            return change

        return await self._store.transact(keys, measured, cached=cached, timeout_s=timeout_s)

    async def read(self, key: str, *, timeout_s: float = 5.0) -> Reading:
        return await self._store.read(key, timeout_s=timeout_s)

    async def list(self, prefix: str, *, limit: int = 1000) -> list[str]:
        return await self._store.list(prefix, limit=limit)

    async def aclose(self) -> None:
        await self._store.aclose()


class Gate(Protocol):
    """What callers ask: one answer, waited for in line."""

    steps: Steps

    def held(self) -> bool:
        """Whether this process has slots and permits in hand now."""
        ...

    async def ask(self, caller: str, prompt: str) -> float:
        """How long it waited for its permit (s). Raises GatewayError, UpstreamFailure."""
        ...

    async def aclose(self) -> None: ...


class Calendar:
    """The gateway as its functions use it."""

    def __init__(self, services: Services) -> None:
        self._services = services
        store = MeasuredStore(services.store)
        services.admission.store, self.steps = store, store.steps
        self._ledger = services.settings.server_keys[0].project

    def held(self) -> bool:
        agent = self._services.admission.projects.get(self._ledger)
        return agent is not None and agent.holdings.cap > 0 and agent.clock.latest_ms() <= agent.holdings.authority_ms

    async def ask(self, caller: str, prompt: str) -> float:
        asker = Caller(caller, "admin")
        asked = Generation(MODEL, _body(prompt), asker, elapsed_s() + _PATIENCE_S)
        await self._services.gateway.generate(asked)
        return asked.timeline.queue_s

    async def aclose(self) -> None:
        await self._services.aclose()


class Naive:
    """A lease for every request, on the same store and the same client."""

    def __init__(self, services: Services) -> None:
        settings, self._services = services.settings, services
        store = MeasuredStore(services.store)
        self.steps = store.steps
        self._secret = settings.server_keys[0].secret
        self._timeout_s = settings.request_timeout_s
        limit = settings.limits_of(MODEL).requests
        assert limit is not None, "the cell sets GEMINI_RPM"
        rule = Rule(limit, settings.concurrency_limit, Grid.of(settings.window_s), int(1000 * self._timeout_s))
        self._lease = NaiveLease(store, f"naive/{settings.server_keys[0].project}", rule)

    def held(self) -> bool:
        return False

    async def ask(self, caller: str, prompt: str) -> float:
        asked_s = elapsed_s()
        await self._lease.acquire(prompt)
        queued_s = elapsed_s() - asked_s
        body = orjson.dumps(_body(prompt))
        try:
            await self._services.client.generate(
                Exchange(self._secret, MODEL, "generateContent", body, self._timeout_s)
            )
        finally:
            await self._lease.release(prompt)
        return queued_s

    async def aclose(self) -> None:
        await self._services.aclose()


GATES: dict[str, Callable[[Services], Gate]] = {"calendar": Calendar, "naive": Naive}


class Callers:
    """The callers of this process, and what they saw."""

    def __init__(self, order: Order, gate: Gate) -> None:
        self._order, self._gate = order, gate
        self._random = random.Random(order.process)
        self._serial = 0
        self.asked: list[Asked] = []
        self.failures: dict[str, str] = {}
        """By code, what the first request with that error was told."""

    async def run(self, times: Times) -> None:
        """Until `times.end_s`; then those that still wait leave."""
        await _until(times.begin_s)
        caller = self._returning if self._order.per_s is None else self._poisson
        tasks = {asyncio.create_task(caller(number)) for number in range(self._order.callers)}
        left_s = max(0.0, times.end_s - time.monotonic())
        done, running = await asyncio.wait(tasks, timeout=left_s, return_when=asyncio.FIRST_EXCEPTION)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for task in done:
            task.result()

    async def _returning(self, caller: int) -> None:
        while True:
            if await self._ask(caller) != OK:
                await asyncio.sleep(_AFTER_AN_ERROR_S)

    async def _poisson(self, caller: int) -> None:
        assert self._order.per_s is not None
        asking: set[asyncio.Task[str]] = set()
        next_s = time.monotonic()
        try:
            while True:
                next_s += self._random.expovariate(self._order.per_s)
                await _until(next_s)
                task = asyncio.create_task(self._ask(caller))
                asking.add(task)
                task.add_done_callback(asking.discard)
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def _ask(self, caller: int) -> str:
        self._serial += 1
        prompt = f"Number {self._order.process}-{self._serial} of the board."
        held, came_s = self._gate.held(), time.monotonic()
        outcome, queued_s = "broken", None
        try:
            queued_s = await self._gate.ask(f"caller-{self._order.process}-{caller}", prompt)
            outcome = OK
        except GatewayError as error:
            outcome = error.code
            self.failures.setdefault(outcome, error.message)
        except UpstreamFailure as failure:
            outcome = failure.kind
            self.failures.setdefault(outcome, str(failure))
        except asyncio.CancelledError:
            outcome = LEFT
            raise
        finally:
            self.asked.append(Asked(self._order.process, caller, came_s, queued_s, outcome, held))
        return outcome


def _body(prompt: str) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": prompt}]}]}


async def _until(at_s: float) -> None:
    await asyncio.sleep(max(0.0, at_s - time.monotonic()))


async def _cpu_ms(times: Times) -> float:
    await _until(times.since_s)
    began_s = time.process_time()
    await _until(times.until_s)
    return (time.process_time() - began_s) * 1000


async def _warm(store: Store, key: str) -> None:
    """Until a commit is quick: a Java process that has just started takes seconds for its first ones, which a real store
    does not. Raises TimeoutError."""
    async with asyncio.timeout(_WARM_S):
        while True:
            began_s = elapsed_s()
            with suppress(StoreError):
                await store.transact([key], lambda _values, now_ms: Change(None, {key: Put(b"%d" % now_ms)}))
                if elapsed_s() - began_s < _QUICK_S:
                    return


async def drive(order: Order, read_times: Callable[[], Awaitable[Times]]) -> dict[str, Any]:
    """What this process saw: the arguments of `Observed` that it can tell."""
    services = Services(Settings.from_environment(os.environ))
    await _warm(services.store, f"warm/{order.process}")
    gate = GATES[order.lease](services)
    try:
        print("ready", flush=True)
        times = await read_times()
        callers = Callers(order, gate)
        cpu_ms, _ = await asyncio.gather(_cpu_ms(times), callers.run(times))
    finally:
        await gate.aclose()
    return {
        "asked": [list(one) for one in callers.asked],
        "failures": callers.failures,
        "steps_ms": gate.steps.cpu_ms,
        "state_bytes": gate.steps.most_bytes,
        "cpu_ms": cpu_ms,
    }


async def main() -> None:
    order = Order(**orjson.loads(sys.argv[1]))
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def read_times() -> Times:
        return Times(**orjson.loads(await reader.readline()))

    driving = asyncio.create_task(drive(order, read_times))
    while not driving.done() and not reader.at_eof():
        await asyncio.wait({driving}, timeout=0.5)
    if driving.done():
        await asyncio.to_thread(Path(order.output).write_bytes, orjson.dumps(driving.result()))
    else:
        # Whoever started it is gone.
        driving.cancel()
        await asyncio.wait({driving})


if __name__ == "__main__":
    uvloop.run(main())
