"""The API key of a request, and whether it is accepted, which words in the key decide, since there is no registry."""

from __future__ import annotations

from . import errors
from .server import Request


def authenticate(request: Request, version: str, method: str) -> str:
    """Returns the key. Raises GoogleError for no or two credentials, an OAuth token, or a key that names its own fault.

    A key is valid unless it contains `invalid`, `expired`, `suspended`, `leaked`, `depleted`, `blocked` or `unauth`.
    """
    header = request.headers.get("x-goog-api-key")
    query = request.query.get("key") if request.query_string else None
    bearer = request.headers.get("Authorization")
    given = [credential for credential in (header, query, bearer) if credential]
    if len(given) > 1:
        raise errors.two_credentials()
    if not given:
        raise errors.no_credential()
    if bearer:
        raise errors.unauthenticated(version, method)
    key = given[0]
    rejection = _rejection(key, version, method)
    if rejection is not None:
        raise rejection
    return key


def _rejection(key: str, version: str, method: str) -> errors.GoogleError | None:
    if "invalid" in key:
        return errors.key_invalid()
    if "expired" in key:
        return errors.key_expired()
    if "suspended" in key:
        # Google's message contains the whole key; code that passes messages on must remove it.
        return errors.key_suspended(key)
    if "leaked" in key:
        return errors.key_leaked()
    if "depleted" in key:
        return errors.depleted()
    if "blocked" in key:
        return errors.key_blocked(version, method)
    if "unauth" in key:
        return errors.unauthenticated(version, method)
    return None
