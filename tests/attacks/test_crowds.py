"""As many requests as Cloud Run sends to one instance wait in it: they take little memory, and others are answered meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson

from shared.clock import elapsed_s
from tests.attacks.siege import besieged
from tests.support.processes import ADMIN_KEY, request

CROWD = 1_000
"""Cloud Run's maximum, and the concurrency of the functions that wait on Gemini (endpoint.json)."""
BODY = orjson.dumps({"prompt": "A harbour at night, with boats, lamps and a dog. " * 41})
MAX_KB_EACH = 100.0
"""Two to three times what `make bench-waiting` measures in the queue."""
ARRIVED_WITHIN_S = 60.0
MAX_HEALTH_S = 2.0


async def overslept_s() -> float:
    """By how much a short sleep of this process was too long: the part of a wait that is the machine's and the callers'."""
    began_s = elapsed_s()
    await asyncio.sleep(0.05)
    return elapsed_s() - began_s - 0.05


async def test_a_thousand_waiting_requests_are_a_small_load(unpacked: Path, tmp_path: Path) -> None:
    async with besieged("chat", unpacked, tmp_path, latency_ms=1_000) as siege:
        before_mb, files = siege.worker_mb(), siege.worker() / "fd"
        crowd = [
            asyncio.create_task(siege.post(BODY, timeout_s=90, admin_api_key=ADMIN_KEY, x_caller_id="crowd"))
            for _ in range(CROWD)
        ]
        try:
            until_s = elapsed_s() + ARRIVED_WITHIN_S
            while sum(1 for _ in files.iterdir()) + sum(siege.statuses.values()) < CROWD:
                assert elapsed_s() < until_s, siege.statuses
                await asyncio.sleep(0.1)
            for _ in range(10):
                began_s = elapsed_s()
                late = asyncio.create_task(overslept_s())
                status, _, _ = await request("GET", f"{siege.url}/health")
                took_s = elapsed_s() - began_s
                assert (status, took_s - await late < MAX_HEALTH_S) == (200, True)
            status, _, _ = await request("POST", f"{siege.url}/chat", json={}, headers={"Admin-API-Key": ADMIN_KEY})
            assert status == 400
            assert (siege.worker_mb() - before_mb) * 1024 < MAX_KB_EACH * CROWD
        finally:
            for one in crowd:
                one.cancel()
            await asyncio.gather(*crowd, return_exceptions=True)
        assert not siege.statuses.keys() - {200}, siege.statuses
