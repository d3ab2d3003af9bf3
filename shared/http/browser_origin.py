"""Which requests without a credential a local server accepts. Pure.

A browser sends the requests of any page to 127.0.0.1, and anonymous callers use the operator's key. So a server that is not
deployed checks headers that a page cannot set: Host (after DNS rebinding it has the page's name), Origin and Sec-Fetch-Site.
A body also needs a Content-Type, because a page's request without one needs no preflight. Programs send no Origin. Requests
with a credential are not checked, since a foreign page has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from shared.errors import Forbidden, GatewayError, UnsupportedMediaType
from shared.settings.settings import Settings

_BODILESS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
_HOST = r"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9._-]{1,253}?)\.?)(?::([0-9]{1,5}))?"
_AUTHORITY = re.compile(_HOST, re.IGNORECASE)
_ORIGIN = re.compile(f"(https?)://{_HOST}", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_CACHED_NAMES = 64
_CREDENTIAL = "or send a credential in the header Admin-API-Key or x-goog-api-key."


class Authority(NamedTuple):
    host: str
    """In lower case, without brackets."""
    port: int | None
    """None if absent."""

    @property
    def local(self) -> bool:
        """Whether the name means the local machine. Some servers print 0.0.0.0 and [::] as their address."""
        address = _address(self.host)
        if address is None:
            return self.host == "localhost" or self.host.endswith(".localhost")
        return address.is_loopback or address.is_unspecified


def anonymous_fault(
    method: str, headers: Mapping[str, str], settings: Settings, arrived_at: str | None
) -> GatewayError | None:
    """The error for a request without a credential; None if it is accepted. `headers` have lower-case names; `arrived_at` is
    the local address that the client connected to."""
    if settings.deployed:
        return None
    return (
        _host_fault(headers, settings, arrived_at) or _origin_fault(headers, settings) or _body_fault(method, headers)
    )


def _host_fault(headers: Mapping[str, str], settings: Settings, arrived_at: str | None) -> GatewayError | None:
    text = headers.get("host")
    address = _address(arrived_at or "")
    if text is None or address is None or not address.is_loopback:
        return None
    host = _authority(text)
    if host is not None and (host.local or host.host in _named_hosts(settings)):
        return None
    return Forbidden(
        "Requests without a credential must use a loopback name as Host. Call this server as 127.0.0.1 or localhost, or set "
        f"PUBLIC_BASE_URL to its address, {_CREDENTIAL}",
        details={"header": "host"},
    )


def _origin_fault(headers: Mapping[str, str], settings: Settings) -> GatewayError | None:
    origin = headers.get("origin")
    if origin is None:
        if headers.get("sec-fetch-site") != "cross-site":
            return None
    elif (settings.cors_origins != ("*",) and origin in settings.cors_origins) or _is_own(origin, headers, settings):
        return None
    return Forbidden(
        "Pages of other origins need a credential, unless CORS_ORIGIN lists their origin (`*` does not count). Add the page's "
        f"origin there, {_CREDENTIAL}",
        details={"header": "sec-fetch-site" if origin is None else "origin"},
    )


def is_trusted_page(headers: Mapping[str, str], settings: Settings) -> bool:
    """Whether a request comes from no page, from a page of this server, or from one that CORS_ORIGIN names. The browser's cookie
    of this server may be used for those only."""
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site") != "cross-site" or headers.get("sec-fetch-mode") == "navigate"
    own = (headers.get("host"), urlsplit(settings.images.public_base_url or "").netloc or None)
    return origin in settings.cors_origins or origin.partition("://")[2] in own


def _is_own(origin: str, headers: Mapping[str, str], settings: Settings) -> bool:
    """Whether `origin` is this server's, under the request's Host or another local name. A Host that is neither an address
    nor in the operator's settings does not count: its owner can make it resolve to this machine."""
    found, server = _ORIGIN.fullmatch(origin), _authority(headers.get("host", ""))
    if found is None or server is None:
        return False
    scheme, page = found[1].lower(), Authority((found[2] or found[3]).lower(), int(found[4]) if found[4] else None)
    if (page.port or _DEFAULT_PORTS[scheme]) != (server.port or _DEFAULT_PORTS[scheme]):
        return False
    if page.local and server.local:
        return True
    known = _address(server.host) is not None or server.host in _named_hosts(settings)
    return page.host == server.host and known


def _body_fault(method: str, headers: Mapping[str, str]) -> GatewayError | None:
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if method in _BODILESS or not has_body or headers.get("content-type", "").strip():
        return None
    return UnsupportedMediaType(
        "Requests without a credential need a Content-Type for their body. Send the header Content-Type: application/json."
    )


def _named_hosts(settings: Settings) -> Iterator[str]:
    """The hosts in the operator's settings."""
    yield settings.host.lower()
    for url in (settings.images.public_base_url, *settings.cors_origins):
        host = urlsplit(url or "").hostname
        if host is not None:
            yield host


@lru_cache(maxsize=_CACHED_NAMES)
def _authority(text: str) -> Authority | None:
    found = _AUTHORITY.fullmatch(text.strip())
    return Authority((found[1] or found[2]).lower(), int(found[3]) if found[3] else None) if found else None


@lru_cache(maxsize=_CACHED_NAMES)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
