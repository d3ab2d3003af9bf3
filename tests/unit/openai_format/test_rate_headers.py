"""Rate limits as OpenAI's headers."""

from __future__ import annotations

import pytest

from shared.generation import UNLIMITED_RATE, RateLimit, RateStatus
from shared.openai_format.rate_headers import duration, rate_headers


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, b"0ms"),
        (-1.0, b"0ms"),
        (0.0001, b"1ms"),
        (0.012, b"12ms"),
        (1.0, b"1s"),
        (1.5, b"1.5s"),
        (59.9999, b"1m0s"),
        (60.0, b"1m0s"),
        (90.25, b"1m30.25s"),
        (360.0, b"6m0s"),
        (3661.0, b"1h1m1s"),
    ],
)
def test_durations_are_gos(seconds: float, text: bytes) -> None:
    assert duration(seconds) == text


def test_each_limit_has_three_headers() -> None:
    assert dict(rate_headers(RateStatus(RateLimit(300, 299, 60.0), RateLimit(1000, 0, 0.5)))) == {
        b"x-ratelimit-limit-requests": b"300",
        b"x-ratelimit-remaining-requests": b"299",
        b"x-ratelimit-reset-requests": b"1m0s",
        b"x-ratelimit-limit-tokens": b"1000",
        b"x-ratelimit-remaining-tokens": b"0",
        b"x-ratelimit-reset-tokens": b"500ms",
    }


def test_no_limit_has_no_headers() -> None:
    assert rate_headers(UNLIMITED_RATE) == []
