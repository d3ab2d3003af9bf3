"""An answer of server-sent events that is ready to fail: before its first event with a status, later with an event."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from shared.clock import elapsed_s
from shared.disconnect import DisconnectWatch
from shared.errors import Unavailable, UpstreamTimeout
from shared.generation import JsonObject

Events = AsyncGenerator[JsonObject | None, None]
"""None stands for progress that the client is not told: the answer may begin, and nothing is sent."""

_LAST_SEND_S = 1.0
"""A client that reads nothing any more is not waited for longer than this with the last event."""


def data_event(event: JsonObject) -> bytes:
    return b"data: " + orjson.dumps(event) + b"\n\n"


def error_event(body: JsonObject) -> bytes:
    return b"event: error\n" + data_event(body)


class EventStream(Response):
    """Sends each event as it comes. However it ends, `events` is closed, in the task that ran it, by `deadline_s`."""

    media_type = "text/event-stream"

    def __init__(
        self,
        events: Events,
        deadline_s: float,
        *,
        encode: Callable[[JsonObject], bytes] = data_event,
        encode_error: Callable[[JsonObject], bytes] = error_event,
    ) -> None:
        self.status_code = 200
        self.background = None
        # Proxies that collect a response before they pass it on are told not to.
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no"})
        self._events = events
        self._deadline_s = deadline_s
        self._encode = encode
        self._encode_error = encode_error
        self._first: JsonObject | None = None
        self._fail: Callable[[Exception], JsonObject] | None = None
        self._finish: Callable[[], Awaitable[None]] | None = None

    async def begin(self, fail: Callable[[Exception], JsonObject], finish: Callable[[], Awaitable[None]]) -> None:
        """Runs up to the first event. What is raised until here is raised to the caller, who can still choose a status.

        Later `fail(error)` is called for an error, and gives the body of its event; `finish()` before the last byte.
        """
        self._first = await anext(self._events, None)
        self._fail, self._finish = fail, finish

    async def aclose(self) -> None:
        """Give up a stream that has begun and will not be sent."""
        await self._events.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._fail is None or self._finish is None:
            raise RuntimeError("an EventStream is begun before it is sent")
        last = b""
        try:
            with DisconnectWatch(receive):
                async with asyncio.timeout(self._deadline_s - elapsed_s()):
                    await self._send(send)
        except TimeoutError:
            last = self._encode_error(self._fail(UpstreamTimeout("The answer was not complete at the deadline.")))
        except Exception as error:  # noqa: BLE001 - `fail` logs what is a defect, and the client is told in the stream
            last = self._encode_error(self._fail(error))
        except asyncio.CancelledError:
            self._fail(Unavailable("This instance is shutting down."))
            raise
        finally:
            await self._events.aclose()
            await self._finish()
            self._fail = self._finish = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_SEND_S):
                await send({"type": "http.response.body", "body": last, "more_body": False})

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if self._first is not None:
            await send({"type": "http.response.body", "body": self._encode(self._first), "more_body": True})
        async for event in self._events:
            if event is not None:
                await send({"type": "http.response.body", "body": self._encode(event), "more_body": True})
