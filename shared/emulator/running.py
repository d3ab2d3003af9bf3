"""Starting and stopping an offline Gemini in this process, on a port of its own."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from .app import App, create_app
from .config import EmulatorConfig

_BACKLOG = 1024
_SHUTDOWN_S = 0.2


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running offline Gemini. `url` has no path and no trailing slash."""

    url: str
    app: App

    def stats(self, *, arrivals: bool = False) -> dict[str, Any]:
        """The body of GET /stats."""
        return self.app.stats.snapshot(arrivals=arrivals)

    def reset(self, *, limits: bool = False) -> None:
        """Clears counts and maxima; with `limits` also the windows and days."""
        self.app.stats.reset(limits=limits)

    def inject(self, fault: str, count: int = 1, *, key: str | None = None, model: str | None = None) -> None:
        """Inject the fault into the next `count` requests (of that key, of that model id). Raises faults.BadDirective."""
        self.app.faults.order(fault, count, key, model)


@asynccontextmanager
async def running(
    config: EmulatorConfig | None = None,
    port: int = 0,
    *,
    host: str = "127.0.0.1",
    wall_clock: Callable[[], float] = time.time,
) -> AsyncIterator[Emulator]:
    """An offline Gemini on the running loop; port 0 chooses a free port. Open requests are dropped at the end."""
    app = create_app(config, wall_clock=wall_clock)
    runner = web.ServerRunner(app.server(), shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=_BACKLOG).start()
        bound = runner.addresses[0][1]
        yield Emulator(f"http://{f'[{host}]' if ':' in host else host}:{bound}", app)
    finally:
        await runner.cleanup()
