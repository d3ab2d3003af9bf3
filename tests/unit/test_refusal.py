"""What a 429 means for the ledger: how long nothing more is sent."""

from __future__ import annotations

from shared.gemini.errors import UpstreamFailure, Violation
from shared.ledger.grid import pacific_day
from shared.refusal import DAY_LAG_MS, refusal_of

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
