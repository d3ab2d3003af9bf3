"""Clients of session streams: they read some events, cut the connection, and continue elsewhere as an EventSource does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from shared.sessions.turn import EventId
from tests.support.processes import ADMIN, Running, served
from tests.support.turns import Event, event_of

PATIENCE_S = 60.0


class Client:
    """One caller, with its default session. `events` are those of the current turn, from all its connections."""

    def __init__(self, name: str, session: aiohttp.ClientSession) -> None:
        self._headers = {**ADMIN, "x-caller-id": name}
        self._session = session
        self.events: list[Event] = []
        self.session_id = self.turn = ""
        self.status = 0

    async def send(self, server: Running, message: str) -> None:
        answer = await self._json("POST", f"{server.url}/chat", json={"message": message})
        self.events, self.session_id, self.turn = [], answer["session_id"], answer["turn"]

    async def read(self, server: Running, count: int | None = None, *, timeout_s: float | None = None) -> None:
        """Reads `count` events and cuts the connection, or reads to the end. `timeout_s`: the client's deadline."""
        headers = {**self._headers, "last-event-id": self.events[-1].id} if self.events else dict(self._headers)
        if timeout_s is not None:
            headers["x-request-timeout"] = str(timeout_s)
        end = None if count is None else len(self.events) + count
        if count == 0:
            return
        async with self._session.get(f"{server.url}/stream", headers=headers) as response:
            self.status = response.status
            waiting = b""
            async for chunk in response.content.iter_any():
                *blocks, waiting = (waiting + chunk).split(b"\n\n")
                for block in blocks:
                    if not block.startswith(b":"):
                        self.events.append(event_of(block.decode()))
                    if len(self.events) == end:
                        # The connection is cut: it is not returned to the pool.
                        response.close()
                        return

    async def stop(self, server: Running) -> dict[str, Any]:
        return await self._json("DELETE", f"{server.url}/stream/{self.turn}")

    async def history(self, server: Running) -> list[dict[str, Any]]:
        turns: list[dict[str, Any]] = (await self._json("GET", f"{server.url}/sessions/{self.session_id}"))["turns"]
        return turns

    @property
    def text(self) -> str:
        return "".join(event.data["text"] for event in self.events if event.name == "message")

    def assert_ids_rise(self) -> None:
        ids = [EventId.parse(event.id) for event in self.events]
        positions = [one.position for one in ids if one is not None]
        assert positions == sorted(set(positions)), positions
        assert {one and one.turn for one in ids} == {self.turn}

    async def _json(self, method: str, url: str, **rest: Any) -> dict[str, Any]:
        async with self._session.request(method, url, headers=self._headers, **rest) as response:
            body: dict[str, Any] = await response.json()
            assert response.status == 200, body
            return body


@asynccontextmanager
async def clients(count: int) -> AsyncIterator[list[Client]]:
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        yield [Client(f"client-{number}", session) for number in range(count)]


@asynccontextmanager
async def two_servers(
    folder: Path, gemini_url: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[list[Running]]:
    """Two processes on one store, with an account that is as good as unlimited."""
    given = {
        "GEMINI_BASE_URL": gemini_url,
        "GEMINI_API_KEY": "AQ.key-of-the-server",
        "GEMINI_CANCELS": "1",
        "GEMINI_RPM": "100000",
        "GEMINI_TPM": "unlimited",
        "GEMINI_RPD": "unlimited",
        "GEMINI_CONCURRENCY_LIMIT": "100",
        "LEDGER_URL": f"sqlite:///{folder}/store.db",
        "STORAGE_URL": f"file://{folder}/files",
        **(env or {}),
    }
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(served(given)) for _ in range(2)]
