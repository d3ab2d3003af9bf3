"""Which requests go through an HTTP proxy: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, as curl and Python read them.

The scheme of the target chooses the proxy; ALL_PROXY serves the schemes without one of their own. A name in lower case has
precedence over the same name in upper case (everything.curl.dev/usingcurl/proxies/env). NO_PROXY is a list, separated by
commas or spaces, of what is reached directly:

    *                        everything
    example.com              this host and its subdomains; a leading `.` or `*.` makes no difference
    example.com:8443         the same, for one port
    10.1.2.3, [::1]:443      an address
    10.0.0.0/8               the addresses of a network; only targets that are addresses are compared, no name is resolved

The machine itself (localhost, 127.0.0.0/8, ::1) is never reached through a proxy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import urlsplit

from shared.secret import Secret
from shared.settings.environment import Environment

_DEFAULT_PORTS = {"http": 80, "https": 443}
_EXAMPLE = "a URL like http://proxy.example:3128 (SOCKS proxies are not supported)"
_HOST_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:]*)(?::(\d{1,5}))?")


class Exemption(NamedTuple):
    """One entry of NO_PROXY. Exactly one of `domain` and `network` is set; `*` has neither."""

    domain: str | None = None
    network: IPv4Network | IPv6Network | None = None
    port: int | None = None

    def covers(self, host: str, address: IPv4Address | IPv6Address | None, port: int | None) -> bool:
        """Whether the target is reached directly. `host` is in lower case, without a dot at its end."""
        if self.port is not None and self.port != port:
            return False
        if self.network is not None:
            return address is not None and address in self.network
        return self.domain is None or host == self.domain or host.endswith(f".{self.domain}")


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """A proxy's URL may hold a credential, so it is a Secret. None: no proxy for this scheme."""

    http: Secret | None = None
    https: Secret | None = None
    exemptions: tuple[Exemption, ...] = ()

    @classmethod
    def read(cls, env: Environment) -> ProxySettings:
        """Raises SettingsError."""
        http, https = _proxy(env, "HTTP_PROXY"), _proxy(env, "HTTPS_PROXY")
        if http is None or https is None:
            general = _proxy(env, "ALL_PROXY")
            http, https = http or general, https or general
        return cls(http, https, _exemptions(env, "NO_PROXY"))

    def proxy_for(self, url: str) -> Secret | None:
        """The proxy that requests to `url` go through."""
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
        address = _address(host)
        if host == "localhost" or host.endswith(".localhost") or (address is not None and address.is_loopback):
            return None
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
        if any(exemption.covers(host, address, port) for exemption in self.exemptions):
            return None
        return self.https if parts.scheme == "https" else self.http


def _either_case(env: Environment, name: str) -> str:
    return name.lower() if env.text(name.lower()) is not None else name


def _proxy(env: Environment, name: str) -> Secret | None:
    name = _either_case(env, name)
    text = env.text(name)
    if text is None:
        return None
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        valid = parts.scheme == "http" and parts.hostname and parts.port != 0 and not re.search(r"\s", url)
    except ValueError:  # The port is not a number, or an IPv6 address lacks its bracket.
        valid = False
    if not valid:
        raise env.invalid(name, _EXAMPLE, shown=False)
    return Secret(url)


def _exemptions(env: Environment, name: str) -> tuple[Exemption, ...]:
    name = _either_case(env, name)
    items = re.split(r"[\s,]+", env.text(name) or "")
    return tuple(_exemption(env, name, item.lower()) for item in items if item)


def _exemption(env: Environment, name: str, item: str) -> Exemption:
    if item == "*":
        return Exemption()
    if network := _network(item):
        return Exemption(network=network)
    match = _HOST_AND_PORT.fullmatch(item)
    if match is None or "/" in item:
        raise env.invalid(name, "a list like internal.example,.corp.example:8443,10.0.0.0/8, or `*`")
    host, port = match[1].strip("[]"), int(match[2]) if match[2] else None
    if network := _network(host):
        return Exemption(network=network, port=port)
    return Exemption(domain=host.removeprefix("*").strip("."), port=port)


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
