"""A deployment on this machine: instances of one function, the ledger that they share, and an offline Gemini."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from shared.ledger.grid import Grid
from shared.ledger.packing import unpack
from shared.ledger.state import COLLECTION, State
from shared.stores.firestore import FirestoreStore
from tests.support.processes import Running, framework, request, started

MODELS = ("gemini-3.8-flash", "gemini-3.5-flash-lite")
REST_S = 100.0
_KEY = "AQ.key-of-the-server"
_FIRESTORE_PROJECT = "gateway-tests"


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits of one Google project: configured at the gateway, enforced by the offline Gemini.

    `requests` and `tokens` are per window and model, `concurrency` is at once over all models."""

    requests: int
    concurrency: int
    window_s: float
    tokens: int = 1_000_000
    requests_per_day: int = 1_000_000

    @property
    def grid(self) -> Grid:
        return Grid.of(self.window_s)

    def of_gateway(self) -> dict[str, str]:
        return {
            "GEMINI_RPM": str(self.requests),
            "GEMINI_TPM": str(self.tokens),
            "GEMINI_RPD": str(self.requests_per_day),
            "GEMINI_CONCURRENCY_LIMIT": str(self.concurrency),
            "LEDGER_WINDOW_SECONDS": str(self.window_s),
        }

    def of_gemini(self) -> dict[str, str]:
        return {
            "EMULATOR_RPM": str(self.requests),
            "EMULATOR_TPM": str(self.tokens),
            "EMULATOR_RPD": str(self.requests_per_day),
            "EMULATOR_CONCURRENCY": str(self.concurrency),
            "LEDGER_WINDOW_SECONDS": str(self.window_s),
        }


@dataclass(frozen=True, slots=True)
class Seen:
    """What the offline Gemini recorded of the fleet's project."""

    refused: dict[str, int]
    most_at_once: int
    arrivals_s: dict[str, list[float]]
    """Arrivals of admitted requests, by model; CLOCK_MONOTONIC."""


class Fleet:
    """`instances` are functions-framework's masters, each the leader of a process group with its worker."""

    def __init__(self, instances: Sequence[Running], gemini: Running, store: FirestoreStore, project: str) -> None:
        self.instances, self.gemini, self.store, self.project = instances, gemini, store, project

    @property
    def urls(self) -> list[str]:
        return [instance.url for instance in self.instances]

    async def seen(self) -> Seen:
        _, _, stats = await request("GET", f"{self.gemini.url}/stats?arrivals=1")
        projects: dict[str, Any] = stats["projects"]
        assert len(projects) <= 1, "the fleet has one key, so one project"
        nothing: dict[str, Any] = {"max_open": 0, "models": {}}
        mine = next(iter(projects.values()), nothing)
        arrivals_s = {model: sorted(record["arrivals"]["at_s"]) for model, record in mine["models"].items()}
        return Seen(stats["refused"], mine["max_open"], arrivals_s)

    async def ledger(self) -> State:
        """The project's document as it is now."""
        return (await self._read())[0]

    async def at_rest(self) -> tuple[State, float]:
        """The document once no instance holds slots, or after `REST_S` if one still does, and the store's time then in ms. A
        busy instance keeps what it holds for some seconds after its last request."""
        end_s = time.monotonic() + REST_S
        while True:
            state, now_ms = await self._read()
            held = any(lease.slots and lease.reuse_ms >= now_ms for lease in state.leases.values())
            if not held or time.monotonic() > end_s:
                return state, now_ms
            await asyncio.sleep(0.5)

    async def _read(self) -> tuple[State, float]:
        reading = await self.store.read(COLLECTION + self.project)
        assert reading.value is not None, "nothing was ever booked"
        return unpack(reading.value), reading.sample.server_ms


@asynccontextmanager
async def fleet(
    firestore_host: str,
    quota: Quota,
    *,
    instances: int = 3,
    latency_ms: int = 300,
    ledger_host: str | None = None,
    env: Mapping[str, str] | None = None,
    gemini_env: Mapping[str, str] | None = None,
    gemini_module: str = "shared.emulator",
) -> AsyncIterator[Fleet]:
    """Instances of chat as they are deployed. `ledger_host` is a proxy between them and Firestore; `env` is added
    to every instance's environment, `gemini_env` to that of the offline Gemini, as which `gemini_module` is run."""
    project = f"project-{uuid.uuid4().hex[:12]}"
    store = FirestoreStore(_FIRESTORE_PROJECT, emulator_host=firestore_host)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.aclose)
        gemini = await stack.enter_async_context(_gemini(quota, latency_ms, gemini_module, gemini_env or {}))
        given = {
            "GEMINI_BASE_URL": gemini.url,
            "GEMINI_API_KEY": _KEY,
            "GEMINI_CANCELS": "1",  # The offline Gemini cancels work, too.
            "GEMINI_API_KEY_PROJECT": project,
            "LEDGER_URL": f"firestore://{_FIRESTORE_PROJECT}/(default)",
            "FIRESTORE_EMULATOR_HOST": ledger_host or firestore_host,
            "LOG_LEVEL": "WARNING",
            **quota.of_gateway(),
            **(env or {}),
        }
        async with asyncio.TaskGroup() as starting:
            begun = [
                starting.create_task(
                    stack.enter_async_context(framework("chat", "functions/chat/main.py", given, own_group=True))
                )
                for _ in range(instances)
            ]
        made = Fleet([one.result() for one in begun], gemini, store, project)
        # The first request of a process imports and connects, which must not be measured.
        async with asyncio.TaskGroup() as first:
            for url in made.urls:
                first.create_task(request("GET", f"{url}/health"))
        yield made


@asynccontextmanager
async def _gemini(quota: Quota, latency_ms: int, module: str, more: Mapping[str, str]) -> AsyncIterator[Running]:
    env = {"EMULATOR_LATENCY_MS": str(latency_ms), **quota.of_gemini(), **more}
    arguments = [sys.executable, "-m", module, "--port", "0"]
    async with started(arguments, env, ready=r"^offline Gemini on (\S+)") as running:
        yield running


@asynccontextmanager
async def frozen(instance: Running) -> AsyncIterator[None]:
    """Suspends the whole instance in this block, and always resumes it after it."""
    instance.signal_group(signal.SIGSTOP)
    try:
        yield
    finally:
        instance.signal_group(signal.SIGCONT)
