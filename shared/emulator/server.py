"""The HTTP server of the offline Gemini: aiohttp's low-level one, which also reports when a request arrived and when
its client disconnected.

Decision: aiohttp's `web.Server` with an own protocol class. A router, middlewares and the access log would cost as much
as the answer, and neither the time at which headers were parsed nor the loss of a connection reaches a handler of a
`web.Application`. Measured on one core for a 600-byte answer: this 38 us of CPU a request, a bare httptools protocol
11 us, but that is a second HTTP server to keep right (pipelining, chunked bodies, keep-alive, shutdown).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

_KEEPALIVE_S = 75.0
_MAX_HEADER_BYTES = 16 * 1024


class _Protocol(RequestHandler):
    """Records when the headers of each request were parsed, and calls `on_lost` as soon as its connection is lost."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.arrivals_s: deque[float] = deque()
        self._stamped = 0
        self.on_lost: Callable[[], None] | None = None

    def data_received(self, data: bytes) -> None:
        now_s = time.monotonic()
        super().data_received(data)
        while self._stamped < self._request_count:
            self._stamped += 1
            self.arrivals_s.append(now_s)

    def connection_lost(self, exc: BaseException | None) -> None:
        # The slot must be free before a later request is decided on, which may be before the cancelled handler
        # runs.
        on_lost, self.on_lost = self.on_lost, None
        super().connection_lost(exc)
        if on_lost is not None:
            on_lost()


class Request(web.BaseRequest):
    """`arrived_s` is CLOCK_MONOTONIC when the headers were parsed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        stamps: deque[float] = self._protocol.arrivals_s  # type: ignore[attr-defined]
        self.arrived_s = stamps.popleft() if stamps else time.monotonic()

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        """Sets the function to call when the connection is lost; None removes it."""
        self._protocol.on_lost = callback  # type: ignore[attr-defined]


class Server(web.Server):
    def __init__(self, handler: Callable[[Request], Awaitable[web.StreamResponse]], max_body_bytes: int) -> None:
        super().__init__(
            handler,  # type: ignore[arg-type]
            request_factory=self._request,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=_KEEPALIVE_S,
            max_field_size=_MAX_HEADER_BYTES,
        )
        self._max_body_bytes = max_body_bytes

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> Request:
        return Request(message, payload, protocol, writer, task, self._loop, client_max_size=self._max_body_bytes)

    def __call__(self) -> RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)
