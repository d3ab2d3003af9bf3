"""The errors for callers while Gemini rejects all requests of a kind: the reason, Google's sentence, and Retry-After. Pure."""

from __future__ import annotations

from shared.errors import CallerNoQuota, DailyQuotaExhausted, GatewayError, NoQuota
from shared.ledger.grid import pacific_day
from shared.ledger.state import Kind, Reason

NEVER_RETRY = {"x-should-retry": "false"}
"""Tells OpenAI's clients not to retry: no retry in reasonable time can succeed."""
_WHY: dict[Kind, str] = {
    "rate": "Gemini refuses requests to {model} for now.",
    "lower": "Gemini allows less for {model} than is configured here.",
    "day": "Daily quota for {model} exceeded.",
    "zero": "Gemini grants this project no quota for {model}.",
    "spend": "Gemini stopped this project because of its spending.",
}


def explanation(reason: Reason, model: str, addition: str = "") -> str:
    """Why Gemini rejects requests, in our words and in Google's."""
    text = _WHY[reason.kind].format(model=model) + addition
    return f"{text} Google: {reason.message}" if reason.message else text


def stopped_error(reason: Reason, model: str, now_ms: float, *, caller_key: bool) -> GatewayError:
    """The error for any kind but `rate`. `now_ms` is the store's time."""
    retry_after_s = max(1.0, (reason.until_ms - now_ms) / 1000)
    details = {"model": model}
    if reason.kind == "day":
        midnight = abs(reason.until_ms - pacific_day(now_ms).end_ms) < 1_000
        text = explanation(reason, model, " It resets at midnight Pacific time." if midnight else "")
        return DailyQuotaExhausted(text, retry_after_s=retry_after_s, details=details, headers=NEVER_RETRY)
    error = CallerNoQuota if caller_key else NoQuota
    headers = {} if reason.kind == "spend" else NEVER_RETRY
    return error(explanation(reason, model), retry_after_s=retry_after_s, details=details, headers=headers)
