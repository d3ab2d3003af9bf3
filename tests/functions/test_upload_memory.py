"""An upload takes a bounded amount of memory, however large the file is."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from tests.support.edge import ADMIN
from tests.support.folder_services import MULTIPART, files_in
from tests.support.processes import Running, served

MIB = 1024 * 1024
SIZE_BYTES = 90 * MIB
HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="film.mp4"\r\n\r\n\0\0\0\x20ftypisom'
MAX_GROWTH_MB = 20


async def film(size_bytes: int) -> AsyncIterator[bytes]:
    yield HEAD
    for _ in range(size_bytes // MIB):
        yield bytes(MIB)
    yield b"\r\n--b--\r\n"


def memory_mb(server: Running, name: str) -> float:
    """VmRSS: now. VmHWM: the most since `forget_peak`."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.M)
    assert found is not None, status
    return int(found[1]) / 1024


def forget_peak(server: Running) -> None:
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")


async def test_90_mb_raise_the_memory_by_less_than_20_mb(tmp_path: Path) -> None:
    """Measured in the process that serves, after it has served the first, small upload."""
    async with (
        served({"STORAGE_URL": f"file://{tmp_path}", "LEDGER_URL": "memory://"}) as server,
        aiohttp.ClientSession(server.url, headers={**ADMIN, "content-type": MULTIPART}) as session,
    ):
        for size_bytes in (MIB, SIZE_BYTES):
            before_mb = memory_mb(server, "VmRSS")
            await asyncio.to_thread(forget_peak, server)
            async with session.post("/upload", data=film(size_bytes)) as answer:
                body = await answer.json()
                assert (answer.status, body["type"]) == (200, "video/mp4"), body
            peak_mb = memory_mb(server, "VmHWM")
    assert body["size_bytes"] == SIZE_BYTES + 12
    assert sum(path.stat().st_size for path in files_in(tmp_path)) > SIZE_BYTES
    assert peak_mb - before_mb < MAX_GROWTH_MB
