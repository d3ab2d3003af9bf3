"""What a 429 means for the ledger, which stops or slows the project, and for the caller."""

from __future__ import annotations

import pytest

from shared.errors import CallerNoQuota, DailyQuotaExhausted, GatewayError, NoQuota, RateLimited
from shared.gateway.failures import DAY_LAG_MS, caller_error, refusal_of
from shared.gemini.errors import Kind as FailureKind
from shared.gemini.errors import UpstreamFailure, Violation
from shared.ledger.grid import pacific_day
from shared.ledger.limits import UNLIMITED
from shared.ledger.state import BATCHES, Kind, QuotaSignal

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


def test_a_day_spent_right_after_midnight_is_tested_in_a_minute() -> None:
    """Gemini's quota may begin anew a moment later than our midnight: else the model is shut for the whole day."""
    assert until_ms(DAY.start_ms) == DAY.start_ms + 100 + 60_000 + 1


NOON_MS = (DAY.start_ms + DAY.end_ms) / 2
MINUTE, DAILY = Violation("requests", "minute", 5), Violation("requests", "day", 250)
NO_MINUTE, NO_DAY = Violation("input_tokens", "minute", 0), Violation("requests", "day", 0)
SPEND = Violation("spend", "other")
WORDS = "You exceeded your current quota."


def failure(*violations: Violation, delay_s: float | None = 25.0) -> UpstreamFailure:
    return UpstreamFailure("quota", WORDS, status=429, retry_delay_s=delay_s, violations=violations)


def learned(*violations: Violation, delay_s: float | None = 25.0, window_s: float = WINDOW_S) -> QuotaSignal:
    refusal = refusal_of(failure(*violations, delay_s=delay_s), "m", NOON_MS - 1_000, NOON_MS, window_s)
    assert refusal is not None
    return refusal


@pytest.mark.parametrize(
    ("violations", "kind", "after_s"),
    [
        ((MINUTE,), "rate", 25),
        ((MINUTE, DAILY), "day", 12 * 3600),
        ((NO_DAY,), "zero", 900),
        ((NO_MINUTE,), "zero", 900),
        ((NO_MINUTE, DAILY, MINUTE), "zero", 900),
        ((DAILY, NO_MINUTE), "zero", 900),
        ((SPEND,), "spend", 25),
        ((SPEND, NO_DAY, DAILY), "spend", 25),
    ],
)
def test_each_kind_stops_for_its_own_time(violations: tuple[Violation, ...], kind: Kind, after_s: float) -> None:
    """A zero wins over its period and its delay; money over all."""
    refusal = learned(*violations)
    assert (refusal.kind, refusal.message) == (kind, WORDS)
    assert (refusal.until_ms - NOON_MS) / 1000 == pytest.approx(after_s, abs=0.01)


@pytest.mark.parametrize(("violation", "windows"), [(MINUTE, 1), (SPEND, 1), (NO_DAY, 15)])
@pytest.mark.parametrize("window_s", [60.0, 6.0])
def test_without_a_delay_the_first_pause_scales_with_the_window(
    violation: Violation, windows: int, window_s: float
) -> None:
    refusal = learned(violation, delay_s=None, window_s=window_s)
    assert refusal.guessed
    assert (refusal.until_ms - NOON_MS) / 1000 == pytest.approx(windows * window_s, abs=0.01)


@pytest.mark.parametrize("violation", [NO_DAY, SPEND])
def test_a_zero_and_a_stop_for_spend_teach_no_limit(violation: Violation) -> None:
    refusal = learned(violation, MINUTE)
    assert (refusal.learned, refusal.minute) == (UNLIMITED, ())


def test_the_sentence_is_one_line_without_secrets() -> None:
    text = "Quota exceeded.\n* metric, limit: 0\u2028key=AIzaSyA-1234567890abcdefghijk " + "x" * 500
    refusal = refusal_of(
        UpstreamFailure("quota", text, status=429, violations=(NO_DAY,)), "m", NOON_MS, NOON_MS, WINDOW_S
    )
    assert refusal is not None
    assert refusal.message.startswith("Quota exceeded. * metric, limit: 0 key=***")
    assert len(refusal.message) <= 300


@pytest.mark.parametrize(
    ("violation", "caller_key", "error", "after_s"),
    [
        (MINUTE, False, RateLimited, 25),
        (NO_DAY, False, NoQuota, 900),
        (NO_DAY, True, CallerNoQuota, 900),
        (SPEND, False, NoQuota, 25),
        (SPEND, True, CallerNoQuota, 25),
        (DAILY, False, DailyQuotaExhausted, 12 * 3600),
        (DAILY, True, DailyQuotaExhausted, 12 * 3600),
    ],
)
def test_the_caller_gets_googles_sentence_and_a_true_time(
    violation: Violation, caller_key: bool, error: type[GatewayError], after_s: float
) -> None:
    found = caller_error(failure(violation), "m", NOON_MS - 1_000, NOON_MS, WINDOW_S, caller_key=caller_key)
    assert type(found) is error
    assert WORDS in found.message
    assert ("midnight" in found.message) == (error is DailyQuotaExhausted)
    assert found.retry_after_s == pytest.approx(after_s, abs=1)
    assert (found.headers == {"x-should-retry": "false"}) == (violation in (NO_DAY, DAILY))


def test_a_day_that_is_over_does_not_last_until_next_midnight() -> None:
    sent_ms, now_ms = DAY.end_ms - 1_000, DAY.end_ms + 1_000
    found = caller_error(failure(DAILY), "m", sent_ms, now_ms, WINDOW_S, caller_key=False)
    assert found.retry_after_s == 1
    assert "midnight" not in found.message


@pytest.mark.parametrize(
    ("kind", "upstream_status", "caller_key", "status", "code"),
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
def test_refused_account(kind: FailureKind, upstream_status: int, caller_key: bool, status: int, code: str) -> None:
    """A key's trouble is the server's error for its own keys, and the caller's for a key that they brought."""
    failure = UpstreamFailure(kind, "Google's own words.", status=upstream_status)
    error = caller_error(failure, "m", DAY.start_ms, DAY.start_ms, WINDOW_S, caller_key=caller_key, key_retry_s=33)
    assert (error.status, error.code) == (status, code)
    assert "Google's own words." in error.message
    assert error.retry_after_s == (33 if status == 503 else None)


@pytest.mark.parametrize("delay_s", [7.0, None])
@pytest.mark.parametrize("kind", ["overloaded", "server", "deadline"])
def test_delay_of_a_5xx_is_passed_on(kind: FailureKind, delay_s: float | None) -> None:
    failure = UpstreamFailure(kind, "x", status=503, retry_delay_s=delay_s)
    assert caller_error(failure, "m", DAY.start_ms, DAY.start_ms, WINDOW_S, caller_key=False).retry_after_s == delay_s


BATCHES_SPENT = Violation("batches", "minute", 150)


def test_a_spent_quota_of_batches_is_learned_for_all_models() -> None:
    refusal = learned(BATCHES_SPENT)
    assert (refusal.model, refusal.minute, refusal.learned.batches) == (BATCHES, (3,), 150)


def test_a_batch_whose_requests_exceed_the_model_stops_the_model() -> None:
    refusal = learned(BATCHES_SPENT, MINUTE)
    assert (refusal.model, refusal.minute) == ("m", (0, 3))
