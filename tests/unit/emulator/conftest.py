"""An offline Gemini of its own for each test, and short ways to ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from google import genai
from google.genai.types import HttpOptions

from shared.emulator import Emulator, running

MODEL = "gemini-3.8-flash"


class Asker:
    """Raw HTTP to one emulator: requests as a client writes them, answers as they came."""

    def __init__(self, emulator: Emulator, session: aiohttp.ClientSession) -> None:
        self.emulator = emulator
        self.session = session

    def post(
        self,
        text: str = "Hello",
        *,
        method: str = "generateContent",
        key: str = "k",
        model: str = MODEL,
        version: str = "v1beta",
        headers: dict[str, str] | None = None,
        body: Any = None,
        **config: Any,
    ) -> Any:
        """A request context: `async with ask.post("Hello", maxOutputTokens=5) as response`."""
        document = {"contents": [{"role": "user", "parts": [{"text": text}]}]} if body is None else body
        if config:
            document["generationConfig"] = config
        return self.session.post(
            f"{self.emulator.url}/{version}/models/{model}:{method}",
            headers={"x-goog-api-key": key, **(headers or {})},
            **({"data": document} if isinstance(document, bytes) else {"json": document}),
        )

    async def ask(self, text: str = "Hello", **rest: Any) -> tuple[int, dict[str, Any]]:
        """Status and JSON body."""
        async with self.post(text, **rest) as response:
            return response.status, await response.json(content_type=None)

    async def status(self, text: str = "Hello", **rest: Any) -> int:
        return (await self.ask(text, **rest))[0]

    async def text(self, text: str = "Hello", **rest: Any) -> str:
        """The answer's text, thoughts left out."""
        status, body = await self.ask(text, **rest)
        assert status == 200, body
        parts = body["candidates"][0]["content"].get("parts", [])
        return "".join(part.get("text", "") for part in parts if not part.get("thought"))

    async def message(self, text: str = "Hello", **rest: Any) -> str:
        """The message of a refusal."""
        status, body = await self.ask(text, **rest)
        assert status != 200, body
        return str(body["error"]["message"])


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=15)) as session:
        yield session


@pytest.fixture
async def ask(session: aiohttp.ClientSession) -> AsyncIterator[Asker]:
    """An emulator without limits."""
    async with running() as emulator:
        yield Asker(emulator, session)


@pytest.fixture
async def client(ask: Asker) -> AsyncIterator[genai.Client]:
    """google-genai on its default API version."""
    client = genai.Client(api_key="sdk-key", http_options=HttpOptions(base_url=ask.emulator.url))
    yield client
    await client.aio.aclose()
    client.close()
