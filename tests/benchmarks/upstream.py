"""A stand-in for Gemini that costs next to nothing: canned answers in its shape, after a latency that `/latency/<ms>` sets.

The offline Gemini counts, checks and composes, which is CPU that two cores do not have to spare beside a measurement.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from collections.abc import Sequence
from typing import cast

import httptools
import orjson
import uvloop

FRAMES = 10
FRAME_GAP_S = 0.01
END = "This is the end of the answer."
TEXT = "The gateway keeps every key busy to its limit and never past it, however many instances run. " * 8 + END
_UNSTAMPED = b"@" + 19 * b"0" + b"@"
"""In the text of each frame of a stream, in place of the moment at which the frame is written (ns, CLOCK_MONOTONIC)."""
_USAGE = {
    "promptTokenCount": 96,
    "candidatesTokenCount": 168,
    "totalTokenCount": 431,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 96}],
    "thoughtsTokenCount": 167,
    "serviceTier": "standard",
}


def _document(text: str, **of_candidate: str) -> bytes:
    candidate = {"content": {"parts": [{"text": text}], "role": "model"}, **of_candidate, "index": 0}
    document = {
        "candidates": [candidate],
        "usageMetadata": _USAGE,
        "modelVersion": "gemini-3.8-flash",
        "responseId": "hGHHapDNDo_V-8YPoMHQKQ",
    }
    return orjson.dumps(document)


def _unary() -> bytes:
    body = _document(TEXT, finishReason="STOP")
    return _head("application/json; charset=UTF-8", f"Content-Length: {len(body)}") + body


def _stream() -> list[bytes]:
    """The first piece has the head, the last one the end; each is one frame with a stamp."""
    size = -(-len(TEXT) // (FRAMES - 1))
    texts = [_UNSTAMPED.decode() + TEXT[at : at + size] for at in range(0, len(TEXT), size)]
    frames = [*map(_document, texts), _document("", finishReason="STOP")]
    pieces = [b"%x\r\ndata: %b\r\n\r\n\r\n" % (len(frame) + 10, frame) for frame in frames]
    pieces[0] = _head("text/event-stream", "Transfer-Encoding: chunked") + pieces[0]
    pieces[-1] += b"0\r\n\r\n"
    return pieces


def _head(media_type: str, length: str) -> bytes:
    lines = (
        "HTTP/1.1 200 OK",
        f"Content-Type: {media_type}",
        "Vary: Origin, X-Origin, Referer",
        "Date: Sat, 21 Nov 2026 10:00:00 GMT",
        "Server: scaffolding on HTTPServer2",
        "X-XSS-Protection: 0",
        "X-Frame-Options: SAMEORIGIN",
        "X-Content-Type-Options: nosniff",
        "Server-Timing: gfet4t7; dur=524",
        length,
    )
    return "\r\n".join((*lines, "", "")).encode()


class Upstream(asyncio.Protocol):
    """One connection. Requests on it come one after the other, as from every HTTP/1.1 client that does not pipeline."""

    latency_s = 0.0
    unary = _unary()
    stream = _stream()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_message_complete(self) -> None:
        url, self._url = self._url, b""
        if url.startswith(b"/latency/"):
            Upstream.latency_s = float(url.rpartition(b"/")[2]) / 1000
            self._write(b"HTTP/1.1 204 No Content\r\n\r\n")
        elif b":stream" in url:
            for number, piece in enumerate(self.stream):
                self._later(self.latency_s + number * FRAME_GAP_S, piece)
        else:
            self._later(self.latency_s, self.unary)

    def _later(self, wait_s: float, data: bytes) -> None:
        if wait_s:
            asyncio.get_running_loop().call_later(wait_s, self._write, data)
        else:
            self._write(data)

    def _write(self, data: bytes) -> None:
        if _UNSTAMPED in data:
            data = data.replace(_UNSTAMPED, b"@%019d@" % time.perf_counter_ns())
        if not self._transport.is_closing():
            self._transport.write(data)


async def main(certificates: Sequence[str]) -> None:
    """Prints its address, then one for each certificate (a file with the key, for localhost), and ends when its standard input
    does."""
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Upstream, "127.0.0.1", 0, backlog=2048)]
    print(f"http://127.0.0.1:{servers[0].sockets[0].getsockname()[1]}", flush=True)
    for certificate in certificates:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        servers.append(await loop.create_server(Upstream, "127.0.0.1", 0, backlog=2048, ssl=context))
        print(f"https://localhost:{servers[-1].sockets[0].getsockname()[1]}", flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
