"""`python -m tests.support.recording_gemini`: an offline Gemini that also records to which request each exchange belongs.

It is the emulator itself, with its limits. Besides GET /stats it has GET /exchanges, which lists for every generating request
the id in its prompt, when it arrived and ended, and the tokens that its sender must have reserved."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any
from unittest.mock import patch

import orjson
import uvloop
from aiohttp import web

from shared.emulator import app as emulator_app
from shared.emulator.app import App
from shared.emulator.config import EmulatorConfig, from_env
from shared.emulator.exchange import Exchange
from shared.emulator.running import running
from shared.emulator.server import Request
from shared.gemini.tokens import estimate_input_tokens

PROMPT_ID = re.compile(r"id-[0-9a-f]{8}-\d+")
_ID = re.compile(PROMPT_ID.pattern.encode())


@dataclass(slots=True)
class Recorded:
    """One generating request. Times are CLOCK_MONOTONIC (s), which every process of a machine shares."""

    prompt_id: str
    model: str
    arrived_s: float
    ended_s: float | None
    """When it ended; None while it is open."""
    outcome: str
    """The status, or `disconnected` or `aborted`."""
    admitted: bool
    used_tokens: int
    reserved_tokens: int


class _RecordedExchange(Exchange):
    """Records when it ends: from then on Gemini counts its slot as free."""

    record: Recorded | None = None

    def done(self, outcome: str) -> None:
        if self.record is not None and self.record.ended_s is None:
            self.record.ended_s, self.record.outcome = time.monotonic(), outcome
        super().done(outcome)


class _RecordingApp(App):
    def __init__(self, config: EmulatorConfig, *, wall_clock: Callable[[], float]) -> None:
        super().__init__(config, wall_clock=wall_clock)
        self.recorded: list[Recorded] = []

    async def handle(self, request: Request) -> web.StreamResponse:
        if request.path == "/exchanges":
            rows = orjson.dumps([asdict(one) for one in self.recorded])
            return web.Response(body=rows, content_type="application/json")
        return await super().handle(request)

    async def _generate(self, request: Request, exchange: Any, call: Any, model: Any, *rest: Any) -> web.StreamResponse:
        body: bytes = rest[-1]
        found = _ID.search(body)
        reserved = estimate_input_tokens(orjson.loads(body), body)
        exchange.record = Recorded(
            found[0].decode() if found else "", model.id, request.arrived_s, None, "", False, 0, reserved
        )
        self.recorded.append(exchange.record)
        return await super()._generate(request, exchange, call, model, *rest)

    def _admit(self, request: Request, exchange: Any, model: Any, project: Any, count: int, *rest: Any) -> None:
        exchange.record.used_tokens = count
        super()._admit(request, exchange, model, project, count, *rest)
        exchange.record.admitted = True


@asynccontextmanager
async def recording(config: EmulatorConfig) -> AsyncIterator[str]:
    """The address of a recording Gemini on the running loop."""
    with (
        patch.object(emulator_app, "Exchange", _RecordedExchange),
        patch("shared.emulator.running.create_app", _RecordingApp),
    ):
        async with running(config) as emulator:
            yield emulator.url


async def _serve() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with recording(from_env(os.environ, latency_ms=300.0, chunk_delay_ms=30.0)) as url:
        print(f"offline Gemini on {url}", flush=True)  # noqa: T201 - the process that started it reads the address there
        await stop.wait()


if __name__ == "__main__":
    uvloop.run(_serve())
