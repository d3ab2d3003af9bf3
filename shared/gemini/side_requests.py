"""Requests that a service needs besides the one that generates: keys, sessions, files. They take no permit.

A failure of one means that the request that generates was not sent: `written` is False, and there is no status.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import aiohttp
import orjson
from aiohttp import hdrs
from aiohttp.payload import Payload
from yarl import URL

from shared.bounds.json_structure import TooManyValues, check_values
from shared.bounds.large_work import LARGE_BYTES, LargeWork
from shared.clock import elapsed_s, unix_s
from shared.gemini.errors import MAX_ERROR_BYTES, UpstreamFailure, read_failure
from shared.gemini.upload import BoundedResponse
from shared.generation import JsonObject
from shared.secret import Secret

MAX_JSON_BYTES = 256 * 1024
MAX_CONNECTIONS = 20
_CONNECT_TIMEOUT_S = 10.0
ProxyFor = Callable[[str], Secret | None]
_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity"}


class Received(NamedTuple):
    """`moved_to`: where a redirect leads; its body was not read."""

    body: bytes
    headers: Mapping[str, str]
    moved_to: str | None = None

    @property
    def content_type(self) -> str:
        return self.headers.get(hdrs.CONTENT_TYPE, "")


class SideRequests:
    """One pool of connections, without cookies of its own. Bound to the event loop of its first call. Redirects are not
    followed: the next host would get the credential."""

    def __init__(self, large_work: LargeWork, proxy_for: ProxyFor, service: str = "Gemini Enterprise") -> None:
        """`proxy_for` returns the proxy for a URL; it is asked for each request. `service` is the name in error messages."""
        self._large_work, self._proxy_for, self._service = large_work, proxy_for, service
        self._session: aiohttp.ClientSession | None = None

    async def post(
        self,
        url: str,
        body: JsonObject,
        headers: Mapping[str, str],
        deadline_s: float,
        secrets: tuple[Secret, ...],
        *,
        size_bytes: int = 0,
    ) -> JsonObject:
        """The JSON object of the answer. `size_bytes` is that of the largest text in `body`. Raises UpstreamFailure."""
        encode = partial(orjson.dumps, body)
        data = await self._large_work.run(encode) if size_bytes >= LARGE_BYTES else encode()
        sent = {"Content-Type": "application/json", **headers}
        return self.object_of(await self.send("POST", url, sent, deadline_s, secrets, MAX_JSON_BYTES, data))

    async def get(
        self, url: str, headers: Mapping[str, str], deadline_s: float, secrets: tuple[Secret, ...], max_bytes: int
    ) -> Received:
        """Raises UpstreamFailure."""
        return await self.send("GET", url, headers, deadline_s, secrets, max_bytes)

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def object_of(self, received: Received) -> JsonObject:
        """The JSON object of an answer. Raises UpstreamFailure."""
        try:
            check_values(received.body)
            value: Any = orjson.loads(received.body)
        except (orjson.JSONDecodeError, TooManyValues):
            value = None
        if type(value) is not dict:
            raise _failed("malformed", f"{self._service} answered with something else than a JSON object.")
        return value

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        deadline_s: float,
        secrets: tuple[Secret, ...],
        max_bytes: int,
        data: bytes | Payload | None = None,
    ) -> Received:
        """Raises UpstreamFailure."""
        if self._session is None:
            self._session = _open()
        failure: UpstreamFailure
        left_s = deadline_s - elapsed_s()
        if left_s <= 0:
            raise _failed("timeout", "The deadline passed before the request could be sent.")
        proxy = self._proxy_for(url)
        timeout = aiohttp.ClientTimeout(total=left_s, sock_connect=_CONNECT_TIMEOUT_S, ceil_threshold=float("inf"))
        try:
            async with self._session.request(
                method,
                URL(url, encoded=True),
                data=data,
                headers=headers,
                timeout=timeout,
                proxy=proxy.reveal() if proxy else None,
                allow_redirects=False,
            ) as response:
                return await self._received(response, secrets, max_bytes)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = _broken(error, self._service)
        # Raised outside of the except clause: aiohttp's error can contain the headers with the credential.
        raise failure

    async def _received(
        self, response: aiohttp.ClientResponse, secrets: tuple[Secret, ...], max_bytes: int
    ) -> Received:
        if response.status in _REDIRECTS:
            return Received(b"", {}, response.headers.get(hdrs.LOCATION, ""))
        body = await _read(response, max_bytes if response.status == 200 else MAX_ERROR_BYTES)
        if response.status == 200:
            if len(body) > max_bytes:
                raise _failed("malformed", f"An answer of {self._service} is longer than {max_bytes} bytes.")
            return Received(body, response.headers)
        read = read_failure(response.status, body[:MAX_ERROR_BYTES], response.headers, now_s=unix_s())
        raise UpstreamFailure(
            read.kind,
            without(f"{read.message} (HTTP {response.status})", secrets),
            reason=read.reason,
            retry_delay_s=read.retry_delay_s,
            violations=read.violations,
            written=False,
            consumer=read.consumer,
        )


def _open() -> aiohttp.ClientSession:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, ttl_dns_cache=60),
        response_class=BoundedResponse,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=_HEADERS,
    )
    session._retry_connection = False
    return session


async def _read(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    chunks, size_bytes = [], 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size_bytes += len(chunk)
        if size_bytes > limit_bytes:
            response.close()
            break
    return b"".join(chunks)


def without(text: str, secrets: tuple[Secret, ...]) -> str:
    for secret in secrets:
        if len(secret.reveal()) >= 8:
            text = text.replace(secret.reveal(), "***")
    return text


def _broken(error: Exception, service: str) -> UpstreamFailure:
    """Its text is not used: it can contain addresses and headers."""
    name = type(error).__name__
    if isinstance(error, TimeoutError):
        return _failed("timeout", f"{service} did not answer before the deadline.")
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError | aiohttp.ConnectionTimeoutError):
        return _failed("connect", f"{service} could not be reached ({name}).")
    return _failed("reset", f"The connection to {service} broke ({name}).")


def _failed(kind: Any, message: str) -> UpstreamFailure:
    return UpstreamFailure(kind, message, written=False)
