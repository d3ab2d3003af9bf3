"""A scripted upstream: a bare HTTP/1.1 server of which a test decides every byte, and which remembers what it got."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import orjson
import pytest

from shared.gemini.backend import DeveloperApi
from shared.gemini.client import GeminiClient
from shared.gemini.upstream import Exchange
from shared.secret import Secret

KEY = "AQ.Ab8RN6KrExampleKeyOfTheTests0123456789"
ANSWER = {
    "candidates": [{"content": {"parts": [{"text": "Hello."}], "role": "model"}, "finishReason": "STOP", "index": 0}],
    "usageMetadata": {"promptTokenCount": 2, "candidatesTokenCount": 2, "totalTokenCount": 4},
    "modelVersion": "gemini-3.8-flash",
}


@dataclass
class Received:
    line: str
    headers: dict[str, str]
    body: bytes


Script = Callable[["Connection", Received], Awaitable[None]]


@dataclass
class Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, status: int, body: bytes, content_type: str = "application/json", *more: str) -> None:
        head = [f"HTTP/1.1 {status} Status", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *more]
        await self.send("\r\n".join([*head, "", ""]).encode() + body)

    async def begin_stream(self) -> None:
        await self.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def frame(self, frame: object) -> None:
        await self.chunk(b"data: " + orjson.dumps(frame) + b"\r\n\r\n")

    async def end_stream(self) -> None:
        await self.send(b"0\r\n\r\n")

    def reset(self) -> None:
        self.writer.transport.abort()


async def answer_ok(connection: Connection, request: Received) -> None:
    await connection.answer(200, orjson.dumps(ANSWER))


@dataclass
class Upstream:
    script: Script = answer_ok
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    bytes_received: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever a client closes its connection."""
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = Connection(reader, writer)
        try:
            while True:
                request = await self._read(reader)
                self.requests.append(request)
                self.asked.set()
                await self.script(connection, request)
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Received:
        head = await reader.readuntil(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (entry.partition(": ") for entry in lines if entry)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.bytes_received += len(head) + len(body)
        return Received(line, headers, body)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    scripted = Upstream()
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(scripted.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    scripted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield scripted
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def client(upstream: Upstream) -> AsyncIterator[GeminiClient]:
    made = GeminiClient(DeveloperApi(upstream.url), max_connections=4)
    yield made
    await made.aclose()


@pytest.fixture
def exchange() -> Callable[..., Exchange]:
    def make(
        verb: str = "generateContent",
        *,
        model: str = "gemini-3.8-flash",
        body: bytes = b'{"contents":[{"parts":[{"text":"Hi"}]}]}',
        timeout_s: float = 5.0,
        before_write: Callable[[], None] | None = None,
        after_write: Callable[[], None] | None = None,
        key: str = KEY,
    ) -> Exchange:
        return Exchange(Secret(key), model, verb, body, timeout_s, before_write, after_write)

    return make


@pytest.fixture
def hear(upstream: Upstream) -> Callable[[Script], None]:
    """Decorates the script that the upstream follows for each request."""

    def use(script: Script) -> None:
        upstream.script = script

    return use
