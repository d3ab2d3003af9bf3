"""HTTP byte by byte, as no client library would send it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

ANSWER_S = 30.0
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def exchanged(url: str, pieces: bytes | Iterable[bytes]) -> bytes:
    """What the server sends until it closes the connection or has answered; `pieces` are sent as long as it accepts them."""
    async with connected(url) as (reader, writer), asyncio.timeout(ANSWER_S):
        with contextlib.suppress(ConnectionError):
            for piece in [pieces] if isinstance(pieces, bytes) else pieces:
                writer.write(piece)
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            return await reader.read(65536)
        return b""


def status_of(answer: bytes) -> int:
    """The status of a response; 0 if there is none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def request_bytes(
    *headers: str, body: bytes = b"", method: str = "POST", path: str = "/chat", version: str = "1.1"
) -> bytes:
    lines = [f"{method} {path} HTTP/{version}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def chunked(body: bytes, *trailers: str) -> bytes:
    return b"%x\r\n%b\r\n0\r\n" % (len(body), body) + "".join(f"{line}\r\n" for line in trailers).encode() + b"\r\n"
