"""The process's HTTP/1.1 connections, with limits on what a client may send, occupy and leave unread. uvicorn has none.

    a connection waits for               limit                              at the limit
    a request's head                     64 KB, 256 headers, 20 s           431, 408
    the first byte                       20 s                               closed
    the next request                     keep-alive of the server           closed
    the rest of a body after a response  20 s                               closed
    the client to read                   10 s without a byte of progress    aborted
    its admission                        half of the process's descriptors  the longest idle ones are closed, else 503

It also rejects heads that two HTTP servers in a row could read differently (RFC 9112, 11.2), and ignores trailers: uvicorn
appends them to the headers, so that a client could replace a header that a proxy has checked or set.
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
from shared.http import shutdown
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
"""Maximum connections of one process; with a full head each they take 200 MB."""
MIN_CLIENTS = 16
MAX_LINGERING = 64
"""Maximum connections over the limit that receive a 503; further ones are closed without a response."""
MIN_IDLE_S = 1.0
"""A connection that has waited less for its client is not closed in favour of another one."""
WARNING_S = 60.0
_PIECE_BYTES = 16 * 1024
"""Heads are parsed in pieces of this size, which limits how far a head can exceed MAX_HEAD_BYTES before it is rejected."""
_LINGER_S = 1.0
"""How long the rest that a rejected client sends is read and dropped. Closing at once would reset the connection, and the
client would lose the response."""
_IDLE, _HEAD, _BODY = range(3)


def client_limit(files: int) -> int:
    """Maximum connections for a limit of `files` descriptors; half of them remain for Gemini, the ledger and storage."""
    return MAX_CLIENTS if files < 0 else max(MIN_CLIENTS, min(MAX_CLIENTS, files // 2))


@cache
def _client_limit() -> int:
    return client_limit(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


class BoundedProtocol(HttpToolsProtocol):
    # With these in its __dict__ too, uvicorn's and ours would be more than the 30 attributes whose names Python shares
    # between instances, and each connection would take 1 KB more.
    __slots__ = (
        "_ended",
        "_held_bytes",
        "_idle_since_s",
        "_progress_s",
        "_rejection",
        "_running",
        "_silent",
        "_stage",
        "_stall_timer",
        "_timer",
        "_unsent_bytes",
    )
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
        """The parser has called no callback for the current piece."""
        self._held_bytes = 0
        """Bytes received of a head or a trailer, without the piece in which it began."""
        self._rejection: Rejection | None = None
        self._ended = False
        """Nothing more is read from the client."""
        self._timer: TimerHandle | None = None
        self._stall_timer: TimerHandle | None = None
        self._unsent_bytes, self._progress_s = 0, 0.0
        self._idle_since_s = self.loop.time()

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    # Callbacks of the transport

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

    def shutdown(self) -> None:
        shutdown.begin()
        super().shutdown()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_unsent()

    def resume_writing(self) -> None:
        self._cancel_stall_timer()
        super().resume_writing()

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        self._stage, self._silent = _HEAD, False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._stage == _HEAD:
            # The parser keeps white space after a value, which is not a part of it (RFC 9112, 5.1).
            super().on_header(name, value.strip(b" \t"))

    def on_headers_complete(self) -> None:
        self._silent = False
        too_large = len(self.headers) > MAX_HEADERS or (
            self._held_bytes > MAX_HEAD_BYTES - 2 * _PIECE_BYTES and head_bytes(self.url, self.headers) > MAX_HEAD_BYTES
        )
        fault = TOO_LARGE if too_large else head_fault(self.parser.get_http_version(), self.headers, self.url)
        if fault is not None:
            self._fail(fault)
        self._stage = _BODY
        self._cancel_timer()
        super().on_headers_complete()
        if self.parser.should_upgrade() and any(name in _BODY_HEADERS for name, _ in self.headers):
            # The parser drops a body after such a head, or reads it as the next request, so nothing more is read. The
            # connection stays open for the response, since closing it while the client sends would reset it.
            self._ended = True

    def on_body(self, body: bytes) -> None:
        self._silent = False
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._stage, self._silent = _IDLE, False
        super().on_message_complete()

    # Callbacks of the request and its response

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
        """Called when the parser or one of its callbacks (`_fail`) has failed."""
        self._reject(self._rejection or INVALID)

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    # Private

    def _make_room(self) -> bool:
        """Closes the connections that have waited longest for their clients, at most an eighth; returns whether there were
        any. So a client cannot exclude others by holding idle connections."""
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
            # It closes in the loop's next iteration, and must not be counted until then.
            self.connections.discard(one)
            one._close()
        if not chosen:
            # A search takes time; in a flood of connections, each would cause one.
            BoundedProtocol._look_again_s = now_s + MIN_IDLE_S / 10
        return bool(chosen)

    def _await_client(self) -> None:
        """Starts the timer for what the client has to send next, unless it is running."""
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
        """Stops the parser from one of its callbacks."""
        self._rejection = rejection
        raise ValueError(rejection.code)

    def _reject(self, rejection: Rejection) -> None:
        if self._ended:
            return
        self._ended = True
        self._cancel_timer()
        if self._answering and not self._give_up_body():
            # The rejected bytes follow a request that is still served; its response is the connection's last.
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
        """Returns whether the rejected bytes belong to the body of the running request, which then gets no response."""
        if not self.cycle.more_body:
            return False
        if self.pipeline:
            # They belong to the body of a pipelined request: it is dropped, and the requests before it are served.
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else self._running
            return False
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        return True

    def _close(self) -> None:
        """A transport closes only when everything is sent, and therefore never if the client does not read."""
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
        """Includes the bytes that the system has not delivered: it accepts more from the process only when a third of its
        buffer is free, which can take a slow client longer than STALL_S."""
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
            f"{_client_limit()} client connections are open, the maximum of this process: new ones are rejected with 503. "
            "Raise the limit of open files (ulimit -n), or find the clients that hold them.",
            "WARNING",
        )
