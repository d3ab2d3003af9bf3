"""What a record of Gemini's requests says about the use of its slots."""

from __future__ import annotations

import pytest

from tests.support.recorded import mean_open
from tests.support.recording_gemini import Recorded


def request(arrived_s: float, ended_s: float | None, *, admitted: bool = True) -> Recorded:
    return Recorded("id", "model", arrived_s, ended_s, "200", admitted, 1, 1)


def test_mean_counts_a_request_for_the_time_it_was_open() -> None:
    within, longer, still_open = request(11, 12), request(0, 100), request(13, None)
    assert mean_open([within], 10, 14) == pytest.approx(0.25)
    assert mean_open([within, longer, still_open], 10, 14) == pytest.approx(0.25 + 1 + 0.25)


def test_requests_outside_or_rejected_are_not_open() -> None:
    assert mean_open([request(0, 9), request(15, 16), request(10, 14, admitted=False)], 10, 14) == 0
