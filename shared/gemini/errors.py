"""What an upstream failure means: its kind, whose quota it was, and what helps. Pure.

Bodies and texts are Google's as of November 2026. A text is only believed where Google puts it (at the start of the
message, under its status): other messages quote the caller's own words, and those must not put an account out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from shared.secret import Secret

Kind = Literal[
    "connect",  # no connection: DNS, TCP, TLS, proxy
    "timeout",  # our own deadline passed
    "reset",  # the connection broke before the answer began
    "cut",  # the answer began and did not end
    "malformed",  # an answer that is not what the protocol says
    "quota",  # 429 that names a quota, or says that one is used up
    "pressure",  # 429 that names none: capacity that Google's customers share
    "account",  # out until a person acts: credits depleted, spending cap, key leaked, project suspended
    "key_invalid",  # no such key, or expired
    "permission",  # any other 401 or 403
    "bad_request",
    "not_found",
    "server",
    "overloaded",
    "deadline",  # Google's deadline passed (504)
]
Remedy = Literal["same_account", "next_account", "account_out", "caller", "none"]
Dimension = Literal["requests", "input_tokens", "images", "spend", "other"]
Period = Literal["minute", "day", "other"]

MAX_ERROR_BYTES = 256 * 1024
"""Longer bodies are not parsed (the longest known one is 4 KB)."""

MAX_MESSAGE_CHARS = 2_000
MAX_RETRY_DELAY_S = 7 * 24 * 3600.0
MAX_VIOLATIONS = 32

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
    "permission": "next_account",
    "bad_request": "caller",
    "not_found": "caller",
    "server": "same_account",
    "overloaded": "same_account",
    "deadline": "same_account",
}


def remedy_for(kind: Kind) -> Remedy:
    """What may help: the same account after a backoff, another account, another account with this one put out until a
    person acts, a different request (`caller`), or nothing (the time is over)."""
    return _REMEDIES[kind]


@dataclass(frozen=True, slots=True)
class Violation:
    """One quota that was exceeded. `limit` is its value as Google says it; None when it does not, 0 is really zero."""

    dimension: Dimension
    period: Period
    limit: int | None = None
    model: str | None = None


class UpstreamFailure(Exception):
    """One exchange with Gemini that brought no answer.

    `message` is Google's where there is one, always without keys and URL queries. `status` is None when there was no
    answer. `violations` is never empty for the kind `quota`. `written`: a byte of the request may have reached Gemini,
    so the dispatch counts."""

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
    ) -> None:
        self.kind: Kind = kind
        self.status = status
        self.message = redacted(message)
        self.reason = reason
        self.retry_delay_s = retry_delay_s
        self.violations = violations
        self.written = written
        super().__init__(f"{kind}{'' if status is None else f' {status}'}: {self.message}")

    @property
    def remedy(self) -> Remedy:
        return remedy_for(self.kind)


_URL = re.compile(r"(https?://)(?:[^\s/@'\"<>]*@)?([^\s?#'\"<>]*)(\?[^\s'\"<>]*)?", re.IGNORECASE)
_NAMED_SECRET = re.compile(r"((?:\bapi_key:|[?&\s]key=|\bbearer\s+|x-goog-api-key:\s*))[^\s'\"<>,;&]+", re.IGNORECASE)
_KEY_PREFIX = re.compile(r"(?:\bAIza|\bAQ\.|\bya29\.|\bsk-)[\w.-]{6,}")
_KEY_SHAPED = re.compile(r"(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[A-Z])(?=[\w-]*[a-z])[\w-]{24,}|(?<![\w-])[0-9a-f]{32,}")


def redacted(text: str) -> str:
    """`text` without anything that looks like a key, the consumer that Google echoes, and URLs' queries; bounded."""
    text = text[: 2 * MAX_MESSAGE_CHARS]
    text = _URL.sub(lambda m: f"{m[1]}{m[2]}", text)
    text = _NAMED_SECRET.sub(r"\1***", text)
    text = _KEY_PREFIX.sub("***", text)
    return _KEY_SHAPED.sub("***", text)[:MAX_MESSAGE_CHARS]


def read_failure(
    status: int, body: bytes, headers: Mapping[str, str], *, secret: Secret | None = None
) -> UpstreamFailure:
    """The failure that an answer other than 200 means. `secret`, the key that was sent, is erased from the message."""
    error = _error_object(_parse(body))
    if error is None:
        message = f"Gemini answered HTTP {status} with a body that is not its error format."
        kind = _kind(status, "", None, ())
        return UpstreamFailure(kind, message, status=status, retry_delay_s=_header_delay(headers))
    return _read_error(status, error, headers, secret)


def read_error_frame(
    frame: Mapping[str, Any], headers: Mapping[str, str], *, secret: Secret | None = None
) -> UpstreamFailure:
    """The failure that Gemini reports under HTTP 200: `{"error": ...}` as a frame of a stream, or as the whole body."""
    error = _error_object(frame) or {}
    code = error.get("code")
    named = _STATUS_NAMES.get(str(error.get("status")), 500)
    status = code if isinstance(code, int) and 400 <= code <= 599 else named
    return _read_error(status, error, headers, secret)


_STATUS_NAMES = {
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


def _read_error(
    status: int, error: Mapping[str, Any], headers: Mapping[str, str], secret: Secret | None
) -> UpstreamFailure:
    message = error.get("message")
    message = message.strip() if isinstance(message, str) else ""
    message = message or f"Gemini answered HTTP {status} without a message."
    message = message[: 2 * MAX_MESSAGE_CHARS]
    details = [d for d in _list(error.get("details")) if isinstance(d, dict)]
    reason = _reason(details, error)
    violations = _violations(details, message) if status == 429 else ()
    kind = _kind(status, message, reason, violations)
    if kind == "quota" and not violations:
        violations = (Violation("other", "other"),)
    delay_s = _retry_delay(details, message)
    if secret is not None and len(secret.reveal()) >= 8:
        message = message.replace(secret.reveal(), "***")
    return UpstreamFailure(
        kind,
        message,
        status=status,
        reason=reason,
        retry_delay_s=_header_delay(headers) if delay_s is None else delay_s,
        violations=violations if kind == "quota" else (),
    )


def _parse(body: bytes) -> Any:
    if len(body) > MAX_ERROR_BYTES:
        return None
    try:
        # A stream's route may frame its error as an event.
        return orjson.loads(body.strip().removeprefix(b"data:"))
    except orjson.JSONDecodeError:
        return None


def _error_object(parsed: Any) -> Mapping[str, Any] | None:
    """Google's and OpenAI's `{"error": {...}}`, the same in an array, or an error that is only a text."""
    if isinstance(parsed, list):
        parsed = next((item for item in parsed if isinstance(item, dict) and "error" in item), None)
    if not isinstance(parsed, dict):
        return None
    error = parsed.get("error")
    if isinstance(error, dict):
        return error
    text = error if isinstance(error, str) else parsed.get("message")
    return {"message": text} if isinstance(text, str) else None


_REASON = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


def _reason(details: list[dict[str, Any]], error: Mapping[str, Any]) -> str | None:
    """ErrorInfo's reason; in OpenAI's format the `code`, a text there."""
    found = [d.get("reason") for d in details if str(d.get("@type")).endswith("ErrorInfo")]
    for reason in (*found, error.get("code")):
        if isinstance(reason, str) and _REASON.fullmatch(reason):
            return reason
    return None


_KEY_REASONS = {"API_KEY_INVALID", "API_KEY_EXPIRED", "ACCESS_TOKEN_TYPE_UNSUPPORTED", "invalid_api_key"}
_KEY_TEXTS = ("api key not valid", "api key expired", "incorrect api key provided")
_ACCOUNT_REASONS = {"CONSUMER_SUSPENDED", "insufficient_quota"}
_ACCOUNT_TEXTS = (
    "your prepayment credits are depleted",
    "your project has exceeded its monthly spending cap",
    "your api key was reported as leaked",
)
_SUSPENDED = re.compile(r"permission denied: consumer '?[^']{1,200}'? has been suspended")


def _kind(status: int, message: str, reason: str | None, violations: tuple[Violation, ...]) -> Kind:
    text = message[:400].lower()
    if status in (400, 401, 402, 403, 429):
        if reason in _ACCOUNT_REASONS or text.startswith(_ACCOUNT_TEXTS) or _SUSPENDED.match(text):
            return "account"
        if status != 429 and (reason in _KEY_REASONS or text.startswith(_KEY_TEXTS)):
            return "key_invalid"
    if status == 429:
        # "You exceeded your current quota" without details is a quota that is not ours to see (grounding, spend).
        return "quota" if violations or text.startswith("you exceeded your current quota") else "pressure"
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


_BULLET = re.compile(r"Quota exceeded for metric: ([\w./-]{1,200}), limit: (\d{1,18})(?:, model: ([\w./-]{1,100}))?")


def _violations(details: list[dict[str, Any]], message: str) -> tuple[Violation, ...]:
    """From QuotaFailure, with the limits of the message's bullets where `quotaValue` is absent (it is when 0); from the
    bullets alone when there is no QuotaFailure."""
    bullets = [(m[1], int(m[2]), m[3]) for m in _BULLET.finditer(message)][:MAX_VIOLATIONS]
    found: list[Violation] = []
    for entry in _quota_entries(details):
        metric, quota_id = str(entry.get("quotaMetric", "")), str(entry.get("quotaId", ""))
        bullet = next((b for b in bullets if b[0] == metric), None)
        if bullet is not None:
            # Bullets are in the order of the violations; two quotas can share a metric.
            bullets.remove(bullet)
        value = str(entry.get("quotaValue", ""))[:18]
        limit = int(value) if value.isascii() and value.isdigit() else bullet[1] if bullet else None
        dimensions = entry.get("quotaDimensions")
        model = dimensions.get("model") if isinstance(dimensions, dict) else None
        found.append(
            Violation(
                _dimension(quota_id, metric),
                _period(quota_id, metric),
                limit,
                model[:100] if isinstance(model, str) else bullet[2] if bullet else None,
            )
        )
    if not found:
        found = [Violation(_dimension("", b[0]), _period("", b[0]), b[1], b[2]) for b in bullets]
    return tuple(found)


def _quota_entries(details: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    count = 0
    for detail in details:
        if str(detail.get("@type")).endswith("QuotaFailure"):
            for entry in _list(detail.get("violations")):
                if isinstance(entry, dict) and count < MAX_VIOLATIONS:
                    count += 1
                    yield entry


def _dimension(quota_id: str, metric: str) -> Dimension:
    name = f"{quota_id} {metric.rpartition('/')[2]}".lower()
    if "token" in name:
        return "input_tokens" if "input" in name else "other"
    if "image" in name:
        return "images"
    return "requests" if "request" in name else "other"


def _period(quota_id: str, metric: str) -> Period:
    """By the quota's name, never by retryDelay: a day's quota often comes with a delay of seconds."""
    name = f"{quota_id} {metric}".lower().replace("_", "")
    return "day" if "perday" in name else "minute" if "perminute" in name else "other"


_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)s")
_SENTENCE = re.compile(
    r"please retry in (?=\d)(?:(\d{1,6})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,12}(?:\.\d{1,9})?)(ms|s))?", re.IGNORECASE
)


def _retry_delay(details: list[dict[str, Any]], message: str) -> float | None:
    """Seconds: the larger of RetryInfo and the message's sentence, whose value RetryInfo carries cut to seconds."""
    delays: list[float] = []
    for detail in details:
        if str(detail.get("@type")).endswith("RetryInfo") and isinstance(detail.get("retryDelay"), str):
            match = _DURATION.fullmatch(detail["retryDelay"])
            if match is not None:
                delays.append(float(match[1]))
    sentence = _SENTENCE.search(message)
    if sentence is not None:
        last_s = float(sentence[3] or 0) / (1000 if sentence[4] == "ms" else 1)
        delays.append(int(sentence[1] or 0) * 3600 + int(sentence[2] or 0) * 60 + last_s)
    return min(max(delays), MAX_RETRY_DELAY_S) if delays else None


def _header_delay(headers: Mapping[str, str]) -> float | None:
    value = next((v for k, v in headers.items() if k.lower() == "retry-after"), "")
    return min(float(value), MAX_RETRY_DELAY_S) if value.isascii() and value.isdigit() else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
