"""The ideal queue: nobody waits without need, nobody is passed over, and no window holds more than the limit."""

from __future__ import annotations

import random

import pytest

from tests.support.ideal_queue import ideal_fifo, ideal_round
from tests.support.invariants import worst_window


def test_nobody_waits_while_the_window_has_room() -> None:
    assert ideal_fifo([0.0, 0.0, 5.0, 60.0, 60.0], 2, 60) == [0.0, 0.0, 60.0, 60.0, 120.0]


def test_request_waits_for_the_one_a_limit_before_it() -> None:
    assert ideal_fifo([0.0, 1.0, 2.0, 3.0], 2, 10) == [0.0, 1.0, 10.0, 11.0]


def test_no_requests_need_no_time() -> None:
    assert ideal_fifo([], 3, 60) == []


@pytest.mark.parametrize("seed", range(5))
def test_ideal_queue_is_exact_and_optimal(seed: int) -> None:
    draw, limit, window_s = random.Random(seed), 4, 10
    came_s = sorted(draw.randrange(60) for _ in range(60))
    at_s = ideal_fifo(came_s, limit, window_s)
    assert at_s == sorted(at_s), "somebody was passed over"
    assert worst_window(at_s, window_s) <= limit
    for i, (came, at) in enumerate(zip(came_s, at_s, strict=True)):
        # In place of the first moment, any earlier one would break the window, the order, or be before it came.
        assert at in (came, at_s[i - 1], at_s[i - limit] + window_s)


def test_returning_callers_all_wait_for_one_round_of_the_queue() -> None:
    done = ideal_round(callers=64, limit=300, window_s=60, service_s=0.5, until_s=100)
    late = [at_s - came_s for came_s, at_s in done if at_s > 20]
    assert min(late) == pytest.approx(64 * 60 / 300 - 0.5)
    assert max(late) == pytest.approx(64 * 60 / 300 - 0.5)


def test_returning_callers_use_the_whole_limit_and_no_more() -> None:
    at_s = [at for _, at in ideal_round(callers=64, limit=300, window_s=60, service_s=0.5, until_s=180)]
    assert worst_window(at_s, 59.999) == 300
    assert len(at_s) == pytest.approx(900, abs=1)


def test_callers_below_the_limit_do_not_wait() -> None:
    done = ideal_round(callers=2, limit=600, window_s=60, service_s=1.0, until_s=10)
    assert [at_s - came_s for came_s, at_s in done[2:]] == [0.0] * (len(done) - 2)
    assert len(done) > 10
