"""What a 429 means for the ledger: how long nothing more is sent."""

from __future__ import annotations

import pytest

from shared.gemini.errors import Kind, UpstreamFailure, Violation
from shared.ledger.grid import pacific_day
from shared.refusal import DAY_LAG_MS, caller_error, refusal_of

DAY = pacific_day(1_800_000_000_000)
WINDOW_S = 60.0


def until_ms(sent_ms: float) -> int:
    failure = UpstreamFailure("quota", "spent", status=429, violations=(Violation("requests", "day", 250),))
    refusal = refusal_of(failure, "m", sent_ms, sent_ms + 100, WINDOW_S)
    assert refusal is not None
    return refusal.until_ms


def test_a_spent_day_ends_at_midnight_pacific() -> None:
    assert until_ms(DAY.start_ms + DAY_LAG_MS) == DAY.end_ms + 1
    assert until_ms(DAY.end_ms - 1) == DAY.end_ms + 1


def test_a_spent_day_that_has_just_begun_may_be_the_one_before_and_is_asked_about_again_after_a_minute() -> None:
    """Gemini's quota may begin anew a moment later than our midnight: else the model is shut for the whole day."""
    assert until_ms(DAY.start_ms) == DAY.start_ms + 100 + 60_000 + 1


@pytest.mark.parametrize(
    ("kind", "upstream_status", "own_key", "status", "code"),
    [
        ("restricted", 400, False, 503, "no_server_key"),
        ("restricted", 403, False, 503, "no_server_key"),
        ("key_invalid", 400, False, 503, "no_server_key"),
        ("account", 429, False, 503, "no_server_key"),
        ("restricted", 400, True, 400, "rejected_by_gemini"),
        ("restricted", 403, True, 401, "invalid_gemini_key"),
        ("key_invalid", 400, True, 401, "invalid_gemini_key"),
        ("account", 429, True, 401, "invalid_gemini_key"),
    ],
)
def test_refused_account(kind: Kind, upstream_status: int, own_key: bool, status: int, code: str) -> None:
    """A key's trouble is the server's error for its own keys, and the caller's for a key that they brought."""
    failure = UpstreamFailure(kind, "Google's own words.", status=upstream_status)
    error = caller_error(failure, "m", DAY.start_ms, own_key=own_key, key_retry_s=33)
    assert (error.status, error.code) == (status, code)
    assert "Google's own words." in error.message
    assert error.retry_after_s == (33 if status == 503 else None)


@pytest.mark.parametrize("delay_s", [7.0, None])
@pytest.mark.parametrize("kind", ["overloaded", "server", "deadline"])
def test_delay_of_a_5xx_is_passed_on(kind: Kind, delay_s: float | None) -> None:
    failure = UpstreamFailure(kind, "x", status=503, retry_delay_s=delay_s)
    assert caller_error(failure, "m", DAY.start_ms, own_key=False).retry_after_s == delay_s
