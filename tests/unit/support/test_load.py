"""What the requests of a load say about the rate of answers and the use of slots."""

from __future__ import annotations

import pytest

from tests.support.load import Sent, first_span_s, mean_served, reaches


def sent(start_s: float, queued_s: float | None, end_s: float, status: int = 200) -> Sent:
    return Sent(0, 0, "model", start_s, end_s, status, "", True, queued_s)


def test_only_the_time_after_the_queue_is_served() -> None:
    assert mean_served([sent(10, 1, 12)], 10, 14) == pytest.approx(0.25)
    assert mean_served([sent(0, 0, 11), sent(12, 1, 20)], 10, 14) == pytest.approx(0.5)


def test_rejected_and_unanswered_requests_are_not_served() -> None:
    assert mean_served([sent(10, 0, 14, status=429), sent(10, None, 14, status=0)], 10, 14) == 0


def test_first_span_begins_when_the_condition_holds_throughout() -> None:
    assert first_span_s(lambda begin_s, _: begin_s >= 11, 10, 20, 2) == pytest.approx(11)


@pytest.mark.parametrize("until_s", [9, 11.9])
def test_span_that_is_not_over_is_not_judged(until_s: float) -> None:
    assert first_span_s(lambda *_: True, 10, until_s, 2) is None


def test_rate_is_reached_at_the_first_event_of_a_full_span() -> None:
    """Four events in 2 s are wanted; the first three are too far apart."""
    times_s = [1.0, 3.0, 5.0, 5.5, 6.0, 7.0, 9.0]
    assert reaches(times_s, 2, 0, 2) == 5.0
    assert reaches(times_s, 2, 5.2, 2) is None


def test_rate_is_reached_by_the_last_events() -> None:
    assert reaches([0.0, 4.0, 5.0], 1, 1, 2) == 4.0
