"""The judge of what projects serve after an account was switched on or off."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.switched import Switch, strays, used_share

LIMIT, PERIOD_S = 60, 10.0
BOTH = frozenset({"old", "new"})
SWITCH = Switch(at_s=100.0, settled_s=106.0, before=frozenset({"old"}), serving=BOTH)


def evenly(from_s: float, until_s: float, count: int) -> list[float]:
    return [from_s + (until_s - from_s) * (number + 0.5) / count for number in range(count)]


STEADY = evenly(80.0, 140.0, 360)
AHEAD = [102.0] * 15 + evenly(102.0, 112.0, 45) + evenly(112.0, 142.0, 180)
"""A project that is used from 102 s on: a quarter of its limit at once, the rest of the period more slowly, then an even rate."""


@pytest.mark.parametrize("periods", [1, 2])
def test_what_was_served_ahead_is_counted(periods: int) -> None:
    arrivals = {"old": STEADY, "new": AHEAD}
    assert used_share(arrivals, SWITCH, LIMIT, PERIOD_S, periods) == 1.0
    without = replace(SWITCH, before=BOTH)
    assert used_share(arrivals, without, LIMIT, PERIOD_S, periods) == pytest.approx(1 - 9 / (2 * 60 * periods))


def test_capacity_that_is_not_used_is_missing() -> None:
    slow = [102.0] * 15 + evenly(102.0, 112.0, 39)
    assert used_share({"old": STEADY, "new": slow}, SWITCH, LIMIT, PERIOD_S, 1) == pytest.approx(1 - 6 / 120)
    assert used_share({"old": STEADY, "new": []}, SWITCH, LIMIT, PERIOD_S, 1) == 0.5
    assert used_share({"old": STEADY}, SWITCH, LIMIT, PERIOD_S, 1) == 0.5


def test_a_late_first_use_delays_no_period() -> None:
    """A project that is first used long after the switch has lost the time until then."""
    late = evenly(111.0, 131.0, 120)
    assert used_share({"old": STEADY, "new": late}, SWITCH, LIMIT, PERIOD_S, 1) == pytest.approx(1 - 30 / 120)


def test_one_project_cannot_make_up_for_another() -> None:
    arrivals = {"old": evenly(80.0, 140.0, 720), "new": evenly(102.0, 112.0, 30)}
    assert used_share(arrivals, SWITCH, LIMIT, PERIOD_S, 1) == 0.75


def test_requests_for_a_disabled_project_are_strays() -> None:
    off = Switch(at_s=100.0, settled_s=106.0, before=BOTH, serving=frozenset({"old"}))
    arrivals = {"old": STEADY, "new": [100.0, 104.0, 105.9, 106.0, 110.0, 120.0]}
    assert strays(arrivals, off, 120.0) == 2
    assert used_share(arrivals, off, LIMIT, PERIOD_S, 1) == 1.0
