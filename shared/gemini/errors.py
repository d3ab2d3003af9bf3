"""Classifies an upstream failure: its kind, the exceeded quota, and the remedy. Pure.

`error_body` finds Google's error in a body, `quotas` the quota that it names, `delays` the time to wait, `account_trouble`
what is wrong with the key, `consumer` the key's project. Bodies and texts are Google's as of November 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from shared.gemini.account_trouble import account_trouble
from shared.gemini.consumer import consumer_of
from shared.gemini.delays import MAX_RETRY_DELAY_S, retry_delay_s, sentence_delay_s
from shared.gemini.error_body import MAX_ERROR_BYTES, ErrorBody, plain_text, read_error_body, read_error_object
from shared.gemini.models import says_missing
from shared.gemini.quotas import Dimension, Period, Violation, violations_of
from shared.gemini.redaction import MAX_MESSAGE_CHARS, redacted
from shared.secret import Secret

__all__ = [
    "MAX_ERROR_BYTES",
    "MAX_MESSAGE_CHARS",
    "MAX_RETRY_DELAY_S",
    "Dimension",
    "Kind",
    "Period",
    "Remedy",
    "UpstreamFailure",
    "Violation",
    "read_error_frame",
    "read_failure",
    "redacted",
    "remedy_for",
]

MAX_SHOWN_CHARS = 200
"""Maximum characters of a plain-text body in the message."""

Kind = Literal[
    "connect",  # no connection: DNS, TCP, TLS, proxy
    "timeout",  # our own deadline passed
    "reset",  # the connection broke before the answer began
    "cut",  # the answer began and did not end
    "malformed",  # an answer that is not what the protocol says
    "quota",  # a 429 or 503 that names a quota, or says that a quota is used up
    "pressure",  # a 429 that names no quota: capacity that Google's customers share
    "account",  # unusable until a person acts: credits depleted, spending cap, key leaked, project suspended
    "key_invalid",  # no such key, or expired
    "restricted",  # the key or project is not set up for this use: location, billing, API not enabled, key restrictions
    "permission",  # any other 401 or 403
    "token",  # no access token: it could not be fetched, or was rejected and will be replaced
    "bad_request",
    "not_found",
    "server",
    "overloaded",
    "deadline",  # Google's deadline passed (504)
]
Remedy = Literal["same_account", "next_account", "account_out", "account_paused", "caller", "none"]

_REMEDIES: dict[Kind, Remedy] = {
    "connect": "same_account",
    "timeout": "none",
    "reset": "same_account",
    "cut": "same_account",
    "malformed": "same_account",
    "quota": "next_account",
    "pressure": "next_account",
    "account": "account_out",
    "key_invalid": "account_out",
    "restricted": "account_paused",
    "permission": "next_account",
    "token": "same_account",
    "bad_request": "caller",
    "not_found": "caller",
    "server": "same_account",
    "overloaded": "same_account",
    "deadline": "same_account",
}


def remedy_for(kind: Kind) -> Remedy:
    """What may help: the same account after a backoff, another account, another account while this one is disabled until a
    person acts or paused for a while, a different request (`caller`), or nothing (the deadline has passed)."""
    return _REMEDIES[kind]


class UpstreamFailure(Exception):
    """One exchange with Gemini that failed.

    `message` is Google's if there is one, always without keys, projects and URL queries. `status` is Google's, which a proxy
    may have wrapped in another status; None without a response. `violations` is never empty for the kind `quota`. `written`:
    a byte of the request may have reached Gemini, so the dispatch counts. `severed`: this side closed the connection before
    the response ended, so Gemini may still be working on it. `consumer` is the Google project that the error names (its number
    or id): for operators, never for callers."""

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        status: int | None = None,
        reason: str | None = None,
        retry_delay_s: float | None = None,
        violations: tuple[Violation, ...] = (),
        written: bool = True,
        severed: bool = False,
        consumer: str | None = None,
    ) -> None:
        self.kind: Kind = kind
        self.status = status
        self.message = redacted(message)
        self.reason = reason
        self.retry_delay_s = retry_delay_s
        self.violations = violations
        self.written, self.severed = written, severed
        self.consumer = consumer
        super().__init__(f"{kind}{'' if status is None else f' {status}'}: {self.message}")

    @property
    def lacks_model(self) -> bool:
        """Whether the account's project does not have the model, which another project may have."""
        return self.kind == "not_found" and says_missing(self.message)

    @property
    def remedy(self) -> Remedy:
        if self.lacks_model:
            return "next_account"
        # A complete answer was paid for. If it cannot be read, it is not requested again.
        return "none" if self.kind == "malformed" and self.status == 200 else remedy_for(self.kind)


def read_failure(
    status: int, body: bytes, headers: Mapping[str, str], *, secret: Secret | None = None, now_s: float | None = None
) -> UpstreamFailure:
    """The failure for a response other than 200. `secret`, the key that was sent, is removed from the message. `now_s` is
    Unix time, for a Retry-After that is a date in a response without a Date header."""
    error = read_error_body(body)
    if error is not None:
        # A gateway in between may return 500, or a status of its own, for Google's 429.
        own = error.code if error.nested or status >= 500 else None
        return _failure(own or status, error, headers, secret, now_s)
    text = plain_text(body)
    is_text = bool(text) and not body.lstrip().startswith((b"<", b"{", b"["))
    read = _failure(status, ErrorBody(text if is_text else ""), headers, secret, now_s)
    delay_s = sentence_delay_s(text)
    return UpstreamFailure(
        read.kind,
        f"Gemini answered HTTP {status} with a body that is not its error format"
        + (f": {read.message[:MAX_SHOWN_CHARS]}" if is_text else "."),
        status=status,
        retry_delay_s=read.retry_delay_s if delay_s is None else min(delay_s, MAX_RETRY_DELAY_S),
        violations=read.violations,
        consumer=read.consumer,
    )


def read_error_frame(
    frame: Mapping[str, Any],
    headers: Mapping[str, str],
    *,
    secret: Secret | None = None,
    now_s: float | None = None,
) -> UpstreamFailure:
    """The failure in a response with HTTP 200: `{"error": ...}` as a frame of a stream, or as the whole body."""
    error = read_error_object(frame) or ErrorBody()
    status = error.code or _STATUS_CODES.get(error.status, 500)
    return _failure(status, error, headers, secret, now_s)


_STATUS_CODES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_QUOTA_CODES = (429, 503)


def _failure(
    status: int, error: ErrorBody, headers: Mapping[str, str], secret: Secret | None, now_s: float | None
) -> UpstreamFailure:
    message = (error.message or f"Gemini answered HTTP {status} without a message.")[: 2 * MAX_MESSAGE_CHARS]
    violations = violations_of(error.details, message, error.reason) if status in _QUOTA_CODES else ()
    kind = _kind(status, error, violations)
    delay_s = retry_delay_s(error.details, message, headers, now_s)
    consumer = consumer_of(status, error.details, message)
    if secret is not None and len(secret.reveal()) >= 8:
        message = message.replace(secret.reveal(), "***")
    return UpstreamFailure(
        kind,
        message,
        status=status,
        reason=error.reason,
        retry_delay_s=delay_s,
        violations=violations if kind == "quota" else (),
        consumer=consumer,
    )


def _kind(status: int, error: ErrorBody, violations: tuple[Violation, ...]) -> Kind:
    trouble = account_trouble(status, error.status, error.message, error.reason)
    if trouble is not None:
        return trouble
    if violations:
        return "quota"
    text = error.message[:400].lower()
    if status == 429:
        return "pressure"
    if status in (401, 402, 403) or text.startswith("multiple authentication credentials received"):
        return "permission"
    if status == 404:
        return "not_found"
    if status in (408, 504):
        return "deadline"
    if status == 503 or (status == 500 and ("high demand" in text or "overloaded" in text)):
        return "overloaded"
    if status >= 499:
        return "server"
    return "bad_request" if status >= 400 else "malformed"
