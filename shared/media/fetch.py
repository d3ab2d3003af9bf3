"""Fetches an image or another file from a caller's URL without giving the caller access to this server's network (SSRF).

Only https to public addresses. The connection uses the address that was checked, so that a name cannot resolve differently the
second time; every redirect is checked in the same way. No credential, cookie or header of the caller is sent. No proxy is
used, because it would resolve the name again.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from shared.errors import BadRequest
from shared.media.addresses import is_public

TIMEOUT_S = 10.0
MAX_REDIRECTS = 3
MAX_URL_CHARS = 4_096
IMAGES = "image/png, image/jpeg, image/webp, image/heic, image/heif"
_HEADERS = {
    # A compressed body could decompress to any size.
    "Accept-Encoding": "identity",
    "User-Agent": "gemini-concurrent-generation",
}
_REDIRECTS = {301, 302, 303, 307, 308}

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) -> the addresses of the host. Raises OSError."""


class Fetcher:
    """`resolve` looks up names. Tests replace `is_public` and `tls`."""

    def __init__(
        self,
        resolve: Resolve,
        *,
        is_public: Callable[[str], bool] = is_public,
        tls: ssl.SSLContext | None = None,
        hold: Callable[[int], None] | None = None,
        accept: str = IMAGES,
    ) -> None:
        """`hold` reserves memory for received bytes; an exception that it raises ends the fetch. `accept`: the types that are
        asked for."""
        self._accept = accept
        self._resolve = resolve
        self._hold = hold
        self._is_public = is_public
        self._tls = tls

    async def fetch(self, url: str, where: str, max_bytes: int, timeout_s: float = TIMEOUT_S) -> bytes:
        """The bytes at `url`, following redirects. Raises BadRequest that names the field `where`."""
        try:
            async with asyncio.timeout(min(timeout_s, TIMEOUT_S)):
                for _ in range(MAX_REDIRECTS + 1):
                    found = await self._get(url, where, max_bytes)
                    if isinstance(found, bytes):
                        return found
                    url = found
        except TimeoutError:
            raise _refuse(where, f"was not received within {min(timeout_s, TIMEOUT_S):.2g} s") from None
        raise _refuse(where, f"redirects more than {MAX_REDIRECTS} times")

    async def _get(self, url: str, where: str, max_bytes: int) -> bytes | str:
        """The bytes, or the URL of a redirect."""
        target = _checked(url, where)
        # aiohttp does not call the resolver for a host that is an address, so it is checked here.
        addresses = await self._public_addresses(target, where)
        connector = aiohttp.TCPConnector(
            resolver=_Pinned(addresses), use_dns_cache=False, ssl=self._tls or True, force_close=True
        )
        async with aiohttp.ClientSession(
            connector=connector,
            headers={"Accept": self._accept, **_HEADERS},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        ) as session:
            try:
                async with session.get(target, allow_redirects=False) as response:
                    if response.status in _REDIRECTS and "location" in response.headers:
                        return str(target.join(URL(response.headers["location"])))
                    if response.status != 200:
                        raise _refuse(where, f"cannot be fetched: its server responded with status {response.status}")
                    return await _read(response, where, max_bytes, self._hold)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise _refuse(where, f"cannot be fetched: {_why(error)}") from None

    async def _public_addresses(self, target: URL, where: str) -> Sequence[str]:
        """Rejects a name if any of its addresses is not public, because no honest name has such an address. The error is the
        same as for an unknown name, so that callers cannot find out which internal names exist."""
        host, port = target.raw_host or "", target.port or 443
        try:
            addresses = [host] if _is_address(host) else list(await self._resolve(host, port))
        except (OSError, UnicodeError):
            addresses = []
        if not addresses or not all(self._is_public(address) for address in addresses):
            raise _refuse(
                where, "cannot be fetched: its host is unknown or not at a public address; send its bytes in base64"
            )
        return addresses


class _Pinned(AbstractResolver):
    """A resolver that returns only the checked addresses."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Does nothing: there are no resources to release."""


def _checked(url: str, where: str) -> URL:
    if len(url) > MAX_URL_CHARS:
        raise _refuse(where, f"is a URL of more than {MAX_URL_CHARS} characters")
    try:
        parts, target = urlsplit(url), URL(url)
        port = parts.port
    except ValueError:
        raise _refuse(where, "is not a valid URL") from None
    if parts.scheme != "https" or target.scheme != "https":
        raise _refuse(where, "cannot be fetched: only https URLs are supported, also in redirects")
    if "@" in parts.netloc or target.user is not None or target.password is not None:
        raise _refuse(where, "is a URL that contains credentials; remove them")
    if not target.raw_host or port == 0:
        raise _refuse(where, "is not a valid URL")
    return target


def _is_address(host: str) -> bool:
    """aiohttp's own test: it connects to such a host without calling the resolver. Other spellings of an address
    (2130706433, 1.2.3.4.) are rejected as not public."""
    return ":" in host or host.replace(".", "").isdigit()


async def _read(
    response: aiohttp.ClientResponse, where: str, max_bytes: int, hold: Callable[[int], None] | None
) -> bytes:
    if (response.content_length or 0) > max_bytes:
        raise _too_large(where, max_bytes)
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > max_bytes:
            raise _too_large(where, max_bytes)
        if hold is not None:
            hold(len(chunk))
    return bytes(data)


def _why(error: Exception) -> str:
    """The cause in words that may be shown; the error's own message contains addresses."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError | ssl.SSLError):
        return "its certificate is not valid"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "its server cannot be reached"
    return "its server sent an invalid response"


def _too_large(where: str, max_bytes: int) -> BadRequest:
    return _refuse(where, f"is larger than {max_bytes // 2**20} MB, the maximum for a file from a URL")


def _refuse(where: str, why: str) -> BadRequest:
    return BadRequest(f"{where} {why}.", field=where)
