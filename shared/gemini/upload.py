"""The request body of one exchange in aiohttp, and the check of its permit right before the first byte."""

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
"""If more time than this passes between the check of a permit and the first byte, the permit may have expired and is checked
again. Before Python 3.12 aiohttp writes in a later iteration of the event loop, after any other work; since then it writes in
the same iteration, and only a suspended process takes this long."""


MAX_INTERIM = 16
_PIECE_BYTES = 256 * 1024


class WriteRejected(Exception):
    """`before_write` raised. Its exception is kept in the upload, so that aiohttp's own except clauses cannot change it."""


class Upload(Payload):
    """The JSON body of one exchange as an aiohttp payload, with the state that the request class sets."""

    _autoclose = True
    _json_headers: Final[CIMultiDict[str]] = CIMultiDict({hdrs.CONTENT_TYPE: "application/json"})

    def __init__(
        self,
        body: bytes,
        deadline_s: float,
        before_write: Callable[[], None] | None,
        after_write: Callable[[], None] | None,
    ) -> None:
        # Without the base's __init__, which builds headers and guesses types for every request, and warns of large bodies.
        self._value = body
        self._size = len(body)
        self._headers = self._json_headers
        self.before_write = before_write
        self.after_write = after_write
        self.deadline_s = deadline_s
        self.checked_s = 0.0
        self.written = False
        self.rejection: BaseException | None = None
        self.transport: asyncio.Transport | None = None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return str(self._value, encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Writes in pieces, each after the previous one was sent: the transport buffers what it gets, and encrypts it at once."""
        value = self._value
        if len(value) <= _PIECE_BYTES:
            await writer.write(value)
            return
        for at in range(0, len(value), _PIECE_BYTES):
            await writer.write(value[at : at + _PIECE_BYTES])

    def check(self) -> None:
        """Calls `before_write`. Raises WriteRejected if it raises."""
        self.checked_s = elapsed_s()
        if self.before_write is not None:
            try:
                self.before_write()
            except BaseException as rejection:  # noqa: BLE001 - raised unchanged to the caller of the exchange
                self.rejection = rejection
                raise WriteRejected from None

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        if elapsed_s() - self.checked_s > STALL_S:
            self.written = False
            self.check()
            self.written = True
        await self.write(writer)
        # A large body has been sent by now, except for what the transport and the kernel buffer.
        if self.after_write is not None:
            self.after_write()

    def abort(self) -> None:
        """Drops the connection of an exchange without a response. aiohttp has closed it gracefully, which would still send the
        rest of the body. A connection that is back in the pool is not touched."""
        if self.transport is not None and self.transport.is_closing():
            self.transport.abort()


class BoundedResponse(aiohttp.ClientResponse):
    """Accepts at most MAX_INTERIM interim responses (`100 Continue`) before the real one. aiohttp skips any number of them,
    and no other request runs meanwhile."""

    _interim = 0

    @property
    def _continue(self) -> None:  # type: ignore[override]
        """aiohttp reads this future once for each interim response, to wake whoever waits for the first one; nobody does here."""
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise aiohttp.ClientResponseError(self.request_info, self.history, message="too many interim answers")


class PermittedRequest(aiohttp.ClientRequest):
    """Calls `before_write` at the socket: the connection exists, and no byte has been written (aiohttp 3.14 holds back the
    head until the body's first write, which `send` starts)."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        upload = self._body
        if not isinstance(upload, Upload):
            return await super().send(conn)
        if conn.closed:
            # Detected before the permit was spent, so it does not count as a dispatch.
            raise aiohttp.ClientConnectionResetError("the pooled connection is closed")
        upload.transport = conn.transport
        try:
            upload.check()
        except WriteRejected:
            # The connection is unused and can serve the next request; aiohttp would close it.
            conn.release()
            raise
        upload.written = True
        # Rounded down, so that Gemini stops first instead of working for an instance that has given up. Computed after the
        # check: a process that is frozen between them would ask for more time than its slot is kept.
        self.headers["X-Server-Timeout"] = str(max(1, int(upload.deadline_s - elapsed_s())))
        return await super().send(conn)
