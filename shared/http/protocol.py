"""The process's HTTP/1.1 connections, with bounds on what a client may send, hold and leave unread. uvicorn has none.

    the connection waits for           bound                              then
    a request's head                   64 KB, 256 headers, 20 s           431, 408
    the first byte of a connection     20 s                               it closes
    the next request                   keep-alive of the server           it closes
    the rest of a body after an answer 20 s                               it closes
    the client to read                 10 s without a byte of progress    it is aborted
    a place                            half of the process's descriptors  the longest idle ones close, else 503

It also rejects what two HTTP servers in a row could read differently (RFC 9112, 11.2), and ignores trailers: uvicorn appends
them to the headers, so that a client could replace what a proxy in front has checked or set.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import resource
import sys
import termios
from asyncio import TimerHandle
from functools import cache
from typing import Any, ClassVar

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from shared.clock import elapsed_s
from shared.http.head import (
    INVALID,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    NO_ROOM,
    TOO_LARGE,
    TOO_SLOW,
    Rejection,
    head_bytes,
    head_fault,
    response,
)
from shared.telemetry.record import log_problem

MAX_CLIENTS = 2000
"""Connections of one process at once: with a full head each, 200 MB."""
MIN_CLIENTS = 16
MAX_LINGERING = 64
"""Connections over the limit that are told so; others are closed without a word."""
MIN_IDLE_S = 1.0
"""A connection that waits for its client for less does not make room for another one."""
WARNING_S = 60.0
_PIECE_BYTES = 16 * 1024
"""Heads are parsed in pieces of this size, which bounds how far one exceeds MAX_HEAD_BYTES unnoticed."""
_LINGER_S = 1.0
"""How long what a rejected client still sends is read and dropped: closing at once would reset the connection, and lose the
response."""
_IDLE, _HEAD, _BODY = range(3)


def client_limit(files: int) -> int:
    """Connections of a process that may have `files` descriptors: the other half is for Gemini, the ledger and storage."""
    return MAX_CLIENTS if files < 0 else max(MIN_CLIENTS, min(MAX_CLIENTS, files // 2))


@cache
def _client_limit() -> int:
    return client_limit(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


class BoundedProtocol(HttpToolsProtocol):
    HEAD_S: ClassVar[float] = 20.0
    STALL_S: ClassVar[float] = 10.0
    _warn_again_s: ClassVar[float] = float("-inf")
    _look_again_s: ClassVar[float] = float("-inf")

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._stage = _IDLE
        self._silent = True
        """The parser has made nothing of the bytes of this piece yet."""
        self._held_bytes = 0
        """Received of a head or a trailer, without the piece in which it began."""
        self._rejection: Rejection | None = None
        self._ended = False
        """Nothing that the client still sends is read."""
        self._timer: TimerHandle | None = None
        self._stall_timer: TimerHandle | None = None
        self._unsent_bytes, self._progress_s = 0, 0.0
        self._idle_since_s = self.loop.time()

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    # Of the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        excess = len(self.connections) - _client_limit()
        if excess > 0:
            _warn_of_limit()
            if not self._make_room():
                if excess > MAX_LINGERING:
                    self._ended = True
                    transport.abort()
                else:
                    self._reject(NO_ROOM)
                return
        self._timer = self.loop.call_later(self.HEAD_S, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._cancel_timer()
        self._cancel_stall_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if len(data) <= _PIECE_BYTES or self._stage == _BODY:
            self._feed(data)
        else:
            at = 0
            while at < len(data) and self._stage != _BODY:
                self._feed(data[at : at + _PIECE_BYTES])
                at += _PIECE_BYTES
            if at < len(data):
                self._feed(data[at:])
        self._await_client()

    def _feed(self, data: bytes) -> None:
        if self._ended:
            return
        self._silent = True
        super().data_received(data)
        self._held_bytes = self._held_bytes + len(data) if self._silent else 0
        if self._held_bytes > MAX_HEAD_BYTES or (self._stage == _HEAD and len(self.headers) > MAX_HEADERS):
            self._reject(TOO_LARGE)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_unsent()

    def resume_writing(self) -> None:
        self._cancel_stall_timer()
        super().resume_writing()

    # Of the parser

    def on_message_begin(self) -> None:
        self._stage, self._silent = _HEAD, False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._stage == _HEAD:
            # The parser keeps the white space behind a value, which is no part of it (RFC 9112, 5.1).
            super().on_header(name, value.strip(b" \t"))

    def on_headers_complete(self) -> None:
        self._silent = False
        too_large = len(self.headers) > MAX_HEADERS or (
            self._held_bytes > MAX_HEAD_BYTES - 2 * _PIECE_BYTES and head_bytes(self.url, self.headers) > MAX_HEAD_BYTES
        )
        fault = TOO_LARGE if too_large else head_fault(self.parser.get_http_version(), self.headers)
        if fault is not None:
            self._fail(fault)
        self._stage = _BODY
        self._cancel_timer()
        super().on_headers_complete()
        if self.parser.should_upgrade() and any(name in _BODY_HEADERS for name, _ in self.headers):
            # The parser drops a body that follows such a head, or takes it for the next request. So nothing more is read;
            # the client may still send it, and closing with the response would reset the connection.
            self._ended = True

    def on_body(self, body: bytes) -> None:
        self._silent = False
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._stage, self._silent = _IDLE, False
        super().on_message_complete()

    # Of the response

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self._idle_since_s = self.loop.time()
        super().on_response_complete()
        if self._ended and not self._answering and not self.transport.is_closing():
            self._linger()
        else:
            self._await_client()

    def send_400_response(self, msg: str) -> None:
        """The parser failed, or a callback of it (`_fail`)."""
        self._reject(self._rejection or INVALID)

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    # Own

    def _make_room(self) -> bool:
        """Closes an eighth of the connections, those that have waited longest for their clients; whether there were any.
        Whoever holds connections without using them cannot keep others out."""
        now_s = self.loop.time()
        if now_s < BoundedProtocol._look_again_s:
            return False
        idle = [
            one
            for one in self.connections
            if isinstance(one, BoundedProtocol)
            and one is not self
            and not one._answering
            and now_s - one._idle_since_s >= MIN_IDLE_S
        ]
        idle.sort(key=lambda one: one._idle_since_s)
        chosen = idle[: max(1, _client_limit() // 8)]
        for one in chosen:
            # It is closed in the loop's next round, and is no connection any more now.
            self.connections.discard(one)
            one._close()
        if not chosen:
            # A search takes time, and a flood of connections would have one each.
            BoundedProtocol._look_again_s = now_s + MIN_IDLE_S / 10
        return bool(chosen)

    def _await_client(self) -> None:
        """Starts the time of what the client owes now, unless it runs."""
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering and self._timer is None and self._stage != _HEAD:
            return
        if self._ended or self.transport.is_closing():
            return
        if self._stage == _HEAD or (self._stage == _BODY and not answering):
            if self._timer is None:
                self._timer = self.loop.call_later(self.HEAD_S, self._late)
        elif answering:
            self._cancel_timer()
        elif self.cycle is not None:
            self._cancel_timer()
            if self.timeout_keep_alive_task is None:
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )

    def _late(self) -> None:
        self._timer = None
        if self._answering or self._stage == _HEAD:
            self._reject(TOO_SLOW)
        else:
            self._close()

    def _fail(self, rejection: Rejection) -> None:
        """From a callback of the parser, which it stops."""
        self._rejection = rejection
        raise ValueError(rejection.code)

    def _reject(self, rejection: Rejection) -> None:
        if self._ended:
            return
        self._ended = True
        self._cancel_timer()
        if self._answering and not self._give_up_body():
            # The rejected bytes follow a request whose response comes first. It is the last one.
            self.cycle.keep_alive = False
            return
        if self._answering and self.cycle.response_started:
            self._close()
            return
        self.transport.write(response(rejection, self.server_state.default_headers))
        self._linger()

    def _linger(self) -> None:
        self._unset_keepalive_if_required()
        self._cancel_timer()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(_LINGER_S, self._close)

    def _give_up_body(self) -> bool:
        """Whether the rejected bytes are the rest of the running request's body, so that it has no response any more."""
        if not self.cycle.more_body:
            return False
        if self.pipeline:
            # The body of a request that has not begun: it is forgotten, and those before it are answered.
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else self._running
            return False
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        return True

    def _close(self) -> None:
        """A transport closes only when all is sent, and so never if the client does not read."""
        self._ended = True
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def _watch_unsent(self) -> None:
        self._cancel_stall_timer()
        self._unsent_bytes, self._progress_s = self._count_unsent(), self.loop.time()
        self._stall_timer = self.loop.call_later(self.STALL_S / 4, self._check_unsent)

    def _check_unsent(self) -> None:
        now_s, unsent_bytes = self.loop.time(), self._count_unsent()
        if unsent_bytes < self._unsent_bytes:
            self._unsent_bytes, self._progress_s = unsent_bytes, now_s
        left_s = self._progress_s + self.STALL_S - now_s
        if left_s > 0:
            self._stall_timer = self.loop.call_later(min(left_s, self.STALL_S / 4), self._check_unsent)
        else:
            self._stall_timer = None
            self._ended = True
            self.transport.abort()

    def _count_unsent(self) -> int:
        """With what the system has not delivered: it takes more from here only when a third of its buffer is free, which a
        slow client may not manage in STALL_S."""
        undelivered = bytes(4)
        with contextlib.suppress(OSError):
            undelivered = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, undelivered)
        return self.transport.get_write_buffer_size() + int.from_bytes(undelivered, sys.byteorder)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cancel_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None


_BODY_HEADERS = (b"content-length", b"transfer-encoding")


def _warn_of_limit() -> None:
    now_s = elapsed_s()
    if now_s >= BoundedProtocol._warn_again_s:
        BoundedProtocol._warn_again_s = now_s + WARNING_S
        log_problem(
            f"{_client_limit()} client connections are open, the most that this process takes: new ones get 503. "
            "Raise its limit of open files (ulimit -n), or find out who holds them.",
            "WARNING",
        )
