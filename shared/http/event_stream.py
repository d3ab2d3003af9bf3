"""A response of server-sent events. An error before the headers has a status; a later error is an event.

A stream may be silent for long while a model thinks, and proxies close silent connections. So it keeps the connection alive:

    waiting for a permit       nothing is sent: an error keeps its status and Retry-After
    dispatched to Gemini       the headers are sent with the first frame, or after `silence_s`
    headers sent               a comment is sent after each `silence_s` without other bytes

The comments do not depend on Gemini's frames: frames that are not forwarded (thoughts) are silence to the client.

A task reads the events ahead of the client (`read_ahead`), so a client that reads slowly does not occupy a slot at Gemini for
longer than a short answer takes. The server, which counts the bytes that leave, aborts a connection after 10 s without progress
(`BoundedProtocol.STALL_S`), and the stream ends as for any client that disconnects.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from shared.bounds.byte_budget import Claim
from shared.clock import elapsed_s
from shared.errors import Unavailable, UpstreamTimeout
from shared.generation import JsonObject
from shared.http.disconnect import DisconnectWatch
from shared.http.read_ahead import ReadAhead


class NamedEvent(NamedTuple):
    """An event with fields besides its data. Neither `name` nor `id` contains a line break or a NUL."""

    data: JsonObject
    name: str = ""
    """Its type. "" is the default type, `message`."""
    id: str = ""
    """What a browser's EventSource returns as `Last-Event-ID` when it reconnects. "": the id of the event before it applies."""


Event = JsonObject | NamedEvent | bytes | None
"""The data of an event; an event with its fields; the bytes of one or more events, as `data_event` and `named_event` return them;
or None: progress that is not forwarded. The response may begin, but nothing is sent."""
Events = AsyncGenerator[Event, None]

SILENCE_S = 15.0
"""Proxies commonly close a connection after 30 or 60 s without a byte (nginx: proxy_read_timeout, 60 s)."""
MIN_SILENCE_S = 1.0
KEEP_ALIVE = b": keep-alive\n\n"
"""A comment, which readers of server-sent events ignore (html.spec.whatwg.org, 9.2.6)."""
_INCOMPLETE = (
    "The response was not complete at the deadline. Increase x-request-timeout, or request a shorter response."
)
_LAST_SEND_S = 1.0
"""How long after the deadline the last event may take to be sent, to a client that no longer reads."""


def data_event(event: JsonObject) -> bytes:
    return b"data: " + orjson.dumps(event) + b"\n\n"


def named_event(event: NamedEvent) -> bytes:
    fields = f"id: {event.id}\n" if event.id else ""
    if event.name:
        fields += f"event: {event.name}\n"
    return fields.encode() + data_event(event.data)


def _encoded(event: Event) -> bytes:
    if event is None or isinstance(event, bytes):
        return event or b""
    return named_event(event) if isinstance(event, NamedEvent) else data_event(event)


def error_event(body: JsonObject) -> bytes:
    return b"event: error\n" + data_event(body)


@dataclass(frozen=True, slots=True)
class Framing:
    """How a stream ends."""

    error: Callable[[JsonObject], bytes] = error_event
    """The last event of a stream that breaks."""
    tail: bytes = b""
    """What is sent after the last event of a stream that is complete."""
    media_type: str = "text/event-stream"
    keep_alive: bytes = KEEP_ALIVE
    """What readers of the format ignore."""


OWN_FRAMING = Framing()


class EventStream(Response):
    """Sends each event when it arrives. `events` is closed by `deadline_s` in every case.

    `dispatched_s` returns when the current request was dispatched to Gemini (`clock.elapsed_s()`); None before that. `claim`
    counts the events that wait for a slow client."""

    def __init__(
        self,
        events: Events,
        deadline_s: float,
        *,
        dispatched_s: Callable[[], float | None] = lambda: None,
        silence_s: float = SILENCE_S,
        framing: Framing = OWN_FRAMING,
        claim: Claim | None = None,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.media_type = framing.media_type
        # x-accel-buffering: proxies must not collect the response before they forward it.
        self.init_headers({"cache-control": "no-store", "x-content-type-options": "nosniff", "x-accel-buffering": "no"})
        self._ahead = ReadAhead(events, _encoded, claim)
        self._deadline_s = deadline_s
        self._dispatched_s = dispatched_s
        self.silence_s = silence_s
        self._framing = framing
        self._fail: Callable[[Exception], JsonObject] | None = None
        self._finish: Callable[[], Awaitable[None]] | None = None

    async def begin(self, fail: Callable[[Exception], JsonObject], finish: Callable[[], Awaitable[None]]) -> None:
        """Returns when the headers may be sent. Until then errors are raised here, so they can still have a status.

        Later, `fail(error)` returns the data of an error's event, and `finish()` is called before the last byte."""
        due = _Due(self._dispatched_s, self.silence_s)
        self._ahead.start(due.end)
        try:
            await due.reached
            self._ahead.check()
        except BaseException:
            await self._ahead.aclose()
            raise
        finally:
            due.end()
        self._fail, self._finish = fail, finish

    async def head(self) -> Response:
        """The headers alone, in place of this stream: for a HEAD request nothing is generated."""
        await self._ahead.aclose()
        response = Response()
        response.raw_headers = self.raw_headers
        return response

    async def aclose(self) -> None:
        """Closes a stream that was begun but will not be sent."""
        await self._ahead.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._fail is None or self._finish is None:
            raise RuntimeError("call begin() before sending an EventStream")
        last, error_event = self._framing.tail, self._framing.error
        output = _Output(send, self.silence_s, self._framing.keep_alive)
        try:
            with DisconnectWatch(receive):
                async with asyncio.timeout(self._deadline_s - elapsed_s()):
                    await self._send(send, output)
        except TimeoutError:
            last = error_event(self._fail(UpstreamTimeout(_INCOMPLETE)))
        except Exception as error:  # noqa: BLE001 - `fail` logs an internal error, and the client receives its event
            last = error_event(self._fail(error))
        except asyncio.CancelledError:
            self._fail(Unavailable("This instance is shutting down."))
            raise
        finally:
            output.end()
            await self.aclose()
            await self._finish()
            self._fail = self._finish = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._deadline_s - elapsed_s()) + _LAST_SEND_S):
                await send({"type": "http.response.body", "body": last, "more_body": False})

    async def _send(self, send: Send, output: _Output) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        output.begin()
        while data := await self._ahead.take():
            await output.write(data)


class _Due:
    """When a stream's headers are sent without an event: `silence_s` after the dispatch.

    Uses one timer. Before the dispatch, that moment is at least `silence_s` away."""

    def __init__(self, dispatched_s: Callable[[], float | None], silence_s: float) -> None:
        self._dispatched_s, self._silence_s = dispatched_s, silence_s
        self._loop = asyncio.get_running_loop()
        self.reached: asyncio.Future[None] = self._loop.create_future()
        self._timer = self._loop.call_later(silence_s, self._look)

    def _look(self) -> None:
        dispatched_s = self._dispatched_s()
        left_s = self._silence_s if dispatched_s is None else dispatched_s + self._silence_s - elapsed_s()
        if left_s <= 0:
            self.end()
        else:
            self._timer = self._loop.call_later(left_s, self._look)

    def end(self) -> None:
        self._timer.cancel()
        if not self.reached.done():
            self.reached.set_result(None)


class _Output:
    """Writes the body, and a comment after each `silence_s` without a write. Uses one timer, which a write does not reset."""

    def __init__(self, send: Send, silence_s: float, keep_alive: bytes) -> None:
        self._send, self._silence_s, self._keep_alive = send, silence_s, keep_alive
        self._loop = asyncio.get_running_loop()
        self._written_s = 0.0
        self._is_writing = False
        """While the client takes its time for a chunk, bytes reach it: it needs no comment."""
        self._timer: asyncio.TimerHandle | None = None
        self._comment: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._written_s = self._loop.time()
        self._timer = self._loop.call_later(self._silence_s, self._look)

    async def write(self, chunk: bytes) -> None:
        if self._comment is not None:  # It may still be under way to a slow client, and two writes must not mix.
            comment, self._comment = self._comment, None
            await comment
        self._is_writing = True
        await self._put(chunk)
        self._is_writing, self._written_s = False, self._loop.time()

    def end(self) -> None:
        """Drops a comment that is not written yet."""
        if self._timer is not None:
            self._timer.cancel()
        comment, self._comment = self._comment, None
        if comment is not None and not comment.cancel() and not comment.cancelled():
            comment.exception()

    def _look(self) -> None:
        now_s = self._loop.time()
        left_s = self._silence_s if self._is_writing else self._written_s + self._silence_s - now_s
        if left_s <= 0:
            self._written_s, left_s = now_s, self._silence_s
            if self._comment is None or (self._comment.done() and not self._failed(self._comment)):
                self._comment = self._loop.create_task(self._put(self._keep_alive))
        self._timer = self._loop.call_later(left_s, self._look)

    @staticmethod
    def _failed(comment: asyncio.Task[None]) -> bool:
        """The next write raises the comment's error."""
        return comment.cancelled() or comment.exception() is not None

    async def _put(self, chunk: bytes) -> None:
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
