"""One function under functions-framework's own command, as the platform runs it: a master that forks a worker."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

import aiohttp

from shared.emulator import Emulator, EmulatorConfig, running
from tests.support.processes import ADMIN, Running, framework, request
from tests.support.whole_path import eventually


@asynccontextmanager
async def chat_and_gemini(config: EmulatorConfig) -> AsyncIterator[tuple[Running, Emulator]]:
    async with running(config) as gemini:
        given = {"GEMINI_BASE_URL": gemini.url, "GEMINI_API_KEY": "AQ.key-of-the-server"}
        async with framework("chat", "functions/chat/main.py", given) as server:
            yield server, gemini


@asynccontextmanager
async def chat(config: EmulatorConfig | None = None) -> AsyncIterator[Running]:
    async with chat_and_gemini(config or EmulatorConfig()) as (server, _):
        yield server


async def test_a_function_serves_from_the_checkouts_root() -> None:
    async with chat() as server:
        for path in ("/", "/chat", "/chat/"):
            status, headers, body = await request("POST", server.url + path, json={"prompt": "Hello"}, headers=ADMIN)
            assert (status, bool(body.get("text"))) == (200, True)
            assert headers["x-model-used"] == "gemini-3.8-flash"
        status, _, body = await request("GET", f"{server.url}/health")
        assert (status, body["status"]) == (200, "healthy")
        status, _, body = await request("POST", f"{server.url}/chat", json={"prompt": "Hello"})
        assert (status, body["error"]["code"]) == (401, "unauthorized")
        status, headers, _ = await request("GET", f"{server.url}/chat")
        assert (status, headers["allow"]) == (405, "POST, OPTIONS")
        status, _, body = await request("POST", f"{server.url}/generate_text", json={})
        assert (status, body["error"]["code"]) == (404, "not_found")


async def test_a_stream_arrives_frame_by_frame() -> None:
    async with chat(EmulatorConfig(chunk_delay_s=0.15)) as server, aiohttp.ClientSession() as session:
        body = {"prompt": "Tell a long story", "stream": True}
        async with session.post(f"{server.url}/chat", json=body, headers=ADMIN) as response:
            assert response.content_type == "text/event-stream"
            arrivals = [perf_counter() async for line in response.content if line.startswith(b"data: ")]
    assert len(arrivals) > 2
    assert arrivals[-1] - arrivals[0] > 0.1


async def test_a_caller_that_goes_is_noticed_while_gemini_thinks() -> None:
    async with chat_and_gemini(EmulatorConfig(latency_s=20)) as (server, gemini):
        async with aiohttp.ClientSession() as session:
            asking = asyncio.create_task(
                session.post(f"{server.url}/chat", json={"prompt": "x"}, headers={**ADMIN, "x-request-id": "gone"})
            )
            await eventually(lambda: gemini.stats()["open"] == 1, within_s=20)
            asking.cancel()
        record = await server.line(r'.*"request_id":"gone".*', 10)
        assert '"outcome":"caller_gone"' in record[0]


async def test_process_ends_on_sigterm() -> None:
    async with chat() as server:
        await request("POST", f"{server.url}/chat", json={"prompt": "Hello"}, headers=ADMIN)
        assert await server.end(signal.SIGTERM, 10) == 0


async def test_it_ends_only_after_the_answers_under_way() -> None:
    async with chat_and_gemini(EmulatorConfig(latency_s=1)) as (server, gemini):
        asking = asyncio.create_task(request("POST", f"{server.url}/chat", json={"prompt": "Hello"}, headers=ADMIN))
        await eventually(lambda: gemini.stats()["open"] == 1, within_s=20)
        assert await server.end(signal.SIGTERM, 20) == 0
        assert (await asking)[0] == 200
