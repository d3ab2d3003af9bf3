"""Many open streams on one process: all of them complete, some read slowly, memory is bounded, and no slot stays taken."""

from __future__ import annotations

import asyncio
import re
import socket
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import orjson
import pytest

from shared.bounds.open_files import raise_open_files
from shared.clock import elapsed_s
from shared.emulator import Emulator, EmulatorConfig, running
from shared.ledger.packing import unpack
from shared.sessions.live import POLL_S
from shared.stores.memory import MemoryStore
from shared.stores.port import Outcome, Reading, Step
from shared.stores.sqlite import SqliteStore
from tests.support.checkout import unpacked_bundle
from tests.support.processes import ADMIN_KEY, ROOT, Running, framework
from tests.support.whole_path import eventually, whole_path

STREAMS, SLOW, EVENTS = 500, 50, 20
GAP_S = 1.0
"""Between two frames of one answer: 500 events/s in all. No answer ends before the last one has begun."""
SLOW_BYTES_S = 2048
MAX_RSS_MB = 300.0
UNLIMITED = {f"GEMINI_{limit}": "unlimited" for limit in ("RPM", "TPM", "RPD")}
ROOM = {
    **UNLIMITED,
    "GEMINI_CANCELS": "1",
    "GEMINI_CONCURRENCY_LIMIT": str(STREAMS + 100),
    "MAX_CONNECTIONS": str(STREAMS + 100),
}
T = TypeVar("T")


def http(method: str, path: str, caller: int, body: object = None) -> bytes:
    content = b"" if body is None else orjson.dumps(body)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: gateway\r\nAdmin-API-Key: {ADMIN_KEY}\r\nx-caller-id: caller-{caller}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def received(url: str, request: bytes, bytes_s: float | None = None) -> bytes:
    """The whole response, read as fast as `bytes_s` says; None: at once."""
    loop, address, data = asyncio.get_running_loop(), urlsplit(url), b""
    with socket.socket() as caller:
        if bytes_s is not None:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        caller.setblocking(False)
        await loop.sock_connect(caller, (address.hostname or "", address.port or 0))
        await loop.sock_sendall(caller, request)
        while not data.endswith(b"\r\n0\r\n\r\n" if b"text/event-stream" in data[:1000] else b"}"):
            piece = await asyncio.wait_for(loop.sock_recv(caller, 65536 if bytes_s is None else 512), 60)
            if not piece:
                break
            data += piece
            if bytes_s is not None:
                await asyncio.sleep(len(piece) / bytes_s)
    return data


def prompt_of(number: int) -> str:
    """The first callers read slowly, and their answers take longer to read than to generate."""
    return f"{number} [[fault:slow@{GAP_S}]] [[words:{12_000 if number < SLOW else 1500}]] [[frames:{EVENTS + 1}]]"


async def store_messages(url: str) -> None:
    """One of each caller, in the caller's own session."""
    requests = [http("POST", "/chat", number, {"message": prompt_of(number)}) for number in range(STREAMS)]
    stored = await asyncio.gather(*(received(url, request) for request in requests))
    assert {response[:13] for response in stored} == {b"HTTP/1.1 200 "}


def stream_of(function: str, number: int) -> bytes:
    if function == "sessions":
        return http("GET", "/stream", number)
    return http("POST", "/chat", number, {"prompt": prompt_of(number), "stream": True})


def texts(response: bytes) -> int:
    """The number of texts of a whole stream; 0 for any other response."""
    whole = response.startswith(b"HTTP/1.1 200 ") and b'"done":true' in response and response.endswith(b"\r\n0\r\n\r\n")
    return len(re.findall(rb'\n(?:event: message\n|data: {"text":)', response)) if whole else 0


async def assert_all_complete(function: str, url: str, gemini: Emulator) -> None:
    if function == "sessions":
        await store_messages(url)
    responses: Sequence[bytes] = await asyncio.gather(
        *(received(url, stream_of(function, n), SLOW_BYTES_S if n < SLOW else None) for n in range(STREAMS))
    )
    assert Counter(map(texts, responses)) == {EVENTS: STREAMS}
    seen = gemini.stats()
    assert sum(project["max_open"] for project in seen["projects"].values()) == STREAMS, "they were not open at once"
    assert seen["requests"] == STREAMS
    await eventually(lambda: gemini.stats()["open"] == 0)


def peak_rss_mb(server: Running) -> float:
    """Of the worker: functions-framework's own process waits beside it."""
    pid = server.process.pid
    (worker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{worker}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


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


@pytest.mark.heavy
@pytest.mark.parametrize("function", ["chat", "sessions"])
async def test_500_open_streams_complete_in_bounded_memory(tmp_path: Path, function: str) -> None:
    raise_open_files()
    bundle, ledger = unpacked_bundle(ROOT, tmp_path), tmp_path / "ledger.db"
    async with running(EmulatorConfig()) as gemini:
        given = {
            "GEMINI_API_KEY": "AQ.key-of-the-server",
            "GEMINI_BASE_URL": gemini.url,
            "LEDGER_URL": f"sqlite:///{ledger}",
        }
        async with framework(function, "main.py", {**ROOM, **given}, bundle, isolated=True) as server:
            await assert_all_complete(function, server.url, gemini)
            rss_mb, slots = peak_rss_mb(server), await slots_left(ledger)
    assert (rss_mb < MAX_RSS_MB, slots) == (True, 0), f"{rss_mb:.0f} MB at most, {slots} slots left"


class Counted(MemoryStore):
    """Counts commits and transactions without one by the collection of their first key."""

    def __init__(self) -> None:
        super().__init__()
        self.writes, self.reads = Counter[str](), Counter[str]()

    async def transact(
        self, keys: Sequence[str], step: Step[T], *, cached: bool = False, timeout_s: float = 5.0
    ) -> Outcome[T]:
        outcome = await super().transact(keys, step, cached=cached, timeout_s=timeout_s)
        counts = self.writes if outcome.writes else self.reads
        counts[keys[0].partition("/")[0]] += outcome.writes or 1
        return outcome

    async def read(self, key: str, *, timeout_s: float = 5.0) -> Reading:
        self.reads[key.partition("/")[0]] += 1
        return await super().read(key, timeout_s=timeout_s)


@pytest.mark.heavy
async def test_500_turns_are_written_three_times_each() -> None:
    """While they stream, the instance reads its marks twice a second, however many they are."""
    raise_open_files()
    store, began_s = Counted(), elapsed_s()
    async with whole_path(store=store, **ROOM, REQUEST_TIMEOUT_SECONDS=120) as path:
        await assert_all_complete("sessions", f"http://127.0.0.1:{path.port}", path.gemini)
        await path.quiet()
    of_sessions = {name: count for name, count in store.writes.items() if name != "ledger"}
    assert sum(of_sessions.values()) <= 3 * STREAMS, of_sessions
    assert store.reads["marks"] <= (elapsed_s() - began_s) / POLL_S + 1, store.reads
