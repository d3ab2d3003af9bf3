"""Decides who asks: an admin key, the caller's own Gemini key, or nobody. Pure, and silent about what was wrong.

First match wins: an admin key, the caller's own key, an anonymous caller where that is allowed; else Unauthorized,
which reads the same whichever part failed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from shared.errors import BadRequest, Unauthorized
from shared.generation import Caller
from shared.secret import Secret
from shared.settings import Settings

KEY_FIELD = "credentials.gemini_api_key"
_KEY = re.compile(r"[\x21-\x7e]{10,4096}")
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
"""A header that starts `{"` in base64url: an identity token that Google signed for the platform, not a Gemini key."""
_NAME = re.compile(r"[\x20-\x7e]{1,200}")
_QUERY_CREDENTIALS = frozenset(
    {"key", "api_key", "apikey", "access_token", "admin_api_key", "gemini_api_key", "google_api_key", "x_goog_api_key"}
    | {"authorization", "bearer_token"}
)
"""Names of the query under which clients send credentials, in lower case and with `_` for `-`."""
_UNAUTHORIZED = (
    "No valid credential. Send the server's admin key in the header Admin-API-Key, or your own Gemini key as "
    f"{KEY_FIELD} in the body or in the header x-goog-api-key."
)


def refuse_credential_in_query(query: bytes) -> None:
    """Raises BadRequest if `query` names a credential: the platform logs URLs, so that it must not be in one."""
    if not query:
        return
    for name, value in parse_qsl(query.decode("latin-1")):
        if value and name.lower().replace("-", "_") in _QUERY_CREDENTIALS:
            raise BadRequest(
                "A credential must not be in the URL, which is logged: send a Gemini key in the header x-goog-api-key, or the "
                "server's admin key in the header Admin-API-Key. Replace the one that was sent.",
                field=name,
            )


def key_in(body: object) -> str | None:
    """`credentials.gemini_api_key` of a JSON body; None if absent, null or empty. Raises BadRequest on a wrong type."""
    credentials = body.get("credentials") if isinstance(body, dict) else None
    if credentials is None:
        return None
    if not isinstance(credentials, dict):
        raise BadRequest('credentials must be an object like {"gemini_api_key": "..."}.', field="credentials")
    key: Any = credentials.get("gemini_api_key")
    if key is not None and not isinstance(key, str):
        raise BadRequest(f"{KEY_FIELD} must be a string.", field=KEY_FIELD)
    return key or None


def authenticate(
    headers: Mapping[str, str],
    payload_key: str | None,
    settings: Settings,
    client_address: str,
    *,
    bearer_is_credential: bool = False,
    anonymous_allowed: bool = False,
    user: str | None = None,
) -> Caller:
    """`headers` have lower-case names. `bearer_is_credential`: the admin key may also come as bearer or x-goog-api-key.

    `user` names the caller where the body has a field for that. A wrong Admin-API-Key is refused even where none is
    needed. Raises Unauthorized, and BadRequest for a key or a caller's name that cannot be one.
    """
    admin_key = _admin_key_in(headers, settings, bearer_is_credential)
    if admin_key is not None:
        return Caller(_admin_id(headers, user, admin_key), "admin")
    bearer, google_key = _bearer(headers), headers.get("x-goog-api-key")
    if payload_key and _own_key_possible(payload_key, settings):
        if not _KEY.fullmatch(payload_key):
            raise BadRequest(
                f"{KEY_FIELD} is not a Gemini key: one has 10 to 4096 printable ASCII characters and no spaces.",
                field=KEY_FIELD,
            )
        return _own_key(payload_key)
    for token in (bearer, google_key):
        if token and _own_key_possible(token, settings) and _KEY.fullmatch(token):
            return _own_key(token)
    if anonymous_allowed and not headers.get("admin-api-key"):
        return Caller(f"ip:{client_address}", "anonymous")
    raise Unauthorized(_UNAUTHORIZED, headers={"www-authenticate": "Bearer"})


def has_admin_key(headers: Mapping[str, str], settings: Settings, *, bearer_is_credential: bool = False) -> bool:
    """Whether the headers alone say who asks, so that no key needs to be looked for in the body."""
    return _admin_key_in(headers, settings, bearer_is_credential) is not None


def _admin_key_in(headers: Mapping[str, str], settings: Settings, bearer_is_credential: bool) -> Secret | None:
    """The first one that is valid. All are compared, whichever matches."""
    others = (_bearer(headers), headers.get("x-goog-api-key")) if bearer_is_credential else ()
    matched = [_admin_key(one, settings.admin_api_keys) for one in (headers.get("admin-api-key"), *others)]
    return next((key for key in matched if key is not None), None)


def require_admin(headers: Mapping[str, str], settings: Settings) -> Caller:
    """For paths that are the admin's alone in a function that is public otherwise. Raises Unauthorized."""
    admin_key = _admin_key(headers.get("admin-api-key"), settings.admin_api_keys)
    if admin_key is None:
        raise Unauthorized("No valid admin key. Send the server's in the header Admin-API-Key.")
    return Caller(_admin_id(headers, None, admin_key), "admin")


def client_address(forwarded_for: Sequence[str], peer: str, deployed: bool) -> str:
    """The caller's: Google's front end appends it to X-Forwarded-For; elsewhere anybody may send that header."""
    if deployed and forwarded_for:
        return forwarded_for[-1].rpartition(",")[2].strip() or peer
    return peer


def _bearer(headers: Mapping[str, str]) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _admin_key(candidate: str | None, admin_keys: Sequence[Secret]) -> Secret | None:
    """Compares with every key in constant time each, so that the time tells neither whether nor which one matched."""
    found = None
    given = Secret(candidate or "")
    for key in admin_keys:
        if given == key and candidate:
            found = key
    return found


def _own_key_possible(token: str, settings: Settings) -> bool:
    """Never pass on to Google what is certainly not a Gemini key: an admin key, or an identity token."""
    return _admin_key(token, settings.admin_api_keys) is None and not _JWT.fullmatch(token)


def _own_key(token: str) -> Caller:
    secret = Secret(token)
    return Caller(f"key:{secret.fingerprint('caller')}", "own_key", secret)


def _admin_id(headers: Mapping[str, str], user: str | None, admin_key: Secret) -> str:
    name = headers.get("x-caller-id")
    if name is not None:
        if not _NAME.fullmatch(name):
            raise BadRequest("x-caller-id must have 1 to 200 printable ASCII characters.", field="x-caller-id")
        return name
    if user:
        # Clients put anything into `user`; one that is no name still tells two callers apart.
        return user if _NAME.fullmatch(user) else f"user:{Secret(user).fingerprint('user')}"
    return f"admin:{admin_key.fingerprint('caller')[:12]}"
