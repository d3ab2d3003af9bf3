"""The HTTP client of Gemini: one exchange, unary or streamed, on one pool of connections. It never retries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import NamedTuple

import aiohttp
from aiohttp import hdrs

from shared.bounds.large_work import LARGE_BYTES, LargeWork
from shared.clock import elapsed_s, unix_s
from shared.gemini.backend import Backend
from shared.gemini.errors import MAX_ERROR_BYTES, Kind, UpstreamFailure, read_error_frame, read_failure
from shared.gemini.reading import AnswerReader, Translate, Unreadable, describe, is_error, read_answer, read_error_body
from shared.gemini.upload import BoundedResponse, PermittedRequest, Upload, WriteRejected
from shared.gemini.upstream import Exchange
from shared.generation import JsonObject
from shared.secret import Secret

MAX_REPLY_BYTES = 64 * 1024 * 1024
MAX_STREAM_BYTES = 256 * 1024 * 1024

CONNECT_TIMEOUT_S = 10.0
"""For TCP alone: a route that drops packets costs one backoff, not the whole deadline."""

KEEPALIVE_S = 60.0
"""Shorter than Google's own (minutes): a request that is sent while Google closes the connection costs a permit."""

READ_BUFFER_BYTES = 256 * 1024
STREAM_BUFFER_BYTES = 32 * 1024
"""For a stream, whose frames may wait for a slow caller: aiohttp stops reading at twice this size."""
_LARGE_COMPRESSED_BYTES = 4 * 1024
_FRAMES_IN_A_TURN = 256
"""Frames of a stream that are returned in a row before other requests run."""


# Answers are requested uncompressed: inflating costs 10 ms of CPU for an image of 2 MB, of which it saves a quarter.
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "gemini-concurrent-generation"}


class GeminiClient:
    """One pool of connections to one backend, for many accounts. Bound to the event loop of its first call."""

    def __init__(
        self,
        backend: Backend,
        *,
        max_connections: int = 100,
        proxy: str | None = None,
        large_work: LargeWork | None = None,
    ) -> None:
        """Raises ValueError."""
        if max_connections < 1:
            raise ValueError("max_connections must be at least 1")
        self._backend = backend
        self._max_connections = max_connections
        self._proxy = proxy
        self._large_work = large_work or LargeWork()
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def generate(self, exchange: Exchange) -> JsonObject:
        """The whole answer. Raises UpstreamFailure, or what `before_write` raised."""
        sent = await self._dispatch(exchange)
        response, secret = sent.response, sent.secret
        try:
            if response.status != 200:
                raise await self._failure(exchange, sent)
            body = await _read(response, MAX_REPLY_BYTES)
        except (aiohttp.ClientError, OSError) as error:
            raise _broken(error, sent.upload, answered=True) from None
        finally:
            _sever(response)
        if len(body) > MAX_REPLY_BYTES:
            raise _malformed(f"Gemini's answer is longer than {MAX_REPLY_BYTES} bytes.", severed=True)
        encoding = response.headers.get(hdrs.CONTENT_ENCODING, "")
        try:
            reading = partial(read_answer, body, encoding, MAX_REPLY_BYTES, sent.translate)
            # A compressed answer is longer after decoding.
            is_large = len(body) >= LARGE_BYTES or (encoding and len(body) >= _LARGE_COMPRESSED_BYTES)
            reply = await self._large_work.run(reading, first=True) if is_large else reading()
        except Unreadable as error:
            raise _unreadable(error, response, secret) from None
        if is_error(reply):
            raise self.reported(reply, exchange, response, secret)
        return reply

    def stream(self, exchange: Exchange) -> AbstractAsyncContextManager[AsyncIterator[JsonObject]]:
        """Frames as they arrive. Entering waits for status and headers. Entering and iterating raise UpstreamFailure, also
        if the answer ends before every candidate has finished. Leaving early closes the connection at once."""
        return _Stream(self, exchange)

    def reconfigure(self, proxy: str | None, max_connections: int) -> None:
        """Requests that begin from now on go through `proxy`; the others end as they began."""
        self._proxy, self._max_connections = proxy, max_connections
        connector = self._session.connector if self._session is not None else None
        if connector is not None:
            # aiohttp has no public setter. Connections of another proxy are not used again, and close when they are idle.
            connector._limit = max_connections

    def reported(
        self, frame: JsonObject, exchange: Exchange, response: aiohttp.ClientResponse, secret: Secret
    ) -> UpstreamFailure:
        """The failure that a frame, or a whole answer under HTTP 200, reports."""
        failure = read_error_frame(frame, response.headers, secret=secret, now_s=unix_s())
        return self._backend.failure(failure, exchange, secret)

    async def aclose(self) -> None:
        """Closes every connection. The client cannot be used afterwards."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _dispatch(self, exchange: Exchange, buffer_bytes: int = READ_BUFFER_BYTES) -> _Sent:
        """Sends the request, and waits for the status and headers of the response."""
        deadline_s = elapsed_s() + exchange.timeout_s
        prepared = await self._backend.prepare(exchange)
        upload = Upload(prepared.body, deadline_s, exchange.before_write, exchange.after_write)
        left_s = deadline_s - elapsed_s()
        if left_s <= 0:  # aiohttp takes 0 for no timeout.
            raise UpstreamFailure("timeout", "The deadline passed before the request could be sent.", written=False)
        session = self._session or self._open()
        failure: BaseException | None
        try:
            response = await session.post(
                prepared.url,
                data=upload,
                headers=prepared.headers,
                # Without the threshold aiohttp rounds the deadline up to a whole second.
                timeout=aiohttp.ClientTimeout(
                    total=left_s, sock_connect=CONNECT_TIMEOUT_S, ceil_threshold=float("inf")
                ),
                allow_redirects=False,
                proxy=self._proxy,
                read_bufsize=buffer_bytes,
            )
            return _Sent(response, upload, prepared.secret, prepared.translate)
        except asyncio.CancelledError:
            upload.abort()
            raise
        except (WriteRejected, aiohttp.ClientError, OSError) as error:
            rejection, upload.rejection = upload.rejection, None
            failure = rejection or _broken(error, upload, answered=False)
            del rejection
        upload.abort()
        assert failure is not None
        # Raised outside of the except clause, so that no aiohttp error is chained: it can contain the headers with the key.
        try:
            raise failure
        finally:
            # The traceback holds this frame and the body: a reference cycle would keep them in memory.
            del failure

    async def _failure(self, exchange: Exchange, sent: _Sent) -> UpstreamFailure:
        """The failure for a response other than 200."""
        response = sent.response
        try:
            body = await _read(response, MAX_ERROR_BYTES)
        except (aiohttp.ClientError, OSError):
            # The status says more than the broken connection.
            body = b""
        plain = read_error_body(body, response.headers.get(hdrs.CONTENT_ENCODING, ""))
        failure = read_failure(response.status, plain, response.headers, secret=sent.secret, now_s=unix_s())
        return self._backend.failure(failure, exchange, sent.secret)

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise RuntimeError("the client is closed")
        session = self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._max_connections, keepalive_timeout=KEEPALIVE_S, ttl_dns_cache=60
            ),
            request_class=PermittedRequest,
            response_class=BoundedResponse,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            # `reading` decodes; it also accepts a header that does not match the body.
            auto_decompress=False,
        )
        # aiohttp retries only idempotent methods by itself, never a POST; a retry would need a permit of its own.
        session._retry_connection = False
        return session


class _Sent(NamedTuple):
    """A request whose response has begun. `secret` was sent with it."""

    response: aiohttp.ClientResponse
    upload: Upload
    secret: Secret
    translate: Translate | None


class _Stream(AbstractAsyncContextManager[AsyncIterator[JsonObject]], AsyncIterator[JsonObject]):
    """One streamed exchange: its context, and its iterator."""

    def __init__(self, client: GeminiClient, exchange: Exchange) -> None:
        self._client = client
        self._exchange = exchange
        self._read_bytes = 0
        self._ended = False
        self._frames = 0
        self._broken: UpstreamFailure | None = None
        self._expired = False

    async def __aenter__(self) -> AsyncIterator[JsonObject]:
        sent = await self._client._dispatch(self._exchange, STREAM_BUFFER_BYTES)
        self._response, self._upload, self._secret, translate = response, upload, *_ = sent
        encoding = response.headers.get(hdrs.CONTENT_ENCODING, "")
        self._reader = AnswerReader(encoding, MAX_STREAM_BYTES, translate=translate)
        # aiohttp's timer ends a read; this one ends the exchange, also while nothing is being read.
        self._timer = asyncio.get_running_loop().call_later(upload.deadline_s - elapsed_s(), self._expire)
        if response.status != 200:
            try:
                raise await self._client._failure(self._exchange, sent)
            finally:
                self._close()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    async def __anext__(self) -> JsonObject:
        self._frames += 1
        if self._frames % _FRAMES_IN_A_TURN == 0:
            await asyncio.sleep(0)
        while True:
            try:
                frame = self._reader.next()
                if frame is None and not self._ended:
                    await self._read_chunk()
                    continue
            except Unreadable as error:
                if error.cut_short:
                    raise self._cut() from None
                raise self._unreadable(error) from None
            if frame is None:
                frame = self._end()
            if "error" in frame and is_error(frame):
                raise self._client.reported(frame, self._exchange, self._response, self._secret)
            return frame

    async def _read_chunk(self) -> None:
        """Passes the next bytes to the reader, or records the end. Raises Unreadable."""
        chunk = b""
        try:
            chunk = await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            self._broken = _broken(TimeoutError() if self._expired else error, self._upload, answered=True)
        if not chunk:
            self._ended = True
            self._reader.end()
            return
        self._read_bytes += len(chunk)
        if self._read_bytes > MAX_STREAM_BYTES:
            raise _malformed(f"Gemini's stream is longer than {MAX_STREAM_BYTES} bytes.", severed=True)
        self._reader.feed(chunk)

    def _end(self) -> JsonObject:
        """The last frame that the reader still has. Raises StopAsyncIteration after it if the answer is complete, however the
        connection ended, else the failure."""
        reader = self._reader
        if not reader.complete:
            if self._broken is None and not reader.begun and reader.head.strip():
                raise self._unreadable(Unreadable("It contains no part of an answer."))
            raise self._cut()
        last = reader.last()
        if last is None:
            raise StopAsyncIteration
        return last

    def _unreadable(self, error: Unreadable) -> UpstreamFailure:
        error.head = self._reader.head
        failure = _unreadable(error, self._response, self._secret)
        failure.severed = not self._ended
        return failure

    def _cut(self) -> UpstreamFailure:
        ended = "Gemini's stream ended before the answer was finished."
        return self._broken or UpstreamFailure("cut", ended, status=200)

    def _expire(self) -> None:
        self._expired = True
        self._close()

    def _close(self) -> None:
        self._timer.cancel()
        _sever(self._response)


async def _read(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """The whole body. A body that is longer than the limit is read a little beyond the limit."""
    content = response.content
    chunk = await content.readany()
    if content.at_eof():
        return chunk
    chunks, size_bytes = [chunk], len(chunk)
    while chunk and size_bytes <= limit_bytes:
        chunk = await content.readany()
        chunks.append(chunk)
        size_bytes += len(chunk)
    return b"".join(chunks)


def _unreadable(error: Unreadable, response: aiohttp.ClientResponse, secret: Secret) -> UpstreamFailure:
    """A complete answer that cannot be read is not requested again: it was paid for, and the next one would be the same.
    An answer that ends early without a declared length counts as cut."""
    headers = response.headers
    if error.cut_short and hdrs.CONTENT_LENGTH not in headers and hdrs.TRANSFER_ENCODING not in headers:
        return UpstreamFailure("cut", "Gemini's answer ended before it was complete.", status=200)
    came = describe(error.head, headers.get(hdrs.CONTENT_TYPE, ""), headers.get(hdrs.CONTENT_ENCODING, ""))
    if len(secret.reveal()) >= 8:
        came = came.replace(secret.reveal(), "***")
    return _malformed(
        f"The answer under HTTP 200 cannot be read as Gemini's. {error} Received: {came}. "
        "The operator should check the proxies between this gateway and Gemini."
    )


def _malformed(message: str, *, severed: bool = False) -> UpstreamFailure:
    return UpstreamFailure("malformed", message, status=200, severed=severed)


def _broken(error: Exception, upload: Upload, *, answered: bool) -> UpstreamFailure:
    """The failure for a connection error. Its text is not used: it can contain addresses and headers."""
    name = type(error).__name__
    if isinstance(error, aiohttp.ConnectionTimeoutError | aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError):
        return UpstreamFailure("connect", f"Gemini could not be reached ({name}).", written=False)
    kind: Kind = "cut" if answered else "reset"
    severed = isinstance(error, TimeoutError | aiohttp.ClientResponseError)
    message = f"The connection to Gemini broke ({name})."
    if isinstance(error, TimeoutError):
        kind, message = "timeout", "Gemini did not answer before the deadline."
    elif isinstance(error, aiohttp.ClientResponseError):
        kind, message = "malformed", "Gemini's answer is not HTTP."
    return UpstreamFailure(kind, message, status=200 if answered else None, written=upload.written, severed=severed)


def _sever(response: aiohttp.ClientResponse) -> None:
    """Closes a response that was not read to its end, at once: a graceful close would first send the rest of the request.
    After the last byte the connection is already back in the pool, and stays there."""
    connection = response.connection
    if connection is not None:
        transport = connection.transport
        response.close()
        if transport is not None:
            transport.abort()
