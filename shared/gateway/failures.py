"""What a failure of Gemini means for the ledger, and the error for the caller. Pure."""

from __future__ import annotations

from shared.admission.stop_errors import stopped_error
from shared.errors import (
    GatewayError,
    InvalidGeminiKey,
    ModelNotFound,
    NoServerKey,
    RateLimited,
    RejectedByGemini,
    UpstreamFailed,
    UpstreamTimeout,
)
from shared.gemini.errors import UpstreamFailure, Violation
from shared.generation import Cost
from shared.ledger.circuit import RULES, first_pause_ms, sentence
from shared.ledger.grid import pacific_day
from shared.ledger.limits import UNLIMITED, Limits, minimum
from shared.ledger.state import AS_USUAL, BATCHES, Exhaustion, Kind, QuotaSignal, Reason

PRESSURE_DELAY_S = 1.0
DAY_LAG_MS = 600_000
"""Tolerance after midnight Pacific time in which an exhausted daily quota may still be the previous day's: Google documents
neither the second at which the quota resets nor the clock."""
_FIELDS = {
    ("requests", "minute"): "requests",
    ("input_tokens", "minute"): "input_tokens",
    ("images", "minute"): "images",
    ("requests", "day"): "requests_per_day",
    ("batches", "minute"): "batches",
}


def kind_of(failure: UpstreamFailure) -> Kind:
    """The kind of the quota that was exceeded. A spend limit stops the whole project, whatever else the error names; a limit of
    zero does not end with its period."""
    violations = failure.violations
    if any(violation.dimension == "spend" for violation in violations):
        return "spend"
    if any(violation.limit == 0 for violation in violations):
        return "zero"
    return "day" if any(violation.period == "day" for violation in violations) else "rate"


def refusal_of(
    failure: UpstreamFailure,
    model: str,
    sent_ms: float,
    now_ms: float,
    window_s: float,
    exhaustion: Exhaustion = AS_USUAL,
) -> QuotaSignal | None:
    """The part of a 429 that every instance must learn; None for any other failure. `now_ms` is the store's time.

    A daily quota resets at the midnight (Pacific) that ends the day in which the request was sent. Google's retryDelay is
    ignored for it (on the free tier it is seconds). Right after midnight, Gemini is probed again a window later."""
    if failure.kind == "pressure":
        return QuotaSignal(model, pressure=True)
    if failure.kind != "quota":
        return None
    kind = kind_of(failure)
    until_ms, guessed = now_ms + first_pause_ms(kind, 1000 * window_s, exhaustion), kind != "day"
    day = pacific_day(sent_ms)
    if kind == "day" and sent_ms >= day.start_ms + DAY_LAG_MS:
        until_ms = day.end_ms
    elif failure.retry_delay_s is not None and RULES[kind].believes_delay:
        until_ms, guessed = now_ms + 1000 * failure.retry_delay_s, False
    limited = kind in ("rate", "day")
    # The quota of batches is the project's, and stops no other request.
    of_batches = all(violation.dimension == "batches" for violation in failure.violations)
    return QuotaSignal(
        BATCHES if of_batches and failure.violations else model,
        until_ms=int(until_ms) + 1,
        learned=_learned(failure.violations) if limited else UNLIMITED,
        minute=_minute(failure.violations) if limited else (),
        sent_ms=int(sent_ms),
        guessed=guessed,
        kind=kind,
        message=sentence(failure.message),
    )


def _minute(violations: tuple[Violation, ...]) -> tuple[int, ...]:
    exceeded = {violation.dimension for violation in violations if violation.period == "minute"}
    return tuple(k for k, dimension in enumerate(Cost._fields) if dimension in exceeded)


def _learned(violations: tuple[Violation, ...]) -> Limits:
    named = [
        UNLIMITED._replace(**{field: violation.limit})
        for violation in violations
        if violation.limit is not None and (field := _FIELDS.get((violation.dimension, violation.period)))
    ]
    return minimum(named)


def caller_error(
    failure: UpstreamFailure,
    model: str,
    sent_ms: float,
    now_ms: float,
    window_s: float,
    *,
    caller_key: bool,
    key_retry_s: float = 60.0,
) -> GatewayError:
    """The error for the caller, with Google's message if there is one. Times are as for `refusal_of`; `key_retry_s` is the time
    after which another key of the server may serve."""
    details = {"upstream_status": failure.status, "reason": failure.reason, "model": model}
    details = {name: value for name, value in details.items() if value is not None}
    message = failure.message or failure.kind
    match failure.kind:
        case "timeout" | "deadline":
            return UpstreamTimeout(
                "Gemini did not answer in time; retry, or allow more time.",
                retry_after_s=failure.retry_delay_s,
                details=details,
            )
        case "not_found":
            return ModelNotFound(f"Gemini found no such model or method: {message}", details=details)
        case "restricted" if caller_key and failure.status == 400:
            return RejectedByGemini(f"Gemini rejected the request for this API key: {message}", details=details)
        case "bad_request":
            return RejectedByGemini(f"Gemini rejected the request: {message}", details=details)
        case "key_invalid" | "account" | "restricted" | "permission" if caller_key:
            return InvalidGeminiKey(f"Gemini rejected this API key: {message}", details=details)
        case "key_invalid" | "account" | "restricted":
            return NoServerKey(
                f"Gemini rejected this server's key; only its operator can change that. Google: {message}",
                retry_after_s=key_retry_s,
                details=details,
            )
        case "quota" if (kind := kind_of(failure)) != "rate":
            refusal = refusal_of(failure, model, sent_ms, now_ms, window_s)
            until_ms = int(now_ms) if refusal is None else refusal.until_ms
            return stopped_error(Reason(kind, sentence(message), until_ms), model, now_ms, caller_key=caller_key)
        case "quota" | "pressure":
            return RateLimited(
                f"Gemini has no capacity for this request now: {message}",
                retry_after_s=failure.retry_delay_s or 1.0,
                details=details,
            )
        case "token":
            return UpstreamFailed(
                f"This server could not authenticate itself to Google; retry. {message}", details=details
            )
        case "connect" | "reset" | "cut" | "malformed":
            return UpstreamFailed(f"Gemini's response did not arrive completely; retry. {message}", details=details)
        case _:
            # Google's own delay, if it named one.
            return UpstreamFailed(f"Gemini failed: {message}", retry_after_s=failure.retry_delay_s, details=details)
