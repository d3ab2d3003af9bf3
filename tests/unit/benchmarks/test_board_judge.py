"""What the board makes of a cell's history: windows, use, waits, fairness, costs, recovery."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.benchmarks.board.judge import LEFT, OK, Asked, Observed, fairness, judge, recovery_s, series


def asked(came_s: float, queued_s: float | None, *, process: int = 0, caller: int = 0, held: bool = True) -> Asked:
    return Asked(process, caller, came_s, queued_s, LEFT if queued_s is None else OK, held)


def seen(**changes: object) -> Observed:
    """Ten requests, one a second, of which five are measured; the limit is ten in ten seconds."""
    base = Observed(
        begin_s=100.0,
        since_s=105.0,
        until_s=110.0,
        window_s=10.0,
        limit=10,
        closed_loop=False,
        service_s=0.2,
        asked=[asked(100.0 + number, 0.01) for number in range(10)],
        arrivals_s=[100.02 + number for number in range(10)],
        most_offered=10,
        most_at_once=1,
        refused={},
        commits_s=[],
        conflicts_s=[],
        reads_s=[],
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_use_is_the_measured_share_of_the_limit() -> None:
    found = judge(seen())
    assert (found.requests, found.used) == (5, pytest.approx(1.0))
    assert judge(seen(limit=20)).used == pytest.approx(0.5)


def test_worst_window_covers_the_whole_run() -> None:
    burst = [100.0 + number / 100 for number in range(7)] + [106.0]
    assert judge(seen(arrivals_s=burst, most_offered=0, window_s=1.0)).worst_window == 7


def test_what_gemini_refused_counts_in_the_worst_window() -> None:
    found = judge(seen(most_offered=12, refused={"rpm": 2}))
    assert (found.worst_window, found.refused) == (12, 2)


def test_nothing_that_arrived_is_no_figure() -> None:
    with pytest.raises(ValueError, match="nothing arrived"):
        judge(seen(arrivals_s=[101.0]))


def test_store_calls_are_those_of_the_measured_time() -> None:
    found = judge(
        seen(commits_s=[104.0, 106.0, 107.0, 111.0], conflicts_s=[104.0, 107.0], reads_s=[103.0, 105.5, 106.5, 109.0])
    )
    assert found.writes_per_request == pytest.approx(2 / 5)
    assert found.reads_per_request == pytest.approx(3 / 5)
    assert found.conflicts_per_write == pytest.approx(1 / 1), "one refused for one that was taken"
    assert found.usd_per_million == pytest.approx(1e6 / 5 * (3 * 0.03 + 2 * 0.09) / 100_000)


def test_waits_are_of_what_was_dispatched_while_it_was_measured() -> None:
    history = [asked(101.0, 5.0), asked(104.0, 2.0), asked(109.0, 3.0), asked(103.0, None)]
    found = judge(seen(asked=history))
    assert (found.wait_p50_s, found.wait_p99_s) == (2.0, 5.0)


def test_held_permit_wait_excludes_limited_requests() -> None:
    """And the first request after an idle time."""
    history = [
        asked(105.0, 0.05, held=False),
        asked(105.1, 0.001),
        asked(105.2, 0.002),
        asked(105.3, 4.0),
    ]
    found = judge(seen(asked=history, limit=3, window_s=1.0))
    assert (found.held, found.held_p50_s, found.held_p99_s) == (2, 0.001, 0.002)


def test_random_arrivals_are_compared_with_their_queue() -> None:
    history = [asked(105.0, 0.0), asked(105.0, 3.0), asked(105.0, 5.0)]
    found = judge(seen(asked=history, limit=2, window_s=2.0))
    assert (found.ideal_requests, found.ideal_p99_s) == (3, 2.0)


def test_closed_loop_is_compared_with_one_round() -> None:
    history = [asked(100.0 + number, 1.0, caller=number % 8) for number in range(10)]
    found = judge(seen(asked=history, closed_loop=True, limit=10, window_s=10.0))
    # Eight come at once and are served one a second; each comes back 0.2 s later, behind the other seven.
    assert found.ideal_p99_s == pytest.approx(7.8)
    assert found.held == 0, "in a closed loop there is no capacity to spare"


def test_errors_and_disconnects_are_distinguished() -> None:
    history = [asked(106.0, 0.1), asked(106.5, None), Asked(0, 0, 107.0, None, "queue_timeout", True)]
    found = judge(seen(asked=history))
    assert found.errors == 1
    assert found.answered_share == pytest.approx(1 / 3)


def test_fairness_counts_callers_without_answers() -> None:
    everybody = [asked(0.0, 0.0, caller=caller) for caller in (0, 1, 2, 3)]
    same = fairness(everybody, everybody, lambda one: one.caller)
    assert (same.jain, same.least, same.most, same.mean) == (1.0, 1, 1, 1.0)
    one_got_all = fairness(everybody[:1], everybody, lambda one: one.caller)
    assert (one_got_all.jain, one_got_all.least, one_got_all.most) == (0.25, 0, 1)
    assert fairness([], everybody, lambda one: one.caller).jain == 0.0


def test_service_is_back_when_as_much_is_served_as_before() -> None:
    before = [number / 10 for number in range(100)]
    half = [10 + number / 5 for number in range(25)]
    after = [15 + number / 10 for number in range(100)]
    found = recovery_s([*before, *half, *after], killed_s=10.0, until_s=25.0)
    assert found == pytest.approx(5.0, abs=0.25)


def test_service_that_never_comes_back_has_no_recovery() -> None:
    before = [number / 10 for number in range(100)]
    assert recovery_s([*before, *[10.0 + number for number in range(10)]], killed_s=10.0, until_s=20.0) is None


def test_plot_shows_each_second_and_its_worst_window() -> None:
    found = series([0.5, 0.6, 1.2, 3.9], begin_s=0.0, until_s=5.0, window_s=1.0)
    assert found.per_s == [2, 1, 0, 1, 0]
    assert found.in_window == [2, 3, 1, 1, 1]
