"""`python -m shared.emulator`: one line when ready, a clean end on either signal, a sentence when it cannot start."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

MODEL_URL = "/v1beta/models/gemini-3.8-flash:generateContent?key=k"


@asynccontextmanager
async def started(*arguments: str, **environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command in a process that does not outlive the test."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "shared.emulator",
        *arguments,
        env={**os.environ, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_command_prints_its_url_serves_and_ends(session: aiohttp.ClientSession, signum: signal.Signals) -> None:
    settings = {"EMULATOR_LATENCY_MS": "0", "EMULATOR_RPM": "1", "LEDGER_WINDOW_SECONDS": "60"}
    async with started("--port", "0", **settings) as process:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
        assert line.startswith("offline Gemini on http://127.0.0.1:")
        origin = line.split()[-1]
        url = origin + MODEL_URL
        statuses = []
        for _ in range(2):
            async with session.post(url, json={"contents": [{"parts": [{"text": "Hi"}]}]}) as response:
                statuses.append(response.status)
        assert statuses == [200, 429]
        hanging = asyncio.create_task(_hang(session, url))
        await _one_hangs(session, f"{origin}/stats")
        process.send_signal(signum)
        rest, errors = await asyncio.wait_for(process.communicate(), 10)
        assert (process.returncode, rest, errors) == (0, b"", b"")
        await hanging


async def _one_hangs(session: aiohttp.ClientSession, stats_url: str) -> None:
    async with asyncio.timeout(20):
        while True:
            async with session.get(stats_url) as response:
                if (await response.json())["open"] == 1:
                    return
            await asyncio.sleep(0.01)


async def _hang(session: aiohttp.ClientSession, url: str) -> None:
    body = {"contents": [{"parts": [{"text": "[[fault:hang]]"}]}]}
    with pytest.raises(aiohttp.ClientError):
        async with session.post(url.replace("key=k", "key=k2"), json=body) as response:
            await response.read()


async def test_startup_errors_are_one_sentence() -> None:
    async with started("--port", "0", EMULATOR_RPM="many") as process:
        out, errors = await asyncio.wait_for(process.communicate(), 20)
        assert (process.returncode, out) == (2, b"")
        assert errors == b"EMULATOR_RPM must be a whole number or unlimited.\n"
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with started("--port", str(port)) as process:
            _, errors = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 1
        assert errors.startswith(f"Cannot listen on 127.0.0.1:{port}: ".encode())
