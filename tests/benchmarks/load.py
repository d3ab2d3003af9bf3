"""The callers: each sends its next request when it has the answer to the last. Orders come as JSON lines, and so do results.

Written on the parser, without an HTTP client's own work: callers that take longer than what they call measure themselves.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import cast
from urllib.parse import urlsplit

import httptools
import orjson
import uvloop


@dataclass(frozen=True)
class Order:
    """`pid`: the process whose CPU is measured. `expected`: what every answer must contain."""

    url: str
    headers: dict[str, str]
    body: str
    expected: str
    callers: int
    warm_s: float
    measure_s: float
    pid: int


@dataclass(frozen=True)
class Window:
    """What happened between two moments. CPU is user and system time of all threads of the process, and of no other."""

    seconds: float
    cpu_s: float
    latencies_s: list[float]


class LoadError(Exception):
    """An answer was not what every answer has to be."""


class Caller(asyncio.Protocol):
    """One connection, and one request on it at a time. `answered(latency_s)` after each; `failed(why)` at the first fault."""

    def __init__(
        self, request: bytes, expected: bytes, answered: Callable[[float], None], failed: Callable[[str], None]
    ) -> None:
        self._request, self._expected, self._answered, self._failed = request, expected, answered, failed
        self._content = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)
        self._send()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._failed(f"not HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._failed(f"the connection was closed ({exc})")

    def on_body(self, body: bytes) -> None:
        self._content += body

    def on_message_complete(self) -> None:
        status, content, self._content = self._parser.get_status_code(), self._content, b""
        self._answered(time.perf_counter() - self._began_s)
        if status != 200 or self._expected not in content:
            self._failed(f"HTTP {status}: {content[:500]!r}")
        else:
            self._send()

    def _send(self) -> None:
        self._began_s = time.perf_counter()
        self._transport.write(self._request)


def cpu_s(pid: int) -> float:
    """The CPU clock of a process, in ns steps: clock_getcpuclockid(3) makes its id so on Linux. /proc/<pid>/stat has the
    same figure, in steps of 10 ms."""
    return time.clock_gettime((~pid << 3) | 2)


def request_bytes(order: Order) -> bytes:
    parts, body = urlsplit(order.url), order.body.encode()
    headers = {"Host": parts.netloc, **order.headers, "Content-Length": str(len(body))}
    lines = [f"POST {parts.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def run(order: Order) -> Window:
    """Raises LoadError for any answer but the expected one, and OSError."""
    loop = asyncio.get_running_loop()
    latencies_s: list[float] = []
    fault: asyncio.Future[str] = loop.create_future()

    def failed(why: str) -> None:
        if not fault.done():
            fault.set_result(why)

    async def lasting(seconds: float) -> None:
        await asyncio.wait([fault], timeout=seconds)
        if fault.done():
            raise LoadError(fault.result())

    parts = urlsplit(order.url)
    make = partial(Caller, request_bytes(order), order.expected.encode(), latencies_s.append, failed)
    callers = [(await loop.create_connection(make, parts.hostname, parts.port))[0] for _ in range(order.callers)]
    await lasting(order.warm_s)
    latencies_s.clear()
    cpu_before_s, before_s = cpu_s(order.pid), time.perf_counter()
    await lasting(order.measure_s)
    cpu_after_s, after_s = cpu_s(order.pid), time.perf_counter()
    window = Window(after_s - before_s, cpu_after_s - cpu_before_s, latencies_s[:])
    for caller in callers:
        caller.abort()
    return window


def main() -> None:
    for line in sys.stdin:
        gc.collect()
        gc.disable()
        try:
            result = asdict(uvloop.run(run(Order(**orjson.loads(line)))))
        except (LoadError, OSError) as failed:
            result = {"error": str(failed)}
        gc.enable()
        print(orjson.dumps(result).decode(), flush=True)


if __name__ == "__main__":
    main()
