"""Callers who leave at every phase of a request, from a Gemini that works on for them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from random import Random
from typing import Any

import orjson

from tests.attacks.siege import Siege, besieged
from tests.support.processes import ADMIN_KEY

SEED = int(os.environ.get("ATTACK_SEED", "1"))
LEAVERS, AT_ONCE = 1_200, 40
LATENCY_MS = 150
MAX_FLOODS = 10
OWN_KEYS = [f"AQ.own-key-{number}-of-a-caller" for number in range(3)]


def a_request(dice: Random) -> bytes:
    body: dict[str, Any] = {"prompt": f"Hello [[latency:{LATENCY_MS}]]", "stream": dice.random() < 0.5}
    credential = f"Admin-API-Key: {ADMIN_KEY}"
    if dice.random() < 0.3:
        credential = f"x-goog-api-key: {dice.choice(OWN_KEYS)}"
    data = orjson.dumps(body)
    lines = ["POST /chat HTTP/1.1", "Host: x", "Content-Type: application/json", credential]
    return ("\r\n".join([*lines, f"Content-Length: {len(data)}"]) + "\r\n\r\n").encode() + data


async def leave(siege: Siege, dice: Random) -> None:
    """Goes in the middle of sending, or some time after it: in the queue, while Gemini works, while it answers."""
    data = a_request(dice)
    try:
        async with siege.connection() as (reader, writer):
            if dice.random() < 0.1:
                writer.write(data[: dice.randrange(len(data))])
                return
            writer.write(data)
            await asyncio.sleep(dice.choice([0.0, 0.005, 0.05, LATENCY_MS / 1000, 0.3]) * dice.uniform(0.5, 1.5))
            if dice.random() < 0.2:
                writer.write_eof()  # Goes with a FIN and not with a reset.
                await asyncio.wait_for(reader.read(1), 0.05)
    except (OSError, TimeoutError):
        pass  # The server was faster.


async def flood(siege: Siege, first: int) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with gate:
            await leave(siege, Random(f"{SEED} {number}"))

    await asyncio.gather(*(one(number) for number in range(first, first + LEAVERS)))


async def test_leavers_free_no_slot_that_gemini_still_uses(unpacked: Path, tmp_path: Path) -> None:
    async with besieged("chat", unpacked, tmp_path, latency_ms=LATENCY_MS, GEMINI_CANCELS="0") as siege:
        async with siege.watched():
            # On a busy machine most callers of a flood have left before their request is with Gemini.
            for at in range(MAX_FLOODS):
                await flood(siege, at * LEAVERS)
                stats = await siege.gemini_stats()
                if stats["disconnects"] > LEAVERS / 10:
                    break
        assert stats["disconnects"] > LEAVERS / 10, "few left while Gemini worked: this attacks nothing"
        # More than half of C was in use: the limit was in reach.
        assert max(project["max_open"] for project in stats["projects"].values()) > 7
