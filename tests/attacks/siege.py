"""A function from the built bundle under attack: what its memory, its innocent caller and its ledger must show.

Gemini is strict here: it refuses what is beyond the limits, and works on for callers who left.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from shared.clock import elapsed_s
from shared.ledger.packing import unpack
from shared.ledger.slots import free_what_is_over
from shared.stores.sqlite import SqliteStore
from tests.attacks.innocent import Experience
from tests.support.processes import Running, framework, request, started
from tests.support.tied import free_port

log = logging.getLogger(__name__)

MEMORY_MB = 512
"""Of a deployed function (endpoint.json)."""
# The process is no cgroup's: it is told the budget that it would find in an instance of this size.
MAX_WAIT_S = 3.0 if os.environ.get("CI") else 0.3
"""What an innocent caller may wait beyond what the machine itself was late by."""
NOTHING_HELD_AFTER_S = 15.0
SERVER_KEY = "AQ.a-key-of-the-server"
C = 15
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
INNOCENT: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/chat", {"prompt": "Hello"}),
    "generate_text": ("/generate_text", {"prompt": "Hello"}),
    "image_analysis": ("/image-analysis", {"image": PIXEL}),
    "structured_output": (
        "/structured-output",
        {"user_content": "Hello", "system_prompt": "Answer.", "json_schema": {"type": "object"}},
    ),
}


@dataclass(slots=True)
class Siege:
    """`statuses` counts what attackers were answered; 0: their connection was closed."""

    url: str
    innocent: tuple[str, dict[str, Any]]
    server: Running
    gemini: Running
    ledger_path: Path
    statuses: Counter[int] = field(default_factory=Counter)
    peak_mb: float = 0.0

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def path(self) -> str:
        return self.innocent[0]

    # -- attacking ---------------------------------------------------------------------------------------------------

    async def post(self, body: bytes | dict[str, Any], timeout_s: float = 30.0, **headers: str) -> int:
        """One attacker's request, and its status; how it fares is nobody's concern, unless it shows a defect."""
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        given = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        status = 0
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(self.url + self.path, data=data, headers=given) as response,
            ):
                status = response.status
                await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass
        self.statuses[status] += 1
        return status

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            if (transport := writer.transport) is not None:
                transport.abort()

    # -- judging -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """While the block attacks, an innocent caller is served, and the processes stay within their memory. The caller was
        answered before the block begins, and goes on after it until it has been answered often enough."""
        url, body = self.url + self.innocent[0], orjson.dumps(self.innocent[1]).decode()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.attacks.innocent", url, body,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        before = set(_tree(self.server.process.pid))
        try:
            assert process.stdout is not None
            assert await process.stdout.readline(), "the innocent caller did not begin"
            yield
        finally:
            assert process.stdin is not None
            process.stdin.close()
            output, _ = await process.communicate()
        seen = Experience(**orjson.loads(output))
        after = set(_tree(self.server.process.pid))
        self.peak_mb = _together_mb(after)
        log.info("an innocent caller waited %.2f s at most, the machine was %.2f s late", seen.longest_s, seen.late_s)
        assert before <= after, f"a process ended:\n{self.server.output[-2000:]}"
        assert not seen.wrong, f"{len(seen.wrong or ())} of its requests were not answered: {(seen.wrong or ())[:3]}"
        assert self.peak_mb < MEMORY_MB, f"{self.peak_mb:.0f} MB at the peak"
        assert seen.longest_s - seen.late_s <= MAX_WAIT_S, f"an innocent caller waited {seen.longest_s:.2f} s"
        assert not any(status == 500 for status in self.statuses), f"a defect shows: {self.statuses}"

    def worker(self) -> Path:
        """/proc/PID of the process that serves."""
        pid = max(_tree(self.server.process.pid), key=lambda pid: _mb(f"/proc/{pid}/status", "VmHWM:"))
        return Path(f"/proc/{pid}")

    def worker_mb(self) -> float:
        return _mb(str(self.worker() / "status"), "VmRSS:")

    async def gemini_stats(self) -> dict[str, Any]:
        _, _, stats = await request("GET", f"{self.gemini.url}/stats")
        assert isinstance(stats, dict)
        return stats

    async def assert_limits_were_kept(self) -> None:
        """Strict Gemini refused nothing for want of a quota, at no time."""
        refused = (await self.gemini_stats())["refused"]
        assert not {"concurrency", "requests", "tokens", "images", "day"} & refused.keys(), refused

    async def assert_nothing_stays_held(self) -> None:
        until_s = elapsed_s() + NOTHING_HELD_AFTER_S
        while held := await self._held():
            assert elapsed_s() < until_s, f"after {NOTHING_HELD_AFTER_S:.0f} s held: {held}"
            await asyncio.sleep(0.25)

    async def _held(self) -> list[str]:
        store = SqliteStore(str(self.ledger_path))
        try:
            held = []
            for key in await store.list("ledger/"):
                reading = await store.read(key)
                assert reading.value is not None
                state = unpack(reading.value)
                free_what_is_over(state, int(reading.sample.server_ms))
                booked = any(share.bookings for lease in state.leases.values() for share in lease.shares.values())
                slots = sum(lease.slots for lease in state.leases.values())
                if slots or booked:
                    held.append(f"{key}: {slots} slots, booked: {booked}")
            return held
        finally:
            await store.aclose()


@asynccontextmanager
async def besieged(
    function: str, unpacked: Path, folder: Path, *, latency_ms: int = 20, **env: str
) -> AsyncIterator[Siege]:
    """The function as it is deployed, with Gemini beside it. When the block ends, the limits were kept, and soon nothing is
    held."""
    gemini_env = {
        "EMULATOR_LATENCY_MS": str(latency_ms), "EMULATOR_CHUNK_DELAY_MS": "5", "EMULATOR_CONCURRENCY": str(C),
        "EMULATOR_CANCELS": "0",
    }  # fmt: skip
    ledger = folder / f"{function}.db"
    unlimited = dict.fromkeys(("GEMINI_RPM", "GEMINI_TPM", "GEMINI_RPD"), "unlimited")
    port = free_port()
    arguments = [sys.executable, "-m", "shared.emulator", "--port", str(port)]
    given = {
        "GEMINI_BASE_URL": f"http://127.0.0.1:{port}", "GEMINI_API_KEY": SERVER_KEY, "GEMINI_CONCURRENCY_LIMIT": str(C),
        "LEDGER_URL": f"sqlite:///{ledger}", "LOG_LEVEL": "WARNING", "REQUEST_TIMEOUT_SECONDS": "20",
        "QUEUE_MAX_MB": str(MEMORY_MB // 6), **unlimited, **env,
    }  # fmt: skip
    async with AsyncExitStack() as stack:
        async with asyncio.TaskGroup() as starting:
            gemini = starting.create_task(
                stack.enter_async_context(started(arguments, gemini_env, ready=r"^offline Gemini on (\S+)"))
            )
            server = starting.create_task(
                stack.enter_async_context(
                    framework(function, "main.py", given, unpacked, isolated=True, own_group=True)
                )
            )
        siege = Siege(server.result().url, INNOCENT[function], server.result(), gemini.result(), ledger)
        for _ in range(5):  # The first request imports and connects: not what is to be measured.
            status = await siege.post(siege.innocent[1], admin_api_key="admin-key-of-the-tests")
            assert status == 200, siege.server.output
        yield siege
        await siege.assert_limits_were_kept()
        await siege.assert_nothing_stays_held()


def _tree(pid: int) -> Iterable[int]:
    """A process and its descendants."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _tree(int(child))


def _together_mb(pids: Iterable[int]) -> float:
    """The largest resident set that the worker ever had, and what the other processes do not share with it."""
    peaks = {pid: _mb(f"/proc/{pid}/status", "VmHWM:") for pid in pids}
    worker = max(peaks, key=lambda pid: peaks[pid])
    return peaks[worker] + sum(_mb(f"/proc/{pid}/smaps_rollup", "Private_") for pid in peaks if pid != worker)


def _mb(file: str, field_name: str) -> float:
    lines = Path(file).read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(field_name)) / 1024
