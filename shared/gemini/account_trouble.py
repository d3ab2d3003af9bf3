"""Recognizes rejections that are about the key or its project, not about the request. Pure.

A reason is an entry of ErrorInfo, which a caller cannot write (google/api/error_reason.proto). A text counts only at the start
of a message and under the status that Google gives it: messages quote the caller's text, which must not disable an account.
The texts are those of public reports up to November 2026.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Trouble = Literal["account", "key_invalid", "restricted"]

_REASONS: dict[str, Trouble] = {
    "CONSUMER_SUSPENDED": "account",
    "GCP_SUSPENDED": "account",
    "insufficient_quota": "account",
    "API_KEY_INVALID": "key_invalid",
    "API_KEY_EXPIRED": "key_invalid",
    "ACCESS_TOKEN_TYPE_UNSUPPORTED": "key_invalid",
    "invalid_api_key": "key_invalid",
    "keyInvalid": "key_invalid",
    "keyExpired": "key_invalid",
    "SERVICE_DISABLED": "restricted",
    "SERVICE_NOT_VISIBLE": "restricted",
    "BILLING_DISABLED": "restricted",
    "ACCOUNT_STATE_INVALID": "restricted",
    "API_KEY_SERVICE_BLOCKED": "restricted",
    "API_KEY_HTTP_REFERRER_BLOCKED": "restricted",
    "API_KEY_IP_ADDRESS_BLOCKED": "restricted",
    "API_KEY_ANDROID_APP_BLOCKED": "restricted",
    "API_KEY_IOS_APP_BLOCKED": "restricted",
    "CONSUMER_INVALID": "restricted",
    "RESOURCE_PROJECT_INVALID": "restricted",
    "USER_PROJECT_DENIED": "restricted",
    "LOCATION_POLICY_VIOLATED": "restricted",
    "LOCATION_TAX_POLICY_VIOLATED": "restricted",
    "SECURITY_POLICY_VIOLATED": "restricted",
    "ORG_RESTRICTION_VIOLATION": "restricted",
    "USER_BLOCKED_BY_ADMIN": "restricted",
    "accessNotConfigured": "restricted",
    "ipRefererBlocked": "restricted",
}
_SPENDING_CAP_REASON = re.compile(r"(?:MONTHLY\w*SPEND|SPEND(?:ING)?_CAP|MONTHLY\w*BUDGET)", re.IGNORECASE)


class _Text(NamedTuple):
    """`status` is Google's name of the status; if a proxy renamed it ("Bad Request"), the code alone decides."""

    trouble: Trouble
    codes: frozenset[int]
    status: str | None
    pattern: re.Pattern[str]


def _text(trouble: Trouble, codes: set[int], status: str | None, *patterns: str) -> _Text:
    return _Text(trouble, frozenset(codes), status, re.compile("|".join(patterns), re.IGNORECASE))


_CREDENTIAL = {400, 401, 402, 403}
_TEXTS = (
    _text(
        "account",
        {*_CREDENTIAL, 429},
        None,
        r"your prepayment credits are depleted",
        r"your (?:project|billing account) has (?:exceeded|reached) its monthly (?:spend|spending|budget)\b",
        r"(?:the |your )?(?:monthly )?spend(?:ing)? cap (?:has been |is )?(?:exceeded|reached)",
        r"your api key was reported as leaked",
        r"permission denied: consumer '?[^']{1,200}'? has been suspended",
    ),
    _text(
        "key_invalid",
        _CREDENTIAL,
        None,
        r"api key (?:is )?(?:not valid|not found|expired|invalid)",
        r"(?:incorrect|invalid) api key\b",
    ),
    _text(
        "restricted",
        {400},
        "FAILED_PRECONDITION",
        r"user location is not supported for the api use",
        r"(?:the )?(?:google )?(?:gemini api )?free tier is not available in your",
        r"billing account for project [^.]{1,100} is not found",
    ),
    _text(
        "restricted",
        {400, 403},
        None,
        r"this (?:api method|api|feature|model) requires billing to be enabled",
    ),
    _text(
        "restricted",
        {403},
        "PERMISSION_DENIED",
        r"[\w .()-]{1,80} has not been used in (?:project )?\S{1,100} before or it is disabled",
        r"requests (?:to this api|from referer|from this (?:android|ios) client application) .{1,300} are blocked",
        r"the provided api key has an ip address restriction",
        r"access to \S{1,100} is restricted from your billing country",
        r"lightning dunning decision is deny",
        r"your project has been denied access",
        r"permission denied on resource project",
        r"permission 'aiplatform\.endpoints\.predict' denied on resource",
        r"project '?#?[\w:.-]{1,100}'? has been deleted",
    ),
)
_GOOGLE_NAMES = frozenset(
    {
        "INVALID_ARGUMENT",
        "FAILED_PRECONDITION",
        "OUT_OF_RANGE",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "ABORTED",
        "RESOURCE_EXHAUSTED",
    }
)


def account_trouble(code: int, status: str, message: str, reason: str | None) -> Trouble | None:
    """What is wrong with the account, or None if the error names nothing.

    `account`: unusable until a person pays or replaces the key. `key_invalid`: no such key, or expired. `restricted`: the
    project or key is not set up for this use: location, billing, API not enabled, the key's restrictions."""
    if code not in (*_CREDENTIAL, 429):
        return None
    by_reason = _REASONS.get(reason or "")
    if by_reason == "account" or _SPENDING_CAP_REASON.search(reason or ""):
        return "account"
    if by_reason is not None and code != 429:
        return by_reason
    for text in _TEXTS:
        believed = text.status is None or status == text.status or status not in _GOOGLE_NAMES
        if code in text.codes and believed and text.pattern.match(message):
            return text.trouble
    return None
