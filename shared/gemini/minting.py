"""Fetches one OAuth access token from Google with google-auth: for a service account, or for Application Default Credentials.

It blocks, so it runs in a thread; google-auth is imported there, at the first token. What google-auth raises is never chained
or quoted whole: it can hold what was sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from shared.gemini.errors import UpstreamFailure
from shared.gemini.oauth import Minted
from shared.secret import Secret

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TIMEOUT_S = 10.0
"""For the connection, and for each read. google-auth repeats an exchange that failed with 5xx twice."""
MAX_REASON_CHARS = 300
_METADATA_HOSTS = ("metadata.google.internal", "169.254.169.254")
_PERMANENT = {"invalid_grant", "invalid_client", "unauthorized_client", "invalid_scope", "deleted_client"}
"""Codes of RFC 6749 (5.2), and Google's: the credential is refused until a person replaces it."""
_CLOCK = "reasonable timeframe"


class Mint:
    """Called with an account's credential. `proxy_for` returns the proxy for a URL."""

    def __init__(self, token_url: str, proxy_for: Callable[[str], Secret | None]) -> None:
        """`token_url` replaces the one in a service account's file, which whoever wrote the file chose."""
        self._token_url, self._proxy_for = token_url, proxy_for

    def __call__(self, credential: Secret) -> Minted:
        """Raises UpstreamFailure, `written` False: `key_invalid` if a person has to replace the credential, `restricted` if the
        project or this machine is not set up for it, else `token`."""
        from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError

        credentials = self._credentials(_parsed(credential))
        try:
            credentials.refresh(self._send)
        except TransportError:
            raise _failure("token", "Google's token endpoint could not be reached.") from None
        except RefreshError as error:
            raise _refused(error.args, bool(error.retryable)) from None
        except (GoogleAuthError, OSError, AttributeError, LookupError, TypeError, ValueError) as error:
            # An answer that is none makes google-auth fail in many ways.
            name = type(error).__name__
            raise _failure("token", f"Google's token endpoint gave no answer that can be read ({name}).") from None
        token, expiry = credentials.token, credentials.expiry
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or expiry is None:
            raise _failure("token", "Google's token endpoint returned no usable token.")
        return Minted(Secret(token), (expiry - datetime.now(UTC).replace(tzinfo=None)).total_seconds())

    def _credentials(self, info: Mapping[str, Any]) -> Any:
        """google-auth's credentials. Raises UpstreamFailure."""
        from google.auth import default
        from google.auth.exceptions import DefaultCredentialsError
        from google.oauth2 import credentials, service_account

        if info["type"] == "service_account":
            return self._service_account(info)
        try:
            found, _ = default(scopes=[SCOPE])
        except DefaultCredentialsError:
            raise _failure(
                "restricted",
                "This machine has no Application Default Credentials. Set GOOGLE_APPLICATION_CREDENTIALS, or deploy with a "
                "service account.",
            ) from None
        if isinstance(found, service_account.Credentials | credentials.Credentials):
            return found.with_token_uri(self._token_url)
        return found

    def _service_account(self, info: Mapping[str, Any]) -> Any:
        from cryptography.exceptions import UnsupportedAlgorithm
        from google.oauth2 import service_account

        # Only what a token needs: other fields of the file would choose hosts and schemes.
        known = {name: info[name] for name in ("client_email", "private_key", "private_key_id") if name in info}
        make: Any = service_account.Credentials.from_service_account_info
        try:
            return make({**known, "token_uri": self._token_url}, scopes=[SCOPE])
        except (ValueError, TypeError, UnsupportedAlgorithm):
            unreadable = (
                "The private key of this service account cannot be read. Add the account again with its JSON file."
            )
            raise _failure("key_invalid", unreadable) from None

    def _send(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **more: Any,
    ) -> Any:
        """google-auth's transport: bounded in time, through this deployment's proxy, and nothing else from the environment."""
        import requests
        from google.auth.transport.requests import Request

        host = urlsplit(url).hostname
        proxy = None if host in _METADATA_HOSTS else self._proxy_for(url)
        more["proxies"] = {} if proxy is None else {"http": proxy.reveal(), "https": proxy.reveal()}
        with requests.Session() as session:
            session.trust_env = False
            bounded_s = min(timeout or TIMEOUT_S, TIMEOUT_S)
            return Request(session)(url, method, body, headers, timeout=bounded_s, allow_redirects=False, **more)


def _parsed(credential: Secret) -> dict[str, Any]:
    """Raises UpstreamFailure."""
    try:
        info = json.loads(credential.reveal())
    except ValueError:
        info = None
    if isinstance(info, dict):
        texts = [info.get(name) for name in ("client_email", "private_key")]
        if info.get("type") == "adc" or (
            info.get("type") == "service_account" and all(isinstance(t, str) for t in texts)
        ):
            return info
    raise _failure(
        "key_invalid",
        'The credential of this account is neither the JSON file of a service account nor {"type": "adc"}. Add the account '
        "again.",
    )


def _refused(args: tuple[Any, ...], retryable: bool) -> UpstreamFailure:
    """The failure for an answer of the token endpoint; `args` are RefreshError's."""
    answer = args[1] if len(args) > 1 and isinstance(args[1], Mapping) else {}
    code = answer.get("error")
    if retryable or not isinstance(code, str):
        return _failure("token", "Google's token endpoint failed.")
    text = answer.get("error_description")
    reason = f"{code}: {text}" if isinstance(text, str) and text else code
    reason = " ".join(reason.split())[:MAX_REASON_CHARS]
    if _CLOCK in reason:
        return _failure("token", f"Google rejected the time of this machine's clock. {reason}", code)
    if code in _PERMANENT:
        return _failure("key_invalid", f"Google gives no access token for this account's credential. {reason}", code)
    return _failure("restricted", f"Google gives no access token for this account. {reason}", code)


def _failure(kind: Any, message: str, reason: str | None = None) -> UpstreamFailure:
    return UpstreamFailure(kind, message, reason=reason, written=False)
