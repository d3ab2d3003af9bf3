"""Many open streams on one process: all of them complete, some read slowly, memory is bounded, and no slot stays taken."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pytest

from shared.bounds.open_files import raise_open_files
from shared.clock import elapsed_s
from shared.emulator import EmulatorConfig, running
from shared.ledger.packing import unpack
from shared.stores.sqlite import SqliteStore
from tests.support.checkout import unpacked_bundle
from tests.support.processes import ADMIN_KEY, ROOT, Running, framework
from tests.support.whole_path import eventually

STREAMS, SLOW, EVENTS = 500, 50, 20
GAP_S = 0.5
"""Between two frames of one answer: 1,000 events/s in all."""
SLOW_BYTES_S = 2048
MAX_RSS_MB = 300.0
PROJECT = "open-streams"
ENV = {
    "GEMINI_API_KEY": "AQ.key-of-the-server",
    "GEMINI_API_KEY_PROJECT": PROJECT,
    "GEMINI_CANCELS": "1",
    "GEMINI_CONCURRENCY_LIMIT": str(STREAMS + 100),
    "MAX_CONNECTIONS": str(STREAMS + 100),
    **{f"GEMINI_{limit}": "unlimited" for limit in ("RPM", "TPM", "RPD")},
}


def asked(number: int) -> bytes:
    body = orjson.dumps({"prompt": f"{number} [[words:1500]] [[frames:{EVENTS}]]", "stream": True})
    head = (
        f"POST /chat HTTP/1.1\r\nHost: gateway\r\nAdmin-API-Key: {ADMIN_KEY}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def received(url: str, request: bytes, bytes_s: float | None) -> bytes:
    """The whole response, read as fast as `bytes_s` says."""
    loop, address, data = asyncio.get_running_loop(), urlsplit(url), b""
    with socket.socket() as caller:
        if bytes_s is not None:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        caller.setblocking(False)
        await loop.sock_connect(caller, (address.hostname or "", address.port or 0))
        await loop.sock_sendall(caller, request)
        while not data.endswith(b"\r\n0\r\n\r\n"):
            piece = await asyncio.wait_for(loop.sock_recv(caller, 65536 if bytes_s is None else 512), 60)
            if not piece:
                break
            data += piece
            if bytes_s is not None:
                await asyncio.sleep(len(piece) / bytes_s)
    return data


def events(response: bytes) -> int:
    """The number of events of a whole stream; 0 for any other response."""
    whole = response.startswith(b"HTTP/1.1 200 ") and b'"done":true' in response and response.endswith(b"\r\n0\r\n\r\n")
    return len(re.findall(rb"\ndata: ", response)) if whole else 0


def peak_rss_mb(server: Running) -> float:
    """Of the worker: functions-framework's own process waits beside it."""
    pid = server.process.pid
    (worker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{worker}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


@pytest.mark.heavy
async def test_500_open_streams_complete_in_bounded_memory(tmp_path: Path) -> None:
    raise_open_files()
    bundle = unpacked_bundle(ROOT, tmp_path)
    ledger = tmp_path / "ledger.db"
    async with running(EmulatorConfig(chunk_delay_s=GAP_S)) as gemini:
        env = {**ENV, "GEMINI_BASE_URL": gemini.url, "LEDGER_URL": f"sqlite:///{ledger}"}
        async with framework("chat", "main.py", env, bundle, isolated=True) as server:
            responses: Sequence[bytes] = await asyncio.gather(
                *(
                    received(server.url, asked(number), SLOW_BYTES_S if number < SLOW else None)
                    for number in range(STREAMS)
                )
            )
            rss_mb = peak_rss_mb(server)
            seen = gemini.stats()
            await eventually(lambda: gemini.stats()["open"] == 0)
            slots = await slots_left(ledger)
    counted = [events(response) for response in responses]
    assert counted == [EVENTS] * STREAMS
    assert max(project["max_open"] for project in seen["projects"].values()) == STREAMS, "they were not open at once"
    assert (rss_mb < MAX_RSS_MB, slots) == (True, 0), f"{rss_mb:.0f} MB at most, {slots} slots left"


async def slots_left(ledger: Path) -> int:
    """The slots that are still taken when the process has returned what it does not need any more."""
    store, until_s = SqliteStore(ledger), elapsed_s() + 30
    (key,) = await store.list("ledger/")
    while True:
        blob = (await store.read(key)).value
        assert blob is not None
        slots = sum(lease.slots for lease in unpack(blob).leases.values())
        if not slots or elapsed_s() > until_s:
            await store.aclose()
            return slots
        await asyncio.sleep(0.2)
