"""The delay after which Gemini asks to retry, in each of its forms. Pure: the wall clock is an argument.

RetryInfo.retryDelay     "25.46s", or {"seconds": 25, "nanos": 460000000}      google.rpc.RetryInfo
a sentence               "Please retry in 1h2m3.5s.", "try again in 7 seconds"
quotaResetDelay          "2h31m20s"                                            ErrorInfo.metadata
retry-after-ms           "7000"
Retry-After              "7", "7.5", or one of RFC 9110's three dates          section 10.2.3
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from shared.gemini.error_body import JsonObject, is_type

MAX_RETRY_DELAY_S = 7 * 24 * 3600.0
MAX_DATE_CHARS = 64

_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)s")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_AMOUNT = re.compile(
    r"(\d{1,12}(?:\.\d{1,12})?)\s?(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)(?![a-z])"
    r"[\s,]{0,3}(?:and\s)?",
    re.IGNORECASE,
)
_SENTENCE = re.compile(
    r"\b(?:retry(?:ing)?(?: your request| the request)?|try(?: your request)? again|wait|resets?)\s+"
    r"(?:in |after |for |at least |about |approximately ){0,3}(?=\d)",
    re.IGNORECASE,
)
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def retry_delay_s(
    details: Iterable[JsonObject], message: str, headers: Mapping[str, str], now_s: float | None = None
) -> float | None:
    """Seconds to wait; None if the response names none. The body has precedence over the headers. Of two delays in the body
    the longer one is used: RetryInfo is often the sentence's value cut to seconds. `now_s` is Unix time: a date in
    Retry-After is relative to the response's Date header, or to `now_s` without one."""
    delays = [delay for detail in details for delay in _of_detail(detail)]
    sentence = sentence_delay_s(message)
    if sentence is not None:
        delays.append(sentence)
    delay = max(delays) if delays else header_delay_s(headers, now_s)
    return None if delay is None else min(max(0.0, delay), MAX_RETRY_DELAY_S)


def header_delay_s(headers: Mapping[str, str], now_s: float | None = None) -> float | None:
    """The delay from `retry-after-ms` or `Retry-After`; never negative, and bounded."""
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    ms, value = lower.get("retry-after-ms", ""), lower.get("retry-after", "")
    if _NUMBER.fullmatch(ms):
        return min(float(ms) / 1000, MAX_RETRY_DELAY_S)
    if _NUMBER.fullmatch(value):
        return min(float(value), MAX_RETRY_DELAY_S)
    until_s = _unix_s(value)
    since_s = _unix_s(lower.get("date", ""))
    since_s = now_s if since_s is None else since_s
    if until_s is None or since_s is None:
        return None
    return min(max(0.0, until_s - since_s), MAX_RETRY_DELAY_S)


def sentence_delay_s(text: str) -> float | None:
    """The delay from a sentence like "Please retry in 25.4s." The first sentence with an amount is used."""
    for found in _SENTENCE.finditer(text):
        total = _amounts_s(text, found.end())
        if total is not None:
            return total
    return None


def _amounts_s(text: str, position: int) -> float | None:
    total: float | None = None
    while (amount := _AMOUNT.match(text, position)) is not None:
        unit = amount[2].lower()
        seconds = 0.001 if unit.startswith(("ms", "mil")) else _SECONDS[unit[0]]
        total = (total or 0.0) + float(amount[1]) * seconds
        position = amount.end()
    return total


def _of_detail(detail: JsonObject) -> Iterable[float]:
    if is_type(detail, "RetryInfo", "retryDelay") or is_type(detail, "RetryInfo", "retry_delay"):
        delay = _duration_s(detail.get("retryDelay", detail.get("retry_delay")))
        if delay is not None:
            yield delay
    metadata = detail.get("metadata")
    reset = metadata.get("quotaResetDelay") if isinstance(metadata, dict) else None
    if isinstance(reset, str) and (delay := _amounts_s(reset, 0)) is not None:
        yield delay


def _duration_s(value: Any) -> float | None:
    """google.protobuf.Duration: a string in JSON; elsewhere an object, whose seconds are an int64 and may be a string."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        return float(match[1]) if match else None
    if not isinstance(value, dict):
        return None
    seconds, nanos = _whole(value.get("seconds", 0)), _whole(value.get("nanos", 0))
    return None if seconds is None or nanos is None or value == {} else seconds + nanos / 1e9


def _whole(value: Any) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\d{1,12}", value):
        return int(value)
    return value if type(value) is int and 0 <= value < 10**12 else None


def _unix_s(date: str) -> float | None:
    """An HTTP date (RFC 9110 section 5.6.7: IMF-fixdate, RFC 850's, asctime's) as Unix time; None if it is not valid."""
    if len(date) > MAX_DATE_CHARS:
        return None
    try:
        parsed = parsedate_to_datetime(date)
        return (parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
