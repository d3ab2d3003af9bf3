"""A small HTTP proxy on this machine: CONNECT tunnels, and plain requests in absolute form."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

Manner = Literal["serves", "refuses", "silent", "garbage"]


@dataclass
class ConnectProxy:
    """`user`: "name:password" that it asks for. `hosts` leads a target ("host:port") to another address. `asked` are the targets
    of the accepted requests."""

    user: str | None = None
    manner: Manner = "serves"
    hosts: dict[str, tuple[str, int]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url_for(self, user: str) -> str:
        return f"http://{user}@127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if self.manner == "silent":
            await reader.read()
            return
        if self.manner == "garbage":
            writer.write(b"220 mail.example ESMTP\r\n")
            return
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        if self.user is not None and self._basic(self.user) not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n")
            writer.write(b"Content-Length: 0\r\nConnection: close\r\n\r\n")
            return
        if self.manner == "refuses":
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        parts = urlsplit(target if method != "CONNECT" else f"//{target}")
        place = f"{parts.hostname}:{parts.port or 80}"
        self.asked.append(place)
        upstream = await asyncio.open_connection(*self.hosts.get(place, (parts.hostname, parts.port or 80)))
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            upstream[1].write(head)
        await _tunnel((reader, writer), upstream)

    @staticmethod
    def _basic(user: str) -> bytes:
        return b"Proxy-Authorization: Basic " + base64.b64encode(user.encode())


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _tunnel(one: Stream, other: Stream) -> None:
    """Passes bytes both ways until either side ends."""

    async def pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while chunk := await source.read(65536):
            target.write(chunk)
            await target.drain()

    pipes = [asyncio.ensure_future(pipe(one[0], other[1])), asyncio.ensure_future(pipe(other[0], one[1]))]
    try:
        await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in pipes:
            task.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)
        other[1].close()


@asynccontextmanager
async def connect_proxy(user: str | None = None, manner: Manner = "serves") -> AsyncIterator[ConnectProxy]:
    """A proxy on a free port of 127.0.0.1, on the running loop."""
    proxy = ConnectProxy(user, manner)
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await proxy.serve(reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            return
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(handle(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
