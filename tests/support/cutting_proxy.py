"""A TCP proxy on 127.0.0.1 that closes a connection in the middle of a stream of server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

_STREAM = b"content-type: text/event-stream"
_READ_BYTES = 65536


@dataclass
class CuttingProxy:
    upstream: str
    after_events: int
    """A stream is cut after so many events."""
    cuts_left: int
    """So many streams are cut; later ones pass."""
    url: str = ""
    cuts: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = urlsplit(self.upstream).hostname, urlsplit(self.upstream).port
        up_reader, up_writer = await asyncio.open_connection(host, port)
        there = asyncio.create_task(self._copy(reader, up_writer))
        try:
            await self._copy_answers(up_reader, writer)
        finally:
            there.cancel()
            writer.close()
            up_writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_READ_BYTES):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def _copy_answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Ends at the end of a stream's event `after_events`, or with the connection."""
        seen = b""
        while data := await reader.read(_READ_BYTES):
            already, seen = len(seen), seen + data
            end = end_of_event(seen, self.after_events)
            cut = self.cuts_left > 0 and end is not None
            writer.write(seen[already:end] if cut else data)
            await writer.drain()
            if cut:
                self.cuts_left -= 1
                self.cuts += 1
                return


def end_of_event(received: bytes, number: int) -> int | None:
    """Where the event with this number ends in what a connection has received; None if that has not come yet."""
    at = received.lower().find(_STREAM)
    for _ in range(number if at >= 0 else 0):
        at = received.find(b"\n\n", at)
        if at < 0:
            return None
        at += 2
    return at if at >= 0 else None


@asynccontextmanager
async def cutting_proxy(upstream: str, *, after_events: int, cuts: int = 1) -> AsyncIterator[CuttingProxy]:
    proxy = CuttingProxy(upstream, after_events, cuts)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
