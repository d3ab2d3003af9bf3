"""The library beside two gateways that answer people, all on one ledger: how long people wait, and how much is used."""

from __future__ import annotations

import asyncio
import random
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

from tests.benchmarks.parallel.__main__ import MODEL, offline_gemini, settings, stats
from tests.benchmarks.parallel.arrivals import seen
from tests.support.processes import ADMIN, served

RPM, INTERACTIVE, GATEWAYS, WORKERS = 1_200, 0.2, 2, 64
WINDOWS = 4
_QUEUE = re.compile(r"queue;dur=([0-9.]+)")


@asynccontextmanager
async def gateways(env: dict[str, str]) -> AsyncIterator[list[str]]:
    async with AsyncExitStack() as stack:
        running = [await stack.enter_async_context(served(env)) for _ in range(GATEWAYS)]
        yield [one.url for one in running]


async def people(urls: list[str], per_s: float, seconds: float) -> list[float]:
    """Requests at random times; how long each waited for its turn (s). A rejected one waited for as long as it may."""
    chance, waits, tasks = random.Random(3), list[float](), list[asyncio.Task[None]]()
    async with aiohttp.ClientSession() as session:

        async def ask(url: str) -> None:
            body = {"prompt": "Hello", "model": MODEL}
            async with session.post(f"{url}/chat", json=body, headers=ADMIN) as response:
                found = _QUEUE.search(response.headers.get("server-timing", ""))
                waits.append(float(found[1]) / 1000 if response.status == 200 and found else 30.0)

        loop = asyncio.get_running_loop()
        end_s = loop.time() + seconds
        while loop.time() < end_s:
            await asyncio.sleep(chance.expovariate(per_s))
            tasks.append(asyncio.create_task(ask(chance.choice(urls))))
        await asyncio.gather(*tasks)
    return waits


async def _beside(folder: Path, window_s: float) -> None:
    rpm = int(RPM * window_s / 60)
    with offline_gemini(window_s, RPM=str(rpm)) as gemini:
        env = settings(
            gemini,
            f"sqlite:///{folder}/beside.db",
            GEMINI_RPM=str(rpm),
            LEDGER_WINDOW_SECONDS=str(window_s),
            ADMIN_API_KEY=ADMIN["Admin-API-Key"],
            PORT="0",
        )
        async with gateways(env) as urls:
            seconds = WINDOWS * window_s
            count = int(rpm * (1 - INTERACTIVE) * (WINDOWS + 1))
            batch = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.benchmarks.parallel.ours",
                str(count),
                str(WORKERS),
                env=env,
                stdout=asyncio.subprocess.PIPE,
            )
            waits = sorted(await people(urls, rpm * INTERACTIVE / window_s, seconds))
            assert batch.returncode is None, "the batch ended before the people: it failed, or had too few prompts"
            batch.terminate()
            await batch.communicate()
        found = seen(stats(gemini), MODEL, rpm, until_s=seconds)
    assert found.most_in_a_window <= rpm, f"{found.most_in_a_window} of {rpm} in a window"
    share = "-" if found.used is None else f"{100 * found.used:.2f} %"
    p50, p99 = waits[len(waits) // 2], waits[int(len(waits) * 0.99)]
    print(
        f"beside {GATEWAYS} gateways: {len(waits)} interactive requests waited p50 {p50:.3f} s, p99 {p99:.3f} s, at most "
        f"{waits[-1]:.3f} s; {found.admitted:,} requests in all, {found.rejected} rejected by Gemini, {share} of the limit used "
        f"after the first window, at most {found.most_in_a_window:,} of {rpm:,} in any window",
        flush=True,
    )


def beside_gateways(folder: Path, window_s: float) -> None:
    asyncio.run(_beside(folder, window_s))
