"""What aiohttp sends of one exchange: the body, and the last look at its permit right before the first byte."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection
from aiohttp.payload import Payload
from multidict import CIMultiDict

from shared.clock import elapsed_s

STALL_S = 0.02
"""A permit may be over when more time than this passes between its check and the first byte, and is checked again. Before
Python 3.12 aiohttp writes a turn of the event loop later, so that any other work may lie between; since then it writes in the
same turn, and only a process that stands still takes so long."""


MAX_INTERIM = 16
_PIECE_BYTES = 256 * 1024


class Refused(Exception):
    """`before_write` raised; its exception waits in the upload, out of reach of aiohttp's own except clauses."""


class Upload(Payload):
    """The JSON body of one exchange on its way through aiohttp, and what the request class learns about it."""

    _autoclose = True
    _json_headers: Final[CIMultiDict[str]] = CIMultiDict({hdrs.CONTENT_TYPE: "application/json"})

    def __init__(
        self,
        body: bytes,
        timeout_s: float,
        before_write: Callable[[], None] | None,
        after_write: Callable[[], None] | None,
    ) -> None:
        # Not the base's, which builds headers and guesses types for every request; and no warning for large bodies.
        self._value = body
        self._size = len(body)
        self._headers = self._json_headers
        self.before_write = before_write
        self.after_write = after_write
        self.deadline_s = elapsed_s() + timeout_s
        self.asked_s = 0.0
        self.written = False
        self.refusal: BaseException | None = None
        self.transport: asyncio.Transport | None = None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return str(self._value, encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """In pieces, each after the one before has left: the transport keeps what it is given, and encrypts it at once."""
        value = self._value
        if len(value) <= _PIECE_BYTES:
            await writer.write(value)
            return
        for at in range(0, len(value), _PIECE_BYTES):
            await writer.write(value[at : at + _PIECE_BYTES])

    def ask(self) -> None:
        """Raises Refused where `before_write` refuses."""
        self.asked_s = elapsed_s()
        if self.before_write is not None:
            try:
                self.before_write()
            except BaseException as refusal:  # noqa: BLE001 - it goes on, unchanged, to whoever awaits the exchange
                self.refusal = refusal
                raise Refused from None

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        if elapsed_s() - self.asked_s > STALL_S:
            self.written = False
            self.ask()
            self.written = True
        await self.write(writer)
        # A large body has drained by now, but for what the transport and the kernel hold back.
        if self.after_write is not None:
            self.after_write()

    def abort(self) -> None:
        """Drop the connection of an exchange that got no answer. aiohttp has closed it, but gracefully: what is left of
        the body would still be sent. A connection that went back to the pool is left alone."""
        if self.transport is not None and self.transport.is_closing():
            self.transport.abort()


class BoundedResponse(aiohttp.ClientResponse):
    """Takes only so many interim answers (`100 Continue`) before the real one. aiohttp skips them without end, and without
    giving way to other requests as long as there are more."""

    _interim = 0

    @property
    def _continue(self) -> None:  # type: ignore[override]
        """aiohttp looks at it once for each interim answer: it is what waits for the first one, and nothing does here."""
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise aiohttp.ClientResponseError(self.request_info, self.history, message="too many interim answers")


class PermittedRequest(aiohttp.ClientRequest):
    """Asks `before_write` at the socket: the connection exists, and no byte was written (aiohttp 3.14 holds the head
    back until the body's first write, which `send` starts)."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        upload = self._body
        if not isinstance(upload, Upload):
            return await super().send(conn)
        if conn.closed:
            # Found out before the permit was spent, so this is no dispatch.
            raise aiohttp.ClientConnectionResetError("the pooled connection is closed")
        upload.transport = conn.transport
        # Rounded down, so that Gemini stops first and does not work on for an instance that is gone.
        self.headers["X-Server-Timeout"] = str(max(1, int(upload.deadline_s - elapsed_s())))
        try:
            upload.ask()
        except Refused:
            # Untouched, so it can serve the next request. aiohttp would close it.
            conn.release()
            raise
        upload.written = True
        return await super().send(conn)
