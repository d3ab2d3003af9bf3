"""`make bench-waiting`: what a waiting request holds in memory, and how fast others are answered meanwhile, as Markdown.

One functions-framework process on the bundle. Its requests of 2 KB wait in the queue, where 15 exchanges with Gemini take all
slots, or on Gemini, where there is a slot for each: without TLS, which shows the gateway's own part, and with it. In the end
all of them must be answered with 200.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson

from tests.benchmarks.servers import (
    GATEWAY,
    HEADERS,
    UNLIMITED,
    BenchmarkError,
    Function,
    Served,
    compiled_bundle,
    cores,
    served,
    set_latency,
    upstream_with_tls,
)
from tests.support.https_site import certificate

WAITING = (100, 300, 1000)
GOAL_KB = 40.0
LONG_MS = 40_000
"""How long Gemini takes for what was sent before the figures are taken."""
SETTLE_S = 2.0
WARM = 16
"""Requests at once before the first figure: what a process allocates once is not a cost of waiting."""
ASKED = 20
_PATIENCE_S = 110.0
SLOTS = "15"
BODY = orjson.dumps({"model": "gemini-3.8-flash", "prompt": "A harbour at night, with boats, lamps and a dog. " * 41})
"""2 KB."""
OVER_TLS = "on Gemini over TLS, as deployed"
_SLOTS_FOR_ALL = {"GEMINI_CONCURRENCY_LIMIT": "1100", "MAX_CONNECTIONS": "1100"}
PLACES: Mapping[str, Mapping[str, str]] = {
    "in the queue": {"GEMINI_CONCURRENCY_LIMIT": SLOTS},
    "on Gemini": _SLOTS_FOR_ALL,
    OVER_TLS: _SLOTS_FOR_ALL,
}


@dataclass(frozen=True)
class Figures:
    """With `waiting` requests that wait in one place. Times are the median and the longest of ASKED, in ms."""

    waiting: int
    kb_each: float
    rss_mb: float
    health_ms: tuple[float, float]
    rejected_ms: tuple[float, float]
    """A request without a prompt, which is answered with 400."""
    answered_ms: tuple[float, float] | None
    """A request that Gemini answers at once; None where it would have to wait for a slot."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.waiting", description=(__doc__ or "").partition("\n")[0]
    )
    parser.parse_args(arguments)
    if not Path("/proc/self/status").exists():
        print("The benchmark reads the memory of another process as Linux tells it; run it there.")
        return 1
    own, other = cores()
    if other is not None:
        os.sched_setaffinity(0, {other})
    try:
        print(
            "| 2 KB each, waiting | requests | KB each | RSS | GET /health | a 400 | an answer |\n|---|---|---|---|---|---|---|"
        )
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            certificate_file = certificate("localhost", folder)
            with upstream_with_tls(other, certificate_file) as (plain, tls):
                bundle = compiled_bundle(folder)
                for number, (place, env) in enumerate(PLACES.items()):
                    given = {
                        **GATEWAY, **UNLIMITED, **env,
                        "GEMINI_TIER": "custom",
                        "GEMINI_BASE_URL": tls if place == OVER_TLS else plain,
                        "SSL_CERT_FILE": str(certificate_file),
                        "QUEUE_TIMEOUT_SECONDS": "120",
                        "LEDGER_URL": f"sqlite:///{folder / f'{number}.db'}",
                    }  # fmt: skip
                    with served(Function(place, "chat", bundle, given), BODY.decode(), own) as one:
                        for figures in asyncio.run(measure(one, plain)):
                            print(row(place, figures), flush=True)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def measure(one: Served, gemini: str) -> list[Figures]:
    """Raises BenchmarkError if a request is not answered with 200 in the end."""
    async with _client() as client:
        requests: list[asyncio.Task[int]] = []
        try:
            await _all_answered(_ask(client, one, WARM))
            before_mb, found = one.rss_mb(), []
            for waiting in WAITING:
                set_latency(gemini, LONG_MS)
                requests += _ask(client, one, waiting - len(requests))
                rss_mb = await _settled(one)
                set_latency(gemini, 0)
                found.append(await _with_waiting(client, one, waiting, (rss_mb - before_mb) * 1024, rss_mb))
                if early := sum(request.done() for request in requests):
                    raise BenchmarkError(
                        f"{early} of {waiting} requests were answered before the measurement ended: the machine is busy. "
                        "Repeat it when nothing else runs."
                    )
            await _all_answered(requests)
            return found
        finally:
            for request in requests:
                request.cancel()
            await asyncio.gather(*requests, return_exceptions=True)


async def _with_waiting(
    client: aiohttp.ClientSession, one: Served, waiting: int, held_kb: float, rss_mb: float
) -> Figures:
    has_slot = one.function.env["GEMINI_CONCURRENCY_LIMIT"] != SLOTS
    return Figures(
        waiting,
        held_kb / waiting,
        rss_mb,
        await _times_ms(client, "GET", f"{one.url}health", None, 200),
        await _times_ms(client, "POST", one.url, b"{}", 400),
        await _times_ms(client, "POST", one.url, BODY, 200) if has_slot else None,
    )


async def _settled(one: Served) -> float:
    """The memory in MB, once it has not grown for SETTLE_S: all requests have arrived."""
    most_mb, since_s = one.rss_mb(), time.perf_counter()
    while time.perf_counter() - since_s < SETTLE_S:
        await asyncio.sleep(0.1)
        now_mb = one.rss_mb()
        if now_mb > most_mb + 0.1:
            most_mb, since_s = now_mb, time.perf_counter()
    return one.rss_mb()


def _ask(client: aiohttp.ClientSession, one: Served, count: int) -> list[asyncio.Task[int]]:
    async def ask() -> int:
        async with client.post(one.url, data=BODY, headers=HEADERS) as response:
            await response.read()
            return response.status

    return [asyncio.create_task(ask()) for _ in range(count)]


@contextlib.asynccontextmanager
async def _client() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as client:
        yield client


async def _all_answered(requests: Sequence[asyncio.Task[int]]) -> None:
    statuses = await asyncio.gather(*requests, return_exceptions=True)
    if wrong := [status for status in statuses if status != 200]:
        raise BenchmarkError(
            f"{len(wrong)} of {len(requests)} requests were not answered with 200, the first: {wrong[0]!r}"
        )


async def _times_ms(
    client: aiohttp.ClientSession, method: str, url: str, body: bytes | None, status: int
) -> tuple[float, float]:
    times = []
    for _ in range(ASKED):
        began_s = time.perf_counter()
        async with client.request(method, url, data=body, headers=HEADERS) as response:
            content = await response.read()
            if response.status != status:
                raise BenchmarkError(f"{method} {url}: HTTP {response.status}: {content[:300]!r}")
        times.append(1000 * (time.perf_counter() - began_s))
    return sorted(times)[ASKED // 2], max(times)


def row(place: str, figures: Figures) -> str:
    kb = f"{figures.kb_each:.1f}"
    cells = [
        place,
        f"{figures.waiting:,}",
        kb if figures.kb_each <= GOAL_KB else f"**{kb}**",
        f"{figures.rss_mb:.0f} MB",
        *(
            "" if times is None else f"{times[0]:.1f} ms, {times[1]:.0f} at most"
            for times in (figures.health_ms, figures.rejected_ms, figures.answered_ms)
        ),
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
