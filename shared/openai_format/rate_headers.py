"""The rate limits of an answer as OpenAI's headers: whole numbers, and durations like `6m0s`, `1.5s` or `12ms`. Pure."""

from __future__ import annotations

import math

from shared.generation import RateStatus

Headers = list[tuple[bytes, bytes]]


def rate_headers(rate: RateStatus) -> Headers:
    """A limit that does not exist has no headers."""
    headers: Headers = []
    for kind, limit in ((b"requests", rate.requests), (b"tokens", rate.input_tokens)):
        if limit is not None:
            headers += [
                (b"x-ratelimit-limit-" + kind, b"%d" % limit.limit),
                (b"x-ratelimit-remaining-" + kind, b"%d" % limit.remaining),
                (b"x-ratelimit-reset-" + kind, duration(limit.reset_s)),
            ]
    return headers


def duration(seconds: float) -> bytes:
    """In the notation of Go's durations, rounded up to a millisecond, as OpenAI sends it."""
    total_ms = max(0, math.ceil(1000 * seconds - 1e-6))
    if total_ms < 1000:
        return b"%dms" % total_ms
    minutes, left_ms = divmod(total_ms, 60_000)
    whole_s, ms = divmod(left_ms, 1000)
    fraction = b".%03d" % ms if ms else b""
    part = b"%d%bs" % (whole_s, fraction.rstrip(b"0"))
    if not minutes:
        return part
    hours, minutes = divmod(minutes, 60)
    return (b"%dh%dm" % (hours, minutes) if hours else b"%dm" % minutes) + part
