"""Floods of made-up keys, of callers' own keys and of addresses: each takes only what nobody else would use."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

from tests.attacks.siege import Siege, besieged

SEED = int(os.environ.get("ATTACK_SEED", "1"))
FLOOD, AT_ONCE = 500, 16


async def at_once(count: int, one: Callable[[int], Awaitable[object]], width: int = AT_ONCE) -> None:
    gate = asyncio.Semaphore(width)

    async def gated(number: int) -> None:
        async with gate:
            await one(number)

    await asyncio.gather(*(gated(number) for number in range(count)))


def made_up_key(dice: Random) -> dict[str, str]:
    """Of every form, in every place. Those with `invalid` in them are what Gemini refuses."""
    key = dice.choice(["invalid-", "AIzainvalid", "AQ.invalid"]) + f"{dice.getrandbits(30):0{dice.choice([8, 30])}x}"
    place = dice.choice(["x_goog_api_key", "authorization"])
    return {place: f"Bearer {key}" if place == "authorization" else key}


async def test_made_up_keys(unpacked: Path, tmp_path: Path) -> None:
    async with besieged("chat", unpacked, tmp_path) as siege:
        async with siege.watched():

            async def one(number: int) -> None:
                dice = Random(f"{SEED} {number}")
                if dice.random() < 0.2:
                    await siege.post({"prompt": "Hi", "credentials": {"gemini_api_key": f"invalid-{number}-made-up"}})
                elif dice.random() < 0.2:
                    await siege.post({"prompt": "Hi"}, admin_api_key=f"wrong-{number}-{'x' * 20}")
                else:
                    await siege.post({"prompt": "Hi"}, **made_up_key(dice))

            await at_once(FLOOD, one)
        assert siege.statuses[401] > FLOOD / 2
        assert siege.statuses[200] == 5, "only the five that came before the attack"


async def test_own_keys_with_slow_answers(unpacked: Path, tmp_path: Path) -> None:
    """More of them than there are connections to Gemini, each for longer than an innocent caller waits."""
    async with besieged("chat", unpacked, tmp_path, REQUEST_TIMEOUT_SECONDS="5") as siege, siege.watched():

        async def one(number: int) -> None:
            key = f"AQ.own-key-{number % 10}-of-a-caller"
            await siege.post({"prompt": "Hello [[fault:hang]]"}, x_goog_api_key=key)

        await at_once(110, one, 110)


async def test_one_own_key_with_large_bodies(unpacked: Path, tmp_path: Path) -> None:
    """Its own slots are busy, and what waits for them fills what the queue has for it."""
    large = "x" * (4 << 20)
    async with besieged("chat", unpacked, tmp_path, REQUEST_TIMEOUT_SECONDS="5") as siege, siege.watched():
        key = {"x_goog_api_key": "AQ.own-key-of-one-caller"}
        async with asyncio.TaskGroup() as tasks:
            for _ in range(15):
                tasks.create_task(siege.post({"prompt": "Hello [[fault:hang]]"}, **key))
            await asyncio.sleep(0.5)
            for _ in range(24):
                tasks.create_task(siege.post({"prompt": large}, **key))


def address(dice: Random) -> str:
    """Any at all, or one of a /64 that one machine has."""
    if dice.random() < 0.5:
        return str(ipaddress.IPv6Address((0x20010DB800000000 << 64) | dice.getrandbits(64)))
    if dice.random() < 0.5:
        return str(ipaddress.IPv6Address((0x2001 << 112) | dice.getrandbits(112)))
    return str(ipaddress.IPv4Address(dice.getrandbits(32)))


async def from_addresses(siege: Siege, count: int) -> None:
    async def one(number: int) -> None:
        dice = Random(f"address {SEED} {number}")
        headers = {"x_forwarded_for": f"{address(dice)}, {address(dice)}"}
        if dice.random() < 0.3:
            headers |= {"admin_api_key": "a-wrong-admin-key-of-20"}
        await siege.post({"prompt": "Hello"}, **headers)

    await at_once(count, one)


async def test_many_addresses(unpacked: Path, tmp_path: Path) -> None:
    """As Google's front end passes them on, and without a credential. One network has one rate, whatever its addresses."""
    deployed = {"K_SERVICE": "generate-text", "GOOGLE_CLOUD_PROJECT": "a-project", "ALLOW_ANONYMOUS": "generate_text"}
    async with besieged("generate_text", unpacked, tmp_path, **deployed) as siege:
        async with siege.watched():
            await from_addresses(siege, FLOOD)
        assert siege.statuses[429] > 0, "a /64 sent more than a caller's rate, and all of it was served"
