"""An instance is told to stop while it is busy: as the platform does, with SIGTERM, and ten seconds until it is killed."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import aiohttp
import pytest

from shared.emulator import EmulatorConfig, running
from shared.ledger.packing import unpack
from shared.stores.firestore import FirestoreStore
from tests.support.checkout import unpacked_bundle
from tests.support.processes import ADMIN, ROOT, framework, request
from tests.support.whole_path import eventually

KILLED_AFTER_S = 10.0
"""cloud.google.com/run/docs/container-contract#instance-shutdown"""
C = 8
LATENCY_S = 1.0
CALLERS = 3 * C
"""A third has a slot when it is told to stop, the others wait for one: all are done in three times the latency."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked_bundle(ROOT, tmp_path_factory.mktemp("bundle"))


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "streamed"])
async def test_what_is_under_way_is_finished_and_nothing_stays_booked(
    firestore_host: str, bundle: Path, stream: bool
) -> None:
    project = f"shutdown-{'streamed' if stream else 'unary'}-{time.time_ns()}"
    store = FirestoreStore("gateway-tests", emulator_host=firestore_host)
    config = EmulatorConfig(latency_s=LATENCY_S)
    async with running(config) as gemini:
        env = {
            "GEMINI_BASE_URL": gemini.url,
            "GEMINI_API_KEY": "AQ.key-of-the-server",
            "GEMINI_API_KEY_PROJECT": project,
            "GEMINI_CONCURRENCY_LIMIT": str(C),
            "LEDGER_URL": "firestore://gateway-tests/(default)",
            "FIRESTORE_EMULATOR_HOST": firestore_host,
        }
        async with framework("chat", "main.py", env, bundle, isolated=True) as server:
            await request("GET", f"{server.url}/health")
            asking = [asyncio.create_task(asked(server.url, stream)) for _ in range(CALLERS)]
            await eventually(lambda: gemini.stats()["open"] == C, within_s=20)
            told_s = time.monotonic()
            status = await server.end(signal.SIGTERM, timeout_s=10 * KILLED_AFTER_S)
            took_s = time.monotonic() - told_s
            answers = await asyncio.gather(*asking)
        seen = gemini.stats()
    reading = await store.read(f"ledger/{project}")
    await store.aclose()
    assert status == 0
    assert took_s < KILLED_AFTER_S
    assert answers == [""] * CALLERS
    assert (seen["requests"], seen["open"]) == (CALLERS, 0)
    assert reading.value is not None
    for lease in unpack(reading.value).leases.values():
        assert lease.slots == 0
        assert not any(share.bookings for share in lease.shares.values())


async def asked(url: str, stream: bool) -> str:
    """What went wrong; nothing for a whole answer."""
    body = {"prompt": "Hello", "stream": stream}
    async with aiohttp.ClientSession() as session, session.post(f"{url}/chat", json=body, headers=ADMIN) as response:
        text = await response.text()
    whole = '"done":true' in text if stream else '"text":' in text
    return "" if response.status == 200 and whole else f"{response.status}: {text}"
