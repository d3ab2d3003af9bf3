"""Which errors a wait mends, and the words of the others."""

from __future__ import annotations

import pytest

from shared.batch.item import Task
from shared.batch.outcomes import MAX_REJECTIONS, MAX_WAIT_S, STOP_KNOWN_S, KnownStop, Waits, failed, stop_of
from shared.errors import (
    BadRequest,
    DailyQuotaExhausted,
    GatewayError,
    InvalidGeminiKey,
    LedgerUnavailable,
    ModelNotFound,
    NoQuota,
    NoServerKey,
    QueueFull,
    QueueTimeout,
    RateLimited,
    ResponseBlocked,
    UpstreamFailed,
    UpstreamTimeout,
)
from shared.generation import Attempt, Timeline

TASK = Task(4, None, {"n": 1}, "a")


@pytest.mark.parametrize(
    ("error", "pause_s"),
    [
        (QueueTimeout("later", retry_after_s=30), 30),
        (QueueTimeout("later", retry_after_s=10 * MAX_WAIT_S), 10 * MAX_WAIT_S),
        (QueueTimeout("rejected", retry_after_s=MAX_WAIT_S + 1, rejected_s=MAX_WAIT_S + 1), None),
        (QueueFull("full", retry_after_s=1), 1),
        (RateLimited("pressure", retry_after_s=7), 7),
        (RateLimited("pressure"), 5),
        (LedgerUnavailable("down", retry_after_s=5), 5),
        (DailyQuotaExhausted("day", retry_after_s=10), None),
        (NoQuota("none", retry_after_s=10), None),
        (NoServerKey("none", retry_after_s=10), None),
        (UpstreamFailed("502"), None),
        (UpstreamTimeout("504"), None),
        (BadRequest("no"), None),
        (InvalidGeminiKey("no"), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, GatewayError) else str(value),
)
def test_what_is_waited_for(error: GatewayError, pause_s: float | None) -> None:
    assert Waits().pause_s(error) == pause_s


def test_rejections_are_bounded_and_the_queue_is_not() -> None:
    waits = Waits()
    for _ in range(MAX_REJECTIONS):
        assert waits.pause_s(RateLimited("pressure", retry_after_s=1)) == 1
    assert waits.pause_s(RateLimited("pressure", retry_after_s=1)) is None
    assert all(waits.pause_s(QueueTimeout("later", retry_after_s=1)) == 1 for _ in range(1000))


@pytest.mark.parametrize(
    ("error", "stop", "retryable"),
    [
        (DailyQuotaExhausted("day", retry_after_s=10), "exhausted", True),
        (NoServerKey("none"), "exhausted", True),
        (QueueTimeout("rejected", retry_after_s=43_200, rejected_s=43_200), "exhausted", True),
        (QueueTimeout("later", retry_after_s=43_200), None, True),
        (LedgerUnavailable("down"), "unreachable", True),
        (ModelNotFound("no"), "refused", False),
        (InvalidGeminiKey("no"), "refused", False),
        (UpstreamFailed("502"), None, True),
        (ResponseBlocked("SAFETY"), None, False),
        (BadRequest("no"), None, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, GatewayError) else str(value),
)
def test_what_stops_the_others(error: GatewayError, stop: str | None, retryable: bool) -> None:
    result = failed(TASK, error, Timeline(), 1.0, 1000.0)
    assert (stop_of(error), result.stops, result.retryable) == (stop, stop, retryable)
    assert (result.index, result.id, result.metadata, result.response) == (4, "a", {"n": 1}, None)


def test_the_words_that_programs_search_for() -> None:
    day = failed(
        TASK, DailyQuotaExhausted("Daily quota exceeded.", retry_after_s=60.4), Timeline(), 0.0, 1_796_000_000.0
    )
    assert day.error == "All keys exhausted until 2026-11-30 00:54:21 UTC: Daily quota exceeded."
    assert day.retry_at_s == 1_796_000_060.4
    broken = failed(TASK, UpstreamFailed("Gemini failed."), Timeline(), 0.0, 0.0)
    assert broken.error == "API error, persistent after 0 attempts: Gemini failed."
    assert failed(TASK, ResponseBlocked("Blocked."), Timeline(), 0.0, 0.0).error == "Blocked."


def test_a_known_stop_is_told_at_once_for_a_while() -> None:
    stop = KnownStop()
    stop.note(UpstreamFailed("502"), 100.0)
    assert stop.error(100.0) is None
    stop.note(DailyQuotaExhausted("day", retry_after_s=3600.0), 100.0)
    error = stop.error(110.0)
    assert isinstance(error, DailyQuotaExhausted) and error.retry_after_s == 3590.0
    assert stop.error(100.0 + STOP_KNOWN_S) is None


def test_a_known_stop_ends_with_its_cause() -> None:
    stop = KnownStop()
    stop.note(NoServerKey("none", retry_after_s=5.0), 100.0)
    assert stop.error(104.9) is not None and stop.error(105.0) is None


@pytest.mark.parametrize(
    ("failures", "lost"),
    [([], 0), (["server", "pressure", "connect"], 0), (["cut", "malformed", "reset", "timeout"], 4), ([None], 1)],
)
def test_exchanges_that_may_have_been_charged_are_counted(failures: list[str | None], lost: int) -> None:
    timeline = Timeline(attempts=[Attempt(0.0, 1.0, "a", failure=failure) for failure in failures])
    assert failed(TASK, UpstreamFailed("502"), timeline, 1.0, 0.0).lost == lost
