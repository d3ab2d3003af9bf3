"""The callers: each sends its next request when it has the answer to the last. Orders come as JSON lines, and so do results.

Written on the parser, without an HTTP client's own work: callers that take longer than what they call measure themselves.
"""

from __future__ import annotations

import asyncio
import gc
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools
import orjson
import uvloop

_PATIENCE_S = 20.0
_STAMP = re.compile(rb"@(\d{19})@")
"""When the upstream wrote the frame of which an event was made."""


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
    """What happened between two moments. CPU is user and system time of all threads of the process, and of no other.
    `lags_s`: of each streamed event, the time since the upstream wrote its frame."""

    seconds: float
    cpu_s: float
    latencies_s: list[float]
    lags_s: list[float]


class LoadError(Exception):
    """An answer was not what every answer has to be."""


class Callers:
    """All of them: what they saw since it was last cleared, and when they are to stop."""

    def __init__(self, request: bytes, expected: bytes) -> None:
        self.request, self.expected = request, expected
        self.latencies_s: list[float] = []
        self.lags_s: list[float] = []
        self.stopping = False
        self.answered: set[Caller] = set()
        self.open: set[Caller] = set()
        self._fault: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def fail(self, why: str) -> None:
        if not self._fault.done():
            self._fault.set_result(why)

    async def go_on(self, seconds: float) -> None:
        """Raises LoadError at the first fault."""
        await asyncio.wait([self._fault], timeout=seconds)
        if self._fault.done():
            raise LoadError(self._fault.result())

    async def go_on_until(self, done: Callable[[], bool]) -> None:
        end_s = time.perf_counter() + _PATIENCE_S
        while not done():
            if time.perf_counter() > end_s:
                raise LoadError(f"{len(self.open)} callers wait for more than {_PATIENCE_S} s")
            await self.go_on(0.01)


class Caller(asyncio.Protocol):
    """One connection, and one request on it at a time."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers
        self._content = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)
        self._callers.open.add(self)
        self._send()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._callers.fail(f"not HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._callers.open.discard(self)
        if not self._callers.stopping:
            self._callers.fail(f"the connection was closed ({exc})")

    def on_body(self, body: bytes) -> None:
        self._content += body
        if b"@" in body:
            now_ns = time.perf_counter_ns()
            self._callers.lags_s.extend((now_ns - int(stamp)) / 1e9 for stamp in _STAMP.findall(body))

    def on_message_complete(self) -> None:
        callers, status, content, self._content = self._callers, self._parser.get_status_code(), self._content, b""
        callers.latencies_s.append(time.perf_counter() - self._began_s)
        callers.answered.add(self)
        if status != 200 or callers.expected not in content:
            callers.fail(f"HTTP {status}: {content[:500]!r}")
        elif callers.stopping:
            self._transport.close()
        else:
            self._send()

    def _send(self) -> None:
        self._began_s = time.perf_counter()
        self._transport.write(self._callers.request)


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
    loop, (host, port) = asyncio.get_running_loop(), urlsplit(order.url).netloc.split(":")
    callers = Callers(request_bytes(order), order.expected.encode())
    for _ in range(order.callers):
        await loop.create_connection(lambda: Caller(callers), host, int(port))
    # A busy loop of libuv accepts one connection a turn, so that of many at once some wait for a second.
    await callers.go_on_until(lambda: len(callers.answered) == order.callers)
    await callers.go_on(order.warm_s)
    callers.latencies_s.clear()
    callers.lags_s.clear()
    cpu_before_s, before_s = cpu_s(order.pid), time.perf_counter()
    await callers.go_on(order.measure_s)
    cpu_after_s, after_s = cpu_s(order.pid), time.perf_counter()
    window = Window(after_s - before_s, cpu_after_s - cpu_before_s, callers.latencies_s[:], callers.lags_s[:])
    callers.stopping = True
    await callers.go_on_until(lambda: not callers.open)
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
