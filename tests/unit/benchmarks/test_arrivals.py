"""What a benchmark of the library judges."""

from __future__ import annotations

import pytest

from tests.benchmarks.parallel.arrivals import seen


def stats(at_s: list[float], tokens: list[int], **refused: int) -> dict[str, object]:
    model = {
        "arrivals": {"at_s": at_s, "tokens": tokens},
        "refused": refused,
        "max_requests_in_window": 7,
        "max_tokens_in_window": 70,
    }
    return {"window_s": 10.0, "projects": {"p": {"models": {"m": model, "other": model}}}}


def test_only_whole_windows_after_the_first_are_judged() -> None:
    """Two a second, but none in the last window: 30 s have one window between the first and the last one that is begun."""
    times = [number / 2 for number in range(70)]
    found = seen(stats(times, [10] * 70, rpm=3), "m", 20)
    assert (found.admitted, found.rejected, found.used, found.most_in_a_window) == (70, 3, 1.0, 7)
    assert seen(stats(times, [10] * 70), "m", 400, tokens=True).used == pytest.approx(0.5)


def test_a_load_that_ended_is_judged_until_then() -> None:
    times = [number / 2 for number in range(60)] + [30.0 + number for number in range(40)]
    assert seen(stats(times, [1] * 100), "m", 20, until_s=30.0).used == 1.0
    assert seen(stats(times, [1] * 100), "m", 20).used == pytest.approx((20 + 20 + 10 + 10 + 10) / 100)


def test_too_short_a_load_has_no_share() -> None:
    assert seen(stats([0.0, 1.0], [1, 1]), "m", 20).used is None
    assert seen(stats([], []), "m", 20).used is None
