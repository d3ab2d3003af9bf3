"""Google's token endpoint: exchanges a JWT that a service account signed for an access token, and checks the token later.

A service account is known by its public key (`EmulatorConfig.service_accounts`). One whose address contains `disabled` gets no
token.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import orjson
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from . import errors, replies
from .config import ConfigError, EmulatorConfig
from .server import Request
from .stats import Stats

PATH = "/token"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
AUDIENCE = "https://oauth2.googleapis.com/token"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_MAX_JWT_S = 3600
_MAX_TOKENS = 10_000
_SHORT_LIVED = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values "
    "in the JWT claim."
)


class Refused(Exception):
    """An answer of the token endpoint other than 200: `code` and `text` as in RFC 6749, 5.2."""

    def __init__(self, code: str, text: str, status: int = 400) -> None:
        super().__init__(f"{code}: {text}")
        self.code, self.text, self.status = code, text, status


@dataclass(frozen=True, slots=True)
class _Issued:
    account: str
    expires_s: float


class TokenServer:
    """`wall_clock` returns Unix time in seconds, for the claims of a JWT."""

    def __init__(self, config: EmulatorConfig, stats: Stats, wall_clock: Callable[[], float]) -> None:
        """Raises ConfigError."""
        self._lifetime_s = config.token_lifetime_s
        self._keys = {account: _public_key(account, pem) for account, pem in config.service_accounts.items()}
        self._stats, self._wall_clock = stats, wall_clock
        self._issued: dict[str, _Issued] = {}
        self._failing: list[int] = []

    def fail(self, count: int, status: int = 503) -> None:
        """The next `count` requests for a token get this status."""
        self._failing += [status] * count

    def revoke(self) -> None:
        """Every token so far is rejected from now on."""
        self._issued.clear()

    async def answer(self, request: Request) -> web.Response:
        try:
            if self._failing:
                raise Refused("internal_failure", "Backend Error", self._failing.pop(0))
            form = parse_qs((await request.read()).decode("ascii", "replace"))
            account = self._account_of(form)
        except Refused as error:
            self._stats.token_refused(error.code)
            return _json(error.status, {"error": error.code, "error_description": error.text})
        token = f"ya29.c.{secrets.token_urlsafe(48)}"
        if len(self._issued) >= _MAX_TOKENS:
            del self._issued[next(iter(self._issued))]
        self._issued[token] = _Issued(account, time.monotonic() + self._lifetime_s)
        self._stats.token_issued(account)
        shown_s = int(self._lifetime_s) if self._lifetime_s >= 1 else self._lifetime_s
        return _json(200, {"access_token": token, "expires_in": shown_s, "token_type": "Bearer"})

    def account_of(self, request: Request, rpc: str) -> str:
        """The service account of a request's access token. Raises GoogleError."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if not token or scheme.lower() != "bearer":
            raise errors.no_token(rpc)
        issued = self._issued.get(token)
        if issued is None or time.monotonic() >= issued.expires_s:
            raise errors.bad_token(rpc, expired=token.startswith("ya29."))
        return issued.account

    def _account_of(self, form: dict[str, list[str]]) -> str:
        """The service account that signed the form's JWT. Raises Refused."""
        if form.get("grant_type") != [GRANT]:
            raise Refused("unsupported_grant_type", "Invalid grant_type: the offline Gemini takes JWTs only")
        head, claims, signed, signature = _parts(form.get("assertion", [""])[0])
        account = str(claims.get("iss", ""))
        key = self._keys.get(account)
        if key is None or "disabled" in account:
            raise Refused("invalid_grant", "Invalid grant: account not found")
        try:
            if head.get("alg") != "RS256":
                raise InvalidSignature
            key.verify(signature, signed, PKCS1v15(), SHA256())
        except InvalidSignature:
            raise Refused("invalid_grant", "Invalid JWT Signature.") from None
        issued_s, expires_s, now_s = claims.get("iat"), claims.get("exp"), self._wall_clock()
        if not (isinstance(issued_s, int) and isinstance(expires_s, int)) or not (
            issued_s - 300 <= now_s < expires_s <= issued_s + _MAX_JWT_S
        ):
            raise Refused("invalid_grant", _SHORT_LIVED)
        if claims.get("aud") != AUDIENCE or SCOPE not in str(claims.get("scope", "")).split():
            raise Refused("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        return account


def _parts(jwt: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    """Head, claims, what was signed, and the signature. Raises Refused."""
    signed, _, signature = jwt.rpartition(".")
    try:
        head, claims = (orjson.loads(_decoded(part)) for part in signed.split("."))
        if not isinstance(head, dict) or not isinstance(claims, dict):
            raise ValueError("not objects")
        return head, claims, signed.encode(), _decoded(signature)
    except (ValueError, binascii.Error):
        raise Refused("invalid_grant", "Bad Request") from None


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _public_key(account: str, pem: str) -> RSAPublicKey:
    """Of a public key, or of a private one, as a service account's file has it."""
    key: Any = None
    for load in (load_pem_public_key, lambda data: load_pem_private_key(data, None).public_key()):
        try:
            key = load(pem.encode())
        except ValueError:
            continue
    if not isinstance(key, RSAPublicKey):
        raise ConfigError(f"EMULATOR_SERVICE_ACCOUNTS[{account!r}] must be an RSA key in PEM.")
    return key


def _json(status: int, value: dict[str, Any]) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), headers={"Content-Type": replies.JSON_TYPE})
