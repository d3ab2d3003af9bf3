"""Identifies the caller: an admin key, the caller's own Gemini key, or anonymous. Pure.

First match wins: an admin key, the caller's own key, an anonymous caller where that is allowed. Otherwise Unauthorized, with
the same message whichever credential was wrong.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import parse_qsl

from shared.errors import BadRequest, Unauthorized
from shared.generation import Caller
from shared.secret import Secret
from shared.settings.settings import Settings

KEY_FIELD = "credentials.gemini_api_key"
_KEY = re.compile(r"[\x21-\x7e]{10,4096}")
_TOKEN = re.compile(r"([A-Za-z0-9_-]+)=*(?:\.[A-Za-z0-9_=-]*){2}(?:(?:\.[A-Za-z0-9_=-]*){2})?")
"""The form of a JWS (RFC 7515: three parts, the last one empty if it is unsigned) or of a JWE (RFC 7516: five parts). The
first part of both is a JSON object in base64url."""
_HEADER_CHARS = 400
_ACCESS_TOKEN = "ya29."
"""The start of Google's OAuth 2.0 access tokens."""
_NAME = re.compile(r"[\x20-\x7e]{1,200}")
_IPV6_NETWORK_BITS = 64
_ID_KINDS = ("name:", "user:", "key:", "ip:", "admin:")
"""The prefixes of caller ids. This module creates every id; a caller chooses only what follows `name:`."""
_QUERY_CREDENTIALS = frozenset(
    {"key", "api_key", "apikey", "access_token", "admin_api_key", "gemini_api_key", "google_api_key", "x_goog_api_key"}
    | {"authorization", "bearer_token"}
)
"""Query parameters in which clients send credentials, in lower case and with `_` for `-`."""
_UNAUTHORIZED = (
    "No valid credential. Send the server's admin key in the header Admin-API-Key, or your own Gemini key as "
    f"{KEY_FIELD} in the body or in the header x-goog-api-key."
)
_UNAUTHORIZED_BEARER = (
    "No valid credential. Set the client's API key (the header Authorization: Bearer) to the server's admin key, or to your own "
    "Gemini key."
)


def refuse_credential_in_query(query: bytes) -> None:
    """Raises BadRequest if `query` has a credential: the platform logs URLs."""
    if not query:
        return
    for name, value in parse_qsl(query.decode("latin-1")):
        if value and name.lower().replace("-", "_") in _QUERY_CREDENTIALS:
            raise BadRequest(
                "A credential must not be in the URL, because URLs are logged. Send a Gemini key in the header x-goog-api-key, "
                "or the server's admin key in the header Admin-API-Key. Replace the credential that was sent.",
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
    """`headers` have lower-case names. `bearer_is_credential`: the admin key may also be a bearer token or x-goog-api-key.

    `user` is the caller's name if the body has a field for it. A wrong Admin-API-Key is rejected even where none is
    needed. Raises Unauthorized, and BadRequest for a key or a caller's name that is not valid.
    """
    number = _admin_key_in(headers, settings, bearer_is_credential)
    if number:
        return Caller(_admin_id(headers, user, number), "admin")
    bearer, google_key = _bearer(headers), headers.get("x-goog-api-key")
    if payload_key and _own_key_possible(payload_key, settings):
        if not _KEY.fullmatch(payload_key):
            raise BadRequest(
                f"{KEY_FIELD} is not a valid Gemini key: a key has 10 to 4096 printable ASCII characters and no spaces.",
                field=KEY_FIELD,
            )
        return _own_key(payload_key)
    for token in (bearer, google_key):
        if token and _own_key_possible(token, settings) and _KEY.fullmatch(token):
            return _own_key(token)
    if anonymous_allowed and not headers.get("admin-api-key"):
        return Caller(network_of(client_address), "anonymous")
    message = _UNAUTHORIZED_BEARER if bearer_is_credential else _UNAUTHORIZED
    raise Unauthorized(message, headers={"www-authenticate": "Bearer"})


def has_admin_key(headers: Mapping[str, str], settings: Settings, *, bearer_is_credential: bool = False) -> bool:
    """Whether the headers have a valid admin key, so that the body need not be searched for a key."""
    return _admin_key_in(headers, settings, bearer_is_credential) > 0


def _admin_key_in(headers: Mapping[str, str], settings: Settings, bearer_is_credential: bool) -> int:
    """The number of the first valid admin key; 0 if there is none. All are compared, whichever matches."""
    found = _admin_key(headers.get("admin-api-key"), settings.admin_api_keys)
    if bearer_is_credential:
        for other in (_bearer(headers), headers.get("x-goog-api-key")):
            number = _admin_key(other, settings.admin_api_keys)
            found = found or number
    return found


def require_admin(headers: Mapping[str, str], settings: Settings) -> Caller:
    """For admin paths of a function that is otherwise public. Raises Unauthorized."""
    number = _admin_key(headers.get("admin-api-key"), settings.admin_api_keys)
    if not number:
        raise Unauthorized("No valid admin key. Send the server's admin key in the header Admin-API-Key.")
    return Caller(_admin_id(headers, None, number), "admin")


def has_wrong_admin_key(headers: Mapping[str, str], settings: Settings) -> bool:
    """Whether Admin-API-Key is sent and matches none of the server's keys. False if the server has no admin key."""
    given = headers.get("admin-api-key")
    return bool(given and settings.admin_api_keys) and not _admin_key(given, settings.admin_api_keys)


def client_address(forwarded_for: Sequence[str], peer: str, from_end: int | None) -> str:
    """The caller's address. `from_end`: its place in X-Forwarded-For, counted from the end: Google's front end appends it, and a
    load balancer its own address after it. What stands before that place was sent by the caller. A header with fewer
    addresses did not come through the load balancer; its first one counts. None: not behind Google's front end, where anybody
    may send that header."""
    if from_end is None:
        return peer
    addresses = [address.strip() for address in ",".join(forwarded_for).split(",")]
    return addresses[-min(from_end, len(addresses))] or peer


def network_of(address: str) -> str:
    """The id of the callers at `address`, for rates, fair order and bytes: the IPv4 address, or the /64 network of an IPv6
    address, since one household has 2**64 addresses."""
    try:
        ip = ip_address(address)
    except ValueError:
        return f"ip:{address}"
    if not isinstance(ip, IPv6Address):
        return f"ip:{ip}"
    # All mapped IPv4 addresses are in one /64 network, but belong to different callers.
    if ip.ipv4_mapped is not None:
        return f"ip:{ip.ipv4_mapped}"
    return f"ip:{ip_network((int(ip), _IPV6_NETWORK_BITS), strict=False)}"


def id_of(caller: str) -> str:
    """The id of a caller in a setting: the id as it is logged, or the caller's x-caller-id."""
    return caller if caller.startswith(_ID_KINDS) else f"name:{caller}"


def _bearer(headers: Mapping[str, str]) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _admin_key(candidate: str | None, admin_keys: Sequence[Secret]) -> int:
    """The number (from 1) of the matching key in ADMIN_API_KEY; 0 if none matches. Compares with every key in constant time
    each, so that the duration shows neither whether nor which key matched."""
    found = 0
    given = Secret(candidate or "")
    for number, key in enumerate(admin_keys, 1):
        if given == key and candidate and not found:
            found = number
    return found


def _own_key_possible(token: str, settings: Settings) -> bool:
    """False for what is certainly not a Gemini key, and so must not be sent to Gemini: an admin key, or a token."""
    return not _admin_key(token, settings.admin_api_keys) and not _is_token(token)


def _is_token(text: str) -> bool:
    """An identity token (signed, unsigned or encrypted), or an OAuth access token: it opens other services than Gemini."""
    if text.startswith(_ACCESS_TOKEN):
        return True
    form = _TOKEN.fullmatch(text) if "." in text else None
    if form is None:
        return False
    # Whole groups of four characters, without padding: only the start matters.
    start = form[1][: min(len(form[1]), _HEADER_CHARS) // 4 * 4]
    return base64.urlsafe_b64decode(start).lstrip().startswith(b"{")


def _own_key(token: str) -> Caller:
    secret = Secret(token)
    return Caller(f"key:{secret.fingerprint('caller')}", "caller_key", secret)


def _admin_id(headers: Mapping[str, str], user: str | None, number: int) -> str:
    name = headers.get("x-caller-id")
    if name is not None:
        if not _NAME.fullmatch(name):
            raise BadRequest("x-caller-id must have 1 to 200 printable ASCII characters.", field="x-caller-id")
        return f"name:{name}"
    if user:
        # Clients put anything into `user`. A value that is not a valid name still separates two callers.
        return f"name:{user}" if _NAME.fullmatch(user) else f"user:{Secret(user).fingerprint('user')}"
    # Not a hash of the key: this id is logged, and a weak key could be found from its hash.
    return f"admin:{number}"
