"""When a permit really became free for a rejected caller, in small histories written by hand. Times are seconds."""

from __future__ import annotations

import pytest

from shared.generation import Cost
from tests.simulation.history import Call
from tests.simulation.retry_after import GivenTime, given_times


def rejected(number: int, caller: str, at_s: float, retry_after_s: float) -> Call:
    return _call(number, caller, at_s, at_s, "refused", "queue_timeout", retry_after_s, None)


def served(number: int, caller: str, came_s: float, served_s: float) -> Call:
    return _call(number, caller, came_s, served_s, "answered", "", None, 1000 * served_s)


def _call(
    number: int,
    caller: str,
    came_s: float,
    ended_s: float,
    fate: str,
    code: str,
    retry: float | None,
    served: float | None,
) -> Call:
    return Call(
        number, "i", caller, "m", ("p",), Cost(1), False, 1000 * came_s, 1000 * came_s + 5_000, 1000 * ended_s,
        fate, code, retry, served,  # type: ignore[arg-type]
    )  # fmt: skip


def given(*calls: Call) -> list[GivenTime]:
    return given_times(calls, 0.0, 1e9)


def test_a_caller_served_on_return_was_told_the_truth() -> None:
    [one] = given(rejected(1, "a", 0, 10), served(2, "a", 10.2, 10.4))
    assert (one.accurate, one.served_on_return) == (True, True)
    assert one.early_s == pytest.approx(0.2)
    assert one.late_s == 0.0


@pytest.mark.parametrize(("retry_after_s", "accurate"), [(10, False), (40, True)])
def test_a_wait_after_the_return_is_an_error(retry_after_s: float, accurate: bool) -> None:
    """A wait of 1.5 s is more than a second, and less than a twentieth of 40 s."""
    [one] = given(rejected(1, "a", 0, retry_after_s), served(2, "a", retry_after_s, retry_after_s + 1.5))
    assert one.early_s == pytest.approx(1.5)
    assert one.accurate is accurate


def test_a_second_rejection_counts_as_waiting() -> None:
    first, second = given(rejected(1, "a", 0, 10), rejected(2, "a", 10, 5), served(3, "a", 15, 15))
    assert (first.early_s, second.early_s) == (5, 0)


def test_a_later_request_served_meanwhile_shows_a_late_time() -> None:
    """The permit that went to b at 4 s was free for a, which was away until 10 s."""
    [one] = given(rejected(1, "a", 0, 10), served(2, "b", 1, 4), served(3, "a", 10, 10))
    assert (one.late_s, one.accurate, one.served_on_return) == (6, False, True)


def test_one_permit_proves_one_time_late() -> None:
    """Of two rejected callers that b passed, the permit was free for the first."""
    times = given(
        rejected(1, "a", 0, 10),
        rejected(2, "c", 0.5, 10),
        served(3, "b", 1, 4),
        served(4, "a", 10, 10),
        served(5, "c", 11, 11),
    )
    assert [one.late_s for one in times] == [6, 0]


def test_an_earlier_request_that_returns_first_is_ahead() -> None:
    """b was rejected before a, so its place is before a's."""
    times = given(rejected(1, "b", 0, 5), rejected(2, "a", 1, 10), served(3, "b", 5, 5), served(4, "a", 11, 11))
    assert [one.late_s for one in times] == [0, 0]


def test_a_caller_that_does_not_return_shows_nothing() -> None:
    assert given(rejected(1, "a", 0, 10), served(2, "a", 20, 20)) == []


def test_a_caller_that_is_not_served_waits_to_the_end() -> None:
    [one] = given(rejected(1, "a", 0, 10), rejected(2, "a", 10, 30), served(3, "b", 25, 25))
    assert one.early_s == pytest.approx(15)
