"""The keys of the offline Gemini Enterprise's browser sessions, and the check of the tokens that are signed with them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from typing import Any

import orjson

from .errors import GoogleError

ISSUER = "https://business.gemini.google"
AUDIENCE = "https://biz-discoveryengine.googleapis.com"
MAX_LIFETIME_S = 300.0
_MAX_KEYS = 10_000
_DEAD = ("dead", "expired", "invalid")
_COOKIE = re.compile(r"(__Secure-C_SES|__Host-C_OSES)=([^;]+)")


def signed_out() -> GoogleError:
    return GoogleError(401, "The caller is not signed in.", reason="cookies")


def _rejected(why: str) -> GoogleError:
    message = (
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid"
    )
    return GoogleError(401, f"{message} authentication credential.", reason=f"jwt: {why}")


class BrowserKeys:
    """A key signs tokens for the session index for which it was issued."""

    def __init__(self) -> None:
        self._keys: dict[str, tuple[bytes, str]] = {}
        self.issued = 0

    def issue(self, cookie: str, index: str) -> dict[str, str]:
        """The answer of /auth/getoxsrf. Raises GoogleError for a missing cookie or a dead one."""
        cookies = dict(_COOKIE.findall(cookie))
        if len(cookies) != 2 or not index or any(word in value for value in cookies.values() for word in _DEAD):
            raise signed_out()
        if len(self._keys) >= _MAX_KEYS:
            self._keys.clear()
        self.issued += 1
        key, key_id = os.urandom(32), f"key-{self.issued}"
        self._keys[key_id] = (key, index)
        return {"xsrfToken": _encoded(key), "keyId": key_id}

    def forget(self) -> None:
        """Rejects every token that was signed so far."""
        self._keys.clear()

    def check(self, authorization: str, now_s: float) -> str:
        """The session index of a valid token. Raises GoogleError."""
        token = authorization.removeprefix("Bearer ")
        try:
            head, claims, signature = token.split(".")
            header, payload = orjson.loads(_decoded(head)), orjson.loads(_decoded(claims))
            given = _decoded(signature)
        except (ValueError, binascii.Error):
            raise _rejected("unreadable") from None
        key, index = self._keys.get(str(header.get("kid")), (b"", ""))
        if (header.get("alg"), header.get("typ")) != ("HS256", "JWT") or not key:
            raise _rejected("kid")
        if not hmac.compare_digest(hmac.digest(key, f"{head}.{claims}".encode(), hashlib.sha256), given):
            raise _rejected("signature")
        why = _wrong_claim(payload, index, now_s)
        if why:
            raise _rejected(why)
        return index


def _wrong_claim(claims: dict[str, Any], index: str, now_s: float) -> str:
    expected = {"iss": ISSUER, "aud": AUDIENCE, "sub": f"csesidx/{index}"}
    wrong = [name for name, value in expected.items() if claims.get(name) != value]
    if wrong:
        return wrong[0]
    begins, ends = claims.get("nbf"), claims.get("exp")
    if not isinstance(begins, int) or not isinstance(ends, int) or ends - begins > MAX_LIFETIME_S:
        return "lifetime"
    return "" if begins - 1 <= now_s < ends else "expired"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
