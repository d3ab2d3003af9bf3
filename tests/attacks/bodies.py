"""Large bodies of every kind, and what they do to a process: `python -m tests.attacks.bodies` prints a table.

Each is sent to a function under functions-framework's own command, with the budget of an instance of 512 MiB. Meanwhile an
innocent caller asks for /health again and again. Told are its longest wait, and the most memory that the worker had.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import struct
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from shared.emulator import EmulatorConfig, running
from tests.support.processes import ADMIN, Running, framework, request

SIZE_BYTES = 31_000_000
INSTANCE_BYTES = 512 << 20
BUDGET_MB = 85
"""What Terraform gives an instance of 512 MiB: a sixth."""
_PAUSE_S = 0.02
STRANGER = {"Authorization": "Bearer made-up-key-of-a-stranger"}


def _filled(head: bytes, unit: bytes, tail: bytes, size_bytes: int = SIZE_BYTES) -> bytes:
    """`unit` again and again; its last comma is left out."""
    return head + (unit * (size_bytes // len(unit))).rstrip(b",") + tail


def png(size_bytes: int) -> bytes:
    """A valid PNG of one pixel, filled up by a chunk of text that is no text."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    filler = chunk(b"teXt", b"Comment\0" + os.urandom(size_bytes))
    return b"\x89PNG\r\n\x1a\n" + head + filler + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


def image(size_bytes: int) -> bytes:
    return b'{"image":"%b"}' % base64.b64encode(png(size_bytes))


KINDS: dict[str, Callable[[], bytes]] = {
    "lists": lambda: _filled(b'{"prompt":"hi","a":[', b"[],", b"]}"),
    "objects": lambda: _filled(b'{"prompt":"hi","a":[', b'{"a":1},', b"]}"),
    "names": lambda: b'{"prompt":"hi",' + b",".join(b'"k%d":1' % n for n in range(2_400_000)) + b"}",
    "numbers": lambda: _filled(b'{"prompt":"hi","a":[', b"1,", b"]}"),
    "texts": lambda: _filled(b'{"prompt":"hi","a":[', b'"",', b"]}"),
    "parts": lambda: _filled(b'{"contents":[{"role":"user","parts":[', b'{"text":"x"},', b"]}]}"),
    "quotes": lambda: _filled(b'{"prompt":"hi","a":', b'"', b"}"),
    "prose": lambda: _filled(b'{"prompt":"', b"one, two: [three], ", b'"}'),
    "emoji": lambda: _filled('{"prompt":"\U0001f600'.encode(), b"one two ", b'"}'),
    "escapes": lambda: _filled(b'{"prompt":"', b'\\"', b'"}'),
    "control": lambda: _filled(b'{"prompt":"', b"\\u0001", b'"}'),
    "blanks": lambda: _filled(b'{"prompt":"', b" ", b'"}'),
    "most turns": lambda: _filled(
        b'{"contents":[', b'{"role":"user","parts":[{"text":"%b"}]},' % (b"x" * 560), b"]}", 50_000 * 600
    ),
    "most values": lambda: _filled(b'{"prompt":"%b","a":[' % (b"x" * 29_000_000), b'{"a":1},', b"]}", 8 * 160_000),
}
"""Bodies that the limits of a request's bytes let through."""


@dataclass
class Measured:
    """What an attack did. `statuses` are of its requests, None where the connection broke."""

    statuses: list[int | None] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)
    """Of the innocent caller's requests."""
    failures: int = 0
    """Of the innocent caller's requests."""
    peak_bytes: int = 0
    """The most that the worker had in memory since it started."""

    @property
    def longest_s(self) -> float:
        return max(self.waits_s, default=0.0)


@asynccontextmanager
async def attacked(target: str, **env: str) -> AsyncIterator[Running]:
    """The function, with an upstream that answers everything."""
    async with running(EmulatorConfig()) as gemini:
        given = {
            "GEMINI_BASE_URL": gemini.url,
            "GEMINI_API_KEY": "AQ.key-of-the-server",
            "QUEUE_MAX_MB": str(BUDGET_MB),
        }
        unlimited = {"GEMINI_TPM": "unlimited", "LOG_LEVEL": "error"}
        source = f"functions/{target}/main.py"
        async with framework(target, source, {**given, **unlimited, **env}, own_group=True) as server:
            await request("GET", f"{server.url}/health")  # The first request makes the process's services.
            yield server


async def measure(
    server: Running, requests: Sequence[Callable[[], object]], path: str, headers: dict[str, str]
) -> Measured:
    """`requests`: the bodies, made when they are sent: bytes, or an iterator of chunks."""
    measured, over = Measured(), asyncio.Event()
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        innocent = asyncio.create_task(_innocent(server, measured, over))
        given = {"Content-Type": "application/json", **headers}

        async def send(body: Callable[[], object]) -> int | None:
            try:
                async with session.post(server.url + path, data=body(), headers=given) as response:
                    await response.read()
                    return response.status
            except (aiohttp.ClientError, OSError, TimeoutError):
                return None

        measured.statuses = list(await asyncio.gather(*map(send, requests)))
        over.set()
        await innocent
    measured.peak_bytes = max(map(_peak_bytes, descendants(server.process.pid)), default=0)
    return measured


async def _innocent(server: Running, measured: Measured, over: asyncio.Event) -> None:
    """In a process of its own, so that this one's work does not count as the server's."""
    code = (
        "import sys,time,http.client\n"
        "host=sys.argv[1]\n"
        "connection=http.client.HTTPConnection(host,timeout=60)\n"
        "while True:\n"
        " began=time.perf_counter()\n"
        " try:\n"
        "  connection.request('GET','/health'); response=connection.getresponse(); response.read(); ok=response.status==200\n"
        " except OSError: connection.close(); ok=False\n"
        f" print(ok,time.perf_counter()-began,flush=True); time.sleep({_PAUSE_S})\n"
    )
    host = server.url.removeprefix("http://")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, host, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    ending = asyncio.create_task(over.wait())
    try:
        while True:
            reading = asyncio.create_task(process.stdout.readline())
            await asyncio.wait([reading, ending], return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                # The one that is under way counts too.
                await asyncio.wait([reading], timeout=60)
            ok, _, wait_s = reading.result().decode().partition(" ")
            if ok:
                measured.waits_s.append(float(wait_s))
                measured.failures += ok != "True"
            if over.is_set():
                break
    finally:
        ending.cancel()
        process.kill()
        await process.wait()


def descendants(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def _peak_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


async def _table(chosen: Sequence[str]) -> None:
    rows: list[tuple[str, str, list[Callable[[], object]], dict[str, str]]] = [
        (f"{name}, {who}", "chat", [make], headers)
        for name, make in KINDS.items()
        for who, headers in (("stranger", STRANGER), ("admin", ADMIN))
    ]
    for size_mb in (7, 10, 20):
        rows.append((f"image {size_mb} MB", "image_analysis", [lambda size=size_mb: image(size * 10**6)], ADMIN))
    rows.append(("40 x prose, admin", "chat", [KINDS["prose"]] * 40, ADMIN))
    rows.append(("40 x lists, stranger", "chat", [KINDS["lists"]] * 40, STRANGER))
    rows.append(("40 x image 20 MB", "image_analysis", [lambda: image(20_000_000)] * 40, STRANGER))
    rows.append(("40 x endless, stranger", "chat", [endless] * 40, {}))
    for name, target, makers, headers in rows:
        if chosen and not any(one in name for one in chosen):
            continue
        async with attacked(target) as server:
            bodies = [make() for make in dict.fromkeys(makers)]
            made = [(lambda body=bodies[0]: body) if make is not endless else make for make in makers]
            result = await measure(server, made, f"/{target.replace('_', '-')}", headers)
            counts = {status: result.statuses.count(status) for status in dict.fromkeys(result.statuses)}
            print(
                f"{name:24} {counts!s:40} longest {result.longest_s * 1000:6.0f} ms  peak {result.peak_bytes >> 20:5} MB",
                flush=True,
            )


async def endless(most_bytes: int = 30_000_000, pause_s: float = 12.0) -> AsyncIterator[bytes]:
    """A body that never ends: all of its bytes at once, and then one a second."""
    for _ in range(most_bytes // 65536):
        yield b" " * 65536
    while True:
        await asyncio.sleep(1)
        yield b" "


if __name__ == "__main__":
    asyncio.run(_table(sys.argv[1:]))
