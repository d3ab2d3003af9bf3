"""The outbound proxy, as an operator sees it: which one is used for Google, and whether it works.

A check sends one request through the proxy, as the gateway does: for an https target a CONNECT and then TLS with the target, for
an http one the request itself. Any answer of the target will do. No credential is in a result: a proxy is shown by its address.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from shared.accounts.old_file import credential_in, public_url
from shared.clock import elapsed_s
from shared.generation import JsonObject
from shared.secret import Secret
from shared.settings.proxy import ProxySettings

TIMEOUT_S = 10.0
_NEEDS_CREDENTIALS = 407

Outcome = Literal[
    "reachable",
    "rejected_credentials",  # 407
    "refused",  # the proxy answered that it does not reach the target
    "unreachable",  # no connection to the proxy: nothing listens there, or its name is unknown
    "untrusted",  # TLS with the target failed: a proxy that opens TLS has a certificate of its own
    "timed_out",
    "broken",  # what listens there is no HTTP proxy
]


@dataclass(frozen=True, slots=True)
class ProxyCheck:
    """`message` says what is wrong, and what to do. `took_ms` is the time until the target's answer, or the failure."""

    outcome: Outcome
    message: str
    took_ms: int

    def as_json(self) -> JsonObject:
        return {"outcome": self.outcome, "message": self.message, "took_ms": self.took_ms}


def proxy_status(settings: ProxySettings, target: str, last: ProxyCheck | None = None) -> JsonObject:
    """What is shown of the proxy for requests to `target` (a URL): {"proxy", "with_credentials", "exempt", "last_check"}.
    `exempt`: a proxy is set, but the target is reached directly (NO_PROXY, or this machine)."""
    used = settings.proxy_for(target)
    chosen = settings.https if urlsplit(target).scheme == "https" else settings.http
    return {
        "proxy": None if used is None else public_url(used),
        "with_credentials": used is not None and credential_in(used) is not None,
        "exempt": used is None and chosen is not None,
        "last_check": None if last is None else last.as_json(),
    }


async def check_proxy(
    proxy: Secret, target: str, *, timeout_s: float = TIMEOUT_S, tls: ssl.SSLContext | bool = True
) -> ProxyCheck:
    """Sends one request to `target` through `proxy`. Never raises for what the proxy or the target does."""
    began_s = elapsed_s()
    outcome, message = await _outcome(proxy, target, timeout_s, tls)
    return ProxyCheck(outcome, message, int(1000 * (elapsed_s() - began_s)))


async def _outcome(proxy: Secret, target: str, timeout_s: float, tls: ssl.SSLContext | bool) -> tuple[Outcome, str]:
    shown, host = public_url(proxy), urlsplit(target).hostname
    timeout = aiohttp.ClientTimeout(total=timeout_s, ceil_threshold=float("inf"))
    try:
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), timeout=timeout) as session,
            session.get(target, proxy=URL(proxy.reveal()), ssl=tls, allow_redirects=False) as response,
        ):
            # Over http the proxy's own rejection comes as the response.
            if response.status == _NEEDS_CREDENTIALS:
                return _rejected(shown)
            return "reachable", f"{host} answered through {shown}."
    except aiohttp.ClientHttpProxyError as error:
        if error.status == _NEEDS_CREDENTIALS:
            return _rejected(shown)
        return (
            "refused",
            f"{shown} refused to connect to {host} (HTTP {error.status}). Allow this host in the proxy's rules.",
        )
    except aiohttp.ClientProxyConnectionError:
        return "unreachable", f"Nothing answers at {shown}. Check the proxy's host and port."
    except aiohttp.ClientSSLError:
        return (
            "untrusted",
            f"{shown} connects, but the certificate of {host} is not trusted. Exempt this host from inspection.",
        )
    except TimeoutError:
        return (
            "timed_out",
            f"{shown} did not reach {host} within {timeout_s:g} s. Check the proxy's host, port and rules.",
        )
    except (aiohttp.ClientError, OSError, ValueError):
        return "broken", f"What listens at {shown} does not answer as an HTTP proxy. Check the host and port."


def _rejected(shown: str) -> tuple[Outcome, str]:
    return (
        "rejected_credentials",
        f"{shown} rejected the user name or the password, or needs them. Correct the proxy's URL.",
    )
