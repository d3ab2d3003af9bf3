"""What a failure of Gemini's means for the ledger and for the caller. Pure."""

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
from shared.ledger.state import Kind, QuotaSignal, Reason

PRESSURE_DELAY_S = 1.0
DAY_LAG_MS = 600_000
"""So long after midnight (Pacific) a spent day may still be the one before: nobody says to the second when Gemini's quota begins
anew, nor by whose clock."""
_FIELDS = {
    ("requests", "minute"): "requests",
    ("input_tokens", "minute"): "input_tokens",
    ("images", "minute"): "images",
    ("requests", "day"): "requests_per_day",
}


def kind_of(failure: UpstreamFailure) -> Kind:
    """Why Gemini refused for a quota. A stop for spend is the project's, whatever else is named; a limit of zero is not mended
    by its period's end."""
    violations = failure.violations
    if any(violation.dimension == "spend" for violation in violations):
        return "spend"
    if any(violation.limit == 0 for violation in violations):
        return "zero"
    return "day" if any(violation.period == "day" for violation in violations) else "rate"


def refusal_of(
    failure: UpstreamFailure, model: str, sent_ms: float, now_ms: float, window_s: float
) -> QuotaSignal | None:
    """What every instance must learn from a 429; None for any other failure. `now_ms` is the store's time.

    A daily quota ends at the midnight (Pacific) of the day in which the request was sent, whatever retryDelay says (on the
    free tier it says seconds). Right after midnight it is asked about again a window later."""
    if failure.kind == "pressure":
        return QuotaSignal(model, pressure=True)
    if failure.kind != "quota":
        return None
    kind = kind_of(failure)
    until_ms, guessed = now_ms + first_pause_ms(kind, 1000 * window_s), kind != "day"
    day = pacific_day(sent_ms)
    if kind == "day" and sent_ms >= day.start_ms + DAY_LAG_MS:
        until_ms = day.end_ms
    elif failure.retry_delay_s is not None and RULES[kind].believes_delay:
        until_ms, guessed = now_ms + 1000 * failure.retry_delay_s, False
    limited = kind in ("rate", "day")
    return QuotaSignal(
        model,
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
    own_key: bool,
    key_retry_s: float = 60.0,
) -> GatewayError:
    """The error that a caller gets, in Google's words where there are any. Times are as for `refusal_of`; `key_retry_s` is
    when another key of the server's may serve."""
    details = {"upstream_status": failure.status, "reason": failure.reason, "model": model}
    details = {name: value for name, value in details.items() if value is not None}
    message = failure.message or failure.kind
    match failure.kind:
        case "timeout" | "deadline":
            return UpstreamTimeout(
                "Gemini did not answer in time.", retry_after_s=failure.retry_delay_s, details=details
            )
        case "not_found":
            return ModelNotFound(f"Gemini does not know this model or method: {message}", details=details)
        case "restricted" if own_key and failure.status == 400:
            return RejectedByGemini(f"Gemini refused the request for this API key: {message}", details=details)
        case "bad_request":
            return RejectedByGemini(f"Gemini refused the request: {message}", details=details)
        case "key_invalid" | "account" | "restricted" | "permission" if own_key:
            return InvalidGeminiKey(f"Gemini refused this API key: {message}", details=details)
        case "key_invalid" | "account" | "restricted":
            return NoServerKey(
                f"Gemini refused this server's key, and its operator has to change that. Google's reason: {message}",
                retry_after_s=key_retry_s,
                details=details,
            )
        case "quota" if (kind := kind_of(failure)) != "rate":
            refusal = refusal_of(failure, model, sent_ms, now_ms, window_s)
            until_ms = int(now_ms) if refusal is None else refusal.until_ms
            return stopped_error(Reason(kind, sentence(message), until_ms), model, now_ms, own_key=own_key)
        case "quota" | "pressure":
            return RateLimited(
                f"Gemini refused for now: {message}", retry_after_s=failure.retry_delay_s or 1.0, details=details
            )
        case "connect" | "reset" | "cut" | "malformed":
            return UpstreamFailed(f"No complete answer came from Gemini: {message}", details=details)
        case _:
            # Google's own delay; where it names none, none is invented.
            return UpstreamFailed(f"Gemini failed: {message}", retry_after_s=failure.retry_delay_s, details=details)
