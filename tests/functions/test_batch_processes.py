"""Two server processes on one store: one is killed while it carries a batch on, and the other one goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from functions.batch.carrying import WRITE_S
from shared.emulator import EmulatorConfig, running
from tests.support.processes import ADMIN, served

ITEMS, WORKERS, LATENCY_S = 60, 4, 0.2
PATIENCE_S = 300.0


async def read(url: str, found: list[dict[str, Any]], most: int = ITEMS, **rest: Any) -> dict[str, Any]:
    """Adds the results of a response to `found`, until there are `most`; returns the last line, or the error."""
    async with aiohttp.ClientSession() as session, session.post(url, headers=ADMIN, **rest) as response:
        line: dict[str, Any] = {}
        if response.status != 200:
            line = await response.json()
            return {"type": "error", "status": response.status, **line}
        async for raw in response.content:
            if not raw.strip():
                continue
            line = orjson.loads(raw)
            if line["type"] == "result":
                found.append(line)
            if len(found) >= most:
                break
        return line


async def test_a_killed_carrier_is_followed_by_another(tmp_path: Path) -> None:
    """No result twice, none lost; Gemini sees again only what was in flight, and the last second."""
    async with running(EmulatorConfig(latency_s=LATENCY_S)) as gemini:
        env = {
            "GEMINI_BASE_URL": gemini.url,
            "GEMINI_API_KEY": "AQ.key-of-the-server",
            "GEMINI_RPM": "unlimited",
            "LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db",
            "STORAGE_URL": f"file://{tmp_path}/storage",
        }
        found: list[dict[str, Any]] = []
        items = [{"prompt": f"number {number}"} for number in range(ITEMS)]
        async with served(env) as second:
            async with served(env) as first:
                body = {"batch_id": "b", "max_workers": WORKERS, "items": items}
                await read(f"{first.url}/batch", found, 12, json=body)
                first.process.kill()
                await first.ended()
            async with asyncio.timeout(PATIENCE_S):
                last: dict[str, Any] = {}
                while last.get("type") != "done":
                    last = await read(f"{second.url}/batch/b?after={len(found)}", found)
                    if last["type"] == "error":
                        assert (last["status"], last["error"]["code"]) == (409, "batch_busy")
                        await asyncio.sleep(1.0)
                    elif len(found) == ITEMS:
                        break
        assert sorted(line["index"] for line in found) == list(range(ITEMS))
        in_a_second = int(WORKERS * (WRITE_S + 1.0) / LATENCY_S)
        assert ITEMS <= gemini.stats()["requests"] <= ITEMS + WORKERS + in_a_second
