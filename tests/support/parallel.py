"""An offline Gemini in a thread of its own, for tests that call the library as programs do: blocking, without a loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import orjson
from aiohttp import web

from shared.emulator import EmulatorConfig, running
from shared.emulator.app import App
from shared.emulator.running import Emulator
from shared.emulator.server import Request
from shared.generation import JsonObject

START_S = 60.0
KEY = "AQ.a-key-of-the-library"


class _RecordingApp(App):
    """Keeps the body of each generating request."""

    bodies: list[JsonObject]

    async def _generate(self, request: Request, exchange: Any, call: Any, model: Any, *rest: Any) -> web.StreamResponse:
        self.__dict__.setdefault("bodies", []).append(orjson.loads(rest[-1]))
        return await super()._generate(request, exchange, call, model, *rest)


class OfflineGemini:
    def __init__(self, emulator: Emulator) -> None:
        self.emulator, self.url = emulator, emulator.url

    @property
    def bodies(self) -> list[JsonObject]:
        """Of all generating requests so far."""
        found: list[JsonObject] = self.emulator.app.__dict__.get("bodies", [])
        return found

    @property
    def parts(self) -> list[JsonObject]:
        """Of the latest request."""
        found: list[JsonObject] = self.bodies[-1]["contents"][0]["parts"]
        return found

    @property
    def admitted(self) -> int:
        return sum(key["admitted"] for key in self.emulator.stats()["keys"].values())


@contextmanager
def offline_gemini(config: EmulatorConfig | None = None) -> Iterator[OfflineGemini]:
    loop, started, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    found: list[OfflineGemini] = []

    async def serve() -> None:
        with patch("shared.emulator.running.create_app", _RecordingApp):
            async with running(config or EmulatorConfig()) as emulator:
                found.append(OfflineGemini(emulator))
                started.set()
                await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    try:
        assert started.wait(START_S), "the offline Gemini has not started"
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(START_S)
        loop.close()


def environment(gemini_url: str, ledger: str, **more: str) -> dict[str, str]:
    """Of a program that uses the library with one key, KEY_A, without limits."""
    return {
        "GEMINI_BASE_URL": gemini_url,
        "LEDGER_URL": ledger,
        "GEMINI_TIER": "tier3",
        "GEMINI_RPM": "unlimited",
        "GEMINI_TPM": "unlimited",
        "GEMINI_RPD": "unlimited",
        "GEMINI_CONCURRENCY_LIMIT": "50",
        "KEY_A": KEY,
        **more,
    }
