"""`python -m shared.emulator`: one line when ready, a clean end on either signal, a sentence when it cannot start."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import aiohttp
import pytest

MODEL_URL = "/v1beta/models/gemini-3.8-flash:generateContent?key=k"


async def start(*arguments: str, **environ: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "shared.emulator",
        *arguments,
        env={**os.environ, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_it_says_where_it_is_serves_and_ends(session: aiohttp.ClientSession, signum: signal.Signals) -> None:
    process = await start("--port", "0", EMULATOR_LATENCY_MS="0", EMULATOR_RPM="1", LEDGER_WINDOW_SECONDS="60")
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
    assert line.startswith("offline Gemini on http://127.0.0.1:")
    url = line.split()[-1] + MODEL_URL
    statuses = []
    for _ in range(2):
        async with session.post(url, json={"contents": [{"parts": [{"text": "Hi"}]}]}) as response:
            statuses.append(response.status)
    assert statuses == [200, 429]
    hanging = asyncio.create_task(_hang(session, url))
    await asyncio.sleep(0.1)
    process.send_signal(signum)
    rest, errors = await asyncio.wait_for(process.communicate(), 10)
    assert (process.returncode, rest, errors) == (0, b"", b"")
    await hanging


async def _hang(session: aiohttp.ClientSession, url: str) -> None:
    body = {"contents": [{"parts": [{"text": "[[fault:hang]]"}]}]}
    with pytest.raises(aiohttp.ClientError):
        async with session.post(url.replace("key=k", "key=k2"), json=body) as response:
            await response.read()


async def test_a_wrong_setting_and_a_taken_port_are_told_in_a_sentence() -> None:
    process = await start("--port", "0", EMULATOR_RPM="many")
    out, errors = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, out) == (2, b"")
    assert errors == b"EMULATOR_RPM must be a whole number or unlimited.\n"
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        process = await start("--port", str(port))
        _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert errors.startswith(f"Cannot listen on 127.0.0.1:{port}: ".encode())
