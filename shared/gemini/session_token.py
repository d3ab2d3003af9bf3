"""The token of a browser's session with Gemini Enterprise: a key that its cookies are exchanged for signs it.

getoxsrf (cookies) -> {"xsrfToken": a key, "keyId"} -> JWT (HS256), valid for 300 s
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Any

import orjson

from shared.clock import unix_s
from shared.gemini.errors import UpstreamFailure
from shared.gemini.oauth import Minted
from shared.gemini.upstream import Exchange
from shared.secret import Secret

WEB, API = "https://business.gemini.google", "https://biz-discoveryengine.googleapis.com"
LIFETIME_S = 300
TIMEOUT_S = 10.0
"""For the connection, and for each read."""
MAX_KEY_BYTES = 64 * 1024
_INDEX = re.compile(r"[A-Za-z0-9_-]{1,64}")
_COOKIE = re.compile(r"[!#-+\--:<-\[\]-~]{1,4096}")
"""A cookie's value (RFC 6265, 4.1.1)."""


def signer_of(exchange: Exchange) -> Secret:
    """All that a token depends on: the cookies {"secure_c_ses", "host_c_oses"}, the number of the session, the browser."""
    try:
        given: Any = orjson.loads(exchange.credential.reveal())
        cookies = {"__Secure-C_SES": given["secure_c_ses"], "__Host-C_OSES": given["host_c_oses"]}
    except (ValueError, TypeError, KeyError):
        raise out("it has no secure_c_ses and host_c_oses.", None) from None
    index = exchange.place.get("csesidx", "")
    account = {"cookies": cookies, "csesidx": index, "user_agent": user_agent(exchange)}
    return Secret(orjson.dumps(account).decode())


class SessionMint:
    """Gets a key for an account's cookies, and signs a token with it. It blocks, so it runs in a thread."""

    def __init__(
        self, base_url: str | None, proxy_for: Callable[[str], Secret | None], unix: Callable[[], float] = unix_s
    ) -> None:
        """`base_url` replaces Google's host; `proxy_for` returns the proxy for a URL."""
        self._web, self._proxy_for, self._unix = base_url or WEB, proxy_for, unix

    def __call__(self, signer: Secret) -> Minted:
        """Raises UpstreamFailure: `key_invalid` if a person has to sign in again."""
        account = orjson.loads(signer.reveal())
        cookies, index = account["cookies"], account["csesidx"]
        if not all(isinstance(value, str) and _COOKIE.fullmatch(value) for value in cookies.values()):
            raise out("secure_c_ses and host_c_oses are not the values of two cookies.", None)
        if not _INDEX.fullmatch(index):
            raise out("its csesidx is not the number of a browser's session.", None)
        headers = {
            "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
            "User-Agent": account["user_agent"],
        }
        status, body = self._get(f"{self._web}/auth/getoxsrf?csesidx={index}", headers)
        if status in (301, 302, 303, 307, 401, 403):
            raise out("its cookies have expired.", None)
        if status != 200:
            raise UpstreamFailure(
                "token", f"Gemini Enterprise gave no key to sign with (HTTP {status}).", written=False
            )
        return Minted(Secret(signed_token(body, index, int(self._unix()))), LIFETIME_S)

    def _get(self, url: str, headers: dict[str, str]) -> tuple[int, bytes]:
        import requests

        proxy = self._proxy_for(url)
        proxies = {} if proxy is None else {"http": proxy.reveal(), "https": proxy.reveal()}
        with requests.Session() as session:
            session.trust_env = False
            try:
                with session.get(
                    url, headers=headers, proxies=proxies, timeout=TIMEOUT_S, allow_redirects=False, stream=True
                ) as response:
                    body = b""
                    for chunk in response.iter_content(MAX_KEY_BYTES):
                        body += chunk
                        if len(body) > MAX_KEY_BYTES:
                            break
                    return response.status_code, body
            except (requests.RequestException, OSError) as error:
                name = type(error).__name__
        raise UpstreamFailure("token", f"Gemini Enterprise could not be reached ({name}).", written=False)


def signed_token(issued: bytes, index: str, now_s: int) -> str:
    """The JWT (HS256) for a key as getoxsrf returns it: {"xsrfToken": base64url, "keyId"}. Raises UpstreamFailure."""
    try:
        answer = orjson.loads(issued.lstrip().removeprefix(b")]}'"))
        key_id, text = str(answer["keyId"]), str(answer["xsrfToken"])
        key = base64.b64decode(f"{text}{'=' * (-len(text) % 4)}", altchars=b"-_", validate=True)
    except (ValueError, TypeError, KeyError):
        key_id, key = "", b""
    if not key or not key_id:
        raise UpstreamFailure("token", "Gemini Enterprise returned no key to sign with.", written=False)
    header = {"alg": "HS256", "typ": "JWT", "kid": key_id}
    claims = {
        "iss": WEB,
        "aud": API,
        "sub": f"csesidx/{index}",
        "iat": now_s,
        "nbf": now_s,
        "exp": now_s + LIFETIME_S,
    }
    signed = f"{_base64url(orjson.dumps(header))}.{_base64url(orjson.dumps(claims))}"
    return f"{signed}.{_base64url(hmac.digest(key, signed.encode(), hashlib.sha256))}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def out(why: str, status: int | None) -> UpstreamFailure:
    return UpstreamFailure(
        "key_invalid",
        f"Gemini Enterprise does not accept this session: {why} Sign in again, and replace the account's cookies.",
        status=status,
        written=status is not None,
    )


def user_agent(exchange: Exchange) -> str:
    text = exchange.place.get("user_agent", "")
    return text if 0 < len(text) <= 512 and text.isascii() and text.isprintable() else "Mozilla/5.0"
