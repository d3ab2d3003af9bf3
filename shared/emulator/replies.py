"""Writes an answer or a rejection: Google's headers, SSE frames, and the faults that break them."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from . import frames
from .answers import Answer
from .errors import GoogleError, deadline_expired
from .exchange import Aborted, Exchange
from .faults import SLOW_GAP_S, Fault
from .server import Request
from .wrappings import Wrapped, wrap

JSON_TYPE = "application/json; charset=UTF-8"
SSE_TYPE = "text/event-stream"
_BROKEN_JSON = b'{"candidates": [{"content": {"parts": [{"text": "This bo'
_HEADERS = {
    "Server": "scaffolding on HTTPServer2",
    "Vary": "Origin, X-Origin, Referer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "X-XSS-Protection": "0",
}
_MISSING_PAGE = (
    b"<!DOCTYPE html>\n<html lang=en>\n  <meta charset=utf-8>\n  <title>Error 404 (Not Found)!!1</title>\n"
    b"  <p><b>404.</b> <ins>That\xe2\x80\x99s an error.</ins>\n"
    b"  <p>The requested URL was not found on this server.  <ins>That\xe2\x80\x99s all we know.</ins>\n"
)


def headers(request: Request, content_type: str) -> dict[str, str]:
    elapsed_ms = int((time.monotonic() - request.arrived_s) * 1000)
    return {**_HEADERS, "Content-Type": content_type, "Server-Timing": f"gfet4t7; dur={elapsed_ms}"}


def document(request: Request, value: Any) -> web.Response:
    return web.Response(body=frames.document_bytes(value), headers=headers(request, JSON_TYPE))


def rejection(request: Request, error: GoogleError, *, sse: bool) -> web.Response:
    content_type = SSE_TYPE if sse and not error.early else JSON_TYPE
    given = {**headers(request, content_type), **error.headers}
    return web.Response(status=error.code, body=error.body(), headers=given)


def missing_page(request: Request) -> web.Response:
    """The HTML page with which Google's front end answers an unknown path."""
    return web.Response(status=404, body=_MISSING_PAGE, headers=headers(request, "text/html; charset=UTF-8"))


async def finish(request: Request, response: web.StreamResponse) -> None:
    """Hands the rest of the response to the transport."""
    await response.prepare(request)
    await response.write_eof()


@dataclass(frozen=True, slots=True)
class Pace:
    """`deadline_s` (CLOCK_MONOTONIC) is the caller's X-Server-Timeout: nothing is sent after it."""

    latency_s: float
    gap_s: float
    deadline_s: float | None

    def ready_s(self, frames: int) -> float:
        """When an answer that begins now and has this many frames is complete (CLOCK_MONOTONIC)."""
        ready_s = time.monotonic() + self.latency_s + (frames - 1) * self.gap_s
        return ready_s if self.deadline_s is None else min(ready_s, self.deadline_s)

    async def before_answer(self) -> None:
        await self._pause(self.latency_s)

    async def before_frame(self) -> None:
        await self._pause(self.gap_s)

    async def _pause(self, pause_s: float) -> None:
        if self.deadline_s is None:
            if pause_s > 0:
                await asyncio.sleep(pause_s)
            return
        left_s = self.deadline_s - time.monotonic()
        await asyncio.sleep(max(0.0, min(pause_s, left_s)))
        if pause_s >= left_s:
            raise deadline_expired()


async def send_unary(
    request: Request, exchange: Exchange, answer: Answer, model_version: str, fault: Fault | None
) -> web.StreamResponse:
    """The response of a unary call. `cut` raises Aborted after half of it."""
    if fault is not None and fault.kind == "malformed":
        return web.Response(body=_BROKEN_JSON, headers=headers(request, JSON_TYPE))
    if fault is not None and fault.wrappings:
        whole = wrap(
            frames.document(answer, model_version), frames.stream(answer, model_version), fault.wrappings, stream=False
        )
        return web.Response(body=b"".join(whole.chunks), headers=_wrapped_headers(request, whole))
    body = frames.document_bytes(frames.document(answer, model_version))
    if fault is None or fault.kind != "cut":
        return web.Response(body=body, headers=headers(request, JSON_TYPE))
    response = web.StreamResponse(headers=headers(request, JSON_TYPE))
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    exchange.hang_up()
    raise Aborted


async def send_stream(
    request: Request,
    exchange: Exchange,
    answer: Answer,
    model_version: str,
    fault: Fault | None,
    pace: Pace,
    *,
    sse: bool,
) -> web.StreamResponse:
    """Streams the answer's frames, as SSE or as one JSON array. `cut` raises Aborted after half of them."""
    each = frames.stream(answer, model_version)
    if fault is None or not fault.wrappings:
        return await send_chunks(
            request, exchange, _chunks(each, sse=sse), fault, pace, sse=sse, shown=_stream_headers(request, sse=sse)
        )
    chain = fault.wrappings if sse else ("array", *fault.wrappings)
    wrapped = wrap(frames.document(answer, model_version), each, chain, stream=True)
    shown = _wrapped_headers(request, wrapped)
    return await send_chunks(request, exchange, wrapped.chunks, fault, pace, sse=sse, shown=shown)


async def send_array(
    request: Request, exchange: Exchange, documents: list[dict[str, Any]], fault: Fault | None, pace: Pace
) -> web.StreamResponse:
    """Streams documents as one JSON array, each in pieces that end anywhere. `cut` raises Aborted after half of it."""
    shown = headers(request, JSON_TYPE)
    chunks: Sequence[bytes] = frames.array_bytes(documents)
    if fault is not None and fault.wrappings:
        wrapped = wrap(documents[-1], documents, ("array", *fault.wrappings), stream=True)
        chunks, shown = wrapped.chunks, _wrapped_headers(request, wrapped)
    pieces = [piece for chunk in chunks for piece in _cut_up(chunk)]
    return await send_chunks(request, exchange, pieces, fault, pace, sse=False, shown=shown)


def _cut_up(chunk: bytes) -> Sequence[bytes]:
    """Three pieces; where they end depends only on the chunk."""
    first = 1 + zlib.crc32(chunk) % max(1, len(chunk) // 2)
    return [piece for piece in (chunk[:first], chunk[first : 2 * first], chunk[2 * first :]) if piece]


async def send_chunks(
    request: Request,
    exchange: Exchange,
    chunks: Sequence[bytes],
    fault: Fault | None,
    pace: Pace,
    *,
    sse: bool,
    shown: dict[str, str],
) -> web.StreamResponse:
    """Streams chunks with the headers `shown`, at a pace. `cut` raises Aborted after half of them."""
    kind = fault.kind if fault is not None else ""
    if kind == "malformed":
        chunks = [b"data: " + _BROKEN_JSON + b"\r\n\r\n" if sse else b"[" + _BROKEN_JSON]
    if kind == "slow":
        gap_s = SLOW_GAP_S if fault is None or fault.seconds is None else fault.seconds
        pace = Pace(pace.latency_s, gap_s, pace.deadline_s)
    whole = len(chunks)
    exchange.works_until(replace(pace, latency_s=0.0).ready_s(whole))
    if kind == "cut":
        chunks = chunks[: max(1, whole // 2)]
    response = web.StreamResponse(headers=shown)
    try:
        for number, chunk in enumerate(chunks):
            if number:
                await pace.before_frame()
            else:
                await response.prepare(request)
            await response.write(chunk)
    except GoogleError as error:
        # Too late for a status: the stream ends with the error as its last event.
        late = frames.sse_bytes(error.document()) if sse else b",\r\n" + error.body() + b"]\n"
        await response.write(late)
    if kind == "cut":
        exchange.hang_up()
        raise Aborted
    return response


def _chunks(documents: list[dict[str, Any]], *, sse: bool) -> Sequence[bytes]:
    return [frames.sse_bytes(frame) for frame in documents] if sse else frames.array_bytes(documents)


def _wrapped_headers(request: Request, answer: Wrapped) -> dict[str, str]:
    shown = headers(request, answer.content_type)
    return {**shown, "Content-Encoding": answer.content_encoding} if answer.content_encoding else shown


def _stream_headers(request: Request, *, sse: bool) -> dict[str, str]:
    if not sse:
        return headers(request, JSON_TYPE)
    return {**headers(request, SSE_TYPE), "Content-Disposition": "attachment"}
